"""Arrays of a network's layers by name: ``W1 b1 W2 b2``."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import as_real

Array = NDArray[Any]


class LayerArrays(MutableMapping[str, Array]):
    """A view of the arrays that layers name in one of their attributes, by name and number.

    The view holds no arrays. Reading gives the layer's own array, so changing it in place changes
    the layer; assigning an array of the same shape gives it to the layer, in the layer's dtype.

    The number of a layer is one more than that of the layer before it with an array of the same
    name: ``W1 b1`` and ``W2 b2`` for two affine layers, ``gamma1 beta1`` for a batch normalisation
    in between.

    Parameters
    ----------
    layers : mapping of str to layer
        Read at each access: a layer that is replaced is seen.
    attribute : {"parameters", "buffers"}
        The attribute of a layer with the names of its arrays.
    """

    def __init__(self, layers: Mapping[str, Any], attribute: str = "parameters"):
        self._layers, self._attribute = layers, attribute
        self._seen: list[Any] = []  # holds the layers, so that no other gets the id of one
        self._ids: list[int] | None = None
        self._found: dict[str, tuple[Any, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        cache: dict[str, Any] = {
            "_seen": [],
            "_ids": None,
            "_found": {},
        }  # of this process's layers
        return {**self.__dict__, **cache}

    def places(self) -> dict[str, tuple[Any, str]]:
        """Return the layer and the attribute of each array."""
        if self._ids != [*map(id, self._layers.values())]:
            self._seen = list(self._layers.values())
            self._ids = [*map(id, self._seen)]
            self._found = _number(self._seen, self._attribute)
        return self._found

    def __getitem__(self, key: str) -> Array:
        layer, name = self.places()[key]
        value: Array = getattr(layer, name)
        return value

    def __setitem__(self, key: str, value: ArrayLike) -> None:
        places = self.places()
        if key not in places:
            raise KeyError(f"{key!r}: expected one of {', '.join(places)}")
        layer, name = places[key]
        current = getattr(layer, name)
        if value is current:  # the end of `params[key] -= ...`
            return
        new = as_real(value, key)
        if new.shape != np.shape(current):
            raise ValueError(f"{key}: expected shape {np.shape(current)}, got {new.shape}")
        with np.errstate(
            over="ignore", under="ignore"
        ):  # what float32 cannot hold is infinite or 0
            setattr(layer, name, new.astype(np.asarray(current).dtype, copy=False))

    def __delitem__(self, key: str) -> None:
        raise TypeError("a network's parameters cannot be removed; assign new values instead")

    def __iter__(self) -> Iterator[str]:
        return iter(self.places())

    def __len__(self) -> int:
        return len(self.places())

    def named(self, name: str) -> dict[str, Array]:
        """Return the arrays that layers have under one name, such as all ``W``."""
        return {key: getattr(layer, n) for key, (layer, n) in self.places().items() if n == name}

    def gradients(self) -> dict[str, Array]:
        """Return the gradients that the layers' `backward` left, by the names of the arrays.

        Raises
        ------
        ValueError
            If a layer has no gradient of an array's shape.
        """
        grads = {}
        for key, (layer, name) in self.places().items():
            grad: Any = getattr(layer, f"d{name}", None)
            shape = np.shape(getattr(layer, name))
            if grad is None or np.shape(grad) != shape:
                raise ValueError(
                    f"{type(layer).__name__}.backward: expected d{name} of shape {shape}, the "
                    f"gradient of {key}, got {'none' if grad is None else np.shape(grad)}"
                )
            grads[key] = grad
        return grads

    def copy(self) -> dict[str, Array]:
        """Return a plain dictionary of the layers' arrays, as ``dict.copy`` would."""
        return dict(self)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key}: {np.shape(value)}" for key, value in self.items())
        return f"{type(self).__name__}({{{shapes}}})"


def _number(layers: list[Any], attribute: str) -> dict[str, tuple[Any, str]]:
    latest: dict[str, int] = {}
    places = {}
    for layer in layers:
        names = tuple(getattr(layer, attribute, ()))
        number = 1 + max((latest.get(name, 0) for name in names), default=0)
        for name in names:
            latest[name] = number
            places[f"{name}{number}"] = layer, name
    return places

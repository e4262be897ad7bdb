"""The arrays of a network's layers by name: ``W1 b1 W2 b2``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import as_real

Array = NDArray[Any]


class LayerArrays(MutableMapping[str, Array]):
    """A dictionary-like view of the arrays of layers, such as ``W1``, by name and number.

    The view holds no arrays. Reading a key returns the array of the layer, so that an in-place
    change also changes the layer. Assigning an array of the same shape sets the array of the layer,
    converted to the layer's dtype.

    Layers are numbered by the names of their arrays: ``W1 b1`` and ``W2 b2`` for two affine layers,
    ``gamma1 beta1`` for a batch normalisation in between.

    Parameters
    ----------
    layers : mapping of str to layer
        The layers. The mapping is read at each access, so replaced layers are taken into account.
    attribute : {"parameters", "buffers"}
        Attribute of a layer that holds the names of its arrays.
    """

    def __init__(self, layers: Mapping[str, Any], attribute: str = "parameters"):
        self._layers, self._attribute = layers, attribute
        self._seen: list[Any] = []
        self._found: dict[str, tuple[Any, str]] = {}

    def places(self) -> dict[str, tuple[Any, str]]:
        """Return the layer of each array, and the name of the array in that layer, by key."""
        layers, seen = self._layers, self._seen
        if len(layers) != len(seen) or not all(map(is_, layers.values(), seen)):
            self._seen = list(layers.values())
            self._found = _number(self._seen, self._attribute)
        return self._found

    def __getitem__(self, key: str) -> Array:
        layer, name = self.places()[key]
        value: Array = getattr(layer, name)
        return value

    def __setitem__(self, key: str, value: ArrayLike) -> None:
        try:
            layer, name = self.places()[key]
        except KeyError:
            raise KeyError(f"{key!r}: expected one of {', '.join(self)}") from None
        current = getattr(layer, name)
        if value is current:  # the assignment in `params[key] -= ...`
            return
        new = as_real(value, key)
        if new.shape != np.shape(current):
            raise ValueError(f"{key}: expected shape {np.shape(current)}, got {new.shape}")
        with np.errstate(
            over="ignore", under="ignore"
        ):  # out of the range of float32: infinity or 0
            setattr(layer, name, new.astype(np.asarray(current).dtype, copy=False))

    def __delitem__(self, key: str) -> None:
        raise TypeError("a network's parameters cannot be removed; assign new values instead")

    def __iter__(self) -> Iterator[str]:
        return iter(self.places())

    def __len__(self) -> int:
        return len(self.places())

    def named(self, name: str) -> dict[str, Array]:
        """Return all arrays with a given name in their layers, such as all ``W``, by key."""
        return {key: getattr(layer, n) for key, (layer, n) in self.places().items() if n == name}

    def gradients(self) -> dict[str, Array]:
        """Return the gradients that the layers' `backward` computed, by key.

        Raises
        ------
        ValueError
            If a gradient is missing or differs in shape from its array.
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
        """Return a plain dictionary of the arrays, which are not copied."""
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

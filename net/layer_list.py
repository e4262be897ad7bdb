"""The layers of a network by name and number, and their use of `train_flg`."""

import inspect
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np


class Layers(OrderedDict[str, Any]):
    """An OrderedDict of layers by name; an integer key gives the layer at that position."""

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int | np.integer):
            return list(self.values())[key]
        return super().__getitem__(key)

    def __setitem__(self, key: str | int, layer: Any) -> None:
        super().__setitem__(self._name(key), layer)

    def __delitem__(self, key: str | int) -> None:
        super().__delitem__(self._name(key))

    def _name(self, key: str | int) -> str:
        if not isinstance(key, int | np.integer):
            return key
        if not -len(self) <= key < len(self):
            raise ValueError(
                f"layers: expected a name, or a position of {len(self)} layers, got {key}"
            )
        return list(self)[key]


def is_custom(kind: type[Any]) -> bool:
    """Return whether a class is not one of `net`.

    Parameters
    ----------
    kind : type

    Returns
    -------
    bool
    """
    return kind.__module__.partition(".")[0] != "net"


def name_layers(layers: Iterable[Any]) -> list[tuple[str, Any]]:
    """Name layers by their class and number.

    Parameters
    ----------
    layers : iterable of layer

    Returns
    -------
    list of (str, layer)

    Raises
    ------
    TypeError
        If `layers` is not iterable.
    """
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers: expected a mapping or list of layers, got {layers!r}")
    counts: dict[str, int] = {}
    named = []
    for layer in layers:
        kind = type(layer).__name__
        counts[kind] = counts.get(kind, 0) + 1
        named.append((f"{kind}{counts[kind]}", layer))
    return named


def takes_train_flg(layer: Any) -> bool:
    """Return whether the `forward` of a layer takes the argument `train_flg`.

    Parameters
    ----------
    layer : layer

    Returns
    -------
    bool
    """
    forward = layer.forward
    return has_train_flg(getattr(forward, "__func__", forward))


@lru_cache(maxsize=256)
def has_train_flg(function: Any) -> bool:
    """Return whether a function takes the argument `train_flg`.

    Parameters
    ----------
    function : callable

    Returns
    -------
    bool
    """
    try:
        return "train_flg" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # such as a function in C
        return False

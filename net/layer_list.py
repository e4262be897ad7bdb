"""The layers of a network by name and number, and how they are called."""

import inspect
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np


class Layers(OrderedDict[str, Any]):
    """Layers by name, in order, and by number."""

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int | np.integer):
            return list(self.values())[key]
        return super().__getitem__(key)


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
        If there is nothing to go through.
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
    """Tell whether a layer behaves differently in training.

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
    """Tell whether a function takes the argument `train_flg`.

    Parameters
    ----------
    function : callable

    Returns
    -------
    bool
    """
    try:
        return "train_flg" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function in C, without a signature
        return False

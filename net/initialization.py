"""Initial weights from normal distributions, with a given, He's or Xavier's deviation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from net.validation import Random, check_not_negative, check_rng

Array = NDArray[Any]


def draw_normal(
    shapes: Sequence[tuple[int, ...]],
    stds: Sequence[float],
    dtype: np.dtype[Any],
    rng: Random,
) -> list[Array]:
    """Draw arrays of normally distributed numbers, one after the other.

    Parameters
    ----------
    shapes : sequence of tuple of int
    stds : sequence of float
        Standard deviation of each array.
    dtype : dtype
    rng : numpy.random.Generator, RandomState, int or None
        An int is the seed of a new Generator; None draws from NumPy's global state by ``randn``.

    Returns
    -------
    list of ndarray
    """
    if rng is None:
        return [
            (std * np.random.randn(*shape)).astype(dtype, copy=False)
            for shape, std in zip(shapes, stds, strict=True)
        ]
    draw = check_rng(rng).standard_normal
    return [
        (std * draw(shape)).astype(dtype, copy=False)
        for shape, std in zip(shapes, stds, strict=True)
    ]


def layer_std(weight_init_std: float | str, inputs: int) -> float:
    """Return the standard deviation of the initial weights of a layer.

    Parameters
    ----------
    weight_init_std : float or str
        A number; or 'relu' or 'he' for ``sqrt(2 / n)``, 'sigmoid' or 'xavier' for ``sqrt(1 / n)``.
    inputs : int
        Number of inputs of the layer, n.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If `weight_init_std` is neither a finite number of at least 0 nor one of these names.

    Notes
    -----
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015; X. Glorot and Y. Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    if isinstance(weight_init_std, str):
        name = weight_init_std.lower()
        if name in ("relu", "he"):
            return float(np.sqrt(2.0 / inputs))
        if name in ("sigmoid", "xavier"):
            return float(np.sqrt(1.0 / inputs))
        raise ValueError(
            "weight_init_std: expected a number, 'relu', 'he', 'sigmoid' or 'xavier', got "
            f"{weight_init_std!r}"
        )
    return check_not_negative(weight_init_std, "weight_init_std")

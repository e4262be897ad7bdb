"""Targets of the cross-entropy: class indices, or one distribution for each row."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._arrays import (
    FLOAT32,
    FLOAT64,
    INT64,
    Array,
    all_finite,
    as_kernel_array,
    as_real,
    jit_as_kernel_array,
    require_arrays,
)
from kernels._compiler import njit, overload, register_jitable

NO_LABELS = np.empty(0, np.int64)
NO_TARGETS: dict[np.dtype[np.generic], Array] = {
    dtype: np.empty((0, 0), dtype) for dtype in (FLOAT32, FLOAT64)
}


def check_targets(
    t: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> tuple[Array, Array]:
    """Validate targets for logits of a given shape and dtype.

    Parameters
    ----------
    t : array_like, shape (N,) or (N, C)
    shape : (N, C)
    dtype : dtype

    Returns
    -------
    labels : ndarray of int64, shape (N,), or empty
    targets : ndarray of `dtype`, shape (N, C), or empty
        One of the two is empty, depending on the kind of `t`.

    Raises
    ------
    TypeError
        If `t` does not hold real numbers, or class indices are not integers.
    ValueError
        If `t` does not fit the logits, or holds a class that does not exist, NaN or infinity.
    """
    t = t if type(t) is np.ndarray else as_real(t, "t")
    n, c = shape
    if t.shape == shape:
        targets = as_kernel_array(t, dtype, "t")
        if not all_finite(targets.reshape(-1)):
            raise ValueError("t: expected finite targets, got NaN or infinity")
        return NO_LABELS, targets
    if t.shape != (n,):
        raise ValueError(
            f"t: expected class indices of shape ({n},) or targets of shape ({n}, {c}) "
            f"for logits ({n}, {c}), got shape {t.shape}"
        )
    if t.dtype.kind not in "iu":
        raise TypeError(
            f"t: expected integer class indices, got dtype {t.dtype}; "
            "convert with t.astype(np.int64)"
        )
    # A copy: kernels release the GIL, and another thread might change `t` after the check. uint64
    # above the range of int64 becomes negative, which is refused, too.
    labels = t.astype(INT64, order="C")
    row = _first_outside(labels, c)
    if row < n:
        raise ValueError(f"t: expected class indices from 0 to {c - 1}, got {t[row]} in row {row}")
    return labels, NO_TARGETS[dtype]


@njit(nogil=True)
def _first_outside(labels, classes):
    """Return the first row whose label is no class index, else the number of rows."""
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= classes:
            return i
    return labels.size


@register_jitable
def _check_labels(labels, shape):
    if labels.shape[0] != shape[0]:
        raise ValueError("t: expected one class index for each row, got fewer or more")
    if _first_outside(labels, shape[1]) < labels.size:
        raise ValueError("t: expected class indices from 0 to C - 1, got one out of range")


def jit_targets(t, x):
    """Do the same for targets of logits `x`, in compiled code."""
    raise AssertionError("for compiled code only")


@overload(jit_targets)
def _jit_targets(t, x):
    require_arrays("softmax_cross_entropy", t=t)
    if t.ndim not in (1, 2):
        raise TypingError(f"t: expected class indices (N,) or targets (N, C), got {t}")
    if t.ndim == 1:
        if not isinstance(t.dtype, types.Integer):
            raise TypingError(f"t: expected integer class indices, got {t}")

        def labels(t, x):
            own = t.astype(np.int64)  # a copy, for the same reason
            _check_labels(own, x.shape)
            return own, np.empty((0, 0), x.dtype)

        return labels

    def targets(t, x):
        if t.shape != x.shape:
            raise ValueError("t: expected targets (N, C) in the shape of logits, got another shape")
        own = jit_as_kernel_array(t, x)
        if not all_finite(own.reshape(-1)):
            raise ValueError("t: expected finite targets, got NaN or infinity")
        return np.empty(0, np.int64), own

    return targets

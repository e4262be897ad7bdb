"""Targets of the cross-entropy: class indices, or a distribution for each row."""

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable
from numpy.typing import ArrayLike

from kernels._arrays import (
    FLOAT32,
    FLOAT64,
    INT64,
    Array,
    as_kernel_array,
    as_real,
    jit_as_kernel_array,
    require_arrays,
)
from kernels._cache import njit

NO_LABELS = np.empty(0, np.int64)
NO_TARGETS: dict[np.dtype[np.generic], Array] = {
    dtype: np.empty((0, 0), dtype) for dtype in (FLOAT32, FLOAT64)
}


def check_targets(
    t: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> tuple[Array, Array]:
    """Check targets beside logits of a shape and dtype, before anything is computed with them.

    Parameters
    ----------
    t : array_like, shape (N,) or (N, C)
    shape : (N, C)
    dtype : dtype

    Returns
    -------
    labels : ndarray of int64, shape (N,), or empty
    targets : ndarray of `dtype`, shape (N, C), or empty
        The one of the two that `t` is.

    Raises
    ------
    TypeError
        If `t` does not hold real numbers, or class indices are not integers.
    ValueError
        If `t` does not fit the logits, or holds what is no target.
    """
    t = t if type(t) is np.ndarray else as_real(t, "t")
    n, c = shape
    if t.shape == shape:
        targets = as_kernel_array(t, dtype, "t")
        if not _all_finite(targets.reshape(-1)):
            raise ValueError("t: expected finite targets, got NaN or infinity")
        return NO_LABELS, targets
    if t.shape != (n,):
        raise ValueError(
            f"t: expected class indices of shape ({n},) or targets of shape ({n}, {c}) "
            f"beside logits ({n}, {c}), got shape {t.shape}"
        )
    if t.dtype.kind not in "iu":
        raise TypeError(
            f"t: expected integer class indices, got dtype {t.dtype}; "
            "convert with t.astype(np.int64)"
        )
    # A copy, for kernels let other threads run, which may change `t` after it was checked.
    t = t.copy()
    labels = as_kernel_array(t, INT64, "t")  # uint64 above its range becomes negative: wrong, too
    row = _first_outside(labels, c)
    if row < n:
        raise ValueError(f"t: expected class indices from 0 to {c - 1}, got {t[row]} in row {row}")
    return labels, NO_TARGETS[dtype]


@njit(nogil=True)
def _all_finite(a):
    # To the end, without a branch, and in an integer as narrow as float32: the loop fills vectors.
    wrong = np.int32(0)
    for i in range(a.size):
        wrong = np.int32(wrong | np.int32(not np.isfinite(a[i])))
    return wrong == 0


@njit(nogil=True)
def _first_outside(labels, classes):
    """Return the first row whose label is no class, or the number of rows."""
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= classes:
            return i
    return labels.size


@register_jitable
def _check_labels(labels, shape):
    if labels.shape[0] != shape[0]:
        raise ValueError("t: expected one class index for each row, got another number")
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= shape[1]:
            raise ValueError("t: expected class indices from 0 to C - 1, got one outside")


@register_jitable
def _finite_targets(targets, shape):
    if targets.shape != shape:
        raise ValueError("t: expected class indices (N,) or targets (N, C), got another shape")
    if not np.isfinite(targets).all():
        raise ValueError("t: expected finite targets, got NaN or infinity")


def jit_targets(t, x):
    """In compiled code: the same for targets beside logits `x`."""
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
            own = t.astype(np.int64)  # checked and used: another thread may change `t` meanwhile
            _check_labels(own, x.shape)
            return own, np.empty((0, 0), x.dtype)

        return labels

    def targets(t, x):
        _finite_targets(t, x.shape)
        return np.empty(0, np.int64), jit_as_kernel_array(t, x)

    return targets

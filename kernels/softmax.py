"""Softmax ``y = exp(x) / sum exp(x)``, and its cross-entropy ``loss = -mean sum t log y``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._arrays import (
    Array,
    as_float,
    as_scalar,
    format_shapes,
    jit_as_kernel_array,
    require_arrays,
)
from kernels._compiler import inner, njit, overload
from kernels._exp import exp
from kernels._function_pointers import get_function_address, jit_run_chunks
from kernels._targets import NO_LABELS, NO_TARGETS, check_targets, jit_targets
from kernels._threads import MIN_PARALLEL_SIZE, thread_count


def softmax(x: ArrayLike) -> Array:
    """Compute softmax over the last axis: ``y = exp(x) / sum exp(x)``.

    Parameters
    ----------
    x : array_like, shape (..., C)
        Logits, float32 or float64; integers are converted to float64.

    Returns
    -------
    y : ndarray, shape of `x`
        Probabilities; each row sums to 1. A row with NaN or plus infinity is NaN, as in NumPy.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers, or is masked.
    ValueError
        If `x` has no axis, or the last one has no elements.

    Notes
    -----
    The maximum of a row is subtracted first, which prevents overflow. J. Bridle, "Probabilistic
    Interpretation of Feedforward Classification Network Outputs", Neurocomputing (1990).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import softmax
    >>> softmax(np.array([[1000.0, 1000.0], [0.0, -1000.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x = as_float(x, "x")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"softmax: expected x (..., C) with C at least 1, got {format_shapes(x=x)}"
        )
    y = np.empty(x.shape, x.dtype)
    flat = (x.size // x.shape[-1], x.shape[-1])
    _softmax(x.reshape(flat), y.reshape(flat), NO_TARGETS[x.dtype], NO_LABELS, _NO_LOSSES)
    return y


def softmax_cross_entropy_forward(x: ArrayLike, t: ArrayLike) -> tuple[float, Array]:
    """Compute softmax and its cross-entropy: ``loss = batch mean of -sum t log softmax(x)``.

    Parameters
    ----------
    x : array_like, shape (N, C)
        Logits, float32 or float64; integers are converted to float64.
    t : array_like, shape (N,) or (N, C)
        Class indices from 0 to C - 1, of any integer type, or a target distribution for each row,
        one-hot or soft.

    Returns
    -------
    loss : float
        Loss in nats, summed in float64.
    y : ndarray, shape (N, C)
        ``softmax(x)``, in the dtype of `x`.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked, or if class indices are not
        integers.
    ValueError
        If the shapes are incompatible, the batch is empty, a class index is out of range, or a
        target is NaN or infinite.

    Notes
    -----
    ``-log softmax(x)_k = log sum exp(x - m) - (x_k - m)`` with ``m`` the largest logit. This is
    exact where the probability underflows to 0, and needs no epsilon. A target of 0 contributes
    nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import softmax_cross_entropy_forward
    >>> softmax_cross_entropy_forward(np.array([[1000.0, 0.0]]), np.array([1]))
    (1000.0, array([[1., 0.]]))
    """
    x = as_float(x, "x")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            "softmax_cross_entropy_forward: expected x (N, C) with N and C at least 1, got "
            + format_shapes(x=x)
        )
    labels, targets = check_targets(t, x.shape, x.dtype)
    y, losses = np.empty(x.shape, x.dtype), np.empty(x.shape[0])
    return _softmax(x, y, targets, labels, losses), y


def softmax_cross_entropy_backward(y: ArrayLike, t: ArrayLike, dout: float = 1.0) -> Array:
    """Compute the gradient of the mean cross-entropy: ``dx = dout * (y - t) / N``.

    Parameters
    ----------
    y : array_like, shape (N, C)
        Probabilities from `softmax_cross_entropy_forward`.
    t : array_like, shape (N,) or (N, C)
        Class indices or target distributions, as in the forward pass.
    dout : float, default 1.0
        Upstream gradient, with respect to the loss.

    Returns
    -------
    dx : ndarray, shape (N, C)
        Gradient with respect to the logits, in the dtype of `y`.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked, or if class indices are not
        integers.
    ValueError
        If the shapes are incompatible, a class index is out of range, a target is NaN or
        infinite, or `dout` is not a single number.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import softmax_cross_entropy_backward
    >>> softmax_cross_entropy_backward(np.array([[0.5, 0.5]]), np.array([1]))
    array([[ 0.5, -0.5]])
    """
    y = as_float(y, "y")
    if y.ndim != 2:
        raise ValueError(
            f"softmax_cross_entropy_backward: expected y (N, C), got {format_shapes(y=y)}"
        )
    labels, targets = check_targets(t, y.shape, y.dtype)
    dx = np.empty(y.shape, y.dtype)
    _backward(y, targets, labels, as_scalar(dout, "dout"), dx)
    return dx


_NO_LOSSES = np.empty(0)


@inner
def _largest(row):
    m = row[0]
    for j in range(1, row.size):
        m = row[j] if row[j] > m else m
    return m


@inner
def _row_sum(row):
    """Return the sum of a row in float64, in a fixed order."""
    # Four independent sums: with one, each addition would wait for the previous addition.
    a = b = c = d = 0.0
    whole = row.size // 4 * 4
    for j in range(0, whole, 4):
        a += row[j]
        b += row[j + 1]
        c += row[j + 2]
        d += row[j + 3]
    for j in range(whole, row.size):
        a += row[j]
    return (a + b) + (c + d)


@inner
def _weighted_sum(weights, row):
    """Return the sum of ``weights * row``, in which 0 times infinity is 0."""
    total = 0.0
    for j in range(row.size):
        value = row[j]  # selected, not skipped by a branch: the class is unpredictable
        value = value if weights[j] != 0 else row.dtype.type(0)
        total += np.float64(weights[j]) * value
    return total


@inner(error_model="numpy")
def softmax_part(x, y, targets, labels, losses):
    """Compute the softmax of some rows, and their losses unless there are no targets."""
    n, classes = x.shape
    rows = max(1, 4096 // classes)  # their y stays in the L1 cache during the three passes
    for first in range(0, n, rows):
        last = min(n, first + rows)
        for i in range(first, last):
            m = _largest(x[i])
            for j in range(classes):
                y[i, j] = x[i, j] - m
            if labels.size:
                losses[i] = -y[i, labels[i]]
            elif losses.size:
                losses[i] = -_weighted_sum(targets[i], y[i])
        # One long loop: rows of ten classes would leave vector registers half empty.
        flat = y[first:last].reshape(-1)
        for k in range(flat.size):
            flat[k] = exp(flat[k])
        for i in range(first, last):
            s = _row_sum(y[i])
            if labels.size:
                losses[i] += np.log(s)
            elif losses.size:
                losses[i] += _row_sum(targets[i]) * np.log(s)
            scale = y.dtype.type(1 / s)
            for j in range(classes):
                y[i, j] *= scale


class _SoftmaxArgs(NamedTuple):
    """Arguments of `_softmax_chunk`."""

    x: Array
    y: Array
    targets: Array
    labels: Array
    losses: Array


@inner
def _softmax_chunk(args, a, b):
    x, y, targets, labels, losses = args
    softmax_part(x[a:b], y[a:b], targets[a:b], labels[a:b], losses[a:b])


@njit(nogil=True)
def _softmax(x, y, targets, labels, losses):
    """Fill ``y``, and ``losses`` unless it is empty; return the mean of ``losses``."""
    n, args = x.shape[0], _SoftmaxArgs(x, y, targets, labels, losses)
    count = thread_count() if 8 * x.size >= MIN_PARALLEL_SIZE else 1
    function = get_function_address(_softmax_chunk, args, x.dtype, targets.dtype)
    jit_run_chunks(function, args, n, max(1, (n + count - 1) // count), count > 1)
    return sum_losses(losses) / max(1, losses.size)


@inner
def sum_losses(a):
    """Sum the losses in the order of the examples."""
    # In a parallel function Numba would split `a.sum()` by threads.
    total = 0.0
    for i in range(a.size):
        total += a[i]
    return total


@inner
def backward_part(y, targets, labels, scale, dx):
    """Compute the gradient of some rows of logits: ``scale (y - t)``."""
    for i in range(y.shape[0]):
        if labels.size:
            for j in range(y.shape[1]):
                dx[i, j] = scale * y[i, j]
            dx[i, labels[i]] = scale * (y[i, labels[i]] - y.dtype.type(1))
        else:
            for j in range(y.shape[1]):
                dx[i, j] = scale * (y[i, j] - targets[i, j])


class _BackwardArgs(NamedTuple):
    """Arguments of `_backward_chunk`."""

    y: Array
    targets: Array
    labels: Array
    scale: np.floating[Any]
    dx: Array


@inner
def _backward_chunk(args, a, b):
    y, targets, labels, scale, dx = args
    backward_part(y[a:b], targets[a:b], labels[a:b], scale, dx[a:b])


@njit(nogil=True)
def _backward(y, targets, labels, dout, dx):
    n, count = y.shape[0], thread_count() if y.size >= MIN_PARALLEL_SIZE else 1
    args = _BackwardArgs(y, targets, labels, y.dtype.type(dout / max(n, 1)), dx)
    function = get_function_address(_backward_chunk, args, y.dtype, targets.dtype)
    jit_run_chunks(function, args, n, max(1, (n + count - 1) // count), count > 1)


@overload(softmax)
def _jit_softmax(x):
    require_arrays("softmax", x=x)
    if x.ndim == 0:
        raise TypingError(f"softmax: expected x (..., C) with C at least 1, got {x}")

    def forward(x):
        if x.shape[-1] == 0:
            raise ValueError("softmax: expected x (..., C) with C at least 1, got 0")
        a = jit_as_kernel_array(x, x)
        y = np.empty(a.shape, a.dtype)
        flat = (a.size // a.shape[-1], a.shape[-1])
        none = np.empty((0, 0), a.dtype)
        labels, losses = np.empty(0, np.int64), np.empty(0)
        _softmax(a.reshape(flat), y.reshape(flat), none, labels, losses)
        return y

    return forward


@overload(softmax_cross_entropy_forward)
def _jit_forward(x, t):
    require_arrays("softmax_cross_entropy_forward", 2, x=x)

    def forward(x, t):
        if x.size == 0:
            raise ValueError("softmax_cross_entropy_forward: expected a batch, got an empty x")
        a = jit_as_kernel_array(x, x)
        labels, targets = jit_targets(t, a)
        y, losses = np.empty(a.shape, a.dtype), np.empty(a.shape[0])
        return _softmax(a, y, targets, labels, losses), y

    return forward


@overload(softmax_cross_entropy_backward)
def _jit_backward(y, t, dout=1.0):
    require_arrays("softmax_cross_entropy_backward", 2, y=y)
    if not isinstance(dout, float | types.Omitted | types.Float | types.Integer | types.Boolean):
        raise TypingError(f"dout: expected a single number, got {dout}")

    def backward(y, t, dout=1.0):
        a = jit_as_kernel_array(y, y)
        labels, targets = jit_targets(t, a)
        dx = np.empty(a.shape, a.dtype)
        _backward(a, targets, labels, float(dout), dx)
        return dx

    return backward

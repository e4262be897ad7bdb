"""Sigmoid: ``out = 1 / (1 + exp(-x))``."""

from __future__ import annotations

import numpy as np
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._arrays import (
    Array,
    as_float,
    as_kernel_array,
    format_shapes,
    jit_as_kernel_array,
    require_arrays,
)
from kernels._compiler import inner, overload
from kernels._exp import exp
from kernels._operation import parallel


def sigmoid_forward(x: ArrayLike) -> Array:
    """Compute the logistic sigmoid without overflow: ``out = 1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : array_like, any shape
        float32 or float64; integers are converted to float64.

    Returns
    -------
    out : ndarray, shape of `x`
        Values from 0 to 1, in the dtype of `x`. NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers, or is masked.

    Notes
    -----
    D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating
    errors", Nature 323 (1986). For negative `x` the formula is ``exp(x) / (1 + exp(x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import sigmoid_forward
    >>> sigmoid_forward(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    x = as_float(x, "x")
    out = np.empty(x.shape, x.dtype)
    _forward(x.reshape(-1), out.reshape(-1))
    return out


def sigmoid_backward(dout: ArrayLike, out: ArrayLike) -> Array:
    """Compute the gradient of the sigmoid from its output: ``dx = dout * out * (1 - out)``.

    Parameters
    ----------
    dout : array_like, any shape
        Gradient of the loss with respect to the output.
    out : array_like, shape of `dout`
        Output of `sigmoid_forward`.

    Returns
    -------
    dx : ndarray, shape of `dout`
        Gradient with respect to the input, in the dtype of `out`.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import sigmoid_backward
    >>> sigmoid_backward(np.array([1.0, 1.0]), np.array([0.5, 1.0]))
    array([0.25, 0.  ])
    """
    out = as_float(out, "out")
    dout = as_kernel_array(dout, out.dtype, "dout")
    if dout.shape != out.shape:
        raise ValueError(
            f"sigmoid_backward: expected equal shapes, got {format_shapes(dout=dout, out=out)}"
        )
    dx = np.empty(out.shape, out.dtype)
    _backward(dout.reshape(-1), out.reshape(-1), dx.reshape(-1))
    return dx


@inner(error_model="numpy")
def _forward_part(x, out):
    one = x.dtype.type(1)
    for i in range(x.size):
        e = exp(-abs(x[i]))
        out[i] = (one if x[i] >= 0 else e) / (one + e)


_forward = parallel(_forward_part, cost=4)


@inner
def _backward_part(dout, out, dx):
    one = out.dtype.type(1)
    for i in range(dx.size):
        dx[i] = dout[i] * (one - out[i]) * out[i]


_backward = parallel(_backward_part)


@inner(error_model="numpy")
def cross_entropy_part(x, y, targets, labels, losses):
    """Compute the sigmoid of logits, and the binary cross-entropy summed over each row.

    ``-t log(y) - (1 - t) log(1 - y) = max(x, 0) - t x + log(1 + exp(-|x|))``: the right-hand side
    is also accurate where `y` rounds to 0 or 1. The gradient with respect to `x` is ``y - t``, as
    for softmax. The parameters are those of `kernels.softmax._softmax_part`; `labels` is empty.
    """
    one = y.dtype.type(1)
    for i in range(x.shape[0]):
        losses[i] = 0
        for j in range(x.shape[1]):
            e = exp(-abs(x[i, j]))
            y[i, j] = (one if x[i, j] >= 0 else e) / (one + e)
            positive = x[i, j] if not x[i, j] <= 0 else x.dtype.type(0)
            losses[i] += np.float64(positive - targets[i, j] * x[i, j]) + np.log1p(np.float64(e))


@overload(sigmoid_forward)
def _jit_sigmoid_forward(x):
    require_arrays("sigmoid_forward", x=x)

    def forward(x):
        a = jit_as_kernel_array(x, x)
        out = np.empty(a.shape, a.dtype)
        _forward(a.reshape(-1), out.reshape(-1))
        return out

    return forward


@overload(sigmoid_backward)
def _jit_sigmoid_backward(dout, out):
    require_arrays("sigmoid_backward", dout=dout, out=out)
    if dout.ndim != out.ndim:
        raise TypingError(f"sigmoid_backward: expected equal shapes, got dout {dout}, out {out}")

    def backward(dout, out):
        if dout.shape != out.shape:
            raise ValueError(
                "sigmoid_backward: expected equal shapes, got dout and out of different shapes"
            )
        y = jit_as_kernel_array(out, out)
        dx = np.empty(y.shape, y.dtype)
        _backward(jit_as_kernel_array(dout, out).reshape(-1), y.reshape(-1), dx.reshape(-1))
        return dx

    return backward

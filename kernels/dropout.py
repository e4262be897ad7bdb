"""Dropout: ``out = x * mask``, with a mask drawn by the caller."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kernels._arrays import (
    Array,
    as_float,
    as_mask,
    format_shapes,
    jit_as_kernel_array,
    require_mask,
)
from kernels._compiler import inner, overload, register_jitable
from kernels._operation import parallel


def dropout_forward(x: ArrayLike, mask: ArrayLike) -> Array:
    """Apply a dropout mask: ``out = x * mask``.

    Kept elements are not scaled up. In inference the output is ``x * (1 - dropout_ratio)`` instead.

    Parameters
    ----------
    x : array_like, any shape
        float32 or float64; integers are converted to float64.
    mask : array_like of bool, shape of `x`
        True where `x` is kept, such as ``np.random.rand(*x.shape) > dropout_ratio``.

    Returns
    -------
    out : ndarray, shape of `x`
        Product, in the dtype of `x`. As in NumPy, NaN and infinity times False are NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers or `mask` is not boolean.
    ValueError
        If the shapes differ.

    Notes
    -----
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: A Simple
    Way to Prevent Neural Networks from Overfitting", Journal of Machine Learning Research 15
    (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import dropout_forward
    >>> dropout_forward(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]))
    array([1., 0., 3.])
    """
    x, mask = as_float(x, "x"), as_mask(mask)
    if x.shape != mask.shape:
        raise ValueError(
            f"dropout_forward: expected equal shapes, got {format_shapes(x=x, mask=mask)}"
        )
    return _masked(x, mask)


def dropout_backward(dout: ArrayLike, mask: ArrayLike) -> Array:
    """Compute the gradient of dropout: ``dx = dout * mask``.

    Parameters
    ----------
    dout : array_like, any shape
        Gradient of the loss with respect to the output; not changed.
    mask : array_like of bool, shape of `dout`
        Mask of the forward pass.

    Returns
    -------
    dx : ndarray, shape of `dout`
        Gradient with respect to the input, in the dtype of `dout`.

    Raises
    ------
    TypeError
        If `dout` does not hold real numbers or `mask` is not boolean.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import dropout_backward
    >>> dropout_backward(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]))
    array([1., 0., 3.])
    """
    dout, mask = as_float(dout, "dout"), as_mask(mask)
    if dout.shape != mask.shape:
        raise ValueError(
            f"dropout_backward: expected equal shapes, got {format_shapes(dout=dout, mask=mask)}"
        )
    return _masked(dout, mask)


def _masked(x: Array, mask: Array) -> Array:
    out = np.empty(x.shape, x.dtype)
    _multiply(x.reshape(-1), mask.reshape(-1), out.reshape(-1))
    return out


@inner
def _multiply_part(x, mask, out):
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for i in range(x.size):
        out[i] = x[i] * (one if mask[i] else zero)


_multiply = parallel(_multiply_part)


@register_jitable
def _jit_masked(x, mask):
    if x.shape != mask.shape:
        raise ValueError(
            "dropout: expected equal shapes, got an array and a mask of different shapes"
        )
    a = jit_as_kernel_array(x, x)
    out = np.empty(a.shape, a.dtype)
    _multiply(a.reshape(-1), np.ascontiguousarray(mask).reshape(-1), out.reshape(-1))
    return out


@overload(dropout_forward)
def _jit_dropout_forward(x, mask):
    require_mask("dropout_forward", mask, x=x)
    return lambda x, mask: _jit_masked(x, mask)


@overload(dropout_backward)
def _jit_dropout_backward(dout, mask):
    require_mask("dropout_backward", mask, dout=dout)
    return lambda dout, mask: _jit_masked(dout, mask)

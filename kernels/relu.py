"""ReLU: ``out = max(x, 0)``."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import (
    Array,
    as_float,
    as_mask,
    format_shapes,
    jit_as_kernel_array,
    require_arrays,
    require_mask,
)
from kernels._compiler import inner, overload
from kernels._operation import parallel


def relu_forward(x: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Compute the rectified linear unit: ``out = x where x > 0, else 0``.

    Parameters
    ----------
    x : array_like, any shape
        float32 or float64; integers are converted to float64.

    Returns
    -------
    out : ndarray, shape of `x`
        Rectified values, in the dtype of `x`. NaN stays NaN.
    mask : ndarray of bool, shape of `x`
        True where ``x <= 0``, for `relu_backward`.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers, or is masked.

    Notes
    -----
    X. Glorot, A. Bordes and Y. Bengio, "Deep Sparse Rectifier Neural Networks", AISTATS 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import relu_forward
    >>> out, mask = relu_forward(np.array([-1.0, 0.0, 2.0]))
    >>> out, mask
    (array([0., 0., 2.]), array([ True,  True, False]))
    """
    x = as_float(x, "x")
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    _forward(x.reshape(-1), out.reshape(-1), mask.reshape(-1))
    return out, mask


def relu_backward(dout: ArrayLike, mask: ArrayLike) -> Array:
    """Compute the gradient of ReLU: ``dx = 0 where mask, else dout``.

    Parameters
    ----------
    dout : array_like, any shape
        Gradient of the loss with respect to the output; not changed.
    mask : array_like of bool, shape of `dout`
        Mask from `relu_forward`, True where the input was 0 or less.

    Returns
    -------
    dx : ndarray, shape of `dout`
        Gradient with respect to the input, in the dtype of `dout`. The gradient at 0 is 0.

    Raises
    ------
    TypeError
        If `dout` does not hold real numbers or `mask` is not boolean.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import relu_backward
    >>> relu_backward(np.array([1.0, 2.0, 3.0]), np.array([True, True, False]))
    array([0., 0., 3.])
    """
    dout, mask = as_float(dout, "dout"), as_mask(mask)
    if dout.shape != mask.shape:
        raise ValueError(
            f"relu_backward: expected equal shapes, got {format_shapes(dout=dout, mask=mask)}"
        )
    dx = np.empty(dout.shape, dout.dtype)
    _backward(dout.reshape(-1), mask.reshape(-1), dx.reshape(-1))
    return dx


@inner
def _forward_part(x, out, mask):
    for i in range(x.size):
        mask[i] = x[i] <= 0
        out[i] = 0 if x[i] <= 0 else x[i]


_forward = parallel(_forward_part)


@inner
def _backward_part(dout, mask, dx):
    for i in range(dx.size):
        dx[i] = 0 if mask[i] else dout[i]


_backward = parallel(_backward_part)


@overload(relu_forward)
def _jit_relu_forward(x):
    require_arrays("relu_forward", x=x)

    def forward(x):
        a = jit_as_kernel_array(x, x)
        out, mask = np.empty(a.shape, a.dtype), np.empty(a.shape, np.bool_)
        _forward(a.reshape(-1), out.reshape(-1), mask.reshape(-1))
        return out, mask

    return forward


@overload(relu_backward)
def _jit_relu_backward(dout, mask):
    require_mask("relu_backward", mask, dout=dout)

    def backward(dout, mask):
        if dout.shape != mask.shape:
            raise ValueError(
                "relu_backward: expected equal shapes, got dout and mask of different shapes"
            )
        a = jit_as_kernel_array(dout, dout)
        dx = np.empty(a.shape, a.dtype)
        _backward(a.reshape(-1), np.ascontiguousarray(mask).reshape(-1), dx.reshape(-1))
        return dx

    return backward

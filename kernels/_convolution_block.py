"""Convolution fused with ReLU, or with ReLU and 2 x 2 max pooling.

With pooling, ReLU and pooling are applied to rows of outputs in the L1 cache, and only the maxima
are written to memory. The backward pass recomputes the gradient of these rows from the pooled
gradient and one byte per maximum. The forward pass gives the same bits as the separate kernels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kernels._arrays import Array
from kernels._convolution import RELU, RELU_POOL, padded_filters, run_forward
from kernels._convolution_backward import run_backward
from kernels._gemm import get_microkernel_address
from kernels._images import as_images, empty_images
from kernels._maxima_gradient import maxima_gradient
from kernels.convolution import NO_INDICES, as_bias, as_gradient, convolution_operands


def convolution_relu_forward(
    x: ArrayLike, W: ArrayLike, b: ArrayLike, stride: int = 1, pad: int = 0
) -> Array:
    """Return ``relu(convolution(x))``.

    Parameters
    ----------
    x, W, b, stride, pad
        As for `kernels.convolution_forward`.

    Returns
    -------
    out : ndarray, shape (N, FN, OH, OW)
        The channels come last in memory.
    """
    x, channels_last, W, g = convolution_operands("convolution_relu_forward", x, W, stride, pad)
    out: Array
    out, memory = empty_images(g.images, g.filters, g.out_height, g.out_width, W.dtype)
    address = get_microkernel_address(W.dtype)
    run_forward(
        address, x, channels_last, W, as_bias(b, W), g, RELU, memory, True, NO_INDICES
    )  # fmt: skip
    return out


def convolution_relu_backward(
    dout: ArrayLike,
    out: ArrayLike,
    x: ArrayLike,
    W: ArrayLike,
    stride: int = 1,
    pad: int = 0,
    *,
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return the gradients of ``relu(convolution(x))``.

    Parameters
    ----------
    dout : array_like, shape (N, FN, OH, OW)
        Gradient of the loss with respect to the output.
    out : array_like, shape (N, FN, OH, OW)
        Output of the forward pass.
    x, W, stride, pad
        As in the forward pass.
    input_gradient : bool, default True

    Returns
    -------
    dx : ndarray, shape (N, C, H, W), or None
        None without `input_gradient`.
    dW : ndarray, shape (FN, C, FH, FW)
    db : ndarray, shape (FN,)
    """
    name = "convolution_relu_backward"
    x, channels_last, W, g = convolution_operands(name, x, W, stride, pad)
    dout, dout_last = as_gradient(name, dout, W, g)
    out, out_last = as_gradient(name, out, W, g)
    if not out_last:
        out = np.ascontiguousarray(out.transpose(0, 2, 3, 1))
    n = g.images if input_gradient else 0
    dx, memory = empty_images(n, g.channels, g.height, g.width, W.dtype)
    address = get_microkernel_address(W.dtype)
    dW, db = run_backward(address, dout, dout_last, RELU, out, NO_INDICES,
        x, channels_last, W, g, input_gradient, memory)  # fmt: skip
    return dx if input_gradient else None, dW, db


def convolution_relu_pool_forward(
    x: ArrayLike,
    W: ArrayLike,
    b: ArrayLike,
    stride: int = 1,
    pad: int = 0,
    *,
    channels_last: bool = True,
) -> tuple[Array, Array]:
    """Return ``max_pool(relu(convolution(x)), 2, 2, stride=2)``.

    Parameters
    ----------
    x, W, b, stride, pad
        As for `kernels.convolution_forward`. The output of the convolution must have at least 2
        rows and 2 columns.
    channels_last : bool, default True
        Whether the channels of the output come last in memory. If False, the output is
        C-contiguous, so that an affine layer can flatten it without a copy.

    Returns
    -------
    out : ndarray, shape (N, FN, OH // 2, OW // 2)
    arg : ndarray of uint8
        For `convolution_relu_pool_backward`.
    """
    name = "convolution_relu_pool_forward"
    x, x_last, W, g = convolution_operands(name, x, W, stride, pad)
    height, width = g.out_height // 2, g.out_width // 2
    if not (height and width):
        raise ValueError(
            f"{name}: expected outputs of 2 x 2 or more, got {g.out_height} x {g.out_width}"
        )
    if channels_last:
        out, memory = empty_images(g.images, g.filters, height, width, W.dtype)
    else:
        out = memory = np.empty((g.images, g.filters, height, width), W.dtype)
    arg = np.empty((g.images, height, width, padded_filters(g.filters, W.itemsize)), np.uint8)
    address = get_microkernel_address(W.dtype)
    run_forward(
        address, x, x_last, W, as_bias(b, W), g, RELU_POOL, memory, channels_last, arg
    )  # fmt: skip
    return out, arg


def convolution_relu_pool_backward(
    dout: ArrayLike,
    arg: Array,
    x: ArrayLike,
    W: ArrayLike,
    stride: int = 1,
    pad: int = 0,
    *,
    input_gradient: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return the gradients of ``max_pool(relu(convolution(x)), 2, 2, stride=2)``.

    Parameters
    ----------
    dout : array_like, shape (N, FN, OH // 2, OW // 2)
        Gradient of the loss with respect to the output, in any memory order.
    arg : ndarray of uint8
        From `convolution_relu_pool_forward`.
    x, W, stride, pad
        As in the forward pass.
    input_gradient : bool, default True

    Returns
    -------
    dx : ndarray, shape (N, C, H, W), or None
        None without `input_gradient`.
    dW : ndarray, shape (FN, C, FH, FW)
    db : ndarray, shape (FN,)
    """
    name = "convolution_relu_pool_backward"
    x, channels_last, W, g = convolution_operands(name, x, W, stride, pad)
    dout, dout_last = as_images(dout, "dout", W.dtype)
    height, width = g.out_height // 2, g.out_width // 2
    expected = (g.images, height, width) + ((g.filters,) if dout_last else ())
    found = dout.shape if dout_last else (dout.shape[0], *dout.shape[2:])
    shape = g.images, height, width, padded_filters(g.filters, W.itemsize)
    if found != expected or arg.shape != shape or not (dout_last or dout.shape[1] == g.filters):
        raise ValueError(
            f"{name}: expected dout {(g.images, g.filters, height, width)} and arg {shape}, got "
            f"{dout.shape} and {arg.shape}"
        )
    n = g.images if input_gradient else 0
    dx, memory = empty_images(n, g.channels, g.height, g.width, W.dtype)
    gradients = maxima_gradient(dout, dout_last, arg, x, channels_last, W, g, memory)
    if gradients is None:
        address = get_microkernel_address(W.dtype)
        gradients = run_backward(address, dout, dout_last, RELU_POOL, np.empty(0, W.dtype), arg,
            x, channels_last, W, g, input_gradient, memory)  # fmt: skip
    return dx if input_gradient else None, *gradients

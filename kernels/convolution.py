"""Convolution: ``out[n, f, i, j] = sum of x[n, c, i s + u - p, j s + v - p] W[f, c, u, v] + b[f]``.

``s`` is the stride and ``p`` the padding. The sum is over ``c, u, v``, and ``x`` is 0 outside the
image. As in other neural-network libraries, this is a cross-correlation. The loops are in
`kernels._convolution` and `kernels._convolution_backward`.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import ArrayLike

from kernels._arrays import (
    Array,
    as_float,
    as_kernel_array,
    as_real,
    format_shapes,
    jit_as_kernel_array,
    jit_as_widenable,
    require_arrays,
)
from kernels._compiler import overload, register_jitable
from kernels._convolution import IDENTITY, Geometry, jit_run_forward, run_forward
from kernels._convolution_backward import jit_run_backward, run_backward
from kernels._gemm import get_microkernel_address
from kernels._images import (
    as_images,
    check_size,
    check_windows,
    empty_images,
    jit_empty_images,
    require_sizes,
    window_count,
)
from kernels._microkernel import microkernel_address

NO_INDICES = np.empty(0, np.uint8)
"""Empty pooling indices, for convolutions without pooling."""


def convolution_forward(
    x: ArrayLike, W: ArrayLike, b: ArrayLike, stride: int = 1, pad: int = 0
) -> Array:
    """Convolve a batch of images with filters and add a bias.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
        Batch of N images of C channels. uint8 and float32 are widened to the dtype of `W` as they
        are read. Fastest if the channels come last in memory, as in the result of this function.
    W : array_like, shape (FN, C, FH, FW)
        FN filters. Their dtype, float32 or float64, is the dtype of the result. Integers are
        converted to float64.
    b : array_like, shape (FN,), or a number
        Bias.
    stride : int, default 1
        Distance between adjacent windows, vertically and horizontally.
    pad : int, default 0
        Width of the zero padding on each side of an image.

    Returns
    -------
    out : ndarray, shape (N, FN, OH, OW)
        ``OH = (H + 2 pad - FH) // stride + 1``, ``OW`` likewise. The channels come last in memory:
        ``out.transpose(0, 2, 3, 1)`` is C-contiguous.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers or is masked, or `stride` or `pad` is not an
        integer.
    ValueError
        If the shapes are incompatible, or no window fits into the padded image.

    Notes
    -----
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86 (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import convolution_forward
    >>> x, W = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 0.0], [0.0, 1.0]]]])
    >>> convolution_forward(x, W, 0.5)
    array([[[[ 4.5,  6.5],
             [10.5, 12.5]]]])
    """
    x, channels_last, W, g = convolution_operands("convolution_forward", x, W, stride, pad)
    bias = as_bias(b, W)
    out: Array
    out, memory = empty_images(g.images, g.filters, g.out_height, g.out_width, W.dtype)
    address = get_microkernel_address(W.dtype)
    run_forward(address, x, channels_last, W, bias, g, IDENTITY, memory, True, NO_INDICES)
    return out


def convolution_backward(
    dout: ArrayLike, x: ArrayLike, W: ArrayLike, stride: int = 1, pad: int = 0
) -> tuple[Array, Array, Array]:
    """Compute the gradients of a convolution.

    ``dW[f, c, u, v]`` is the sum of ``dout[n, f, i, j] x[n, c, i s + u - p, j s + v - p]`` over
    ``n, i, j``. ``dx`` of an input element is the sum of ``dout[n, f, i, j] W[f, c, u, v]`` over
    the windows that contain the element. ``db[f]`` is the sum of ``dout[:, f]``.

    Parameters
    ----------
    dout : array_like, shape (N, FN, OH, OW)
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, C, H, W)
        Input of the forward pass.
    W : array_like, shape (FN, C, FH, FW)
        Filters of the forward pass. Their dtype, float32 or float64, is the dtype of the results.
    stride, pad : int
        Stride and padding of the forward pass.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W)
        The channels come last in memory.
    dW : ndarray, shape (FN, C, FH, FW)
    db : ndarray, shape (FN,)

    Raises
    ------
    TypeError
        If an argument does not hold real numbers or is masked, or `stride` or `pad` is not an
        integer.
    ValueError
        If the shapes are incompatible, or no window fits into the padded image.

    See Also
    --------
    convolution_backward_params : Compute `dW` and `db` only.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import convolution_backward
    >>> x, W = np.arange(4.0).reshape(1, 1, 2, 2), np.array([[[[2.0, 3.0]]]])
    >>> dx, dW, db = convolution_backward(np.ones((1, 1, 2, 1)), x, W)
    >>> dx[0, 0], dW[0, 0], db
    (array([[2., 3.],
           [2., 3.]]), array([[2., 4.]]), array([2.]))
    """
    x, channels_last, W, g = convolution_operands("convolution_backward", x, W, stride, pad)
    dout, dout_last = as_gradient("convolution_backward", dout, W, g)
    dx, memory = empty_images(g.images, g.channels, g.height, g.width, W.dtype)
    address, none = get_microkernel_address(W.dtype), np.empty(0, W.dtype)
    return dx, *run_backward(address, dout, dout_last, IDENTITY, none, NO_INDICES,
        x, channels_last, W, g, True, memory)  # fmt: skip


def convolution_backward_params(
    dout: ArrayLike, x: ArrayLike, W: ArrayLike, stride: int = 1, pad: int = 0
) -> tuple[Array, Array]:
    """Compute the gradients of a convolution's parameters: `convolution_backward` without ``dx``.

    The first layer of a network needs no gradient of its input.

    Parameters
    ----------
    dout : array_like, shape (N, FN, OH, OW)
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, C, H, W)
        Input of the forward pass.
    W : array_like, shape (FN, C, FH, FW)
        Filters of the forward pass. Their dtype, float32 or float64, is the dtype of the results.
    stride, pad : int
        Stride and padding of the forward pass.

    Returns
    -------
    dW : ndarray, shape (FN, C, FH, FW)
    db : ndarray, shape (FN,)

    Raises
    ------
    TypeError
        If an argument does not hold real numbers or is masked, or `stride` or `pad` is not an
        integer.
    ValueError
        If the shapes are incompatible, or no window fits into the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import convolution_backward_params
    >>> x, W = np.arange(4.0).reshape(1, 1, 2, 2), np.array([[[[2.0, 3.0]]]])
    >>> convolution_backward_params(np.ones((1, 1, 2, 1)), x, W)
    (array([[[[2., 4.]]]]), array([2.]))
    """
    name = "convolution_backward_params"
    x, channels_last, W, g = convolution_operands(name, x, W, stride, pad)
    dout, dout_last = as_gradient(name, dout, W, g)
    address, none = get_microkernel_address(W.dtype), np.empty(0, W.dtype)
    dW, db = run_backward(address, dout, dout_last, IDENTITY, none, NO_INDICES,
        x, channels_last, W, g, False, none)  # fmt: skip
    return dW, db


def convolution_operands(
    name: str, x: ArrayLike, W: ArrayLike, stride: int, pad: int
) -> tuple[Array, bool, Array, Geometry]:
    """Check images and filters, convert them for a kernel, and return their sizes.

    Parameters
    ----------
    name : str
        Name of the public function, for error messages.
    x, W, stride, pad
        As for `convolution_forward`.

    Returns
    -------
    x : ndarray
    channels_last : bool
        As from `as_images`.
    W : ndarray
    g : Geometry
    """
    W = as_float(W, "W")
    stride, pad = check_size(stride, "stride", 1), check_size(pad, "pad", 0)
    x = x if type(x) is np.ndarray else as_real(x, "x")
    shape = x.shape
    if len(shape) != 4 or W.ndim != 4 or shape[1] != W.shape[1]:
        x = as_kernel_array(x, W.dtype, "x")  # raises if `x` does not hold real numbers
        raise ValueError(
            f"{name}: expected x (N, C, H, W) and W (FN, C, FH, FW), got {format_shapes(x=x, W=W)}"
        )
    n, channels, height, width = shape
    size, window = (height, width), (W.shape[2], W.shape[3])
    out = check_windows(name, size, window, stride, pad)
    images, channels_last = as_images(x, "x", W.dtype, widenable=True)
    g = Geometry(n, channels, height, width, W.shape[0], *window, stride, pad, *out)
    return images, channels_last, W, g


def as_bias(b: ArrayLike, W: Array) -> Array:
    """Check a bias and convert it to an array of one element for each filter."""
    bias = as_kernel_array(b, W.dtype, "b")
    if bias.ndim == 0:
        return np.full(W.shape[0], bias)
    if bias.shape != W.shape[:1]:
        raise ValueError(
            f"b: expected a number or shape {W.shape[:1]} for W {W.shape}, got {bias.shape}"
        )
    return bias


def as_gradient(name: str, dout: ArrayLike, W: Array, g: Geometry) -> tuple[Array, bool]:
    """Check that a gradient has the shape of the output, and convert it by `as_images`."""
    dout = as_kernel_array(dout, W.dtype, "dout") if type(dout) is not np.ndarray else dout
    expected = g.images, g.filters, g.out_height, g.out_width
    if dout.shape != expected:
        dout = as_kernel_array(dout, W.dtype, "dout")
        raise ValueError(
            f"{name}: expected dout {expected} for x {g[:4]}, W {W.shape}, stride {g.stride} "
            f"and pad {g.pad}, got {dout.shape}"
        )
    return as_images(dout, "dout", W.dtype)


# ------------------------------------------------------------- overloads for compiled code
@overload(convolution_forward)
def _jit_convolution_forward(x, W, b, stride=1, pad=0):
    require_arrays("convolution_forward", 4, x=x, W=W)
    require_sizes("convolution_forward", stride=stride, pad=pad)
    if not isinstance(b, types.Integer | types.Float):
        require_arrays("convolution_forward", 1, b=b)

    def forward(x, W, b, stride=1, pad=0):
        weights = jit_as_kernel_array(W, W)
        images, bias = jit_as_widenable(x, weights), _jit_bias(b, weights)
        g = _jit_geometry(x.shape, W.shape, stride, pad)
        out, memory = jit_empty_images(
            g.images, g.filters, g.out_height, g.out_width, weights.dtype
        )
        address = microkernel_address(weights, weights)
        jit_run_forward(address, images, np.False_, weights, bias, g, IDENTITY, memory, np.True_,
            np.empty(0, np.uint8))  # fmt: skip
        return out

    return forward


@overload(convolution_backward)
def _jit_convolution_backward(dout, x, W, stride=1, pad=0):
    require_arrays("convolution_backward", 4, dout=dout, x=x, W=W)
    require_sizes("convolution_backward", stride=stride, pad=pad)

    def backward(dout, x, W, stride=1, pad=0):
        weights = jit_as_kernel_array(W, W)
        g = _jit_geometry(x.shape, W.shape, stride, pad)
        dx, memory = jit_empty_images(g.images, g.channels, g.height, g.width, weights.dtype)
        dW, db = _jit_backward(dout, x, weights, g, np.True_, memory)
        return dx, dW, db

    return backward


@overload(convolution_backward_params)
def _jit_convolution_backward_params(dout, x, W, stride=1, pad=0):
    require_arrays("convolution_backward_params", 4, dout=dout, x=x, W=W)
    require_sizes("convolution_backward_params", stride=stride, pad=pad)

    def gradient(dout, x, W, stride=1, pad=0):
        weights = jit_as_kernel_array(W, W)
        g = _jit_geometry(x.shape, W.shape, stride, pad)
        none = np.empty((0, 0, 0, 0), weights.dtype)
        return _jit_backward(dout, x, weights, g, np.False_, none)

    return gradient


@register_jitable
def _jit_backward(dout, x, weights, g, input_gradient, dx):
    if dout.shape != (g.images, g.filters, g.out_height, g.out_width):
        raise ValueError("expected dout (N, FN, OH, OW), got a shape that does not fit")
    upper, images = jit_as_kernel_array(dout, weights), jit_as_widenable(x, weights)
    address = microkernel_address(weights, weights)
    none = np.empty(0, weights.dtype)
    return jit_run_backward(address, upper, np.False_, IDENTITY, none, np.empty(0, np.uint8),
        images, np.False_, weights, g, input_gradient, dx)  # fmt: skip


@register_jitable
def _jit_geometry(shape, W_shape, stride, pad):
    n, channels, height, width = shape
    filters, filter_channels, filter_height, filter_width = W_shape
    if channels != filter_channels or filter_height < 1 or filter_width < 1:
        raise ValueError(
            "expected x (N, C, H, W) and W (FN, C, FH, FW), got shapes that do not fit"
        )
    if stride < 1 or pad < 0:
        raise ValueError("expected stride 1 or more and pad 0 or more, got a smaller number")
    s, p = np.int64(stride), np.int64(pad)
    out_height = window_count(height, filter_height, s, p)
    out_width = window_count(width, filter_width, s, p)
    if out_height < 1 or out_width < 1:
        raise ValueError("expected filters that fit into the padded image, got larger filters")
    return Geometry(
        n, channels, height, width, filters, filter_height, filter_width, s, p,
        out_height, out_width,
    )  # fmt: skip


def _jit_bias(b, weights):
    """Return one bias for each filter; callable from compiled code only."""
    raise AssertionError("for compiled code only")


@overload(_jit_bias)
def _jit_bias_overload(b, weights):
    if not isinstance(b, types.Array):
        return lambda b, weights: np.full(weights.shape[0], b, weights.dtype)

    def bias(b, weights):
        if b.shape[0] != weights.shape[0]:
            raise ValueError("b: expected one bias for each filter, got fewer or more")
        return jit_as_kernel_array(b, weights)

    return bias

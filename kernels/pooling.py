"""Maximum pooling: ``out[n, c, i, j] = max of x[n, c, i s + u - p, j s + v - p]``.

``s`` is the stride, ``p`` the padding; positions ``u, v`` outside the image are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import (
    Array,
    as_kernel_array,
    as_real,
    jit_as_kernel_array,
    jit_flat_copy,
    require_arrays,
)
from kernels._compiler import by_address, inner, njit, overload, register_jitable
from kernels._function_pointers import get_function_address, run_chunks
from kernels._images import (
    MAX_SIZE,
    as_images,
    check_size,
    check_windows,
    copy_image,
    direct_or_copy,
    empty_images,
    jit_empty_images,
    require_sizes,
    window_count,
)
from kernels._pool_vectors import maximum_of_4, unpool_4
from kernels._threads import MIN_PARALLEL_SIZE

INT32 = np.dtype(np.int32)
CHUNKS = 24  # into which a batch of images is divided, approximately


def max_pool_forward(
    x: ArrayLike, pool_h: int, pool_w: int, stride: int, pad: int = 0
) -> tuple[Array, NDArray[np.int32]]:
    """Take the maximum of each window of a batch of images.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
        float32 or float64; integers are converted to float64. Fastest if the channels come last
        in memory, as in the result of `convolution_forward`.
    pool_h, pool_w : int
        Height and width of the windows.
    stride : int
        Distance between adjacent windows, vertically and horizontally.
    pad : int, default 0
        Width of the padding on each side of an image, less than `pool_h` and `pool_w`. Padding is
        never a maximum.

    Returns
    -------
    out : ndarray, shape (N, C, PH, PW)
        Maxima, in the dtype of `x`; NaN if a window holds NaN. The channels come last in memory.
    arg_max : ndarray of int32, shape (N, C, PH, PW)
        Index ``u pool_w + v`` of each maximum in its window, for `max_pool_backward`: the first of
        equal maxima, or the first NaN.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers or is masked, or a size is not an integer.
    ValueError
        If `x` does not have 4 dimensions, no window fits into the padded image, or the padding is
        too wide.

    Notes
    -----
    K. Yamaguchi et al., "A neural network for speaker-independent isolated word recognition",
    ICSLP 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import max_pool_forward
    >>> out, arg_max = max_pool_forward(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]), 2, 2, 2)
    >>> out, arg_max
    (array([[[[4.]]]]), array([[[[2]]]], dtype=int32))
    """
    x, channels_last = as_images(x, "x")
    n, height, width, channels = x.shape if channels_last else [x.shape[i] for i in (0, 2, 3, 1)]
    size = (n, channels, height, width)
    sizes = _pool_sizes("max_pool_forward", size, pool_h, pool_w, stride, pad)
    *_, down, across = sizes
    out, memory = empty_images(n, channels, down, across, x.dtype)
    arg_max, indices = empty_images(n, channels, down, across, INT32)
    _run_forward(x, channels_last, memory, indices, *sizes)
    return out, arg_max


def max_pool_backward(
    dout: ArrayLike,
    arg_max: ArrayLike,
    x_shape: tuple[int, int, int, int],
    pool_h: int,
    pool_w: int,
    stride: int,
    pad: int = 0,
) -> Array:
    """Compute the gradient of maximum pooling: add each gradient to its window's maximum.

    Parameters
    ----------
    dout : array_like, shape (N, C, PH, PW)
        Gradient of the loss with respect to the output.
    arg_max : array_like of integers, shape (N, C, PH, PW)
        Indices from `max_pool_forward`.
    x_shape : tuple of int, (N, C, H, W)
        Shape of the input of the forward pass.
    pool_h, pool_w, stride, pad : int
        Arguments of the forward pass.

    Returns
    -------
    dx : ndarray, shape (N, C, H, W)
        Gradient with respect to the input, in the dtype of `dout`. Gradients of overlapping windows
        are added in the order of the windows. The channels come last in memory.

    Raises
    ------
    TypeError
        If `dout` does not hold real numbers, `arg_max` does not hold integers, or a size is not an
        integer.
    ValueError
        If the shapes are incompatible, or an index lies outside its window or the image.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import max_pool_backward
    >>> dout, arg_max = np.array([[[[5.0]]]]), np.array([[[[2]]]])
    >>> max_pool_backward(dout, arg_max, (1, 1, 2, 2), 2, 2, 2)
    array([[[[0., 0.],
             [5., 0.]]]])
    """
    try:
        size = tuple(check_size(s, "x_shape", 0) for s in x_shape)
    except TypeError:
        raise TypeError(f"x_shape: expected (N, C, H, W), got {x_shape!r}") from None
    if len(size) != 4:
        raise ValueError(f"x_shape: expected (N, C, H, W), got {size}")
    sizes = _pool_sizes("max_pool_backward", size, pool_h, pool_w, stride, pad)
    *_, height, width, _, _, down, across = sizes
    dout, dout_last = as_images(dout, "dout")
    arg_max = as_real(arg_max, "arg_max")
    if arg_max.dtype.kind not in "iu":
        raise TypeError(f"arg_max: expected integers, got dtype {arg_max.dtype}")
    found = (dout.shape[0], dout.shape[3], *dout.shape[1:3]) if dout_last else dout.shape
    expected = (*size[:2], down, across)
    if found != expected or arg_max.shape != expected:
        raise ValueError(
            f"max_pool_backward: expected dout and arg_max {expected} for x {size}, got "
            f"{found} and {arg_max.shape}"
        )
    dx: Array
    dx, memory = empty_images(*size, dout.dtype)
    right = _in_window(arg_max, height * width)
    indices = as_kernel_array(arg_max.transpose(0, 2, 3, 1), INT32, "arg_max")
    if not right or _run_backward(dout, dout_last, indices, memory, *sizes):
        raise ValueError(
            f"arg_max: expected indices from 0 to {height * width - 1} within the image, "
            f"got indices between {arg_max.min()} and {arg_max.max()}"
        )
    return dx


def _pool_sizes(
    name: str, shape: tuple[int, ...], pool_h: int, pool_w: int, stride: int, pad: int
) -> tuple[int, ...]:
    """Check the sizes of a pooling, and return the fields of `_PoolArgs` from `n` on."""
    pool_h, pool_w = check_size(pool_h, "pool_h", 1), check_size(pool_w, "pool_w", 1)
    stride, pad = check_size(stride, "stride", 1), check_size(pad, "pad", 0)
    if pad >= min(pool_h, pool_w):
        raise ValueError(f"{name}: expected a pad less than {pool_h} x {pool_w}, got {pad}")
    out = check_windows(name, (shape[2], shape[3]), (pool_h, pool_w), stride, pad)
    return *shape, pool_h, pool_w, stride, pad, *out


class _PoolArgs(NamedTuple):
    """Arguments of the loops; all arrays are flat."""

    images: Array  # forward (N, C, H, W) or (N, H, W, C); backward (N, H, W, C)
    channels_last: bool
    pooled: Array  # forward (N, PH, PW, C); backward (N, C, PH, PW) or (N, PH, PW, C)
    indices: Array  # (N, PH, PW, C)
    wrong: Array  # int64 (N,): number of indices outside each image; empty forward
    n: int
    channels: int
    height: int
    width: int
    pool_height: int
    pool_width: int
    stride: int
    pad: int
    out_height: int
    out_width: int


# Images are (pixels, C) here: a pixel has one index, and the loop over channels is vectorized.


@inner
def _first(x, pixel, k, out, arg, q):
    for i in range(x.shape[1]):
        out[q, i] = x[pixel, i]
        arg[q, i] = k


@inner
def _larger(x, pixel, k, out, arg, q):
    for i in range(x.shape[1]):
        value, best = x[pixel, i], out[q, i]
        # The first NaN is the maximum, as in NumPy: NaN replaces a number, nothing replaces NaN.
        more = value > best or (value != value and best == best)
        arg[q, i] = k if more else arg[q, i]
        out[q, i] = value if more else best


@by_address
def _forward_images(g, n0, n1):
    c, width, pixels = g.channels, g.width, g.height * g.width
    out_pixels, zero = g.out_height * g.out_width, np.int64(0)
    copy = np.empty(0 if g.channels_last else pixels * c, g.images.dtype)
    memory = direct_or_copy(g.channels_last, g.images, copy)
    x = memory.reshape((g.n * pixels if g.channels_last else pixels, c))
    out, arg = g.pooled.reshape((g.n * out_pixels, c)), g.indices.reshape((g.n * out_pixels, c))
    pool_height, pool_width = g.pool_height, g.pool_width
    for n in range(n0, n1):
        start = n * pixels
        if not g.channels_last:
            copy_image(
                g.images, start * c, g.channels_last, c, g.height, width, copy, zero, width * c, c
            )
            start = zero
        for i in range(g.out_height):
            for j in range(g.out_width):
                q = n * out_pixels + i * g.out_width + j
                top, left = i * g.stride - g.pad, j * g.stride - g.pad
                y0, y1 = max(0, top), min(g.height, top + pool_height)
                x0, x1 = max(0, left), min(width, left + pool_width)
                pixel = start + y0 * width + x0
                if pool_height == 2 and pool_width == 2 and y1 - y0 == 2 and x1 - x0 == 2:
                    maximum_of_4(
                        memory, pixel * c, c, width * c, g.pooled, q * c, g.indices, q * c, c
                    )
                    continue
                _first(x, pixel, np.int32((y0 - top) * pool_width + x0 - left), out, arg, q)
                for u in range(y0, y1):
                    for v in range(x0, x1):
                        k = np.int32((u - top) * pool_width + v - left)
                        _larger(x, start + u * width + v, k, out, arg, q)


@inner
def _add_where(dout, p, arg, q, k, dx, pixel):
    """Add a window's gradients to one pixel where the pixel is the maximum; return their number."""
    count = np.int32(0)
    for i in range(dx.shape[1]):
        here = arg[q, i] == k
        dx[pixel, i] += dout[p, i] if here else 0
        count += np.int32(here)
    return count


@by_address
def _backward_images(g, n0, n1):
    c, width, pixels = g.channels, g.width, g.height * g.width
    out_pixels, zero = g.out_height * g.out_width, np.int64(0)
    copy = np.empty(0 if g.channels_last else out_pixels * c, g.images.dtype)
    memory = direct_or_copy(g.channels_last, g.pooled, copy)
    dout = memory.reshape((g.n * out_pixels if g.channels_last else out_pixels, c))
    dx, arg = g.images.reshape((g.n * pixels, c)), g.indices.reshape((g.n * out_pixels, c))
    # Windows of 2 x 2 that do not overlap; `_in_window` has checked their indices.
    whole = g.pool_height == 2 and g.pool_width == 2 and g.stride > 1 and g.pad == 0
    filled = g.stride == 2 and 2 * g.out_height == g.height and 2 * g.out_width == width
    for n in range(n0, n1):
        if not (whole and filled):
            dx[n * pixels : (n + 1) * pixels] = 0
        start, placed = n * out_pixels, 0
        if not g.channels_last:
            copy_image(g.pooled, start * c, g.channels_last, c, g.out_height, g.out_width,
                copy, zero, g.out_width * c, c)  # fmt: skip
            start = zero
        for i in range(g.out_height):
            for j in range(g.out_width):
                at = i * g.out_width + j
                top, left = i * g.stride - g.pad, j * g.stride - g.pad
                if whole:
                    unpool_4(memory, (start + at) * c, g.indices, (n * out_pixels + at) * c,
                        g.images, ((n * g.height + top) * width + left) * c,
                        c, width * c, c)  # fmt: skip
                    placed += c
                    continue
                for u in range(max(0, top), min(g.height, top + g.pool_height)):
                    for v in range(max(0, left), min(width, left + g.pool_width)):
                        k = np.int32((u - top) * g.pool_width + v - left)
                        placed += _add_where(
                            dout, start + at, arg, n * out_pixels + at, k,
                            dx, (n * g.height + u) * width + v,
                        )  # fmt: skip
        g.wrong[n] = out_pixels * c - placed


@register_jitable
def _run_forward(x, channels_last, out, indices, n, *sizes):
    args = _PoolArgs(x.reshape(-1), channels_last, out.reshape(-1), indices.reshape(-1),
        np.empty(0, np.int64), n, *sizes)  # fmt: skip
    function = get_function_address(_forward_images, args, x.dtype)
    run_chunks(function, args, n, n // CHUNKS + 1, x.size >= MIN_PARALLEL_SIZE)


@register_jitable
def _in_window(arg_max, size):
    return arg_max.size == 0 or (arg_max.min() >= 0 and arg_max.max() < size)


@register_jitable
def _run_backward(dout, dout_last, indices, dx, n, *sizes):
    """Fill ``dx``, and return the number of indices that lie outside the images."""
    wrong = np.zeros(n, np.int64)
    args = _PoolArgs(dx.reshape(-1), dout_last, dout.reshape(-1), indices.reshape(-1),
        wrong, n, *sizes)  # fmt: skip
    function = get_function_address(_backward_images, args, dx.dtype)
    run_chunks(function, args, n, n // CHUNKS + 1, dx.size >= MIN_PARALLEL_SIZE)
    return wrong.sum()


# ------------------------------------------------------------- overloads for compiled code
_jit_run_forward = njit(nogil=True)(_run_forward)
_jit_run_backward = njit(nogil=True)(_run_backward)


@register_jitable
def _jit_pool_sizes(shape, pool_h, pool_w, stride, pad):
    n, channels, height, width = shape
    h, w, s, p = np.int64(pool_h), np.int64(pool_w), np.int64(stride), np.int64(pad)
    if min(h, w, s) < 1 or p < 0 or p >= min(h, w) or max(h, w) > MAX_SIZE or h * w > MAX_SIZE:
        raise ValueError("expected sizes from 1 and 0 <= pad < window, got sizes out of range")
    down, across = window_count(height, h, s, p), window_count(width, w, s, p)
    if down < 1 or across < 1:
        raise ValueError("expected a window that fits into the padded image, got a larger one")
    return n, channels, height, width, h, w, s, p, down, across


@overload(max_pool_forward)
def _jit_max_pool_forward(x, pool_h, pool_w, stride, pad=0):
    require_arrays("max_pool_forward", 4, x=x)
    require_sizes("max_pool_forward", pool_h=pool_h, pool_w=pool_w, stride=stride, pad=pad)

    def forward(x, pool_h, pool_w, stride, pad=0):
        sizes = _jit_pool_sizes(x.shape, pool_h, pool_w, stride, pad)
        images = jit_as_kernel_array(x, x)
        n, channels, height, width = sizes[0], sizes[1], sizes[8], sizes[9]
        out, memory = jit_empty_images(n, channels, height, width, images.dtype)
        arg_max, indices = jit_empty_images(n, channels, height, width, np.int32)
        _jit_run_forward(images, np.False_, memory, indices, *sizes)
        return out, arg_max

    return forward


@overload(max_pool_backward)
def _jit_max_pool_backward(dout, arg_max, x_shape, pool_h, pool_w, stride, pad=0):
    require_arrays("max_pool_backward", 4, dout=dout, arg_max=arg_max)
    require_sizes("max_pool_backward", pool_h=pool_h, pool_w=pool_w, stride=stride, pad=pad)
    if not isinstance(arg_max.dtype, types.Integer):
        raise TypingError(f"max_pool_backward: expected arg_max as integers, got {arg_max}")
    integers = isinstance(x_shape, types.UniTuple) and isinstance(x_shape.dtype, types.Integer)
    if not (integers and x_shape.count == 4):
        raise TypingError(f"max_pool_backward: expected x_shape as 4 integers, got {x_shape}")

    def backward(dout, arg_max, x_shape, pool_h, pool_w, stride, pad=0):
        if min(x_shape) < 0:
            raise ValueError("max_pool_backward: expected x_shape from 0, got a negative size")
        sizes = _jit_pool_sizes(x_shape, pool_h, pool_w, stride, pad)
        shape = sizes[0], sizes[1], sizes[8], sizes[9]
        if dout.shape != shape or arg_max.shape != shape:
            raise ValueError("expected dout and arg_max (N, C, PH, PW), got shapes that do not fit")
        upper = jit_as_kernel_array(dout, dout)
        last = arg_max.transpose((0, 2, 3, 1))
        indices = jit_flat_copy(last, np.int32).reshape(last.shape)
        dx, memory = jit_empty_images(sizes[0], sizes[1], sizes[2], sizes[3], upper.dtype)
        right = _in_window(arg_max, sizes[4] * sizes[5])
        if not right or _jit_run_backward(upper, np.False_, indices, memory, *sizes):
            raise ValueError("arg_max: expected indices within the image, got one outside")
        return dx

    return backward

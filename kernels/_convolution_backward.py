"""Gradients of the convolution, with the methods that :mod:`kernels._convolution` describes."""

from typing import NamedTuple

import numpy as np

from kernels._addresses import address_of
from kernels._arrays import Array
from kernels._compiler import by_address, inner, njit, register_jitable
from kernels._convolution import (
    RELU,
    RELU_POOL,
    Geometry,
    convolve_rows,
    pack_turned_filters,
    padded_filters,
    pays_threads,
    spread_filters,
    unpack_filters,
)
from kernels._function_pointers import borrow, get_function_address, keep, run_chunks
from kernels._images import copy_image, copy_inside, direct_or_copy
from kernels._microkernel import microkernel
from kernels._pool_vectors import unpool_4
from kernels._vectors import VECTOR_BYTES
from kernels._weave import is_lowered, weave_rows

IMAGES_PER_CHUNK, MAX_CHUNKS = 10, 32
"""Minimum size and maximum number of chunks of images. Chunks depend on the batch size alone."""

PRODUCT_POSITIONS = 256
"""Approximate number of output positions per product, whose windows and gradients fit a cache."""

NO_DX, TURNED, SCATTERED = np.int64(0), np.int64(1), np.int64(2)
"""How the gradient of the input is computed: not at all, as a convolution with flipped filters, or
as the sum of the windows' contributions. The last is for strides above 1, filters with NaN or
infinity, and so few channels that less than half a vector would be used."""


@register_jitable
def chunk_size(n):
    """Return the number of images per chunk."""
    return max(IMAGES_PER_CHUNK, (n + MAX_CHUNKS - 1) // MAX_CHUNKS)


@inner
def _rectify_gradient(out, start, height, n, d, origin, row):
    for y in range(height):
        source = out[start + y * n : start + (y + 1) * n]
        target = d[origin + y * row : origin + y * row + n]
        for i in range(target.size):
            target[i] = 0 if source[i] <= 0 else target[i]


@inner
def _add_filter_gradient(
    address, image, origin, row, g, d, d_origin, d_row, depth, ones, woven, dW, db
):
    """Add one image's contribution to the gradients of filters and bias."""
    channels, stride, height, width = g.channels, g.stride, g.filter_height, g.filter_width
    count, columns = g.out_width, dW.shape[1]
    c, s, one = address_of(dW, 0), address_of(db, 0), address_of(ones, 0)
    together = rows_together(count)
    for y0 in range(0, g.out_height, together):
        rows = min(together, g.out_height - y0)
        b, first = address_of(d, d_origin + y0 * d_row), origin + y0 * stride * row
        microkernel(address, one, 0, 0, 0, b, depth, d_row, count, rows,
            s, 0, s, 0, 1, columns)  # fmt: skip
        if woven.size:
            size, step = woven.size // together, height * channels
            weave_rows(image, first, row, channels, height, stride, rows, woven, size)
            k = width * step
            microkernel(address, address_of(woven, 0), 1, stride * step, size,
                b, depth, d_row, count, rows, c, columns, c, columns, k, columns)  # fmt: skip
            continue
        k = width * channels
        for fy in range(height):
            part = address_of(dW, fy * k * columns)
            microkernel(address, address_of(image, first + fy * row), 1, stride * channels,
                stride * row, b, depth, d_row, count, rows,
                part, columns, part, columns, k, columns)  # fmt: skip


@inner
def rows_together(count):
    """Return the number of rows of ``count`` outputs per product for the filters' gradient."""
    return max(1, PRODUCT_POSITIONS // count)


@inner
def _scatter_row(address, d, at, depth, spread, zeros, shares, g, dx, origin, row):
    """Add the contribution of one output row to the gradient of the padded input."""
    k = spread.shape[2]
    microkernel(address, address_of(d, at), depth, 1, 0, address_of(spread, 0), k, 0, depth, 1,
        address_of(zeros, 0), 0, address_of(shares, 0), k, g.out_width, k)  # fmt: skip
    run = g.filter_width * g.channels
    for x in range(g.out_width):
        for fy in range(g.filter_height):
            first, at = x * k + fy * run, origin + fy * row + x * g.stride * g.channels
            source, target = shares[first : first + run], dx[at : at + run]
            for i in range(target.size):
                target[i] += source[i]


class BackwardArgs(NamedTuple):
    """Arguments of `backward_images`; ``x dout out arg dx`` are flattened."""

    address: int  # of the micro-kernel
    x: Array  # (N, C, H, W) or (N, H, W, C)
    channels_last: bool
    direct: bool  # x is read without a copy: channels last, no pad, the weights' dtype
    dout: Array  # (N, F, OH, OW) or (N, OH, OW, F); with PH, PW if pooled
    dout_channels_last: bool
    mode: int
    out: Array  # (N, OH, OW, F) with ReLU and without pooling
    arg: Array  # (N, PH, PW, depth) if pooled
    route: int
    filters: Array  # for dx: from `pack_turned_filters`, or one strip from `spread_filters`
    g: Geometry
    dx: Array  # (N, H, W, C)
    dW: Array  # (chunks, K, depth)
    db: Array  # (chunks, depth)


@by_address
def backward_images(args, n0, n1):
    """Compute a chunk's gradients of filters and bias, and its images' gradient of the input."""
    address, x, channels_last, direct = args.address, args.x, args.channels_last, args.direct
    dout, mode, out, arg, g = args.dout, args.mode, args.out, args.arg, args.g
    route, filters, dx = args.route, args.filters, args.dx
    chunk = n0 // chunk_size(g.images)
    dW, db = args.dW[chunk], args.db[chunk]
    dtype, depth = dW.dtype, dW.shape[1]
    channels, stride, pad = g.channels, g.stride, g.pad
    height, width, out_height, out_width = g.height, g.width, g.out_height, g.out_width
    # The input with a border of zeros, unless it is read without a copy.
    row = (width + 2 * pad) * channels
    border = pad * (row + channels)
    padded = np.zeros(0 if direct else (height + 2 * pad) * row, dtype)
    across = (out_width - 1) * stride + g.filter_width
    lowered = is_lowered(channels, g.filter_width)
    woven_size = rows_together(out_width) * across * g.filter_height * channels if lowered else 0
    woven = np.empty(woven_size, dtype)
    # The gradient of the output, with the border for a convolution with flipped filters.
    down, right = g.filter_height - 1 - pad, g.filter_width - 1 - pad
    above, left = (max(down, 0), max(right, 0)) if route == TURNED else (0, 0)
    d_row = (out_width + 2 * left) * depth
    d_origin = above * d_row + left * depth
    d = np.zeros((out_height + 2 * above) * d_row, dtype)
    ones, zero, one = np.ones(1, dtype), np.int64(0), np.int64(1)
    dW[:] = 0
    db[:] = 0
    pool_height, pool_width = out_height // 2, out_width // 2
    pooled = np.zeros(pool_height * pool_width * depth if mode == RELU_POOL else 0, dtype)
    # The gradient of the input: a bias of zeros for the convolution, or the sum over windows.
    taps = g.filter_height * g.filter_width * channels
    zeros = np.zeros(max(taps, channels), dtype)
    shares = np.empty(out_width * taps if route == SCATTERED else 0, dtype)
    sums = np.zeros((height + 2 * pad) * row if route == SCATTERED else 0, dtype)
    memory = padded, woven, d, ones, pooled, zeros, shares, sums
    padded, woven, d, ones, pooled, zeros, shares, sums = borrow(memory)
    image = direct_or_copy(direct, x, padded)
    length, out_length = channels * height * width, g.filters * out_height * out_width
    for n in range(n0, n1):
        start = n * length
        if mode == RELU_POOL:
            first = n * pool_height * pool_width
            copy_image(dout, first * g.filters, args.dout_channels_last, g.filters, pool_height,
                pool_width, pooled, zero, pool_width * depth, depth)  # fmt: skip
            for p in range(pool_height * pool_width):
                i, j = p // pool_width, p % pool_width
                unpool_4(pooled, p * depth, arg, (first + p) * depth,
                    d, d_origin + 2 * i * d_row + 2 * j * depth, depth, d_row, depth)  # fmt: skip
        else:
            copy_image(dout, n * out_length, args.dout_channels_last, g.filters, out_height,
                out_width, d, d_origin, d_row, depth)  # fmt: skip
            if mode == RELU:
                _rectify_gradient(out, n * out_length, out_height, out_width * depth,
                    d, d_origin, d_row)  # fmt: skip
        origin = start
        if not direct:
            copy_image(x, start, channels_last, channels, height, width,
                padded, border, row, channels)  # fmt: skip
            origin = zero
        _add_filter_gradient(
            address, image, origin, row, g, d, d_origin, d_row, depth, ones, woven, dW, db
        )
        if route == TURNED:
            first = (above - down) * d_row + (left - right) * depth
            convolve_rows(address, d, first, d_row, depth, one, g.filter_height, g.filter_width,
                filters, zeros, dx, start, height, width, channels)  # fmt: skip
        elif route == SCATTERED:
            sums[:] = 0
            for y in range(out_height):
                _scatter_row(address, d, d_origin + y * d_row, depth, filters, zeros, shares, g,
                    sums, y * stride * row, row)  # fmt: skip
            copy_inside(sums, border, row, height, width * channels, dx, start)
    keep(memory)


@njit(nogil=True)
def add_chunks(parts, out):
    """Fill `out` with the sum of the chunks' results, added in order."""
    out[:] = 0
    for p in range(parts.shape[0]):
        part = parts[p]
        for i in range(out.size):
            out[i] += part[i]


@register_jitable
def run_backward(
    address, dout, dout_channels_last, mode, out, arg, x, channels_last, W, g, input_gradient, dx
):
    """Fill ``dx`` if ``input_gradient``, and return ``dW`` and ``db``.

    ``mode``, ``out`` and ``arg`` describe the operations fused with the convolution.
    """
    direct = channels_last and g.pad == 0 and x.dtype == W.dtype
    depth = padded_filters(g.filters, W.itemsize) if mode == RELU_POOL else g.filters
    taps = g.channels * g.filter_height * g.filter_width
    route, filters = NO_DX, np.empty((0, 0, 0), W.dtype)
    fills_half = 2 * g.channels * W.itemsize >= VECTOR_BYTES  # of a vector
    if input_gradient and g.stride == 1 and fills_half and np.isfinite(W).all():
        route, filters = TURNED, pack_turned_filters(W, depth)
    elif input_gradient:
        route, filters = SCATTERED, spread_filters(W, depth).reshape((1, depth, taps))
    size = chunk_size(g.images)
    chunks = (g.images + size - 1) // size
    dWs, dbs = np.empty((chunks, taps, depth), W.dtype), np.empty((chunks, depth), W.dtype)
    args = BackwardArgs(address, x.reshape(-1), channels_last, direct, dout.reshape(-1),
        dout_channels_last, mode, out.reshape(-1), arg.reshape(-1), route, filters, g,
        dx.reshape(-1), dWs, dbs)  # fmt: skip
    function = get_function_address(backward_images, args, x.dtype, W.dtype)
    run_chunks(function, args, g.images, size, pays_threads(g))
    dW, db = np.empty(taps * depth, W.dtype), np.empty(depth, W.dtype)
    add_chunks(dWs.reshape((chunks, taps * depth)), dW)
    add_chunks(dbs, db)
    woven = is_lowered(g.channels, g.filter_width)
    return unpack_filters(dW, 1, depth, woven, W), db[: g.filters].copy()


jit_run_backward = njit(nogil=True)(run_backward)
"""`run_backward` for compiled callers, cached on disk."""

"""Loops of the convolution around the micro-kernel of :mod:`kernels._microkernel`.

Channels come last in memory. The windows of one output row are then the rows of a matrix that is
never formed: for one filter row, the inputs of each window are ``FW C`` adjacent elements, and the
windows have stride ``stride C``. A window's sum runs over its rows, which are one image row apart.
So one call of the micro-kernel computes a strip of an output row, without im2col.

The gradient of the input is also a convolution, of the padded gradient of the output with the
flipped filters. With a stride above 1 or few channels, it is instead the sum of the contributions
of the windows (col2im). The gradient of the filters is a product of the windows, transposed by
strides, and the gradient of the output. Each chunk of images has its own sum, and the sums are
added in order.
"""

from typing import NamedTuple

import numpy as np

from kernels._addresses import address_of
from kernels._arrays import Array
from kernels._cache_lines import LINE_ELEMENTS, skip_to_line
from kernels._compiler import by_address, inner, njit, register_jitable
from kernels._function_pointers import borrow, get_function_address, keep, run_chunks
from kernels._gemm_threads import MIN_PARALLEL_FLOPS
from kernels._images import copy_image, direct_or_copy
from kernels._microkernel import microkernel
from kernels._pool_vectors import rectified_maximum_of_4
from kernels._transpose import transpose_at
from kernels._vectors import TILE_VECTORS, VECTOR_BYTES

POOLED_BYTES = 1 << 14
"""Bytes of outputs that are pooled together, while they are in the L1 cache."""

MAX_FILTER_BYTES = 1 << 16
"""Up to this size, filters are read once for each output row, in strips as wide as a tile. Larger
filters are split into their rows. Each is used for all output rows, and stays in the L1 cache."""

PART_VECTORS = 2
"""Vectors across a strip of split filters: the wider the strip, the fewer taps fit the L1 cache."""

FORWARD_CHUNKS = 24
"""Maximum number of chunks of a batch; each chunk has its own scratch memory."""

IDENTITY, RELU, RELU_POOL = np.int64(0), np.int64(1), np.int64(2)
"""Operations fused with the convolution: none, ReLU, or ReLU and 2 x 2 max pooling."""


class Geometry(NamedTuple):
    """Sizes of a convolution."""

    images: int
    channels: int
    height: int
    width: int
    filters: int
    filter_height: int
    filter_width: int
    stride: int
    pad: int
    out_height: int
    out_width: int


@register_jitable
def padded_filters(filters, itemsize):
    """Return the number of filters rounded up to whole vectors."""
    lanes = VECTOR_BYTES // itemsize
    return (filters + lanes - 1) // lanes * lanes


@njit(nogil=True)
def _copy_strided(source, start, strides, target, target_strides, shape):
    """Copy an array of 4 axes from one memory order to another."""
    (s0, s1, s2, s3), (t0, t1, t2, t3) = strides, target_strides
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                for m in range(shape[3]):
                    at = start + i * s0 + j * s1 + k * s2 + m * s3
                    target[i * t0 + j * t1 + k * t2 + m * t3] = source[at]


@register_jitable
def _filter_strides(shape):
    return shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1


@register_jitable
def _packed_strides(channels, width, columns):
    """Return the strides of filters (columns, C, FH, FW) whose taps are rows of a matrix."""
    return 1, columns, width * channels * columns, channels * columns


@register_jitable
def _are_taken_whole(taps, columns, itemsize):
    """Return whether filters are read once for each output row, instead of being split.

    The size is that of whole vectors of columns, so that the sums have the same bits with pooling,
    which pads the columns, and without.
    """
    return taps * padded_filters(columns, itemsize) * itemsize <= MAX_FILTER_BYTES


@njit(nogil=True)
def _aligned_zeros(size, like):
    return skip_to_line(np.zeros(size + LINE_ELEMENTS, like.dtype))


@register_jitable
def _empty_strips(taps, columns, like):
    """Return zeros (strips, taps, width) for a matrix (taps, columns), split by column."""
    vectors = TILE_VECTORS if _are_taken_whole(taps, columns, like.itemsize) else PART_VECTORS
    width = max(1, min(columns, vectors * (VECTOR_BYTES // like.itemsize)))
    strips = (columns + width - 1) // width
    return _aligned_zeros(strips * taps * width, like).reshape((strips, taps, width))


@register_jitable
def pack_filters(W, columns):
    """Return filters (F, C, FH, FW) as strips (strips, taps, width), with zeros beyond column F."""
    filters, channels, height, width = W.shape
    strips = _empty_strips(channels * height * width, columns, W)
    source, strip = _filter_strides(W.shape), strips.shape[2]
    for s in range(strips.shape[0]):
        shape = min(strip, filters - s * strip), channels, height, width
        _copy_strided(W.reshape(-1), s * strip * source[0], source,
            strips[s].reshape(-1), _packed_strides(channels, width, strip), shape)  # fmt: skip
    return strips


@register_jitable
def pack_turned_filters(W, depth):
    """Return flipped filters, with F and C exchanged, as strips (strips, FH FW depth, width).

    ``depth``, F or more, is the number of elements of one pixel of the gradient in memory.
    """
    filters, channels, height, width = W.shape
    strips = _empty_strips(depth * height * width, channels, W)
    s0, s1, _, _ = _filter_strides(W.shape)
    last, strip = height * width - 1, strips.shape[2]
    column, row, down, right = _packed_strides(depth, width, strip)
    for s in range(strips.shape[0]):
        shape = filters, min(strip, channels - s * strip), height, width
        _copy_strided(W.reshape(-1), last + s * strip * s1, (s0, s1, -width, -1),
            strips[s].reshape(-1), (row, column, down, right), shape)  # fmt: skip
    return strips


@register_jitable
def spread_filters(W, depth):
    """Return filters (F, C, FH, FW) as a matrix (depth, FH FW C), with zeros beyond row F."""
    _, channels, height, width = W.shape
    taps = height * width * channels
    matrix = np.zeros((depth, taps), W.dtype)
    start, strides = np.int64(0), (taps, 1, width * channels, channels)
    _copy_strided(
        W.reshape(-1), start, _filter_strides(W.shape), matrix.reshape(-1), strides, W.shape
    )
    return matrix


@register_jitable
def unpack_filters(matrix, filter_step, tap_step, woven, W):
    """Return filters in the shape of ``W`` from a matrix.

    Filters have the stride ``filter_step`` in the matrix, and taps ``tap_step``. The taps are in
    the order of `pack_filters`, or in that of `weave_rows` if ``woven``.
    """
    _, channels, height, width = W.shape
    filters = np.empty(W.shape, W.dtype)
    down, right = width * channels, channels
    if woven:
        down, right = channels, height * channels
    strides = filter_step, tap_step, down * tap_step, right * tap_step
    start = np.int64(0)
    _copy_strided(matrix, start, strides, filters.reshape(-1), _filter_strides(W.shape), W.shape)
    return filters


@inner
def convolve_rows(
    address, image, origin, row, channels, stride, height, width, strips, bias, out, at, rows,
    count, columns
):  # fmt: skip
    """Compute ``rows`` output rows of ``count`` positions and ``columns`` filters at ``out[at:]``.

    The first window begins at ``image[origin]``. The rows of the image are ``row`` elements apart.
    """
    (_, taps, strip), run = strips.shape, width * channels
    whole = _are_taken_whole(taps, columns, strips.itemsize)
    parts, steps = (height, 1) if whole else (1, height)
    for s in range(strips.shape[0]):
        j = s * strip
        for fy in range(steps):
            b = address_of(strips, (s * taps + fy * run) * strip)
            for y in range(rows):
                c = address_of(out, at + y * count * columns + j)
                init, init_row = (c, columns) if fy else (address_of(bias, j), 0)
                microkernel(address, address_of(image, origin + (y * stride + fy) * row),
                    stride * channels, 1, row, b, strip, run * strip, run, parts,
                    init, init_row, c, columns, count, min(strip, columns - j))  # fmt: skip


# -------------------------------------------------------------------------------------- forward
@inner
def _rectify(a):
    for i in range(a.size):
        a[i] = 0 if a[i] <= 0 else a[i]


@inner
def _store_maxima(maxima, columns, filters, pixels, out, channels_last):
    """Copy maxima (pixels, columns) to (pixels, filters) or (filters, pixels)."""
    if channels_last:
        for p in range(pixels):
            source, target = maxima[p * columns :], out[p * filters : (p + 1) * filters]
            for f in range(target.size):
                target[f] = source[f]
        return
    like = maxima.reshape(pixels, columns)
    transpose_at(address_of(maxima, 0), columns, pixels, filters, address_of(out, 0), pixels, like)


class ForwardArgs(NamedTuple):
    """Arguments of `forward_images`; ``x``, ``out`` and ``arg`` are flattened."""

    address: int  # of the micro-kernel
    x: Array  # (N, C, H, W) or (N, H, W, C)
    channels_last: bool
    direct: bool  # x is read without a copy: channels last, no pad, the weights' dtype
    strips: Array  # (strips, K, width), from `pack_filters`
    bias: Array  # (columns,)
    g: Geometry
    mode: int
    out: Array  # (N, OH, OW, columns); if pooled, (N, PH, PW, F) or (N, F, PH, PW)
    out_channels_last: bool
    arg: Array  # (N, PH, PW, columns) if pooled


@by_address
def forward_images(args, n0, n1):
    """Compute the output of images ``n0`` to ``n1``, and with pooling the indices of the maxima."""
    address, x, strips, bias, g, out, arg = (
        args.address, args.x, args.strips, args.bias, args.g, args.out, args.arg
    )  # fmt: skip
    direct, zero = args.direct, np.int64(0)
    dtype = strips.dtype
    channels, stride, pad = g.channels, g.stride, g.pad
    padded_width = g.width + 2 * pad
    row = padded_width * channels
    size = 0 if direct else (g.height + 2 * pad) * row
    padded = np.zeros(size, dtype)  # the border stays 0
    columns = bias.size
    pooling = args.mode == RELU_POOL
    pool_height, pool_width = g.out_height // 2, g.out_width // 2
    out_row = g.out_width * columns
    together = max(1, POOLED_BYTES // max(1, 2 * out_row * strips.itemsize))
    rows = np.empty((2 * together * out_row if pooling else zero) + LINE_ELEMENTS, dtype)
    maxima = np.empty(pool_height * pool_width * columns if pooling else 0, dtype)
    memory = padded, rows, maxima
    padded, rows, maxima = borrow(memory)
    rows = skip_to_line(rows)
    image = direct_or_copy(direct, x, padded)
    length = g.channels * g.height * g.width
    for n in range(n0, n1):
        start = n * length
        if not direct:
            copy_image(x, start, args.channels_last, channels, g.height, g.width,
                padded, pad * (row + channels), row, channels)  # fmt: skip
            start = zero
        if pooling:
            first = n * pool_height * pool_width
            for i0 in range(0, pool_height, together):
                some = min(together, pool_height - i0)
                convolve_rows(address, image, start + 2 * i0 * stride * row, row, channels, stride,
                    g.filter_height, g.filter_width, strips, bias,
                    rows, zero, 2 * some, g.out_width, columns)  # fmt: skip
                for i in range(some):
                    for j in range(pool_width):
                        at = ((i0 + i) * pool_width + j) * columns
                        rectified_maximum_of_4(rows, 2 * i * out_row + 2 * j * columns, columns,
                            out_row, maxima, at, arg, first * columns + at, columns)  # fmt: skip
            _store_maxima(maxima, columns, g.filters, pool_height * pool_width,
                out[first * g.filters :], args.out_channels_last)  # fmt: skip
            continue
        at = n * g.out_height * out_row
        convolve_rows(address, image, start, row, channels, stride, g.filter_height,
            g.filter_width, strips, bias, out, at, g.out_height, g.out_width, columns)  # fmt: skip
        if args.mode == RELU:
            _rectify(out[at : at + g.out_height * out_row])
    keep(memory)


@register_jitable
def pays_threads(g):
    """Return whether a pass is large enough for several threads."""
    window = g.channels * g.filter_height * g.filter_width
    outputs = g.images * g.out_height * g.out_width * g.filters
    return 2.0 * outputs * window >= MIN_PARALLEL_FLOPS


@register_jitable
def run_forward(address, x, channels_last, W, bias, g, mode, out, out_channels_last, arg):
    """Fill ``out``, and with pooling ``arg``."""
    columns = padded_filters(g.filters, W.itemsize) if mode == RELU_POOL else g.filters
    biases = np.zeros(columns, W.dtype)
    for f in range(g.filters):  # assigning a slice would also compile error messages
        biases[f] = bias[f]
    direct = channels_last and g.pad == 0 and x.dtype == W.dtype
    args = ForwardArgs(address, x.reshape(-1), channels_last, direct, pack_filters(W, columns),
        biases, g, mode, out.reshape(-1), out_channels_last, arg.reshape(-1))  # fmt: skip
    function = get_function_address(forward_images, args, x.dtype, W.dtype)
    size = max(1, (g.images + FORWARD_CHUNKS - 1) // FORWARD_CHUNKS)
    run_chunks(function, args, g.images, size, pays_threads(g))


jit_run_forward = njit(nogil=True)(run_forward)
"""`run_forward` for compiled callers, cached on disk."""

"""Gradients of a convolution whose output was rectified and pooled.

At most one of the 4 convolution outputs in a pooling window has a nonzero gradient, and none where
the maximum is not above 0. In a product over all outputs, seven eighths or more of the
multiplications would be by zero. Instead, the maxima of each filter are listed. The gradient of the
filter is the sum of the input windows of its maxima, each times the gradient of the maximum. The
gradient of the input is the sum of the filters, each times the gradient, at those windows
(:mod:`kernels._windows`). The windows are read in place, without im2col, as in the forward pass
(:mod:`kernels._convolution`).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kernels._addresses import address_of
from kernels._arrays import Array, all_finite
from kernels._cache_lines import LINE_ELEMENTS, skip_to_line
from kernels._compiler import by_address, inner
from kernels._convolution import Geometry, pays_threads, spread_filters, unpack_filters
from kernels._convolution_backward import add_chunks, chunk_size
from kernels._function_pointers import borrow, get_function_address, keep, run_chunks
from kernels._images import MAX_SIZE, copy_image, copy_inside, direct_or_copy
from kernels._transpose import transpose_at
from kernels._vectors import VECTOR_BYTES
from kernels._weave import is_lowered, weave_rows
from kernels._windows import (
    ROW_TO_WINDOWS,
    WINDOWS_TO_ROW,
    add_windows,
    list_maxima,
    windows_addresses,
)

BLOCK_BYTES = 1 << 14
"""Bytes of the image that are processed for all filters before the next block: they fit in L1."""


class MaximaArgs(NamedTuple):
    """Arguments of `maxima_images`; all arrays are flat, except `filters`, `dW` and `db`."""

    addresses: tuple[int, int]  # from `windows_addresses`
    x: Array  # (N, C, H, W) or (N, H, W, C)
    channels_last: bool
    direct: bool  # whether x is read in place: it has no pad and the dtype of the weights
    dout: Array  # (N, F, PH, PW) or (N, PH, PW, F)
    dout_channels_last: bool
    arg: Array  # (N, PH, PW, depth)
    g: Geometry
    corners: Array  # int32 (PH, PW): from `_corners`
    dW: Array  # (chunks, F, taps)
    db: Array  # (chunks, F)
    infinite: Array  # bool (chunks,): whether an image holds NaN or infinity (0 * inf is NaN)
    filters: Array  # (F, taps), from `spread_filters`
    dx: Array  # (N, H, W, C), or empty to skip the gradient of the input


@inner(fastmath={"reassoc"})
def _total(values):
    total = values.dtype.type(0)
    for i in range(values.size):
        total += values[i]
    return total


@by_address
def maxima_images(args, n0, n1):
    """Fill `dW` and `db` of one chunk of images, and the input gradient of these images."""
    (listing, adding), x, direct, g, dx = args.addresses, args.x, args.direct, args.g, args.dx
    arg, dout = args.arg, args.dout
    chunk = n0 // chunk_size(g.images)
    dW, db = args.dW[chunk], args.db[chunk]
    dtype, taps, zero = dW.dtype, dW.shape[1], np.int64(0)
    channels, pad, height, width = g.channels, g.pad, g.filter_height, g.filter_width
    across = g.width + 2 * pad
    row, size = across * channels, (g.height + 2 * pad) * across * channels
    # In interleaved rows a window is one run of adjacent elements; otherwise, one run per row.
    lowered = is_lowered(channels, width)
    step = height * channels if lowered else channels
    run, runs = (taps, np.int64(1)) if lowered else (width * channels, height)
    woven_rows, woven_row = 2 * (g.out_height // 2), across * step
    padded = np.zeros((zero if direct else size) + LINE_ELEMENTS, dtype)
    woven = np.empty((woven_rows * woven_row if lowered else zero) + LINE_ELEMENTS, dtype)
    sums = np.empty((size if dx.size else zero) + LINE_ELEMENTS, dtype)
    pixels, pool_width = args.corners.size, g.out_width // 2
    block = pool_width * max(1, BLOCK_BYTES // (2 * max(row, woven_row) * dW.itemsize))
    depth = arg.size // max(1, g.images * pixels)
    lanes = VECTOR_BYTES // dW.itemsize
    places, values = np.empty(pixels + lanes, np.int32), np.empty(pixels + lanes, dtype)
    count, indices = np.zeros(1, np.int64), np.empty(g.filters * pixels, np.uint8)
    gradients = np.empty(indices.size if args.dout_channels_last else zero, dtype)
    memory = padded, woven, sums, places, values, count, indices, gradients
    padded, woven, sums, places, values, count, indices, gradients = borrow(memory)
    padded, woven, sums = skip_to_line(padded), skip_to_line(woven), skip_to_line(sums)
    image = direct_or_copy(direct, x, padded)
    dW[:] = 0
    db[:] = 0
    length = channels * g.height * g.width
    for n in range(n0, n1):
        origin = n * length
        if not direct:
            copy_image(x, origin, args.channels_last, channels, g.height, g.width,
                padded, pad * (row + channels), row, channels)  # fmt: skip
            origin = zero
        if not all_finite(image[origin : origin + size]):
            args.infinite[chunk] = True
            return
        if lowered:
            weave_rows(image, origin, row, channels, height, np.int64(1), woven_rows, woven,
                woven_row)  # fmt: skip
        sums[:] = 0
        # The indices and gradients of each filter side by side, as `list_maxima` reads them.
        transpose_at(address_of(arg, n * pixels * depth), depth, pixels, g.filters,
            address_of(indices, 0), pixels, indices)  # fmt: skip
        upper = address_of(dout, n * pixels * g.filters)
        if args.dout_channels_last:
            transpose_at(upper, g.filters, pixels, g.filters, address_of(gradients, 0), pixels,
                gradients)  # fmt: skip
            upper = address_of(gradients, 0)
        v, p = address_of(values, 0), address_of(places, 0)
        for first in range(0, pixels, block):
            some = min(block, pixels - first)
            for f in range(g.filters):
                at = f * pixels + first
                list_maxima(listing, address_of(indices, at), upper + at * dW.itemsize,
                    address_of(args.corners, first), across, some, p, v,
                    address_of(count, 0))  # fmt: skip
                db[f] += _total(values[: count[0]])
                for fy in range(runs):
                    b = address_of(woven, 0) if lowered else address_of(image, origin + fy * row)
                    add_windows(adding, WINDOWS_TO_ROW, v, p, count[0], b, step,
                        address_of(dW, f * taps + fy * run), run)  # fmt: skip
                if dx.size:
                    for fy in range(height):
                        part = address_of(args.filters, f * taps + fy * width * channels)
                        add_windows(adding, ROW_TO_WINDOWS, v, p, count[0],
                            address_of(sums, fy * row), channels, part,
                            width * channels)  # fmt: skip
        if dx.size:
            border = pad * (row + channels)
            copy_inside(sums, border, row, g.height, g.width * channels, dx, n * length)
    keep(memory)


@lru_cache
def _corners(g: Geometry) -> Array:
    """Return the index of the top left pixel of each pooling window, in a padded image."""
    y = np.arange(g.out_height // 2, dtype=np.int32)[:, None]
    x = np.arange(g.out_width // 2, dtype=np.int32)
    return (2 * y * (g.width + 2 * g.pad) + 2 * x).reshape(-1)


@lru_cache
def _windows_addresses(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    addresses: tuple[int, int] = windows_addresses(np.empty(0, dtype))
    return addresses


def maxima_gradient(
    dout: Array,
    dout_channels_last: bool,
    arg: Array,
    x: Array,
    channels_last: bool,
    W: Array,
    g: Geometry,
    dx: Array,
) -> tuple[Array, Array] | None:
    """Fill ``dx``, unless it is empty, and return ``dW`` and ``db``.

    Return None if the stride is not 1, if ``W`` is empty, if ``x`` holds NaN or infinity, if ``W``
    does and ``dx`` is not empty, or for images of more than 2**31 positions.

    Parameters
    ----------
    dout, dout_channels_last
        Gradient of the pooled output.
    arg : ndarray of uint8, shape (N, PH, PW, depth)
        Index in its pooling window of each maximum, or `DEAD`.
    x, channels_last, W, g, dx
        As for `kernels._convolution_backward.run_backward`.
    """
    fits = (g.height + 2 * g.pad) * (g.width + 2 * g.pad) <= MAX_SIZE  # positions have 32 bits
    if g.stride != 1 or not (W.size and fits) or (dx.size and not all_finite(W.reshape(-1))):
        return None
    filters, taps = W.shape[0], W[:1].size
    size = chunk_size(g.images)
    chunks = (g.images + size - 1) // size
    dWs, dbs = np.empty((chunks, filters, taps), W.dtype), np.empty((chunks, filters), W.dtype)
    direct = channels_last and g.pad == 0 and x.dtype == W.dtype
    infinite = np.zeros(chunks, np.bool_)
    args = MaximaArgs(_windows_addresses(W.dtype), x.reshape(-1), channels_last, direct,
        dout.reshape(-1), dout_channels_last, arg.reshape(-1), g, _corners(g), dWs, dbs, infinite,
        spread_filters(W, filters), dx.reshape(-1))  # fmt: skip
    function = get_function_address(maxima_images, args, x.dtype, W.dtype)
    run_chunks(function, args, g.images, size, pays_threads(g))
    if infinite.any():
        return None
    dW, db = np.empty(filters * taps, W.dtype), np.empty(filters, W.dtype)
    add_chunks(dWs.reshape((chunks, filters * taps)), dW)
    add_chunks(dbs, db)
    return unpack_filters(dW, taps, 1, is_lowered(g.channels, g.filter_width), W), db

"""Gradients of a convolution whose output was rectified and pooled.

Of the 4 outputs that a pooling window covers at most one has a gradient, and where the maximum is
not above 0 none has: a product of all outputs would multiply seven zeros or more in eight.

For the filters, bitmaps tell, filter by filter, which windows of the input count, and the product
goes from set bit to set bit (:mod:`kernels._bitmap_gemm`): each adds its window times the gradient.
The windows are read where they lie, as in the forward pass (:mod:`kernels._convolution`). For the
input, each maximum adds its filter times the gradient to its window.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kernels._arrays import Array
from kernels._bitmap import WORD, compare_word, lowest_bit, transposed_bitmap
from kernels._bitmap_gemm import SINGLE, bitmap_gemm
from kernels._cache import inner
from kernels._convolution import (
    Geometry,
    padded_filters,
    pays_threads,
    spread_filters,
    unpack_filters,
)
from kernels._convolution_backward import add_chunks, chunk_size
from kernels._function_pointers import borrow, get_function_address, keep, run_chunks
from kernels._gemm import BITMAP, get_product_addresses
from kernels._images import copy_image, direct_or_copy
from kernels._microkernel import LINE_ELEMENTS, address_of, skip_to_line
from kernels._pool_vectors import DEAD, add_multiple
from kernels._targets import _all_finite
from kernels._transpose import transpose_at
from kernels._weave import is_lowered, weave, weave_next


class MaximaArgs(NamedTuple):
    """Arguments of `maxima_images`; all memory is flat, but that of sums."""

    by_bits: int  # address of the product
    x: Array  # (N, C, H, W) or (N, H, W, C)
    channels_last: bool
    direct: bool  # whether x is read where it is: it has no pad, and the weights' dtype
    dout: Array  # (N, F, PH, PW) or (N, PH, PW, F)
    dout_channels_last: bool
    arg: Array  # (N, PH, PW, depth)
    g: Geometry
    dW: Array  # (chunks, depth, taps)
    db: Array  # (chunks, depth)
    filter_at: Array  # int64: where a pixel's filters are, and each place's pixel, in gradients
    pixel_at: Array
    infinite: Array  # bool (chunks,): whether an image holds NaN or infinity, for which 0 counts
    filters: Array  # (depth, taps), from `spread_filters`
    dx: Array  # (N, H, W, C), or empty if it is not wanted


@inner
def _add_windows(args, transposed, words_row, gradient, first, sums, row):
    """Add what the maxima of up to 64 filters contribute to the gradient of a padded image."""
    g, filters = args.g, args.filters.reshape(-1)
    taps, run = args.filters.shape[1], g.filter_width * g.channels
    for f in range(min(WORD, args.filters.shape[0] - first)):
        source = (first + f) * taps
        for w in range(words_row):
            places = transposed[f * words_row + w]
            while places:
                place = w * WORD + lowest_bit(places)
                places &= places - np.uint64(1)
                x, at = gradient[args.pixel_at[place] + first + f], place * g.channels
                for fy in range(g.filter_height):
                    add_multiple(x, filters, source + fy * run, sums, at + fy * row, run)


@inner
def maxima_images(args, n0, n1):
    """Fill a chunk's sums."""
    x, direct, dout, arg, g = args.x, args.direct, args.dout, args.arg, args.g
    chunk = n0 // chunk_size(g.images)
    dW, db = args.dW[chunk], args.db[chunk]
    dtype, (depth, taps), zero = dW.dtype, dW.shape, np.int64(0)
    nothing = dtype.type(0)
    channels, pad, height, width = g.channels, g.pad, g.filter_height, g.filter_width
    across = g.width + 2 * pad
    row, size = across * channels, (g.height + 2 * pad) * across * channels
    # A window is one run of adjacent elements of woven rows, or one for each of its own rows.
    lowered = is_lowered(channels, width)
    step = height * channels if lowered else channels
    run, runs = (taps, np.int64(1)) if lowered else (width * channels, height)
    pool_height, pool_width = g.out_height // 2, g.out_width // 2
    pixels, places = pool_height * pool_width, 2 * pool_height * across
    padded = np.zeros((zero if direct else size) + LINE_ELEMENTS, dtype)
    woven = np.empty((places * step if lowered else zero) + LINE_ELEMENTS, dtype)
    # Bitmaps of the filters at each place, and of the places of each filter.
    across_words, down_words = (depth + WORD - 1) // WORD, (places + WORD - 1) // WORD
    words = np.zeros(places * across_words, np.uint64)
    transposed = np.empty(WORD * down_words, np.uint64)
    which = np.zeros(pixels * depth + WORD, np.uint8)
    gradient, kept = np.zeros(pixels * depth, dtype), np.empty(WORD * taps, dtype)
    sums = np.empty((size if args.dx.size else zero) + LINE_ELEMENTS, dtype)
    memory = padded, woven, words, transposed, which, gradient, kept, sums
    padded, woven, words, transposed, which, gradient, kept, sums = borrow(memory)
    padded, woven, sums = skip_to_line(padded), skip_to_line(woven), skip_to_line(sums)
    image = direct_or_copy(direct, x, padded)
    dW[:] = 0
    db[:] = 0
    length = channels * g.height * g.width
    for n in range(n0, n1):
        origin, first = n * length, n * pixels
        if not direct:
            copy_image(x, origin, args.channels_last, channels, g.height, g.width,
                padded, pad * (row + channels), row, channels)  # fmt: skip
            origin = zero
        if not _all_finite(image[origin : origin + size]):
            args.infinite[chunk] = True
            return
        if args.dout_channels_last:
            for p in range(pixels):
                source, target = dout[(first + p) * g.filters :], gradient[p * depth :]
                for f in range(g.filters):
                    target[f] = source[f]
        else:
            transpose_at(address_of(dout, first * g.filters), pixels, g.filters, pixels,
                address_of(gradient, 0), depth, dW)  # fmt: skip
        source = arg[first * depth : (first + pixels) * depth]
        for i in range(source.size):
            which[i] = source[i]
        for p in range(pixels):
            place = p // pool_width * 2 * across + p % pool_width * 2
            for k in range(4):
                at = (place + k // 2 * across + k % 2) * across_words
                for v in range(across_words):
                    words[at + v] = ~compare_word(which, p * depth + v * WORD, np.uint8(k))
            here, index = gradient[p * depth : (p + 1) * depth], which[p * depth :]
            for f in range(here.size):
                db[f] += nothing if index[f] == DEAD else here[f]
        if lowered:
            rows = woven[: across * step]
            weave(image, origin, row, channels, height, rows)
            for y in range(1, 2 * pool_height):
                above, rows = rows, woven[y * across * step : (y + 1) * across * step]
                weave_next(image, origin + y * row, row, channels, height, above, rows)
        sums[:] = 0
        for v in range(across_words):
            transposed_bitmap(words[v:], across_words, places, transposed, down_words)
            if args.dx.size:
                _add_windows(args, transposed, down_words, gradient, v * WORD, sums, row)
            for fy in range(runs):
                b = address_of(woven, 0) if lowered else address_of(image, origin + fy * row)
                c = address_of(dW, v * WORD * taps + fy * run)
                bitmap_gemm(args.by_bits, SINGLE, address_of(transposed, 0), down_words, places,
                    address_of(gradient, v * WORD), address_of(args.filter_at, 0),
                    address_of(args.pixel_at, 0), 0, 0, b, step, 0, address_of(kept, fy * run), c,
                    taps, c, taps, min(WORD, depth - v * WORD), run)  # fmt: skip
        if args.dx.size:
            for y in range(g.height):
                start, n_row = pad * (row + channels) + y * row, g.width * channels
                source = sums[start : start + n_row]
                target = args.dx[n * length + y * n_row : n * length + (y + 1) * n_row]
                for i in range(target.size):
                    target[i] = source[i]
    keep(memory)


@lru_cache
def _pixel_at(g: Geometry, depth: int) -> Array:
    """Return where the gradient of each place's pooled pixel is; beyond the outputs: unused."""
    y, i = np.arange(g.out_height // 2 * 2)[:, None] // 2, np.arange(g.width + 2 * g.pad) // 2
    return (y * (g.out_width // 2) + i).reshape(-1) * depth


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

    Or return None: for windows apart, no weights, and NaN or infinity in ``x`` or ``W``.

    Parameters
    ----------
    dout, dout_channels_last
        Gradient of the pooled output.
    arg : ndarray of uint8, shape (N, PH, PW, depth)
        Which output was each maximum.
    x, channels_last, W, g, dx
        As for `kernels._convolution_backward.run_backward`.
    """
    if g.stride != 1 or not W.size or (dx.size and not _all_finite(W.reshape(-1))):
        return None
    depth, taps = padded_filters(g.filters, W.itemsize), W[:1].size
    size = chunk_size(g.images)
    chunks = (g.images + size - 1) // size
    dWs, dbs = np.empty((chunks, depth, taps), W.dtype), np.empty((chunks, depth), W.dtype)
    direct = channels_last and g.pad == 0 and x.dtype == W.dtype
    by_bits = get_product_addresses(W.dtype, W.dtype, BITMAP)[4]
    infinite = np.zeros(chunks, np.bool_)
    args = MaximaArgs(by_bits, x.reshape(-1), channels_last, direct, dout.reshape(-1),
        dout_channels_last, arg.reshape(-1), g, dWs, dbs, np.arange(WORD), _pixel_at(g, depth),
        infinite, spread_filters(W, depth), dx.reshape(-1))  # fmt: skip
    function = get_function_address(maxima_images, args, x.dtype, W.dtype)
    run_chunks(function, args, g.images, size, pays_threads(g))
    if infinite.any():
        return None
    dW, db = np.empty(depth * taps, W.dtype), np.empty(depth, W.dtype)
    add_chunks(dWs.reshape((chunks, depth * taps)), dW)
    add_chunks(dbs, db)
    woven = is_lowered(g.channels, g.filter_width)
    return unpack_filters(dW, taps, 1, woven, W), db[: g.filters].copy()

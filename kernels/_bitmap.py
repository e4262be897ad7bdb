"""Bitmaps of the non-zero elements of arrays, for products that skip zeros.

Bit ``k % 64`` of word ``k // 64`` of a row is set if element ``k`` differs from zero, as NaN does.
:mod:`kernels._bitmap_gemm` computes products with these bitmaps.

The product ``x^T dout`` needs the transposed bitmap, which is computed in blocks of 64 x 64 bits:
H. Warren, "Hacker's Delight", 2nd edition (2012), section 7-3.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from kernels._addresses import element_type, matrix_at
from kernels._arrays import all_finite
from kernels._compiler import inner, njit
from kernels._function_pointers import call_address, emit_function
from kernels._microkernel import constant, splat
from kernels._plain_code import plain_code, plain_code_address
from kernels._vectors import VECTOR_BYTES

WORD = 64
"""Bits per word of a bitmap."""


@intrinsic
def _compare_word(context, x, offset, value):
    """Return a word with bit ``i`` set if ``x[offset + i]`` differs from a number."""

    def emit(context, builder, signature, args):
        data = context.make_array(x)(context, builder, args[0]).data
        size = x.dtype.bitwidth // 8
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(element_type(x.dtype), lanes)
        other, word = splat(builder, args[2], lanes), constant(0)
        for first in range(0, WORD, lanes):  # one vector register at a time, compared into a mask
            at = builder.gep(data, [builder.add(args[1], constant(first))])
            found = builder.load(builder.bitcast(at, vector.as_pointer()), align=size)
            if isinstance(x.dtype, types.Float):
                bits = builder.fcmp_unordered("!=", found, other)
            else:
                bits = builder.icmp_unsigned("!=", found, other)
            bits = builder.zext(builder.bitcast(bits, ir.IntType(lanes)), ir.IntType(64))
            word = builder.or_(word, builder.shl(bits, constant(first)))
        return word

    return types.uint64(x, types.intp, x.dtype), emit


def _plain_compare_word(x, offset, value):
    bits = sum(1 << i for i in range(WORD) if x[offset + i] != value)
    return np.uint64(bits)


compare_word = _plain_compare_word if config.DISABLE_JIT else _compare_word


@intrinsic
def _lowest_bit(context, word):
    def emit(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


def _plain_lowest_bit(word):
    return next((i for i in range(WORD) if int(word) >> i & 1), WORD)


lowest_bit = _plain_lowest_bit if config.DISABLE_JIT else _lowest_bit
"""Return the index of the lowest set bit of a word, or `WORD` if the word is 0."""


@inner
def row_bitmap(x, offset, size, words, at):
    """Write the bitmap of ``x[offset : offset + size]`` to ``words[at:]``; `x` is flat."""
    whole, rest, zero = size // WORD, size % WORD, x.dtype.type(0)
    for w in range(whole):
        words[at + w] = compare_word(x, offset + w * WORD, zero)
    if rest:
        end = offset + size
        if end >= WORD:  # load the last 64 elements, which may begin in earlier rows
            words[at + whole] = compare_word(x, end - WORD, zero) >> np.uint64(WORD - rest)
        else:
            word = np.uint64(0)
            for i in range(rest):
                word |= np.uint64(x[end - rest + i] != 0) << np.uint64(i)
            words[at + whole] = word


def _fill_row_bitmap(like, like_word, x, offset, size, words):
    one = np.int64(1)
    flat = matrix_at(x, one, offset + size, like)[0]
    count = (size + WORD - 1) // WORD
    row_bitmap(flat, offset, size, matrix_at(words, one, count, like_word)[0], np.int64(0))


@intrinsic
def _emit_row_bitmap(context, x):
    def emit(context, builder, signature, args):
        kinds = [x.dtype, types.uint64]
        return emit_function(_fill_row_bitmap, "row_bitmap", context, builder, kinds, 4)

    return types.intp(x), emit


def _plain_emit_row_bitmap(x):
    return plain_code_address(x.dtype)


if config.DISABLE_JIT:
    _emit_row_bitmap = _plain_emit_row_bitmap


@njit(nogil=True)
def _row_bitmap_address(x):
    return _emit_row_bitmap(x)


@lru_cache
def get_row_bitmap_address(dtype: np.dtype[Any]) -> int:
    """Return the address that `row_bitmap_at` takes for elements of a dtype."""
    address: int = _row_bitmap_address(np.empty(0, dtype))
    return address


def _plain_row_bitmap_at(address, x, offset, size, words):
    (dtype,) = plain_code(address)
    likes = np.empty((0, 0), dtype), np.empty((0, 0), np.uint64)
    _fill_row_bitmap(*likes, x, offset, size, words)


row_bitmap_at = _plain_row_bitmap_at if config.DISABLE_JIT else call_address
"""Write a row's bitmap: ``row_bitmap_at(address, x, offset, size, words)``.

This is `row_bitmap` on memory: `x` is the address of the first element of the array, `words` that
of the first word to write, and `address` is from `get_row_bitmap_address`.
"""


SAMPLED_ROWS, SAMPLED_COLUMNS = 8, 1024


@njit(nogil=True)
def density(x):
    """Estimate the fraction of non-zero elements of a 2-D array from a sample of its rows."""
    n, d = x.shape
    rows, columns, count = min(n, SAMPLED_ROWS), min(d, SAMPLED_COLUMNS), 0
    for i in range(rows):
        row = x[n * i // rows]
        for j in range(columns):
            count += row[j] != 0
    return count / max(1, rows * columns)


@intrinsic
def _transpose_square(context, square):
    """Transpose 64 x 64 bits in place, in eight registers of eight rows each."""

    def emit(context, builder, signature, args):
        data = context.make_array(square)(context, builder, args[0]).data
        count = 8
        kind = ir.VectorType(ir.IntType(64), count)

        def vector(values):
            return ir.Constant(kind, list(values))

        places = [
            builder.bitcast(builder.gep(data, [constant(count * i)]), kind.as_pointer())
            for i in range(WORD // count)
        ]
        rows = [builder.load(place, align=8) for place in places]
        everything = (1 << WORD) - 1
        for width in (32, 16, 8, 4, 2, 1):
            # Exchange the off-diagonal blocks of this width, of rows k and k + width.
            mask = everything // ((1 << width) + 1)  # the lower half of every 2 * width bits
            if width >= count:
                distance, low = width // count, vector([mask] * count)
                shift = vector([width] * count)
                for i in (i for i in range(len(rows)) if not i & distance):
                    upper, lower = rows[i], rows[i + distance]
                    change = builder.and_(builder.xor(builder.lshr(upper, shift), lower), low)
                    rows[i + distance] = builder.xor(lower, change)
                    rows[i] = builder.xor(upper, builder.shl(change, shift))
                continue
            lanes = range(count)
            partner = ir.Constant(ir.VectorType(ir.IntType(32), count), [i ^ width for i in lanes])
            left = vector(0 if i & width else width for i in lanes)
            right = vector(width if i & width else 0 for i in lanes)
            kept = vector(mask ^ everything if i & width else mask for i in lanes)
            taken = vector(mask if i & width else mask ^ everything for i in lanes)
            for i, row in enumerate(rows):
                other = builder.shuffle_vector(row, row, partner)
                other = builder.lshr(builder.shl(other, left), right)
                rows[i] = builder.or_(builder.and_(row, kept), builder.and_(other, taken))
        for row, place in zip(rows, places, strict=True):
            builder.store(row, place, align=8)
        return context.get_dummy_value()

    return types.void(square), emit


def _plain_transpose_square(square):
    bits = np.unpackbits(square.view(np.uint8).reshape(WORD, -1), axis=1, bitorder="little")
    turned = np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little")
    square[:] = turned.view(np.uint64)[:, 0]


transpose_square = _plain_transpose_square if config.DISABLE_JIT else _transpose_square


@inner
def transposed_bitmap(words, words_row, n, out, out_row):
    """Transpose one column of words of a bitmap.

    Parameters
    ----------
    words : ndarray of uint64
        The bitmap, from the first word of the column on.
    words_row : int
        Words per row of the bitmap.
    n : int
        Number of rows of the bitmap.
    out : ndarray of uint64, of size ``64 * out_row`` or more
        Row ``j``, of `out_row` words, becomes column ``j`` of the bits of `words`.
    out_row : int
        Words per row of `out`, ``(n + 63) // 64`` or more.
    """
    square = np.empty(WORD, np.uint64)
    # Unsigned: Numba checks whether a signed index is negative.
    step, out_step = np.uint64(words_row), np.uint64(out_row)
    for v in range((n + WORD - 1) // WORD):
        first, count = np.uint64(v * WORD), min(WORD, n - v * WORD)
        for i in range(np.uint64(count)):
            square[i] = words[(first + i) * step]
        for i in range(count, WORD):
            square[i] = np.uint64(0)
        transpose_square(square)
        for j in range(np.uint64(WORD)):
            out[j * out_step + np.uint64(v)] = square[j]


MIN_SKIP_SIZE = 4096
"""Below this many elements of `a`, looking for zeros takes longer than skipping them saves."""


@njit(nogil=True)
def skip_threshold(m, itemsize):
    """Return the density of `a` below which skipping its zeros is faster."""
    vectors = (m * itemsize + VECTOR_BYTES - 1) // VECTOR_BYTES
    if vectors <= 2:
        return 0.0
    return 0.4 if 7 <= vectors < 64 else 0.3


@njit(nogil=True)
def skips_zeros(a, b, m):
    """Return whether a product ``op(a) b`` with `m` columns skips the zeros of `a`.

    The second result is the fraction of the multiply-adds that are computed. If an element of `b`
    is not finite, zeros are not skipped: 0 times infinity is NaN, as in NumPy.
    """
    limit = skip_threshold(m, b.itemsize)
    if limit == 0 or a.size < MIN_SKIP_SIZE:
        return False, 1.0
    share = density(a)
    skip = share < limit and all_finite(b.reshape(-1))
    return skip, share if skip else 1.0

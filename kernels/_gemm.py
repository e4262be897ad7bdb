"""Matrix product of the affine layer: ``out = op(a) op(b) + bias``.

Plain loops around the micro-kernel of :mod:`kernels._microkernel` compute a block. Where many
elements of `a` are zero, :mod:`kernels._bitmap_gemm` skips them; the result is bitwise identical.
:mod:`kernels._gemm_threads` divides the product among threads.
"""

from typing import Any

import numpy as np
from numba import config, types
from numba.extending import intrinsic

from kernels._addresses import address_of, matrix_at
from kernels._bitmap import WORD, row_bitmap, transposed_bitmap
from kernels._bitmap_gemm import (
    PAIRED,
    SINGLE,
    bitmap_gemm,
    bitmap_gemm_address,
    line_to_pack,
    packing_space,
)
from kernels._compiler import inner, njit, register_jitable
from kernels._function_pointers import call_address, emit_function
from kernels._microkernel import microkernel, microkernel_address
from kernels._plain_code import plain_code, plain_code_address
from kernels._transpose import transpose_at
from kernels._vectors import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES

# Largest blocks along `k`. All tiles are computed for one block before the next, so that the
# operand stays in cache: packed `b`, transposed `a` (read with a stride), or unpacked `b`.
K_BLOCK_PACKED, K_BLOCK_STRIDED, K_BLOCK = 512, 128, 1024
PACKED_BYTES = 1 << 19
"""Bytes of `b` that are packed at once, into several strips."""
MIN_PACKED_ROWS, MIN_PACKED_ROWS_NARROW = 24, 512 if VECTOR_BYTES == 64 else 128
"""Number of rows of `a` from which packing pays if the rows of `b` are longer than a strip. The
second is for rows of at most `NARROW_BYTES`, several of which share a page: packing then only
aligns them to vectors."""
NARROW_BYTES = 1024
ROWS_BYTES = 1 << 18
"""Bytes of a block of rows of `a`, or of the result, which stays in cache while the block is
multiplied with all packed strips."""
BITMAP_WORDS = 32
"""Number of words per row of `a` that are computed together where a bitmap is transposed."""
MIN_TURN_STRIPS = 4
"""Number of strips from which transposing a block of `a` pays where ``op(a)`` is ``a.T``, which
would otherwise be read with a large stride."""

NO_TRANSPOSE, TRANSPOSE = np.False_, np.True_
"""Flags for ``op``. With a literal ``True`` in compiled code, Numba would compile a second
specialisation of all of these functions."""


@inner
def packs(n, m, b_t, itemsize):
    """Return whether `b` is packed strip by strip."""
    # `n` and `m` are the sizes of the whole product, not of a block, because the order of the sums
    # depends on the result.
    rows = MIN_PACKED_ROWS_NARROW if m * itemsize <= NARROW_BYTES else MIN_PACKED_ROWS
    return b_t or (m > TILE_VECTORS * (VECTOR_BYTES // itemsize) and n >= rows)


@inner
def count_blocks(n, k, m, a_t, b_t, itemsize):
    """Return the number of blocks along `k`."""
    limit = K_BLOCK_PACKED if packs(n, m, b_t, itemsize) else K_BLOCK
    limit = min(limit, K_BLOCK_STRIDED if a_t else K_BLOCK)
    return (k + 2 * limit - 1) // (2 * limit) * 2 if k > limit else 1  # even: see `_gemm_threads`


@inner
def _byte_values(size_a, like):
    """Return the values 0 to 255 in the dtype of `like`; an empty array for larger elements."""
    table = np.empty(256 if size_a == 1 else 0, like.dtype)
    for i in range(table.size):
        table[i] = i
    return table


@register_jitable
def bitmap_row(size):
    """Return the number of words per row of a bitmap that `gemm_block_at` fills and reads."""
    return (size + WORD - 1) // WORD


@inner
def _words_at(words, first, count, row, like):
    """Return rows of a bitmap at an address as a flat array."""
    at = words + like.itemsize * first * row
    return matrix_at(at, np.int64(1), count * row, like)[0]


# Three functions compute a block of the product. All have one signature of addresses and numbers.


def _skip_rows(
    like_a, like_c, kernel, values, words, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1,
):  # fmt: skip
    """Compute ``a @ b + bias`` from the non-zero elements of `a`."""
    size_a, size = like_a.itemsize, like_c.itemsize
    flat = matrix_at(a, np.int64(1), n * k, like_a)[0]
    blocks, table = count_blocks(n, k, m, a_t, b_t, size), _byte_values(size_a, like_c)
    step = WORD * min(4, max(1, ROWS_BYTES // (WORD * size_a * max(1, k))))
    if step == WORD and r1 - r0 <= 2 * WORD:
        step = 2 * WORD
    width = bitmap_row((k + blocks - 1) // blocks)
    own = np.empty(0 if words else step * width, np.uint64)
    packed, sums = packing_space(like_c), np.empty(step * m if blocks > 1 else 0, like_c.dtype)
    for first in range(r0, r1, step):
        count = min(step, r1 - first)
        ahead = size_a * k * step if first + step < r1 else 0  # prefetch the next rows
        bits = _words_at(words, first, count, width, own) if words else own
        at = out + size * (first * m + c0)
        for block in range(blocks):
            k0 = k * block // blocks
            depth = k * (block + 1) // blocks - k0
            for i in range(count):
                row_bitmap(flat, (first + i) * k + k0, depth, bits, i * width)
            init, init_row = (at, m) if block else (bias + size * c0, 0)
            b_at = b + size * (k0 * m + c0)
            bitmap_gemm(kernel, SINGLE, address_of(bits, 0), width, depth,
                a + size_a * (first * k + k0), k, 1, ahead, values or address_of(table, 0), b_at, m,
                line_to_pack(packed, count, b_at, m), address_of(sums, 0) if block else at, init,
                init_row, at, m, count, c1 - c0)  # fmt: skip


def _skip_transposed(
    like_a, like_c, kernel, values, words, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1,
):  # fmt: skip
    """Compute ``a.T @ b + bias`` from the non-zero elements of `a`."""
    size_a, size = like_a.itemsize, like_c.itemsize
    flat = matrix_at(a, np.int64(1), n * k, like_a)[0]
    blocks, table = count_blocks(n, k, m, a_t, b_t, size), _byte_values(size_a, like_c)
    deepest = (k + blocks - 1) // blocks
    width = bitmap_row(deepest)
    across = bitmap_row(n) if words else min(BITMAP_WORDS, bitmap_row(r1 - r0))
    own = np.empty(0 if words else deepest * across, np.uint64)
    transposed = np.empty(WORD * width, np.uint64)
    sums = np.empty(WORD * m if blocks > 1 else 0, like_c.dtype)
    for block in range(blocks):
        k0 = k * block // blocks
        depth = k * (block + 1) // blocks - k0
        for first in range(r0, r1, WORD):
            count = min(WORD, r1 - first)
            bits, word = own, (first - r0) // WORD % BITMAP_WORDS
            if words:
                bits, word = _words_at(words, k0, depth, across, own), first // WORD
            elif word == 0:
                columns = min(BITMAP_WORDS * WORD, r1 - first)
                for i in range(depth):
                    row_bitmap(flat, (k0 + i) * n + first, columns, own, i * across)
            transposed_bitmap(bits[word:], across, depth, transposed, width)
            at = out + size * (first * m + c0)
            init, init_row = (at, m) if block else (bias + size * c0, 0)
            bitmap_gemm(kernel, PAIRED, address_of(transposed, 0), width, depth,
                a + size_a * (k0 * n + first), 1, n, 0, values or address_of(table, 0),
                b + size * (k0 * m + c0), m, 0, address_of(sums, 0) if block else at, init,
                init_row, at, m, count, c1 - c0)  # fmt: skip


def _multiply_all(
    like_a, like_c, kernel, values, words, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1,
):  # fmt: skip
    """Compute ``op(a) @ op(b) + bias`` with the micro-kernel."""
    size_a, size = like_a.itemsize, like_c.itemsize
    pack = packs(n, m, b_t, size)
    strip = TILE_VECTORS * (VECTOR_BYTES // size)
    width = strip if pack else max(1, c1 - c0)
    blocks = count_blocks(n, k, m, a_t, b_t, size)
    deepest = (k + blocks - 1) // blocks
    group = strip * max(1, PACKED_BYTES // (max(1, deepest) * strip * size)) if pack else width
    strips = (min(group, c1 - c0) + strip - 1) // strip if pack else 0
    # An allocation takes as long as the product of one row and a small matrix.
    packed = np.empty((strips * deepest, strip), like_c.dtype) if pack else like_c
    tile = TILE_ROWS[0]
    row_bytes = max(1, deepest * size_a, min(group, c1 - c0) * size)
    height = max(tile, ROWS_BYTES // row_bytes // tile * tile)
    turns = a_t and m >= MIN_TURN_STRIPS * strip
    turned = np.empty((min(height, r1 - r0), deepest), like_a.dtype) if turns else like_a
    for block in range(blocks):
        k0 = k * block // blocks
        depth = k * (block + 1) // blocks - k0
        for first in range(c0, c1, group):
            last = min(c1, first + group)
            if pack:
                b_row, start = (k, first * k + k0) if b_t else (m, k0 * m + first)
                _pack(b + size * start, b_row, b_t, packed, deepest, depth, last - first)
            for row in range(r0, r1, height):
                count = min(height, r1 - row)
                a_at, a_row, a_k = a + size_a * (row * k + k0), k, 1
                if a_t:
                    a_at, a_row, a_k = a + size_a * (k0 * n + row), 1, n
                if turns:
                    to = address_of(turned, 0)
                    transpose_at(a_at, n, depth, count, to, deepest, like_a)
                    a_at, a_row, a_k = to, deepest, 1
                for j in range(first, last, width):
                    b_at, b_row = b + size * (k0 * m + j), m
                    if pack:
                        b_at = address_of(packed, (j - first) // width * deepest * width)
                        b_row = width
                    at = out + size * (row * m + j)
                    init, init_row = (at, m) if block else (bias + size * j, 0)
                    microkernel(kernel, a_at, a_row, a_k, 0, b_at, b_row, 0,
                        depth, 1, init, init_row, at, m, count, min(width, last - j))  # fmt: skip


@inner
def _pack(b, b_row, b_t, packed, height, depth, count):
    """Pack `count` columns of ``op(b)`` into strips; `b` is the address of the first element.

    The strips are `height` rows apart in `packed`, of which `depth` are filled.
    """
    width = packed.shape[1]
    if b_t:
        for s in range(0, count, width):
            transpose_at(b + packed.itemsize * s * b_row, b_row, min(width, count - s), depth,
                address_of(packed, s * height), width, packed)  # fmt: skip
        return
    rows, whole = matrix_at(b, depth, b_row, packed), count // width
    for k in range(depth):
        for s in range(whole):
            to, source = packed[s * height + k], rows[k, s * width :]
            for j in range(width):
                to[j] = source[j]
        for j in range(whole * width, count):
            packed[whole * height + k, j - whole * width] = rows[k, j]


# Numba copies the callees of a function into its module and optimises them again. The three
# functions above are most of the code of a product. They are called by address, so each is compiled
# once for a pair of element types, whatever the number of callers.


def _emitter(way):
    """Return an intrinsic that takes arrays `a` and `c` and returns the address of `way`."""
    if config.DISABLE_JIT:
        return lambda a, c: plain_code_address(way, a.dtype, c.dtype)

    @intrinsic
    def emit(context, a, c):
        def code(context, builder, signature, args):
            dtypes = [kind.dtype for kind in signature.args]
            return emit_function(way, way.__name__, context, builder, dtypes, 16)

        return types.intp(a, c), code

    return emit


_emit_dense, _emit_rows, _emit_transposed = map(
    _emitter, (_multiply_all, _skip_rows, _skip_transposed)
)


def _plain_call_block(way, *args):
    function, a, c = plain_code(way)
    function(np.empty((0, 0), a), np.empty((0, 0), c), *args)


gemm_block_at = _plain_call_block if config.DISABLE_JIT else call_address
"""Compute rows `r0` to `r1` and columns `c0` to `c1` of `gemm`.

`way` and `kernel` are addresses: `way` of the dense function, with `kernel` of the micro-kernel; or
`way` of a function that skips the zeros of `a`, transposed or not, with `kernel` of `bitmap_gemm`.
Where zeros are skipped, `values` is the address of a table with the 256 values of one-byte elements
of `a`, or 0 if each byte is its own value. `words` is 0, or the address of a bitmap of `a` in rows
of `bitmap_row` words. The function for ``a @ b`` fills rows `r0` to `r1`; there must be one block
along `k`. The function for ``a.T @ b`` reads the bitmap; `r0` must be a multiple of `WORD`.
Operands are given by their addresses; `n`, `k` and `m` are the sizes of the whole product.
"""


@inner
def gemm_block(addresses, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, skip):
    """Call `gemm_block_at` with the addresses of arrays."""
    dense, rows, transposed, multiply, by_bits = addresses
    n, m = out.shape
    way, kernel = (transposed if a_t else rows, by_bits) if skip else (dense, multiply)
    none = np.int64(0)
    gemm_block_at(way, kernel, none, none, address_of(a, 0), a_t, address_of(b, 0), b_t,
        address_of(bias, 0), address_of(out, 0), n, a.shape[0] if a_t else a.shape[1], m, r0, r1,
        c0, c1)  # fmt: skip


@njit(nogil=True)
def _dense_address(a, c):
    return _emit_dense(a, c)


@njit(nogil=True)
def _rows_address(a, c):
    return _emit_rows(a, c)


@njit(nogil=True)
def _transposed_address(a, c):
    return _emit_transposed(a, c)


@inner
def jit_forward_addresses(a, c):
    """Return, in compiled code, the addresses for ``a @ b``, from arrays of the two types."""
    none = np.int64(0)
    found = _dense_address(a, c), _rows_address(a, c), none
    return (*found, microkernel_address(a, c), bitmap_gemm_address(a, c))


@inner
def jit_backward_addresses(a, c):
    """Return, in compiled code, the addresses for ``a.T @ b`` and ``a @ b.T``."""
    none = np.int64(0)
    found = _dense_address(a, c), none, _transposed_address(a, c)
    return (*found, microkernel_address(a, c), bitmap_gemm_address(a, c))


# Functions compiled for a pair of element types, and the indices of those that a product needs.
_PARTS = (_dense_address, _rows_address, _transposed_address, microkernel_address,
          bitmap_gemm_address)  # fmt: skip
DENSE, SKIP_ROWS, SKIP_BOTH = (0, 3), (1, 4), (1, 2, 4)
FORWARD, BACKWARD, BOTH = (0, 1, 3, 4), (0, 2, 3, 4), (0, 1, 2, 3, 4)
BITMAP, MICROKERNEL = (4,), (3,)

Dtype = np.dtype[Any]
Addresses = tuple[int, ...]
_parts: dict[tuple[int, Dtype, Dtype], int] = {}
_addresses: dict[tuple[tuple[int, ...], Dtype, Dtype], Addresses] = {}


def get_product_addresses(a: Dtype, c: Dtype, needs: tuple[int, ...] = BOTH) -> Addresses:
    """Return the addresses that products of two element types need; compile them at first use.

    The addresses are those of the dense block of `gemm`, the block that skips the zeros of `a`, the
    same with `a` transposed, the micro-kernel, and `bitmap_gemm`. Addresses that are not needed
    are 0.
    """
    try:
        return _addresses[needs, a, c]
    except KeyError:
        arrays = np.empty((0, 0), a), np.empty((0, 0), c)
        for part in needs:
            if (part, a, c) not in _parts:
                _parts[part, a, c] = _PARTS[part](*arrays)
        found = tuple(_parts[i, a, c] if i in needs else 0 for i in range(len(_PARTS)))
        return _addresses.setdefault((needs, a, c), found)


def get_microkernel_address(dtype: Dtype) -> int:
    """Return the address of the micro-kernel for operands of one dtype."""
    return get_product_addresses(dtype, dtype, MICROKERNEL)[_PARTS.index(microkernel_address)]

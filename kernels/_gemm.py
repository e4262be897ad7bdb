"""Matrix product of the affine layer: ``out = op(a) op(b) + bias``.

Plain loops around the micro-kernel of :mod:`kernels._microkernel`. Where many elements of `a` are
zero, :mod:`kernels._bitmap` skips them; the bits of the result are the same.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._bitmap import (
    WORD,
    bitmap_gemm,
    bitmap_gemm_address,
    density,
    row_bitmap,
    transposed_bitmap,
)
from kernels._cache import njit
from kernels._microkernel import (
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    address_of,
    matrix_at,
    microkernel,
    microkernel_address,
)
from kernels._targets import _all_finite
from kernels._threads import chunk_bounds, thread_count

MIN_PARALLEL_FLOPS = 1_000_000
"""Products of fewer operations take one thread less time than two take to meet."""
MIN_PARALLEL_FLOPS_SKIP = 4_000_000
"""The same where zeros are skipped, with what comes after it: an update of the weights takes longer
if half of their gradient is in the other core's cache."""
MIN_SKIP_SIZE = 4096
"""Below this many elements of `a`, to look for zeros costs more than it spares."""

# Steps along the sum that are done for all tiles before the next ones, so that what they read
# stays in a cache: of `b` packed, of `a` read across its rows, or else of `b` as it is.
K_BLOCK_PACKED, K_BLOCK_STRIDED, K_BLOCK = 512, 256, 1024
TRANSPOSE_BLOCK = 16
"""Side of the squares in which `b` is transposed: their lines stay in the first cache."""

NO_TRANSPOSE, TRANSPOSE = np.False_, np.True_
"""What ``op`` does. Where compiled code says a plain ``True``, Numba compiles all of this anew."""


@njit(nogil=True)
def _packs(n, m, b_t, itemsize):
    """Tell whether `b` is copied strip by strip."""
    # Rows of `b` longer than a strip lie on as many pages: a copy pays if it is read often. Asked
    # of the whole product and not of a part of it, for the order of the sums depends on it.
    return b_t or (m > TILE_VECTORS * (VECTOR_BYTES // itemsize) and n >= 4 * TILE_ROWS[0])


@njit(nogil=True)
def _count_blocks(n, k, m, a_t, b_t, itemsize):
    """Return how many blocks the sum is cut into."""
    limit = K_BLOCK_PACKED if _packs(n, m, b_t, itemsize) else K_BLOCK
    limit = min(limit, K_BLOCK_STRIDED if a_t else K_BLOCK)
    return max(1, (k + limit - 1) // limit)


@njit(nogil=True)
def _multiples(step, count):
    """Return ``[0, step, 2 step ...]``."""
    out = np.empty(count, np.int64)
    for i in range(count):
        out[i] = i * step
    return out


# The three ways to compute a block. They share a signature, in addresses and numbers.


def _skip_rows(
    like_a, like_c, dense, skipping, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1, skip
):
    """``a @ b + bias`` by the non-zeros of `a`."""
    x, b, out = matrix_at(a, n, k, like_a), matrix_at(b, k, m, like_c), matrix_at(out, n, m, like_c)
    bias, flat = matrix_at(bias, np.int64(1), m, like_c), x.reshape(-1)
    blocks = _count_blocks(n, k, m, a_t, b_t, out.itemsize)
    rows, columns = _multiples(k, np.int64(WORD)), _multiples(np.int64(1), k)
    width = (k // blocks + WORD) // WORD
    words = np.empty(WORD * width, np.uint64)
    for first in range(r0, r1, WORD):
        count = min(WORD, r1 - first)
        at = address_of(out, first * m + c0)
        for block in range(blocks):
            k0 = k * block // blocks
            depth = k * (block + 1) // blocks - k0
            for i in range(count):
                row_bitmap(flat, (first + i) * k + k0, depth, words, i * width)
            init, init_row = (at, m) if block else (address_of(bias, c0), 0)
            bitmap_gemm(skipping, address_of(words, 0), width, (depth + WORD - 1) // WORD,
                address_of(x, first * k + k0), address_of(rows, 0), address_of(columns, 0),
                address_of(b, k0 * m + c0), m, init, init_row, at, m, count, c1 - c0)  # fmt: skip


def _skip_transposed(
    like_a, like_c, dense, skipping, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1, skip
):
    """``a.T @ b + bias`` by the non-zeros of `a`."""
    x, b, out = matrix_at(a, k, n, like_a), matrix_at(b, k, m, like_c), matrix_at(out, n, m, like_c)
    bias, flat = matrix_at(bias, np.int64(1), m, like_c), x.reshape(-1)
    blocks = _count_blocks(n, k, m, a_t, b_t, out.itemsize)
    rows, columns = _multiples(n, k // blocks + 1), _multiples(np.int64(1), np.int64(WORD))
    words, width = np.empty(rows.size, np.uint64), rows.size // WORD + 1
    transposed = np.empty(WORD * width, np.uint64)
    for block in range(blocks):
        k0 = k * block // blocks
        depth = k * (block + 1) // blocks - k0
        for first in range(r0, r1, WORD):
            count = min(WORD, r1 - first)
            for i in range(depth):
                row_bitmap(flat, (k0 + i) * n + first, count, words, i)
            transposed_bitmap(words, np.int64(1), depth, transposed, width)
            at = address_of(out, first * m + c0)
            init, init_row = (at, m) if block else (address_of(bias, c0), 0)
            bitmap_gemm(skipping, address_of(transposed, 0), width,
                (depth + WORD - 1) // WORD, address_of(x, k0 * n + first), address_of(columns, 0),
                address_of(rows, 0), address_of(b, k0 * m + c0), m, init, init_row, at, m,
                count, c1 - c0)  # fmt: skip


def _multiply_all(
    like_a, like_c, dense, skipping, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1, skip
):
    """``op(a) @ op(b) + bias`` by the micro-kernel."""
    x = matrix_at(a, k if a_t else n, n if a_t else k, like_a)
    b = matrix_at(b, m if b_t else k, k if b_t else m, like_c)
    bias, out = matrix_at(bias, np.int64(1), m, like_c), matrix_at(out, n, m, like_c)
    a_row, a_k = (1, n) if a_t else (k, 1)
    pack = _packs(n, m, b_t, out.itemsize)
    width = TILE_VECTORS * (VECTOR_BYTES // out.itemsize) if pack else max(1, c1 - c0)
    packed = np.empty((K_BLOCK_PACKED, width) if pack else (1, 1), out.dtype)
    blocks = _count_blocks(n, k, m, a_t, b_t, out.itemsize)
    for block in range(blocks):
        k0 = k * block // blocks
        depth = k * (block + 1) // blocks - k0
        for j in range(c0, c1, width):
            w = min(width, c1 - j)
            b_at, b_row = address_of(b, k0 * m + j), m
            if pack:
                _pack(b, b_t, k0, j, packed, depth, w)
                b_at, b_row = address_of(packed, 0), width
            at = address_of(out, r0 * m + j)
            init, init_row = (at, m) if block else (address_of(bias, j), 0)
            microkernel(dense, address_of(x, r0 * a_row + k0 * a_k), a_row, a_k,
                b_at, b_row, depth, init, init_row, at, m, r1 - r0, w)  # fmt: skip


@njit(nogil=True)
def _pack(b, b_t, k0, j0, packed, depth, width):
    """Copy a strip of ``op(b)``."""
    if not b_t:
        for k in range(depth):
            for j in range(width):
                packed[k, j] = b[k0 + k, j0 + j]
        return
    for first in range(0, depth, TRANSPOSE_BLOCK):
        for j in range(width):
            for k in range(first, min(depth, first + TRANSPOSE_BLOCK)):
                packed[k, j] = b[j0 + j, k0 + k]


# A compiled function holds a copy of all that it calls, optimised anew. So these three, which are
# most of a product's code, are called by an address: compiled once for two element types, whatever
# calls them.
_INT = ir.IntType(64)
_BLOCK_TYPE = ir.FunctionType(ir.VoidType(), [_INT] * 16)


@intrinsic
def _emit_block(context, a, c):
    def emit(context, builder, signature, args):
        name = f"njitnet_block_{a.dtype}_{c.dtype}"
        function = ir.Function(builder.module, _BLOCK_TYPE, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        kinds = [types.Array(t.dtype, 2, "C") for t in (a, c)]
        likes = [ir.Constant(context.get_value_type(kind), None) for kind in kinds]
        kind = types.void(*kinds, *[types.intp] * 16)

        def call(way):
            compiled = context.compile_subroutine(inner, way, kind)
            values = [*likes, *function.args]
            context.call_internal_no_propagate(inner, compiled.fndesc, kind, values)

        zero = ir.Constant(_INT, 0)
        skip, a_t = (inner.icmp_signed("!=", function.args[i], zero) for i in (15, 3))
        with inner.if_else(skip) as (then, otherwise):
            with then, inner.if_else(a_t) as (transposed, not_transposed):
                with transposed:
                    call(_skip_transposed)
                with not_transposed:
                    call(_skip_rows)
            with otherwise:
                call(_multiply_all)
        inner.ret_void()
        return builder.ptrtoint(function, _INT)

    return types.intp(a, c), emit


@intrinsic
def _call_block(
    context, addresses, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1, skip, like_a, like_c
):
    def emit(context, builder, signature, args):
        block, dense, skipping = cgutils.unpack_tuple(builder, args[0], 3)
        function = builder.inttoptr(block, _BLOCK_TYPE.as_pointer())
        builder.call(function, [dense, skipping, *args[1:15]])
        return context.get_dummy_value()

    ints = types.UniTuple(types.intp, 3), *[types.intp] * 14
    return types.void(*ints, like_a, like_c), emit


def _plain_call_block(
    addresses, a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1, skip, like_a, like_c
):
    way = _multiply_all if not skip else _skip_transposed if a_t else _skip_rows
    way(like_a, like_c, *addresses[1:], a, a_t, b, b_t, bias, out, n, k, m, r0, r1, c0, c1, skip)


def _plain_block_address(a, c):
    return 0


if config.DISABLE_JIT:
    _emit_block = _plain_block_address

gemm_block_at = _plain_call_block if config.DISABLE_JIT else _call_block
"""Compute rows `r0` to `r1` and columns `c0` to `c1` of `gemm`, skipping zeros of `a` or not.

Operands are given by their addresses; `n`, `k` and `m` are those of the whole product. Of `like_a`
and `like_c` only the element types matter.
"""


@njit(nogil=True)
def gemm_block(addresses, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, skip):
    """Compute `gemm_block_at` for arrays."""
    n, m = out.shape
    gemm_block_at(addresses, a.ctypes.data, a_t, b.ctypes.data, b_t, bias.ctypes.data,
        out.ctypes.data, n, a.shape[0] if a_t else a.shape[1], m, r0, r1, c0, c1, skip,
        a, out)  # fmt: skip


@njit(nogil=True)
def _block_address(a, c):
    return _emit_block(a, c)


@njit(nogil=True)
def jit_product_addresses(a, c):
    """In compiled code: what `get_product_addresses` returns, from arrays of the two types."""
    return _block_address(a, c), microkernel_address(a, c), bitmap_gemm_address(a, c)


_addresses: dict[tuple[np.dtype[Any], np.dtype[Any]], tuple[int, int, int]] = {}


def get_product_addresses(a: np.dtype[Any], c: np.dtype[Any]) -> tuple[int, int, int]:
    """Return the addresses that products of two element types need, compiled at first use.

    Of what computes a block of `gemm`, of the micro-kernel and of the product by set bits.
    """
    try:
        return _addresses[a, c]
    except KeyError:
        arrays = np.empty((0, 0), a), np.empty((0, 0), c)
        found = (_block_address(*arrays), microkernel_address(*arrays),
            bitmap_gemm_address(*arrays))  # fmt: skip
        return _addresses.setdefault((a, c), found)


@njit(parallel=True, nogil=True)
def _grid(addresses, a, a_t, b, b_t, bias, out, down, across, skip):
    n, m = out.shape
    lanes = VECTOR_BYTES // out.itemsize
    for part in prange(across * down):
        c0, c1 = chunk_bounds((m + lanes - 1) // lanes, part % across, across)
        r0, r1 = chunk_bounds(n, part // across, down)
        gemm_block(
            addresses, a, a_t, b, b_t, bias, out, r0, r1, c0 * lanes, min(m, c1 * lanes), skip
        )


@njit(nogil=True)
def skip_threshold(m, itemsize):
    """Return the density of `a` below which skipping its zeros is faster."""
    vectors = (m * itemsize + VECTOR_BYTES - 1) // VECTOR_BYTES
    if vectors <= 2:
        return 0.0
    return 0.4 if 7 <= vectors < 64 else 0.3


@njit(nogil=True)
def skips_zeros(a, b, m):
    """Tell whether a product ``op(a) b`` with `m` columns skips zeros, and the share it computes.

    Where `b` is not finite, zeros are multiplied as NumPy does: 0 times infinity is NaN.
    """
    limit = skip_threshold(m, b.itemsize)
    if limit == 0 or a.size < MIN_SKIP_SIZE:
        return False, 1.0
    share = density(a)
    skip = share < limit and _all_finite(b.reshape(-1))
    return skip, share if skip else 1.0


@njit(nogil=True)
def gemm(addresses, a, a_t, b, b_t, bias, out):
    """``out = op(a) op(b) + bias``, where ``op`` transposes or not as the flag beside it says.

    Parameters
    ----------
    addresses : tuple of int
        `get_product_addresses` for the two element types.
    a : ndarray, shape (n, k), or (k, n) if `a_t`
    b : ndarray, shape (k, m), or (m, k) if `b_t`
    bias : ndarray, shape (m,)
    out : ndarray, shape (n, m)
        All C-contiguous, and `b`, `bias` and `out` of one dtype.
    """
    n, m = out.shape
    skip, share = (False, 1.0) if b_t else skips_zeros(a, b, m)
    flops = 2.0 * n * m * (a.shape[0] if a_t else a.shape[1]) * share
    threads = thread_count()
    if threads == 1 or flops < (MIN_PARALLEL_FLOPS_SKIP if skip else MIN_PARALLEL_FLOPS):
        zero = np.int64(0)  # a literal would compile `gemm_block` once more
        gemm_block(addresses, a, a_t, b, b_t, bias, out, zero, n, zero, m, skip)
    else:
        across = max(1, min(threads, m // (TILE_VECTORS * (VECTOR_BYTES // out.itemsize))))
        if skip:
            across = 1
        _grid(addresses, a, a_t, b, b_t, bias, out, threads // across, across, skip)

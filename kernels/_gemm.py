"""Matrix product of the affine layer: ``out = op(a) op(b) + bias``.

Plain loops around the micro-kernel of :mod:`kernels._microkernel`. Where many elements of `a` are
zero, :mod:`kernels._bitmap` skips them; the bits of the result are the same.
"""

import numpy as np
from numba import prange

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
def product_addresses(a, c):
    """Addresses of the dense and the skipping product for the element types of `a` and `c`."""
    return microkernel_address(a, c), bitmap_gemm_address(a, c)


@njit(nogil=True)
def _packs(n, m, b_t, itemsize):
    """Tell whether `b` is copied strip by strip."""
    # Rows of `b` longer than a strip lie on as many pages: a copy pays if it is read often. Asked
    # of the whole product and not of a part of it, for the order of the sums depends on it.
    return b_t or (m > TILE_VECTORS * (VECTOR_BYTES // itemsize) and n >= 4 * TILE_ROWS[0])


@njit(nogil=True)
def _count_blocks(k, pack, a_t):
    """Return how many blocks the sum is cut into."""
    limit = min(K_BLOCK_PACKED if pack else K_BLOCK, K_BLOCK_STRIDED if a_t else K_BLOCK)
    return max(1, (k + limit - 1) // limit)


@njit(nogil=True)
def gemm_block(addresses, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, skip):
    """Compute rows `r0` to `r1` and columns `c0` to `c1` of `gemm`, skipping zeros or not."""
    (n, m), width = out.shape, TILE_VECTORS * (VECTOR_BYTES // out.itemsize)
    pack = _packs(n, m, b_t, out.itemsize)
    if skip and a_t:
        _skip_transposed(addresses[1], a, b, bias, out, r0, r1, c0, c1, pack)
    elif skip:
        _skip_rows(addresses[1], a, b, bias, out, r0, r1, c0, c1, pack)
    else:
        packed = np.empty((K_BLOCK_PACKED, width) if pack else (1, 1), out.dtype)
        _strips(addresses[0], a, a_t, b, b_t, bias, out, r0, r1, c0, c1, packed)


@njit(nogil=True)
def _skip_rows(address, a, b, bias, out, r0, r1, c0, c1, pack):
    """``a @ b + bias`` by the non-zeros of `a`."""
    m, k = out.shape[1], a.shape[1]
    blocks = _count_blocks(k, pack, False)
    rows, columns = np.arange(WORD) * k, np.arange(k)
    width = (k // blocks + WORD) // WORD
    words, flat = np.empty(WORD * width, np.uint64), a.reshape(-1)
    for first in range(r0, r1, WORD):
        count = min(WORD, r1 - first)
        at = address_of(out, first * m + c0)
        for block in range(blocks):
            k0 = k * block // blocks
            depth = k * (block + 1) // blocks - k0
            for i in range(count):
                row_bitmap(flat, (first + i) * k + k0, depth, words, i * width)
            init, init_row = (at, m) if block else (address_of(bias, c0), 0)
            bitmap_gemm(address, address_of(words, 0), width, (depth + WORD - 1) // WORD,
                address_of(a, first * k + k0), address_of(rows, 0), address_of(columns, 0),
                address_of(b, k0 * m + c0), m, init, init_row, at, m, count, c1 - c0)  # fmt: skip


@njit(nogil=True)
def _skip_transposed(address, a, b, bias, out, r0, r1, c0, c1, pack):
    """``a.T @ b + bias`` by the non-zeros of `a`."""
    (k, n), m = a.shape, out.shape[1]
    blocks = _count_blocks(k, pack, True)
    rows, columns = np.arange(k // blocks + 1) * n, np.arange(WORD)
    words = np.empty(k // blocks + 1, np.uint64)
    transposed, flat = np.empty((WORD, words.size // WORD + 1), np.uint64), a.reshape(-1)
    for block in range(blocks):
        k0 = k * block // blocks
        depth = k * (block + 1) // blocks - k0
        for first in range(r0, r1, WORD):
            count = min(WORD, r1 - first)
            for i in range(depth):
                row_bitmap(flat, (k0 + i) * n + first, count, words, i)
            transposed_bitmap(words, 1, depth, transposed)
            at = address_of(out, first * m + c0)
            init, init_row = (at, m) if block else (address_of(bias, c0), 0)
            bitmap_gemm(address, address_of(transposed, 0), transposed.shape[1],
                (depth + WORD - 1) // WORD, address_of(a, k0 * n + first), address_of(columns, 0),
                address_of(rows, 0), address_of(b, k0 * m + c0), m, init, init_row, at, m,
                count, c1 - c0)  # fmt: skip


@njit(nogil=True)
def _strips(address, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, packed):
    m = out.shape[1]
    k = a.shape[0] if a_t else a.shape[1]
    a_row, a_k = (1, out.shape[0]) if a_t else (k, 1)
    pack = packed.size > 1
    width = packed.shape[1] if pack else max(1, c1 - c0)
    blocks = _count_blocks(k, pack, a_t)
    for block in range(blocks):
        k0 = k * block // blocks
        depth = k * (block + 1) // blocks - k0
        for j in range(c0, c1, width):
            w = min(width, c1 - j)
            b_at, b_row = address_of(b, k0 * m + j), m
            if pack:
                _pack(b, b_t, k0, j, packed[:depth, :w])
                b_at, b_row = address_of(packed, 0), width
            at = address_of(out, r0 * m + j)
            init, init_row = (at, m) if block else (address_of(bias, j), 0)
            microkernel(address, address_of(a, r0 * a_row + k0 * a_k), a_row, a_k,
                b_at, b_row, depth, init, init_row, at, m, r1 - r0, w)  # fmt: skip


@njit(nogil=True)
def _pack(b, b_t, k0, j0, packed):
    """Copy a strip of ``op(b)``."""
    depth, width = packed.shape
    if not b_t:
        for k in range(depth):
            for j in range(width):
                packed[k, j] = b[k0 + k, j0 + j]
        return
    for first in range(0, depth, TRANSPOSE_BLOCK):
        for j in range(width):
            for k in range(first, min(depth, first + TRANSPOSE_BLOCK)):
                packed[k, j] = b[j0 + j, k0 + k]


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
        `product_addresses` for the two element types; a second one of 0 never skips zeros, which
        it has to be if `b_t`.
    a : ndarray, shape (n, k), or (k, n) if `a_t`
    b : ndarray, shape (k, m), or (m, k) if `b_t`
    bias : ndarray, shape (m,)
    out : ndarray, shape (n, m)
        All C-contiguous, and `b`, `bias` and `out` of one dtype.
    """
    n, m = out.shape
    skip, share = skips_zeros(a, b, m) if addresses[1] else (False, 1.0)
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

"""Matrix product of the affine layer: ``out = op(a) op(b) + bias``.

Plain loops around the micro-kernel of :mod:`kernels._microkernel`.
"""

import numpy as np
from numba import prange

from kernels._cache import njit
from kernels._microkernel import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES, address_of, microkernel
from kernels._threads import chunk_bounds, thread_count

MIN_PARALLEL_FLOPS = 1_000_000
"""Products of fewer operations take one thread less time than two take to meet."""

# Steps along the sum that are done for all tiles before the next ones, so that what they read
# stays in a cache: of `b` packed, of `a` read across its rows, or else of `b` as it is.
K_BLOCK_PACKED, K_BLOCK_STRIDED, K_BLOCK = 512, 256, 1024
TRANSPOSE_BLOCK = 16
"""Side of the squares in which `b` is transposed: their lines stay in the first cache."""

NO_TRANSPOSE, TRANSPOSE = np.False_, np.True_
"""What ``op`` does. Where compiled code says a plain ``True``, Numba compiles all of this anew."""


@njit(nogil=True)
def _block(address, a, a_t, b, b_t, bias, out, r0, r1, c0, c1):
    (n, m), width = out.shape, TILE_VECTORS * (VECTOR_BYTES // out.itemsize)
    # Rows of `b` longer than a strip lie on as many pages: a copy pays if it is read often. Asked
    # of the whole product and not of this part of it, for the order of the sums depends on it.
    pack = b_t or (m > width and n >= 4 * TILE_ROWS[0])
    packed = np.empty((K_BLOCK_PACKED, width) if pack else (1, 1), out.dtype)
    _strips(address, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, packed)


@njit(nogil=True)
def _strips(address, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, packed):
    n, m = out.shape
    k = a.shape[0] if a_t else a.shape[1]
    a_row, a_k = (1, n) if a_t else (k, 1)
    pack = packed.size > 1
    width = packed.shape[1] if pack else max(1, c1 - c0)
    limit = min(K_BLOCK_PACKED if pack else K_BLOCK, K_BLOCK_STRIDED if a_t else K_BLOCK)
    blocks = max(1, (k + limit - 1) // limit)
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
def _grid(address, a, a_t, b, b_t, bias, out, down, across):
    n, m = out.shape
    lanes = VECTOR_BYTES // out.itemsize
    for part in prange(across * down):
        c0, c1 = chunk_bounds((m + lanes - 1) // lanes, part % across, across)
        r0, r1 = chunk_bounds(n, part // across, down)
        _block(address, a, a_t, b, b_t, bias, out, r0, r1, c0 * lanes, min(m, c1 * lanes))


@njit(nogil=True)
def gemm(address, a, a_t, b, b_t, bias, out):
    """``out = op(a) op(b) + bias``, where ``op`` is the flag beside it, `AS_IS` or `TRANSPOSED`.

    Parameters
    ----------
    address : int
        Address of the micro-kernel for the two element types.
    a : ndarray, shape (n, k), or (k, n) if `a_t`
    b : ndarray, shape (k, m), or (m, k) if `b_t`
    bias : ndarray, shape (m,)
    out : ndarray, shape (n, m)
        All C-contiguous, and `b`, `bias` and `out` of one dtype.
    """
    n, m = out.shape
    k = a.shape[0] if a_t else a.shape[1]
    threads = thread_count()
    if threads == 1 or 2.0 * n * m * k < MIN_PARALLEL_FLOPS:
        zero = np.int64(0)  # a literal would compile `_block` once more
        _block(address, a, a_t, b, b_t, bias, out, zero, n, zero, m)
    else:
        across = max(1, min(threads, m // (TILE_VECTORS * (VECTOR_BYTES // out.itemsize))))
        _grid(address, a, a_t, b, b_t, bias, out, threads // across, across)

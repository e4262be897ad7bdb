"""Matrix product of the affine layer, ``out = op(a) op(b) + bias``, divided among threads.

Threads compute columns of the result where each is left a strip as wide as a tile, otherwise rows.
Where the result is small and the inner dimension long, reading `b` takes as long as the
multiplications: threads then divide the inner dimension, so that each reads its own part of `b`.
The weights of a layer are also divided in this way by the products of its backward pass and by the
optimizer, and the part of each thread stays in the cache of its core.
"""

import numpy as np
from numba import prange

from kernels._addresses import address_of
from kernels._bitmap import skips_zeros
from kernels._compiler import inner, njit
from kernels._gemm import NARROW_BYTES, count_blocks, gemm_block, packs
from kernels._microkernel import microkernel
from kernels._threads import chunk_bounds, thread_count
from kernels._vectors import TILE_VECTORS, VECTOR_BYTES

MIN_PARALLEL_FLOPS = 1_000_000
"""Number of operations of a product below which one thread is faster."""
MIN_PARALLEL_FLOPS_SKIP = 4_000_000
"""The same threshold where zeros are skipped. It accounts for the update of the weights that
follows, which takes longer if half of the gradient is in another core's cache."""
MIN_ROWS_BY_THREADS = 2048
"""Number of rows from which threads divide the rows, not the columns, of the result, so that each
thread writes adjacent memory."""
MIN_DEPTH_PER_ROW = 4
"""Size of a block along the inner dimension, divided by the number of rows of `a`, from which the
threads divide the inner dimension. A smaller block saves less reading than its sums cost."""


@inner
def _depth_blocks(n, k, m, itemsize, threads):
    """Return the number of blocks of ``a @ b`` that threads divide among them, or 0."""
    # Longer rows of `b` are divided by columns, without sums of blocks.
    if m * itemsize > NARROW_BYTES or packs(n, m, np.False_, itemsize):
        return 0
    blocks = count_blocks(n, k, m, np.False_, np.False_, itemsize)
    return blocks if blocks >= threads and MIN_DEPTH_PER_ROW * n * blocks <= k else 0


@inner
def _multiply_depth(kernel, a, b, zeros, sums, block):
    """Fill ``sums[block]`` with the product of one block along the inner dimension."""
    (blocks, n, m), k = sums.shape, a.shape[1]
    k0, k1 = chunk_bounds(k, block, blocks)
    microkernel(kernel, address_of(a, k0), k, 1, 0, address_of(b, k0 * m), m, 0, k1 - k0, 1,
        address_of(zeros, 0), 0, address_of(sums, block * n * m), m, n, m)  # fmt: skip


@inner
def _add_blocks(bias, sums, out):
    """Fill `out` with the sum of `bias` and of the blocks, in the order of a single thread."""
    for i in range(out.shape[0]):
        row = out[i]
        for j in range(row.size):
            row[j] = bias[j]
        for block in range(sums.shape[0]):
            part = sums[block, i]
            for j in range(row.size):
                row[j] += part[j]


@inner(parallel=True)
def _run(addresses, a, a_t, b, b_t, bias, out, parts, across, sums, skip):
    """Compute the parts of `out`, of which `across` are side by side; or `sums`, if not empty."""
    n, m = out.shape
    lanes = VECTOR_BYTES // out.itemsize
    for part in prange(parts):
        if sums.size:
            _multiply_depth(addresses[3], a, b, bias, sums, np.int64(part))
        else:
            c0, c1 = chunk_bounds((m + lanes - 1) // lanes, part % across, across)
            r0, r1 = chunk_bounds(n, part // across, parts // across)
            c0, c1 = c0 * lanes, min(m, c1 * lanes)
            gemm_block(addresses, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, skip)


@njit(nogil=True)
def gemm(addresses, a, a_t, b, b_t, bias, out):
    """Compute ``out = op(a) op(b) + bias``, where ``op`` transposes if the operand's flag is set.

    Parameters
    ----------
    addresses : tuple of int
        Result of `get_product_addresses` for the two element types. Without the addresses of the
        functions that skip zeros, no zeros are skipped.
    a : ndarray, shape (n, k), or (k, n) if `a_t`
    b : ndarray, shape (k, m), or (m, k) if `b_t`
    bias : ndarray, shape (m,)
    out : ndarray, shape (n, m)
        All arrays are C-contiguous; `b`, `bias` and `out` have one dtype.

    Returns
    -------
    bool
        True if zeros should have been skipped, but the address of the function was missing.
    """
    n, m = out.shape
    k = a.shape[0] if a_t else a.shape[1]
    skip, share = (False, 1.0) if b_t else skips_zeros(a, b, m)
    missing = skip and addresses[2 if a_t else 1] == 0
    if missing:
        skip, share = False, 1.0
    flops = 2.0 * n * m * k * share
    threads, size = thread_count(), out.itemsize
    if threads == 1 or flops < (MIN_PARALLEL_FLOPS_SKIP if skip else MIN_PARALLEL_FLOPS):
        zero = np.int64(0)  # a literal would compile `gemm_block` once more
        gemm_block(addresses, a, a_t, b, b_t, bias, out, zero, n, zero, m, skip)
        return missing
    across = max(1, min(threads, m // (TILE_VECTORS * (VECTOR_BYTES // size))))
    if skip or n >= MIN_ROWS_BY_THREADS:
        across = 1
    blocks = 0 if skip or a_t or b_t else _depth_blocks(n, k, m, size, threads)
    sums = np.empty((blocks, n, m), out.dtype)
    if blocks:
        zeros = np.full(m, -0.0, out.dtype)  # to add +0 would change the sign of a sum that is -0
        _run(addresses, a, a_t, b, b_t, zeros, out, blocks, across, sums, skip)
        _add_blocks(bias, sums, out)
    else:
        parts = threads // across * across
        _run(addresses, a, a_t, b, b_t, bias, out, parts, across, sums, skip)
    return missing

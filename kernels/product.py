"""Matrix product of the affine layer: ``out = op(a) op(b) + bias``.

Plain loops around the micro-kernel of :mod:`kernels.tile`.
"""

import numpy as np
from numba import prange

from kernels._cache import njit
from kernels.threads import span, thread_count
from kernels.tile import ACROSS, ROWS, VECTOR_BYTES, panel, place

DEPTH = 256
SERIAL_FLOPS = 1_000_000


@njit(nogil=True)
def _block(engine, a, a_t, b, b_t, bias, out, r0, r1, c0, c1):
    m, width = out.shape[1], ACROSS * (VECTOR_BYTES // out.itemsize)
    pack = b_t or (m > width and r1 - r0 >= 4 * ROWS[0])
    packed = np.empty((DEPTH, width) if pack else (1, 1), out.dtype)
    _strips(engine, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, packed)


@njit(nogil=True)
def _strips(engine, a, a_t, b, b_t, bias, out, r0, r1, c0, c1, packed):
    n, m = out.shape
    k = a.shape[0] if a_t else a.shape[1]
    a_row, a_k = (1, n) if a_t else (k, 1)
    width = packed.shape[1] if packed.size > 1 else max(1, c1 - c0)
    for k0 in range(0, max(k, 1), DEPTH):
        depth = min(DEPTH, k - k0)
        for j in range(c0, c1, width):
            w = min(width, c1 - j)
            b_at, b_row = place(b, k0 * m + j), m
            if packed.size > 1:
                for kk in range(depth):
                    for jj in range(w):
                        packed[kk, jj] = b[j + jj, k0 + kk] if b_t else b[k0 + kk, j + jj]
                b_at, b_row = place(packed, 0), width
            at = place(out, r0 * m + j)
            init, init_row = (at, m) if k0 else (place(bias, j), 0)
            panel(engine, place(a, r0 * a_row + k0 * a_k), a_row, a_k, b_at, b_row, depth,
                init, init_row, at, m, r1 - r0, w)  # fmt: skip


@njit(parallel=True, nogil=True)
def _grid(engine, a, a_t, b, b_t, bias, out, down, across):
    n, m = out.shape
    lanes = VECTOR_BYTES // out.itemsize
    for part in prange(across * down):
        c0, c1 = span((m + lanes - 1) // lanes, part % across, across)
        r0, r1 = span(n, part // across, down)
        _block(engine, a, a_t, b, b_t, bias, out, r0, r1, c0 * lanes, min(m, c1 * lanes))


@njit(nogil=True)
def product(engine, a, a_t, b, b_t, bias, out):
    n, m = out.shape
    k = a.shape[0] if a_t else a.shape[1]
    threads = thread_count()
    if threads == 1 or 2.0 * n * m * k < SERIAL_FLOPS:
        zero = np.int64(0)  # a literal would compile `_block` once more
        _block(engine, a, a_t, b, b_t, bias, out, zero, n, zero, m)
    else:
        across = max(1, min(threads, m // (ACROSS * (VECTOR_BYTES // out.itemsize))))
        _grid(engine, a, a_t, b, b_t, bias, out, threads // across, across)

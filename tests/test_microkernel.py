"""The micro-kernel, called with addresses, against plain NumPy."""

import numpy as np
import pytest

from kernels._addresses import address_of
from kernels._compiler import njit
from kernels._microkernel import microkernel, microkernel_address
from kernels._vectors import VECTOR_BYTES


@njit
def call(address, a, a_row, a_k, a_part, b, b_row, b_part, k, parts, init, init_row, c, c_row,
         rows, columns):  # fmt: skip
    microkernel(address, address_of(a, 0), a_row, a_k, a_part, address_of(b, 0), b_row, b_part, k,
        parts, address_of(init, 0), init_row, address_of(c, 0), c_row, rows, columns)  # fmt: skip


LANES = VECTOR_BYTES // 4
SMALL_SIZES = [
    # rows, columns, k, parts
    (1, 1, 1, 1),
    (7, LANES, 5, 3),
    (3, LANES + 1, 2, 2),
    (2, 2, 0, 3),
    (2, 2, 3, 0),
    (0, 3, 1, 1),
]
SIZES = [
    (8, 4 * LANES, 9, 2),
    (28, 2 * LANES, 3, 3),
    (13, 4 * LANES + 3, 7, 1),
    (14, 9 * LANES - 1, 4, 2),
    (24, 2 * LANES - 2, 5, 5),
    (29, 3 * LANES, 6, 2),
    (7, 2 * LANES, 5, 1),
    (9, 2 * LANES - 1, 5, 1),
    (17, LANES + 1, 3, 2),
    (1, 3 * LANES - 1, 6, 2),
    (1, 7 * LANES, 6, 1),
    (1, 19 * LANES + 2, 5, 1),
    (50, 50, 20, 1),
]


@pytest.mark.parametrize(
    "sizes", [*(pytest.param(s, marks=pytest.mark.small) for s in SMALL_SIZES), *SIZES], ids=str
)
@pytest.mark.parametrize("transposed", [False, True])
def test_parts(rng, dtype, sizes, transposed):
    """Each element is the same chain of multiply-adds, whichever tile it is in."""
    rows, columns, k, parts = sizes
    # There are gaps between the parts of a and of b.
    a = rng.standard_normal((parts, rows, k + 1)).astype(dtype)
    a_row, a_k = k + 1, 1
    if transposed:
        a = np.ascontiguousarray(a.transpose(0, 2, 1))
        a_row, a_k = 1, rows
    b = rng.standard_normal((parts, k + 2, columns + 3)).astype(dtype)
    init = rng.standard_normal(columns).astype(dtype)
    c = np.full((rows, columns + 5), -7, dtype)
    address = microkernel_address(a.reshape(-1), c.reshape(-1))
    steps = (k + 1) * rows, b.reshape(-1), columns + 3, (k + 2) * (columns + 3)
    call(address, a.reshape(-1), a_row, a_k, *steps, k, parts, init, 0, c.reshape(-1), columns + 5,
        rows, columns)  # fmt: skip
    x = (a.transpose(0, 2, 1) if transposed else a)[:, :, :k].astype(np.float64)
    products = np.einsum("prk,pkc->rc", x, b[:, :k, :columns].astype(np.float64))
    close = {"rtol": 0, "atol": 200 * np.finfo(dtype).eps}
    np.testing.assert_allclose(c[:, :columns], init + products, **close)
    assert (c[:, columns:] == -7).all()
    alone = np.empty((1, columns), dtype)
    for r in range(rows):
        here = a.reshape(-1)[r * a_row :]
        call(address, here, a_row, a_k, *steps, k, parts, init, 0, alone.reshape(-1), columns, 1,
            columns)  # fmt: skip
        np.testing.assert_array_equal(alone[0], c[r, :columns])
    # In place: the columns that two vectors share are added once.
    flat = c.reshape(-1)
    call(address, a.reshape(-1), a_row, a_k, *steps, k, parts, flat, columns + 5, flat, columns + 5,
        rows, columns)  # fmt: skip
    np.testing.assert_allclose(c[:, :columns], init + 2 * products, **close)
    assert (c[:, columns:] == -7).all()

"""Transposition at addresses, against NumPy."""

import numpy as np
import pytest

from kernels._addresses import address_of
from kernels._compiler import njit
from kernels._transpose import transpose_at


@njit
def call(a, a_row, rows, columns, out, out_row):
    transpose_at(address_of(a, 0), a_row, rows, columns, address_of(out, 0), out_row, out)


@pytest.mark.small
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(0, 3), (1, 1), (3, 40), (40, 3), (8, 8), (16, 16), (17, 23), (144, 30), (33, 64)]
)
def test_transpose(rng, kind, shape):
    """Rows are longer than what is transposed; memory beside the transpose does not change."""
    rows, columns = shape
    a = rng.integers(1, 200, (rows, columns + 2)).astype(kind)
    out = np.zeros((columns + 1, rows + 3), kind)
    call(a, columns + 2, rows, columns, out, rows + 3)
    np.testing.assert_array_equal(out[:columns, :rows], a[:, :columns].T)
    assert not out[columns:].any()
    assert not out[:, rows:].any()

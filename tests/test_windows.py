"""Lists of maxima and sums of windows, called with addresses, against plain NumPy."""

import numpy as np
import pytest

from kernels._addresses import address_of
from kernels._compiler import njit
from kernels._pool_vectors import DEAD
from kernels._vectors import VECTOR_BYTES
from kernels._windows import (
    ROW_TO_WINDOWS,
    WINDOWS_TO_ROW,
    add_windows,
    list_maxima,
    windows_addresses,
)

POISON = -7.0


@njit
def call_list(address, arg, dout, corners, across, places, values, count):
    list_maxima(address, address_of(arg, 0), address_of(dout, 0), address_of(corners, 0), across,
        corners.size, address_of(places, 0), address_of(values, 0),
        address_of(count, 0))  # fmt: skip


@njit
def call_add(address, way, values, places, windows, first, step, row, at, size):
    add_windows(address, way, address_of(values, 0), address_of(places, 0), values.size,
        address_of(windows, first), step, address_of(row, at), size)  # fmt: skip


@pytest.mark.small
@pytest.mark.parametrize("pixels", [0, 1, 7, 16, 40, 144])
def test_list_of_maxima(rng, dtype, pixels):
    arg = rng.integers(0, 5, pixels).astype(np.uint8)
    dout = rng.standard_normal(pixels).astype(dtype)
    corners, across = rng.integers(0, 1000, pixels, np.int32), 100
    slack = VECTOR_BYTES // dout.itemsize
    places = np.full(pixels + slack + 1, -1, np.int32)
    values, count = np.full(pixels + slack + 1, POISON, dtype), np.zeros(1, np.int64)
    listing, _ = windows_addresses(dout)
    call_list(listing, arg, dout, corners, across, places, values, count)
    alive = arg != DEAD
    assert count[0] == alive.sum()
    expected = corners + np.array([0, 1, across, across + 1, 0])[arg]
    np.testing.assert_array_equal(places[: count[0]], expected[alive])
    np.testing.assert_array_equal(values[: count[0]], dout[alive])
    assert places[-1] == -1
    assert values[-1] == POISON


LANES = VECTOR_BYTES // 4
SIZES = [1, 2, LANES - 1, LANES, LANES + 1, 3 * LANES, 4 * LANES + 3, 6 * LANES]
LARGE = [9 * LANES, 12 * LANES, 25 * LANES + 1, 41 * LANES - 1]


@pytest.mark.parametrize(
    "size", [0, *(pytest.param(n, marks=pytest.mark.small) for n in SIZES), *LARGE]
)
@pytest.mark.parametrize("way", [WINDOWS_TO_ROW, ROW_TO_WINDOWS], ids=["to row", "to windows"])
def test_windows(rng, dtype, way, size):
    """Windows overlap and repeat; memory beside the windows and the row does not change."""
    for count in (0, 1, 30):
        step = 3
        places = rng.integers(0, 20, count, np.int32)
        values = rng.standard_normal(count).astype(dtype)
        windows = rng.standard_normal(5 + 20 * step + size + 5).astype(dtype)
        row = rng.standard_normal(size + 10).astype(dtype)
        expected_windows, expected_row = windows.astype(np.float64), row.astype(np.float64)
        for x, place in zip(values.astype(np.float64), places, strict=True):
            here = slice(5 + place * step, 5 + place * step + size)
            if way == WINDOWS_TO_ROW:
                expected_row[5 : 5 + size] += x * expected_windows[here]
            else:
                expected_windows[here] += x * expected_row[5 : 5 + size]
        _, adding = windows_addresses(row)
        call_add(adding, way, values, places, windows, 5, step, row, 5, size)
        tolerance = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(windows, expected_windows, rtol=0, atol=tolerance)
        np.testing.assert_allclose(row, expected_row, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(row[:5], expected_row[:5].astype(dtype))
        np.testing.assert_array_equal(row[5 + size :], expected_row[5 + size :].astype(dtype))

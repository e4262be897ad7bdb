"""Lists of maxima and sums of windows, called with addresses, against plain NumPy."""

import numpy as np
import pytest

from kernels._addresses import address_of
from kernels._cache import njit
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
def call_list(address, arg, depth, dout, apart, corners, shifts, places, values, count):
    list_maxima(address, address_of(arg, 0), depth, address_of(dout, 0), apart,
        address_of(corners, 0), address_of(shifts, 0), corners.size, address_of(places, 0),
        address_of(values, 0), address_of(count, 0))  # fmt: skip


@njit
def call_add(address, way, values, places, windows, first, step, row, at, size):
    add_windows(address, way, address_of(values, 0), address_of(places, 0), values.size,
        address_of(windows, first), step, address_of(row, at), size)  # fmt: skip


@pytest.mark.small
@pytest.mark.parametrize(("pixels", "depth", "apart"), [(0, 1, 1), (1, 3, 1), (40, 16, 5)])
def test_list_of_maxima(rng, dtype, pixels, depth, apart):
    arg = rng.integers(0, 5, (pixels, depth)).astype(np.uint8)
    dout = rng.standard_normal((pixels, apart)).astype(dtype)
    corners = rng.integers(0, 1000, pixels)
    places, values = np.full(pixels + 2, -1), np.full(pixels + 2, POISON, dtype)
    count, shifts = np.zeros(1, np.int64), np.array([0, 1, 100, 101, 0])
    listing, _ = windows_addresses(dout.reshape(-1))
    flat = arg.reshape(-1), depth, dout.reshape(-1), apart, corners, shifts
    call_list(listing, *flat, places, values, count)
    k = arg[:, 0].astype(np.int64)
    alive = k != DEAD
    assert count[0] == alive.sum()
    expected = corners + shifts[k]
    np.testing.assert_array_equal(places[: count[0]], expected[alive])
    np.testing.assert_array_equal(values[: count[0]], dout[alive, 0])
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
        places = rng.integers(0, 20, count)
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

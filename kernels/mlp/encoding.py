"""Data sets in the form in which training reads them fastest."""

from typing import Any, NamedTuple

import numpy as np

from kernels._arrays import UINT8, Array, as_widenable
from kernels._bitmap import density, skip_threshold
from kernels._cache import njit
from kernels._threads import Team, chunk_bounds

MIN_ENCODED_SIZE = 4_000_000
"""Elements from which a data set is worth encoding: fewer stay in a cache as they are."""

_SLOTS = 1024  # of the hash table: a quarter full at most
_SAMPLED_ROWS = 2000


class EncodedData(NamedTuple):
    """A data set, and whether its zeros are skipped.

    Images are floats that are multiples of 1/255: as codes of one byte, with a table of the numbers
    that they stand for, a quarter or an eighth of the memory is read. Nothing is rounded.
    """

    source: Array  # (N, D): as it was given
    codes: Array  # (N, D): uint8 codes of it, or `source` itself
    values: Array  # (256,): what the codes stand for, the first is 0; empty if they are no codes
    sparse: bool


def encode(
    x: Array,
    dtype: np.dtype[Any],
    units: int,
    team: Team,
    sparse: bool | None = None,
    min_size: int = MIN_ENCODED_SIZE,
) -> EncodedData:
    """Bring a data set into the form in which it is read fastest.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    dtype : dtype
        Of the parameters.
    units : int
        Outputs of the first layer.
    team : Team
        The threads that do it.
    sparse : bool, optional
        Whether to skip zeros; by default, where that is faster.
    min_size : int, optional
        Data sets of fewer elements stay as they are.

    Returns
    -------
    EncodedData
    """
    x = as_widenable(x, dtype, "x")
    if x.ndim != 2:
        raise ValueError(f"x: expected a data set (N, D), got shape {x.shape}")
    if sparse is None:
        limit = skip_threshold(np.int64(units), np.int64(dtype.itemsize))
        sparse = x.size > 0 and density(x) < limit
    none = np.empty(0, dtype)
    if not sparse:
        return EncodedData(x, x, none, False)
    if x.dtype == UINT8:
        return EncodedData(x, x, np.arange(256).astype(dtype), True)
    if x.size >= min_size:
        keys, slots = np.zeros(_SLOTS, x.dtype), np.zeros(_SLOTS, np.uint8)
        values = np.zeros(256, dtype)
        bits = x.view(np.uint32 if x.itemsize == 4 else np.uint64)
        if _find_values(x, bits, keys, slots, values):
            codes = np.empty(x.shape, UINT8)
            if all(team.run(_encode_part, x, bits, keys, slots, codes)):
                return EncodedData(x, codes, values, True)
    return EncodedData(x, x, none, True)


@njit(nogil=True)
def _slot(bits, value, keys):
    """Return where a number other than 0 is in the hash table, or where it would be put."""
    high, low = np.uint64(bits) >> np.uint64(29), np.uint64(bits)
    at = np.int64((((high ^ low) * np.uint64(2654435761)) >> np.uint64(13)) & np.uint64(_SLOTS - 1))
    while keys[at] != value and keys[at] != 0:
        at = (at + 1) % _SLOTS
    return at


@njit(nogil=True)
def _find_values(x, bits, keys, slots, values):
    """Collect the numbers in some rows; return False if there are more than 255 beside 0."""
    n, count = x.shape[0], 0
    rows = min(n, _SAMPLED_ROWS)
    for i in range(rows):
        r = n * i // rows
        for j in range(x.shape[1]):
            value = x[r, j]
            if value != 0:
                at = _slot(bits[r, j], value, keys)
                if keys[at] == 0:
                    count += 1
                    if count > 255 or value != value:
                        return False
                    keys[at], slots[at], values[count] = value, count, value
    return True


@njit(nogil=True)
def _encode_part(x, bits, keys, slots, codes, thread, num_threads, barrier):
    """Encode one thread's rows; return False if there is a number that was not collected."""
    first, last = chunk_bounds(x.shape[0], thread, num_threads)
    for r in range(first, last):
        for j in range(x.shape[1]):
            value, code = x[r, j], np.uint8(0)
            if value != 0:
                at = _slot(bits[r, j], value, keys)
                if keys[at] == 0:
                    return False
                code = slots[at]
            codes[r, j] = code
    return True

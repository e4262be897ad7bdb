"""Data sets with few distinct values, such as images, encoded in one byte per element."""

from mmap import PAGESIZE
from typing import Any, NamedTuple

import numpy as np

from kernels._arrays import UINT8, Array
from kernels._bitmap import density, skip_threshold
from kernels._compiler import njit
from kernels._threads import Team, chunk_bounds

MIN_SIZE = 4_000_000
"""Minimum number of elements of an encoded data set; smaller data sets fit into a cache."""

MIN_PASSES = 10
"""Number of passes over a data set from which encoding makes training faster."""

SAMPLED_ROWS = 1000


class EncodedData(NamedTuple):
    """A data set of at most 256 distinct values, with one byte per element.

    Training reads a quarter or an eighth of the bytes. The encoding is lossless: ``values[codes]``
    equals the data set.
    """

    source: Array  # (N, D): the original data set
    codes: Array  # uint8 (N, D)
    values: Array  # (256,): the values that the codes stand for; the first is 0


def has_many_zeros(x: Array, dtype: np.dtype[Any], units: int) -> bool:
    """Return whether a first layer of `units` outputs trains faster by skipping zeros of `x`."""
    limit = skip_threshold(np.int64(units), np.int64(dtype.itemsize))
    return x.size > 0 and bool(density(x) < limit)


def pays_codes(x: Array, dtype: np.dtype[Any], units: int) -> bool:
    """Return whether encoding makes training faster.

    That is so for a large training set, not of uint8, whose zeros will be skipped.
    """
    return x.dtype != UINT8 and x.size >= MIN_SIZE and has_many_zeros(x, dtype, units)


def encode(x: Array, team: Team) -> EncodedData | None:
    """Encode a data set of few values, such as multiples of 1/255, in one byte per element.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, D)
    team : Team
        Threads that encode.

    Returns
    -------
    EncodedData or None
        None if `x` holds a negative number, NaN or infinity, no positive number, more than 256
        distinct values, or values too close together for distinct codes, or if a value does not
        occur in the sample of about `SAMPLED_ROWS` rows from which the values are taken.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels._threads import Team
    >>> from kernels.mlp.encoding import encode
    >>> with Team(1) as team:
    ...     data = encode(np.array([[0.0, 0.25], [1.0, 0.5]]), team)
    >>> data.codes
    array([[  0,  64],
           [255, 128]], dtype=uint8)
    >>> bool((data.values[data.codes] == data.source).all())
    True
    """
    sample = x[:: max(1, len(x) // SAMPLED_ROWS)]
    numbers = np.unique(sample[sample != 0])
    if not (0 < numbers.size < 256 and numbers[0] > 0 and np.isfinite(numbers[-1])):
        return None
    with np.errstate(over="ignore"):
        scale = x.dtype.type(255 / float(numbers[-1]))
    if not np.isfinite(scale):
        return None
    places = _codes_of(numbers, scale)
    if len(set(places)) != numbers.size or places[0] == 0:
        return None
    values, codes = np.zeros(256, x.dtype), np.empty(x.shape, UINT8)
    values[places] = numbers
    codes.reshape(-1)[::PAGESIZE] = 0  # concurrent page faults of two threads are serialized
    if not all(team.run(_encode_part, x, scale, values, codes)):
        return None
    return EncodedData(x, codes, values)


def _codes_of(numbers: Array, scale: Any) -> list[int]:
    codes: list[int] = (numbers * scale + numbers.dtype.type(0.5)).astype(np.int64).tolist()
    return [min(code, 255) for code in codes]


@njit(nogil=True)
def _encode_part(x, scale, values, codes, thread, num_threads, barrier):
    """Encode one thread's rows; return False if an element is not in `values`."""
    first, last = chunk_bounds(x.shape[0], thread, num_threads)
    zero, half, most = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(255)
    others = 0
    for r in range(first, last):
        source, target = x[r], codes[r]
        for j in range(source.size):  # vectorized, which a table lookup would prevent
            place = source[j] * scale + half
            place = place if place > zero else zero  # also for NaN
            target[j] = np.int32(place if place < most else most)
        for j in range(source.size):
            others += values[target[j]] != source[j]
    return others == 0

"""Size of a cache line, and memory aligned to one."""

from numba.extending import register_jitable

from kernels._addresses import address_of

CACHE_LINE_BYTES = 64
"""Bytes of a cache line."""
LINE_ELEMENTS = 16
"""Elements of float32 in a cache line."""


@register_jitable
def skip_to_line(array):
    """Return a slice of a 1-D array that begins at a cache line, so that vectors are aligned.

    The slice is `LINE_ELEMENTS` elements shorter than the array.
    """
    first = -address_of(array, 0) % CACHE_LINE_BYTES // array.itemsize
    return array[first : array.size - LINE_ELEMENTS + first]

"""Lines of the processor's caches, and memory that begins with one."""

from numba.extending import register_jitable

from kernels._addresses import address_of

CACHE_LINE_BYTES = 64
"""Bytes that are read from memory together."""
LINE_ELEMENTS = 16
"""Elements of float32 in them."""


@register_jitable
def skip_to_line(array):
    """Return an array without the elements before its first whole cache line: vectors are aligned.

    Up to `LINE_ELEMENTS` elements are lost.
    """
    first = -address_of(array, 0) % CACHE_LINE_BYTES // array.itemsize
    return array[first : array.size - LINE_ELEMENTS + first]

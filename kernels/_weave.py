"""Interleaving of image rows, for convolutions whose windows have short rows.

With few channels, the ``FW C`` adjacent inputs in a row of a window are too few for a tile of the
micro-kernel or for a vector. The input rows of each output row are then interleaved into a buffer
in the order ``[x][fy][c]``, so that all inputs of a window are adjacent. This lowering is that of
M. Cho and D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017.
"""

import numpy as np

from kernels._addresses import address_of, copy_bytes
from kernels._compiler import inner, register_jitable

LOWERED_RUN = 16
"""Rows are interleaved if a window's row, ``FW C``, has fewer elements than this."""


@register_jitable
def is_lowered(channels, filter_width):
    """Return whether the input rows are interleaved before the convolution."""
    return channels * filter_width < LOWERED_RUN


@inner
def weave_rows(image, origin, row, channels, height, stride, rows, woven, size):
    """Interleave input rows into ``woven[y][x][fy][c]``, `size` elements for each output row `y`.

    The windows of the first output row begin at ``image[origin]``; `row` is the row stride of the
    image in elements.
    """
    step = height * channels
    for y in range(rows):
        first, known = origin + y * stride * row, np.int64(0)
        here = woven[y * size : (y + 1) * size]
        if y and stride == 1:  # copy the row above, shifted by one input row
            shifted, known = woven[(y - 1) * size + channels : y * size], height - 1
            copy_bytes(address_of(here, 0), address_of(shifted, 0), shifted.size * shifted.itemsize)
        for fy in range(known, height):
            for c in range(channels):
                source, target = image[first + fy * row + c :], here[fy * channels + c :]
                for x in range(here.size // step):
                    target[x * step] = source[x * channels]

"""Rows of an image woven into one another, where the windows of a convolution have short rows.

With few channels the ``FW C`` adjacent inputs of a window's row are too few for a tile of the
micro-kernel or for a vector. There the rows are woven first, ``[x][fy][c]``, in a buffer for each
output row: all inputs of a window are then adjacent. This lowering is that of M. Cho and D. Brand,
"MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017.
"""

import numpy as np
from numba.extending import register_jitable

from kernels._cache import inner

LOWERED_RUN = 16
"""Runs of fewer adjacent inputs than this, ``FW C``, are lowered."""


@register_jitable
def is_lowered(channels, filter_width):
    """Tell whether the rows of a window are woven into one another first."""
    return channels * filter_width < LOWERED_RUN


@inner
def weave_rows(image, origin, row, channels, height, stride, rows, woven, size):
    """Fill ``woven[y][x][fy][c]``, `size` elements for each of some output rows.

    The windows of the first one begin at ``image[origin]``; an image's row is `row` elements long.
    """
    step = height * channels
    for y in range(rows):
        first, known = origin + y * stride * row, np.int64(0)
        here = woven[y * size : (y + 1) * size]
        if y and stride == 1:  # most of a row is that above, shifted by one
            shifted, known = woven[(y - 1) * size + channels : y * size], height - 1
            for i in range(shifted.size):
                here[i] = shifted[i]
        for fy in range(known, height):
            for c in range(channels):
                source, target = image[first + fy * row + c :], here[fy * channels + c :]
                for x in range(here.size // step):
                    target[x * step] = source[x * channels]

"""Rows of an image woven into one another, where the windows of a convolution have short rows.

With few channels the ``FW C`` adjacent inputs of a window's row are too few for a tile of the
micro-kernel or for a vector. There the rows are woven first, ``[x][fy][c]``, in a buffer for each
output row: all inputs of a window are then adjacent. This lowering is that of M. Cho and D. Brand,
"MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017.
"""

from numba.extending import register_jitable

from kernels._cache import inner

LOWERED_RUN = 16
"""Runs of fewer adjacent inputs than this, ``FW C``, are lowered."""


@register_jitable
def is_lowered(channels, filter_width):
    """Tell whether the rows of a window are woven into one another first."""
    return channels * filter_width < LOWERED_RUN


@inner
def weave(image, origin, row, channels, height, buffer):
    """Fill ``buffer[x][fy][c]`` with rows of an image."""
    step = height * channels
    count = buffer.size // max(1, step)
    for fy in range(height):
        for c in range(channels):
            source, target = image[origin + fy * row + c :], buffer[fy * channels + c :]
            for x in range(count):
                target[x * step] = source[x * channels]


@inner
def weave_next(image, origin, row, channels, height, above, buffer):
    """Do what `weave` does, of what it made of the row above."""
    shifted = above[channels:]
    for i in range(shifted.size):
        buffer[i] = shifted[i]
    last, step = height - 1, height * channels
    for c in range(channels):
        source, target = image[origin + last * row + c :], buffer[last * channels + c :]
        for x in range(buffer.size // step):
            target[x * step] = source[x * channels]

"""Batches of images: memory order, padding, and the number of windows.

The shape of a batch is always (N, C, H, W). In memory the channels may come last, as in the results
of the kernels. Then the windows of a convolution are long runs of adjacent elements, and a loop
over channels is vectorised. Such an array is an ordinary view, and passes from one layer to the
next without a copy.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._arrays import Array, as_float, as_kernel_array, as_real, as_widenable
from kernels._compiler import inner, njit, overload, register_jitable

MAX_SIZE = 2**31 - 1
"""Largest size of a window, stride or padding; the elements of a window have indices of 32 bits."""
MAX_PADDED = 2**24
"""Largest height or width of a padded image: addresses stay within 64 bits."""
TRANSPOSE_BLOCK = 16
"""Channels copied together, so that one cache line of each pixel stays in the L1 cache."""


def as_images(
    a: ArrayLike, name: str, dtype: np.dtype[Any] | None = None, widenable: bool = False
) -> tuple[Array, bool]:
    """Convert a batch for a kernel, without a change of its memory order.

    Parameters
    ----------
    a : array_like, shape (N, C, H, W)
    name : str
        Name of the argument, for an error.
    dtype : dtype, optional
        The dtype in which the kernel computes; by default that of `a`, or float64.
    widenable : bool, default False
        Whether the kernel itself widens narrower elements.

    Returns
    -------
    a : ndarray, shape (N, H, W, C) or (N, C, H, W)
        C-contiguous.
    channels_last : bool
        Whether the shape of the result is (N, H, W, C).

    Raises
    ------
    TypeError
        If `a` does not hold real numbers, or is masked.
    ValueError
        If `a` does not have 4 dimensions.
    """
    a = as_real(a, name)
    if a.ndim != 4:
        raise ValueError(f"{name}: expected shape (N, C, H, W), got {a.shape}")
    last = a.transpose(0, 2, 3, 1)
    channels_last = last.flags.c_contiguous
    if channels_last:
        a = last
    if dtype is None:
        return as_float(a, name), channels_last
    convert = as_widenable if widenable else as_kernel_array
    return convert(a, dtype, name), channels_last


def check_size(value: int, name: str, least: int) -> int:
    """Return an integer as an int; raise if it is less than a minimum.

    Parameters
    ----------
    value : int
    name : str
        Name of the argument, for an error.
    least : int

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If `value` is not an integer.
    ValueError
        If `value` is less than `least`.
    """
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected {least} or more, got {number}")
    if number > MAX_SIZE:
        raise ValueError(f"{name}: expected at most {MAX_SIZE}, got {number}")
    return number


def check_windows(
    function: str, size: tuple[int, int], window: tuple[int, int], stride: int, pad: int
) -> tuple[int, int]:
    """Return the number of windows along the height and the width of an image, or raise.

    Parameters
    ----------
    function : str
        Name of the kernel, for an error.
    size : (H, W)
    window : (int, int)
        Height and width.
    stride, pad : int

    Returns
    -------
    int, int

    Raises
    ------
    ValueError
        If the window is empty, or does not fit into the padded image.
    """
    if min(window) < 1 or window[0] * window[1] > MAX_SIZE:
        raise ValueError(
            f"{function}: expected a window of 1 x 1 or more, and of at most {MAX_SIZE} elements, "
            f"got {window}"
        )
    down, across = (window_count(n, w, stride, pad) for n, w in zip(size, window, strict=True))
    if min(down, across) < 1:
        raise ValueError(
            f"{function}: expected a window that fits into the padded image, got "
            f"{format_window(window)} with pad {pad} for an image of {format_window(size)}"
        )
    return down, across


def format_window(size: tuple[int, int]) -> str:
    """Format a height and a width for a message: ``5 x 3``."""
    return f"{size[0]} x {size[1]}"


@register_jitable
def window_count(n, window, stride, pad):
    """Return the number of windows along an axis of length `n`; 0 also for too large sizes."""
    if max(pad, stride) > MAX_SIZE or not window <= n + 2 * pad <= MAX_PADDED:
        return 0
    return (n + 2 * pad - window) // stride + 1


def require_sizes(function: str, **sizes: Any) -> None:
    """Raise a typing error unless all sizes are integers."""
    for name, kind in sizes.items():
        if not isinstance(kind, int | types.Integer | types.IntegerLiteral | types.Omitted):
            raise TypingError(f"{function}: expected {name} as an integer, got {kind}")


def empty_images(n, channels, height, width, dtype):
    """Return a new batch of shape (N, C, H, W) and its memory, (N, H, W, C)."""
    memory = np.empty((n, height, width, channels), dtype)
    return memory.transpose((0, 3, 1, 2)), memory


jit_empty_images = njit(nogil=True)(empty_images)
"""`empty_images` for compiled callers, cached on disk: `transpose` takes seconds to compile."""


@inner
def copy_image(x, start, channels_last, channels, height, width, out, origin, row, pixel):
    """Copy an image into another image, whose channels come last and which may be larger.

    Parameters
    ----------
    x : ndarray, 1-D
        Memory of the image, in any dtype.
    start : int
        Index of the first element of the image in `x`.
    channels_last : bool
        Whether the channels of the image come last.
    channels, height, width : int
        Sizes of the image.
    out : ndarray, 1-D
        Memory of the other image.
    origin : int
        Index of the first pixel in `out`.
    row, pixel : int
        Strides of `out` along rows and pixels, in elements.
    """
    if channels_last:
        if pixel != channels:
            for y in range(height):
                for i in range(width):
                    first, at = start + (y * width + i) * channels, origin + y * row + i * pixel
                    source, target = x[first : first + channels], out[at : at + channels]
                    for c in range(target.size):
                        target[c] = source[c]
            return
        n = width * channels
        for y in range(height):
            source = x[start + y * n : start + (y + 1) * n]
            target = out[origin + y * row : origin + y * row + n]
            for i in range(target.size):
                target[i] = source[i]
        return
    for y in range(height):
        for c0 in range(0, channels, TRANSPOSE_BLOCK):
            for c in range(c0, min(channels, c0 + TRANSPOSE_BLOCK)):
                first = start + (c * height + y) * width
                source, target = x[first : first + width], out[origin + y * row + c :]
                for i in range(source.size):
                    target[i * pixel] = source[i]


@inner
def copy_inside(x, origin, row, height, width, out, start):
    """Copy an image out of a larger one, whose rows are `row` apart; `width` is in elements."""
    for y in range(height):
        source = x[origin + y * row : origin + y * row + width]
        target = out[start + y * width : start + (y + 1) * width]
        for i in range(target.size):
            target[i] = source[i]


def direct_or_copy(direct, x, copy):
    """Return `x` if `direct`, else `copy`."""
    return x if direct else copy


@overload(direct_or_copy)
def _direct_or_copy(direct, x, copy):
    if x.dtype != copy.dtype:  # another dtype is always copied
        return lambda direct, x, copy: copy
    return lambda direct, x, copy: x if direct else copy

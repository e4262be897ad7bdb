"""Batches of images: their memory orders, their padding, and the sizes of windows on them.

To a caller a batch has the shape (N, C, H, W). In memory its channels may come last, as they do in
what the kernels return: the windows of a convolution are then long runs of adjacent elements, and a
loop over channels fills vectors. Such an array looks like any other, and passes from one layer to
the next without a copy.
"""

from operator import index
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable
from numpy.typing import ArrayLike

from kernels._arrays import Array, as_float, as_kernel_array, as_real, as_widenable
from kernels._cache import inner, njit

TRANSPOSE_BLOCK = 16
"""Channels that are gathered at once: of each, one cache line stays in the first cache."""


def as_images(
    a: ArrayLike, name: str, dtype: np.dtype[Any] | None = None, widenable: bool = False
) -> tuple[Array, bool]:
    """Return a batch ready for a kernel, in the memory order that it has.

    Parameters
    ----------
    a : array_like, shape (N, C, H, W)
    name : str
        The argument's name, for an error.
    dtype : dtype, optional
        In which the kernel computes; by default that of `a`, or float64.
    widenable : bool, default False
        Whether the kernel widens narrower elements.

    Returns
    -------
    a : ndarray, shape (N, H, W, C) or (N, C, H, W)
        C-contiguous.
    channels_last : bool
        Which of the two.

    Raises
    ------
    TypeError
        If `a` does not hold real numbers, or is masked.
    ValueError
        If `a` has not 4 dimensions.
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
    """Return an integer that is large enough as a plain one, or raise.

    Parameters
    ----------
    value : int
    name : str
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
    return number


def check_windows(
    function: str, size: tuple[int, int], window: tuple[int, int], stride: int, pad: int
) -> tuple[int, int]:
    """Return how many windows fit down and across an image, or raise.

    Parameters
    ----------
    function : str
        The kernel's name, for an error.
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
        If none fits.
    """
    if min(window) < 1:
        raise ValueError(f"{function}: expected a window of 1 x 1 or more, got {window}")
    down, across = (window_count(n, w, stride, pad) for n, w in zip(size, window, strict=True))
    if min(down, across) < 1:
        raise ValueError(
            f"{function}: expected a window that fits into the padded image, got "
            f"{format_window(window)} with pad {pad} beside an image of {format_window(size)}"
        )
    return down, across


def format_window(size: tuple[int, int]) -> str:
    """Name a height and a width for a message: ``5 x 3``."""
    return f"{size[0]} x {size[1]}"


@register_jitable
def window_count(n, window, stride, pad):
    """Return how many windows fit along an axis of `n`, which may be none."""
    return (n + 2 * pad - window) // stride + 1 if n + 2 * pad >= window else 0


def require_sizes(function: str, **sizes: Any) -> None:
    """Refuse to compile a call with anything but integers."""
    for name, kind in sizes.items():
        if not isinstance(kind, int | types.Integer | types.IntegerLiteral | types.Omitted):
            raise TypingError(f"{function}: expected {name} as an integer, got {kind}")


def empty_images(n, channels, height, width, dtype):
    """Return a new batch of shape (N, C, H, W) and its memory, (N, H, W, C)."""
    memory = np.empty((n, height, width, channels), dtype)
    return memory.transpose((0, 3, 1, 2)), memory


jit_empty_images = njit(nogil=True)(empty_images)
"""For compiled callers, kept on disk: Numba takes seconds over the axes."""


@inner
def copy_image(x, start, channels_last, channels, height, width, out, origin, row, pixel):
    """Copy an image into another one, whose channels come last, and which may be larger.

    Parameters
    ----------
    x : ndarray, 1-D
        Its memory, in any dtype.
    start : int
        Where the image begins in it.
    channels_last : bool
        The memory order of the image.
    channels, height, width : int
    out : ndarray, 1-D
    origin : int
        Where the first pixel goes.
    row, pixel : int
        Elements from a row of `out`, and from a pixel, to the next.
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
    """Copy an image out of a larger one: rows of `width` elements, which are `row` apart there."""
    for y in range(height):
        source = x[origin + y * row : origin + y * row + width]
        target = out[start + y * width : start + (y + 1) * width]
        for i in range(target.size):
            target[i] = source[i]


def direct_or_copy(direct, x, copy):
    """Return memory that is read as it is, or its copy."""
    return x if direct else copy


@overload(direct_or_copy)
def _direct_or_copy(direct, x, copy):
    if x.dtype != copy.dtype:  # other elements are never read as they are
        return lambda direct, x, copy: copy
    return lambda direct, x, copy: x if direct else copy

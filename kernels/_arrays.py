"""Validate and convert the arrays that are passed to kernels.

Kernels are compiled for C-contiguous, writable float arrays in native byte order only. Other
arguments are checked and converted to that form here, so that no layout and no flag causes another
compilation. An array that has that form already, the usual case, is not copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.np.numpy_support import as_dtype, from_dtype
from numpy.typing import ArrayLike, NDArray

from kernels._compiler import njit, overload, register_jitable

Array = NDArray[Any]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
UINT8 = np.dtype(np.uint8)
INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)
_FLOATS = (types.float32, types.float64)
_WIDENED = {(UINT8, FLOAT32), (UINT8, FLOAT64), (FLOAT32, FLOAT64)}


def as_real(a: ArrayLike, name: str) -> Array:
    """Return ``a`` as an array of floats, integers or booleans, or raise; float16 is widened."""
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked array; "
            "give the masked entries a value first with .filled(value)"
        )
    try:
        a = np.asarray(a)
    except ValueError as error:
        raise ValueError(
            f"{name}: expected rows of equal length, got unequal ones ({error})"
        ) from None
    if a.dtype.kind in "biu" or (a.dtype.kind == "f" and a.dtype.itemsize >= FLOAT32.itemsize):
        return a
    if a.dtype.kind == "f":
        return a.astype(FLOAT32)
    raise TypeError(
        f"{name}: expected real numbers (float32, float64 or integers), got dtype {a.dtype}; "
        f"convert with {name}.astype(np.float64) if no information is lost"
    )


def compute_dtype(a: Array) -> np.dtype[Any]:
    """Return the dtype in which an operation on ``a`` computes."""
    return FLOAT32 if a.dtype.kind == "f" and a.dtype.itemsize == FLOAT32.itemsize else FLOAT64


# The next three functions test the usual case first, by identity: NumPy keeps one object for each
# native dtype, and comparing dtypes by value takes longer than a small kernel.


def as_float(a: ArrayLike, name: str) -> Array:
    """Return ``a`` ready for a kernel, in float32 if it has that dtype, else in float64."""
    if type(a) is np.ndarray and (a.dtype is FLOAT32 or a.dtype is FLOAT64) and a.flags.carray:
        return a
    a = as_real(a, name)
    return _as_contiguous(a, compute_dtype(a))


def as_kernel_array(a: ArrayLike, dtype: np.dtype[Any], name: str) -> Array:
    """Return ``a`` ready for a kernel that computes in ``dtype``, or raise."""
    if type(a) is np.ndarray and a.dtype is dtype and a.flags.carray:
        return a
    return _as_contiguous(as_real(a, name), dtype)


def as_widenable(a: ArrayLike, dtype: np.dtype[Any], name: str) -> Array:
    """Return ``a`` ready for a kernel that computes in ``dtype`` and widens narrower elements."""
    if type(a) is np.ndarray and a.dtype is dtype and a.flags.carray:
        return a
    a = as_real(a, name)
    return _as_contiguous(a, a.dtype if (a.dtype, dtype) in _WIDENED else dtype)


def as_mask(mask: ArrayLike) -> Array:
    """Return a mask ready for a kernel, or raise."""
    mask = mask if type(mask) is np.ndarray else as_real(mask, "mask")
    if mask.dtype != BOOL:
        raise TypeError(f"mask: expected booleans, got dtype {mask.dtype}")
    return as_kernel_array(mask, BOOL, "mask")


def as_scalar(value: Any, name: str) -> float:
    """Return a real number as a float, or raise."""
    if type(value) is float:
        return value
    a = as_real(value, name)
    if a.ndim:
        raise ValueError(f"{name}: expected a single number, got an array of shape {a.shape}")
    return float(a)


def _as_contiguous(a: Array, dtype: np.dtype[Any]) -> Array:
    """Return ``a`` as C-contiguous, aligned and writable; copy it only where that is needed."""
    with np.errstate(all="ignore"):  # overflow to infinity and underflow to 0 are silent
        a = np.require(a, dtype, ["C", "A"])
    return a if a.flags.writeable else np.asarray(_WritableView(a))


class _WritableView:
    """View of read-only memory as writable; kernels never write to their inputs.

    Numba's types distinguish the two: without the view, a read-only array would compile another
    kernel or be copied.
    """

    def __init__(self, a: Array):
        self.owner = a
        self.__array_interface__ = dict(a.__array_interface__, data=(a.ctypes.data, False))


def format_shapes(**arrays: Any) -> str:
    """Format the shapes of arrays for a message: ``x (100, 784), W (785, 50)``."""
    return ", ".join(f"{name} {np.shape(a)}" for name, a in arrays.items())


def jit_as_kernel_array(a, like):
    """Return `a` ready for a kernel that computes in the dtype of `like`, in compiled code."""
    raise AssertionError("for compiled code only")


def jit_as_widenable(a, like):
    """Do the same, but keep narrower elements, which the kernel widens."""
    raise AssertionError("for compiled code only")


@overload(jit_as_kernel_array)
def _jit_as_kernel_array(a, like):
    return _copier(a, np.float32 if like.dtype == types.float32 else np.float64)


@overload(jit_as_widenable)
def _jit_as_widenable(a, like):
    pair = as_dtype(a.dtype), as_dtype(like.dtype)
    return _copier(a, (pair[0] if pair in _WIDENED else pair[1]).type)


def _copier(a, kind):
    if a.dtype == from_dtype(np.dtype(kind)) and a.layout == "C" and a.mutable:
        return lambda a, like: a

    return lambda a, like: jit_flat_copy(a, kind).reshape(a.shape)


@register_jitable
def jit_flat_copy(a, kind):
    """Return the elements of an array in row-major order and another dtype, in compiled code.

    An assignment, ``out[...] = a``, would compile NumPy's error messages: five seconds.
    """
    out, i = np.empty(a.size, kind), np.uint64(0)
    for value in a.flat:
        out[i] = value
        i += np.uint64(1)
    return out


def require_arrays(function: str, ndim: int | None = None, **arrays: Any) -> None:
    """Raise at compile time unless all arguments are arrays of real numbers with `ndim` axes."""
    for name, a in arrays.items():
        kind = getattr(a, "dtype", None)
        number = isinstance(kind, types.Integer | types.Boolean) or kind in _FLOATS
        if not (isinstance(a, types.Array) and number and ndim in (None, a.ndim)):
            raise TypingError(
                f"{function}: expected {name} as an array of float32, float64 or integers"
                + ("" if ndim is None else f" with {ndim} dimension{'s' * (ndim > 1)}")
                + f", got {a}"
            )


def require_mask(function: str, mask: Any, **arrays: Any) -> None:
    """Do the same, and raise unless `mask` is an array of booleans with as many axes."""
    require_arrays(function, **arrays)
    (name, a), *_ = arrays.items()
    booleans = isinstance(mask, types.Array) and isinstance(mask.dtype, types.Boolean)
    if not (booleans and mask.ndim == a.ndim):
        raise TypingError(
            f"{function}: expected mask as booleans in the shape of {name}, {a}, got {mask}"
        )


@njit(nogil=True)
def all_finite(a):
    """Return whether a one-dimensional array holds neither NaN nor infinity."""
    # Without an early exit, and in an integer as narrow as float32: the loop is vectorised.
    wrong = np.int32(0)
    for i in range(a.size):
        wrong = np.int32(wrong | np.int32(not np.isfinite(a[i])))
    return wrong == 0

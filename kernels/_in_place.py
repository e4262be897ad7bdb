"""Validate and convert arrays that a kernel changes in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._addresses import address_of
from kernels._arrays import (
    FLOAT32,
    FLOAT64,
    Array,
    as_kernel_array,
    as_scalar,
    format_shapes,
    jit_flat_copy,
    require_arrays,
)
from kernels._compiler import overload


def is_ready(a: Any) -> bool:
    """Return whether a kernel can change `a` in place without a copy."""
    # By identity: comparing dtypes by value takes longer than a small update.
    return type(a) is np.ndarray and (a.dtype is FLOAT32 or a.dtype is FLOAT64) and a.flags.carray


def as_in_place(a: Array, name: str) -> Array:
    """Return `a`, or a copy if a kernel cannot change `a` directly; raise if `a` is not valid."""
    if is_ready(a):
        return a
    if not isinstance(a, np.ndarray) or isinstance(a, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array of float32 or float64, to be changed in place, "
            f"got {type(a).__name__}"
        )
    dtype = a.dtype.newbyteorder("=")
    if dtype not in (FLOAT32, FLOAT64):
        raise TypeError(f"{name}: expected an array of float32 or float64, got dtype {a.dtype}")
    if not a.flags.writeable:
        raise ValueError(f"{name}: expected an array that can be changed, got a read-only one")
    return np.require(np.asarray(a), dtype, ["C", "A"])


def check_in_place(g: ArrayLike, **arrays: Array) -> tuple[Array, list[Array]]:
    """Check the arrays of an update before anything is changed.

    Parameters
    ----------
    g : array_like
        The gradient, which is only read.
    **arrays : ndarray
        The arrays to be changed, the parameters first.

    Returns
    -------
    g : ndarray
        The gradient in the dtype of `arrays`.
    ready : list of ndarray
        For each of `arrays`, the array itself if a kernel can change it directly, else a copy. The
        caller must check by `overlap` that the arrays that were not copied do not share memory.

    Raises
    ------
    TypeError, ValueError
        If one of `arrays` cannot be changed in place, the shapes or dtypes differ, an array that
        was copied shares memory with another, or `g` is not real.
    """
    ready = [as_in_place(a, name) for name, a in arrays.items()]
    shape, dtype = ready[0].shape, ready[0].dtype
    g = as_kernel_array(g, dtype, "g")
    for name, a in zip(arrays, ready, strict=True):
        if a.shape != shape or g.shape != shape:
            raise ValueError(f"expected equal shapes, got {format_shapes(**arrays, g=g)}")
        if a.dtype != dtype:
            raise ValueError(
                f"{name}: expected the dtype {dtype} of the first array, got {a.dtype}"
            )
    for name, result in zip(arrays, ready, strict=True):
        for other in arrays if result is not arrays[name] else ():
            if other != name and np.shares_memory(arrays[name], arrays[other]):
                raise ValueError(f"expected separate arrays, got {name} and {other} that overlap")
    return g, ready


def overlap(a: Array, b: Array) -> bool:
    """Return whether two flat contiguous arrays share memory."""
    return np.shares_memory(a, b)


@overload(overlap)
def _jit_overlap(a, b):
    def intersect(a, b):
        first, second = address_of(a, 0), address_of(b, 0)
        ends = first + a.size * a.itemsize, second + b.size * b.itemsize
        return a.size > 0 and b.size > 0 and first < ends[1] and second < ends[0]

    return intersect


def as_scalars(**numbers: float) -> Array:
    """Return the scalar arguments of an update as a float64 array; raise if one is not valid."""
    return np.array([as_scalar(value, name) for name, value in numbers.items()])


def as_iteration(t: Any) -> int:
    """Return the number of an update, from 1, as an int; raise if it is not valid."""
    if not isinstance(t, int | np.integer) or isinstance(t, bool):
        raise TypeError(f"t: expected an integer from 1, got {t!r}")
    if not 1 <= t <= 2**53:  # float64 represents these integers exactly
        raise ValueError(f"t: expected an integer from 1 to 2**53, got {t}")
    return int(t)


# ---------------------------------------------------------------- in compiled code
def require_in_place(function: str, g: Any, numbers: dict[str, Any], **arrays: Any) -> None:
    """Raise a typing error unless the arguments of an update have valid types.

    Parameters
    ----------
    function : str
        Name of the update, for an error.
    g : Numba type
        The array that is only read.
    numbers : dict
        The scalar arguments by name.
    **arrays : Numba types
        The arrays to be changed, the parameters first.
    """
    p = next(iter(arrays.values()))
    for name, a in arrays.items():
        floats = isinstance(a, types.Array) and a.dtype in (types.float32, types.float64)
        if not (floats and a.mutable and a.dtype == p.dtype and a.ndim == p.ndim):
            raise TypingError(
                f"{function}: expected {name} as a writable array of float32 or float64, "
                f"in the dtype and shape of the first, got {a}"
            )
    require_arrays(function, p.ndim, g=g)
    for name, value in numbers.items():
        value = getattr(value, "value", value)  # an omitted argument has its default there
        if not isinstance(value, float | types.Float | types.Integer | types.Boolean):
            raise TypingError(f"{function}: expected {name} as a number, got {value}")


def jit_flat(a, p):
    """Return `a` flat and contiguous: a view if possible, else a copy; empty if `a` is None."""
    raise AssertionError("for compiled code only")


def jit_write_back(a, flat):
    """Copy `flat`, the result of `jit_flat`, to `a` unless `flat` is a view of `a`."""
    raise AssertionError("for compiled code only")


@overload(jit_flat)
def _jit_flat(a, p):
    if isinstance(a, types.NoneType):
        return lambda a, p: np.empty(0, p.dtype)

    def flat(a, p):
        if a.shape != p.shape:
            raise ValueError("expected equal shapes, got arrays of different shapes")
        return a.reshape(-1)

    def flat_copy(a, p):
        if a.shape != p.shape:
            raise ValueError("expected equal shapes, got arrays of different shapes")
        return jit_flat_copy(a, a.dtype)

    return flat if a.layout == "C" else flat_copy


@overload(jit_write_back)
def _jit_write_back(a, flat):
    if isinstance(a, types.NoneType) or a.layout == "C":
        return lambda a, flat: None

    def write(a, flat):
        i = np.uint64(0)
        for index in np.ndindex(a.shape):
            a[index] = flat[i]
            i += np.uint64(1)

    return write

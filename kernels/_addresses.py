"""Conversion between arrays and memory addresses."""

import ctypes

from llvmlite import ir
from numba import carray, config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._compiler import inner
from kernels._plain_code import plain_array


def element_type(kind: types.Number) -> ir.Type:
    """Return the LLVM type of a Numba element type."""
    if isinstance(kind, types.Float):
        return ir.FloatType() if kind.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(kind.bitwidth)


@intrinsic
def _address_of(context, array, offset):
    def emit(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(data, [args[1]]), ir.IntType(64))

    return types.intp(array, types.intp), emit


def _plain_address_of(array, offset):
    return array.ctypes.data + int(offset) * array.itemsize


address_of = _plain_address_of if config.DISABLE_JIT else _address_of
"""Return the address of an element: ``address_of(array, offset)``, with the offset in elements.

The address does not keep the array alive. A caller must hold a reference to the array while the
address is in use.
"""


@intrinsic
def _pointer(context, address, like):
    def emit(context, builder, signature, args):
        return builder.inttoptr(args[0], element_type(like.dtype).as_pointer())

    return types.CPointer(like.dtype)(types.intp, like), emit


@inner
def _matrix_at(address, n, m, like):
    return carray(_pointer(address, like), (n, m))


def _plain_matrix_at(address, n, m, like):
    return plain_array(address, (n, m), (m, 1), like.dtype)


matrix_at = _plain_matrix_at if config.DISABLE_JIT else _matrix_at
"""Return the array at an address: ``matrix_at(address, n, m, like)``.

The array has the shape ``(n, m)`` and the dtype of `like`. The address must stay valid.
"""


@intrinsic
def _copy_bytes(context, target, source, count):
    def emit(context, builder, signature, args):
        to, at = (builder.inttoptr(a, ir.IntType(8).as_pointer()) for a in args[:2])
        cgutils.raw_memcpy(builder, to, at, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit


def _plain_copy_bytes(target, source, count):
    ctypes.memmove(int(target), int(source), int(count))


copy_bytes = _plain_copy_bytes if config.DISABLE_JIT else _copy_bytes
"""Copy memory between addresses: ``copy_bytes(target, source, count)``, which must not overlap.

A loop over bytes would compute the last bytes one by one, up to 255 with vectors of 64 bytes.
"""

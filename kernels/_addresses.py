"""Addresses of the elements of arrays, and arrays at an address: what works on memory itself."""

from llvmlite import ir
from numba import carray, config, types
from numba.extending import intrinsic

from kernels._cache import njit
from kernels._plain_code import plain_array


def element_type(kind: types.Number) -> ir.Type:
    """Return LLVM's type for an element type of Numba's."""
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
"""The address of an element: ``address_of(array, offset)``, the offset in elements of the array.

It does not keep the array alive. Whoever takes it must have the array from a caller.
"""


@intrinsic
def _pointer(context, address, like):
    def emit(context, builder, signature, args):
        return builder.inttoptr(args[0], element_type(like.dtype).as_pointer())

    return types.CPointer(like.dtype)(types.intp, like), emit


@njit(nogil=True)
def _matrix_at(address, n, m, like):
    return carray(_pointer(address, like), (n, m))


def _plain_matrix_at(address, n, m, like):
    return plain_array(address, (n, m), (m, 1), like.dtype)


matrix_at = _plain_matrix_at if config.DISABLE_JIT else _matrix_at
"""An array of shape ``(n, m)`` and the dtype of `like` at an address, which must stay valid."""

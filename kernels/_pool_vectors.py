"""Maximum pooling in 2 x 2 windows, vectorised over the channels.

With few channels the loop over them is too short for LLVM's loop vectoriser, which interleaves
several vectors and processes the remainder in scalar code. The forward and the backward operation
are therefore written as LLVM instructions, with masked loads and stores for the remainder channels.
The arguments ``right`` and ``down`` are the strides to the next pixel and to the next row.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._addresses import element_type
from kernels._microkernel import splat
from kernels._vectors import VECTOR_BYTES

DEAD = np.uint8(4)
"""Index stored for a window whose maximum is not above 0, and so has no gradient."""

_INT, _LANE, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()


def in_vectors(builder, count, lanes, body):
    """Emit ``body(first, mask)`` for each whole vector (mask None) and for the remainder."""
    width = ir.Constant(_INT, lanes)
    with cgutils.for_range(builder, builder.udiv(count, width)) as loop:
        body(builder.mul(loop.index, width), None)
    left = builder.urem(count, width)
    with builder.if_then(builder.icmp_unsigned("!=", left, ir.Constant(_INT, 0))):
        numbers = ir.Constant(ir.VectorType(_INT, lanes), list(range(lanes)))
        mask = builder.icmp_unsigned("<", numbers, splat(builder, left, lanes))
        body(builder.sub(count, left), mask)


def _bits(vector):
    element = vector.element
    return element.width if isinstance(element, ir.IntType) else 32 if element == _FLOAT else 64


def vector_function(operation, vector):
    """Return the name of LLVM's function for an operation on a type of vectors."""
    letter = "i" if isinstance(vector.element, ir.IntType) else "f"
    return f"llvm.{operation}.v{vector.count}{letter}{_bits(vector)}"


def load_vector(builder, pointer, vector, mask):
    """Emit a load of a vector, under a mask or whole (mask None)."""
    size = _bits(vector) // 8
    pointer = builder.bitcast(pointer, vector.as_pointer())
    if mask is None:
        return builder.load(pointer, align=size)
    kind = ir.FunctionType(vector, [pointer.type, _LANE, mask.type, vector])
    load = cgutils.get_or_insert_function(
        builder.module, kind, vector_function("masked.load", vector) + ".p0"
    )
    zeros = ir.Constant(vector, None)
    return builder.call(load, [pointer, ir.Constant(_LANE, size), mask, zeros])


def store_vector(builder, value, pointer, mask):
    """Emit the store of a vector; the counterpart of `load_vector`."""
    size = _bits(value.type) // 8
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    if mask is None:
        builder.store(value, pointer, align=size)
        return
    kind = ir.FunctionType(ir.VoidType(), [value.type, pointer.type, _LANE, mask.type])
    name = vector_function("masked.store", value.type) + ".p0"
    store = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(store, [value, pointer, ir.Constant(_LANE, size), mask])


def _data(context, builder, kind, array, offset):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def _maximum(rectify):
    @intrinsic
    def maximum(context, x, at, right, down, out, out_at, arg, arg_at, count):
        lanes = 8 * VECTOR_BYTES // x.dtype.bitwidth
        vector = ir.VectorType(element_type(x.dtype), lanes)
        indices = ir.VectorType(_LANE, lanes)
        stored = ir.VectorType(ir.IntType(arg.dtype.bitwidth), lanes)

        def emit(context, b, signature, args):
            kinds = signature.args
            pixel = _data(context, b, kinds[0], args[0], args[1])
            right, down, count = args[2], args[3], args[8]
            o = _data(context, b, kinds[4], args[4], args[5])
            j = _data(context, b, kinds[6], args[6], args[7])
            pixels = [pixel, b.gep(pixel, [right]), b.gep(pixel, [down])]
            pixels.append(b.gep(pixels[2], [right]))

            def body(first, mask):
                best, *others = [load_vector(b, b.gep(p, [first]), vector, mask) for p in pixels]
                k = ir.Constant(indices, [0] * lanes)
                for i, value in enumerate(others, 1):
                    # NaN compares as larger than any number and the first NaN is kept, as in NumPy.
                    more = b.and_(
                        b.fcmp_unordered(">", value, best), b.fcmp_ordered("ord", best, best)
                    )
                    best = b.select(more, value, best)
                    k = b.select(more, ir.Constant(indices, [i] * lanes), k)
                if rectify:
                    zeros = ir.Constant(vector, None)
                    dead = b.fcmp_ordered("<=", best, zeros)
                    best = b.select(dead, zeros, best)
                    k = b.select(dead, ir.Constant(indices, [int(DEAD)] * lanes), k)
                if stored != indices:
                    k = b.trunc(k, stored)
                store_vector(b, best, b.gep(o, [first]), mask)
                store_vector(b, k, b.gep(j, [first]), mask)

            in_vectors(b, count, lanes, body)
            return context.get_dummy_value()

        sizes = [types.intp] * 3
        return types.void(x, *sizes, out, types.intp, arg, types.intp, types.intp), emit

    return maximum


@intrinsic
def _unpool(context, dout, at, arg, arg_at, dx, dx_at, right, down, count):
    lanes = 8 * VECTOR_BYTES // dx.dtype.bitwidth
    vector = ir.VectorType(element_type(dx.dtype), lanes)
    stored = ir.VectorType(ir.IntType(arg.dtype.bitwidth), lanes)

    def emit(context, b, signature, args):
        kinds = signature.args
        source = _data(context, b, kinds[0], args[0], args[1])
        j = _data(context, b, kinds[2], args[2], args[3])
        pixel = _data(context, b, kinds[4], args[4], args[5])
        right, down, count = args[6:]
        pixels = [pixel, b.gep(pixel, [right]), b.gep(pixel, [down])]
        pixels.append(b.gep(pixels[2], [right]))

        def body(first, mask):
            gradient = load_vector(b, b.gep(source, [first]), vector, mask)
            k = load_vector(b, b.gep(j, [first]), stored, mask)
            for i, p in enumerate(pixels):
                here = b.icmp_unsigned("==", k, ir.Constant(stored, [i] * lanes))
                value = b.select(here, gradient, ir.Constant(vector, None))
                store_vector(b, value, b.gep(p, [first]), mask)

        in_vectors(b, count, lanes, body)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(dout, intp, arg, intp, dx, intp, intp, intp, intp), emit


def _plain_pixels(x, at, right, down, count):
    starts = (at, at + right, at + down, at + down + right)
    return np.stack([x[start : start + count] for start in starts])


def _plain_maximum(x, at, right, down, out, out_at, arg, arg_at, count):
    pixels = _plain_pixels(x, at, right, down, count)
    k = np.argmax(pixels, axis=0)
    out[out_at : out_at + count] = np.take_along_axis(pixels, k[None], axis=0)[0]
    arg[arg_at : arg_at + count] = k


def _plain_rectified_maximum(x, at, right, down, out, out_at, arg, arg_at, count):
    _plain_maximum(x, at, right, down, out, out_at, arg, arg_at, count)
    best, k = out[out_at : out_at + count], arg[arg_at : arg_at + count]
    k[best <= 0], best[best <= 0] = DEAD, 0


def _plain_unpool(dout, at, arg, arg_at, dx, dx_at, right, down, count):
    for k, start in enumerate((dx_at, dx_at + right, dx_at + down, dx_at + down + right)):
        here = arg[arg_at : arg_at + count] == k
        dx[start : start + count] = np.where(here, dout[at : at + count], 0)


maximum_of_4 = _plain_maximum if config.DISABLE_JIT else _maximum(rectify=False)
"""Write the maximum of one window in each of ``count`` channels, and its index from 0 to 3."""

rectified_maximum_of_4 = _plain_rectified_maximum if config.DISABLE_JIT else _maximum(rectify=True)
"""Do the same as `maximum_of_4`, but write 0 and `DEAD` where the maximum is not above 0."""

unpool_4 = _plain_unpool if config.DISABLE_JIT else _unpool
"""Write the 4 pixels of one window: the gradient at the index of the maximum, zeros elsewhere."""

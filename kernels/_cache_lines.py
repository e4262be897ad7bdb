"""Cache lines: their size, memory aligned to one, and prefetching."""

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._addresses import address_of
from kernels._compiler import register_jitable

CACHE_LINE_BYTES = 64
"""Bytes of a cache line."""
LINE_ELEMENTS = 16
"""Elements of float32 in a cache line."""


@register_jitable
def skip_to_line(array):
    """Return a slice of a 1-D array that begins at a cache line, so that vectors are aligned.

    The slice is `LINE_ELEMENTS` elements shorter than the array.
    """
    first = -address_of(array, 0) % CACHE_LINE_BYTES // array.itemsize
    return array[first : array.size - LINE_ELEMENTS + first]


def emit_prefetch(builder, at, writes):
    """Emit a prefetch of the line at an address: to write, to the L1 cache; to read, to L2."""
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    options = [ir.Constant(word, v) for v in (writes, 3 if writes else 2, 1)]
    builder.call(function, [builder.inttoptr(at, byte), *options])


def _emit_prefetches(writes):
    def emit(context, builder, signature, args):
        data, start = context.make_array(signature.args[0])(context, builder, args[0]).data, args[1]
        size = start.type
        ends = [builder.gep(data, [at]) for at in (start, builder.add(start, args[2]))]
        first, last = (builder.ptrtoint(end, size) for end in ends)
        first = builder.and_(first, ir.Constant(size, -CACHE_LINE_BYTES))
        rounded = builder.add(builder.sub(last, first), ir.Constant(size, CACHE_LINE_BYTES - 1))
        line = ir.Constant(size, CACHE_LINE_BYTES)
        with cgutils.for_range(builder, builder.sdiv(rounded, line)) as loop:
            emit_prefetch(builder, builder.add(first, builder.mul(loop.index, line)), writes)
        return context.get_dummy_value()

    return emit


@intrinsic
def _prefetch(context, array, start, count):
    return types.void(array, types.intp, types.intp), _emit_prefetches(0)


@intrinsic
def _prefetch_to_write(context, array, start, count):
    return types.void(array, types.intp, types.intp), _emit_prefetches(1)


def _plain_prefetch(array, start, count):
    pass


prefetch = _plain_prefetch if config.DISABLE_JIT else _prefetch
"""Prefetch the lines of `count` elements of a contiguous array, from `start` on, for reading:
``prefetch(array, start, count)``."""

prefetch_to_write = _plain_prefetch if config.DISABLE_JIT else _prefetch_to_write
"""Prefetch elements as `prefetch` does, but for writing: other caches give up the lines."""

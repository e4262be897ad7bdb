"""Cache lines: their size, memory aligned to one, and prefetching."""

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from kernels._addresses import address_of

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


def _emit_prefetch(writes):
    def emit(context, builder, signature, args):
        array = signature.args[0]
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0",
        )
        # Data to write is prefetched to the L1 cache, data to read to the L2 cache.
        options = [ir.Constant(word, v) for v in (writes, 3 if writes else 2, 1)]
        place = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        line = ir.Constant(args[2].type, CACHE_LINE_BYTES * 8 // array.dtype.bitwidth)
        last = ir.Constant(line.type, line.constant - 1)
        with cgutils.for_range(builder, builder.sdiv(builder.add(args[2], last), line)) as loop:
            at = builder.gep(place, [builder.mul(loop.index, line)])
            builder.call(function, [builder.bitcast(at, byte), *options])
        return context.get_dummy_value()

    return emit


@intrinsic
def _prefetch(context, array, start, count):
    return types.void(array, types.intp, types.intp), _emit_prefetch(0)


@intrinsic
def _prefetch_to_write(context, array, start, count):
    return types.void(array, types.intp, types.intp), _emit_prefetch(1)


def _plain_prefetch(array, start, count):
    pass


prefetch = _plain_prefetch if config.DISABLE_JIT else _prefetch
"""Prefetch elements for reading: examples drawn at random are not in a cache."""

prefetch_to_write = _plain_prefetch if config.DISABLE_JIT else _prefetch_to_write
"""Prefetch elements for writing, whose cache lines other threads have read."""

"""A data set of mostly zeros, and rows of it times weights.

The data is stored by rows: where the non-zero inputs are, and their values.  An input that is
always 1 stands in front of each row, so that the bias is one more row of weights and needs no code
of its own, and each row is filled up to a multiple of `STEP` with zeros times a row of weights
that nobody else uses.

Weights stand in panels of a few hidden units, ``(panels, inputs + 2, units)``: what one input
contributes to a panel are two whole cache lines, and a thread that owns a panel shares no weight
with another one.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._arrays import Array
from kernels._cache import njit
from kernels._microkernel import VECTOR_BYTES, element_type, splat
from kernels._threads import Team, chunk_bounds

PANEL_BYTES = 128
"""Of one row of a panel. Shorter rows cost more instructions, longer ones leave the first cache."""

STEP = 4
"""Rows are filled up to a multiple of this."""

LINE = 64
"""Bytes of a cache line."""


def panel_units(dtype: np.dtype[Any]) -> int:
    """Return the number of hidden units in a panel.

    Parameters
    ----------
    dtype : dtype
        Of the weights.

    Returns
    -------
    int
    """
    return PANEL_BYTES // dtype.itemsize


def offset_type(inputs: int, dtype: np.dtype[Any]) -> type[np.unsignedinteger[Any]]:
    """Return the type of the offsets of weights: short ones spare a quarter of the reading.

    Parameters
    ----------
    inputs : int
        How many inputs there are.
    dtype : dtype
        Of the weights.

    Returns
    -------
    type
    """
    return np.uint16 if (inputs + 2) * panel_units(dtype) <= 2**16 else np.uint32


def density(x: Array) -> float:
    """Return the share of non-zero elements among the first rows of a data set.

    Parameters
    ----------
    x : ndarray, shape (N, D)

    Returns
    -------
    float
    """
    sample = x[:1000]
    return np.count_nonzero(sample) / max(sample.size, 1)


def compact(x: Array, dtype: np.dtype[Any], team: Team) -> tuple[Array, Array, Array]:
    """Store the non-zero elements of a data set.

    Parameters
    ----------
    x : ndarray, shape (N, D), C-contiguous
    dtype : dtype
        Of the stored values.
    team : Team
        The threads that do it.

    Returns
    -------
    starts : ndarray of int64, shape (N + 1,)
        Where each row begins in the other two.
    inputs : ndarray of `offset_type`
        Offsets of the inputs' weights in a panel: the input's number times the units in a panel.
    values : ndarray
    """
    starts = np.zeros(x.shape[0] + 1, np.int64)
    team.run(_count, x, starts)
    np.cumsum(starts, out=starts)
    inputs = np.empty(starts[-1], offset_type(x.shape[1], dtype))
    values = np.empty(starts[-1], dtype)
    team.run(_fill, x, starts, inputs, values)
    return starts, inputs, values


@njit(nogil=True)
def _count(x, counts, thread, num_threads, _):
    n = x.shape[0]
    first, last = chunk_bounds(n, thread, num_threads)
    for i in range(first, last):
        filled = 1
        for j in range(x.shape[1]):
            filled += x[i, j] != 0
        counts[i + 1] = (filled + STEP) // STEP * STEP  # at least one more, for `_fill`


@njit(nogil=True)
def _fill(x, starts, inputs, values, thread, num_threads, _):
    n, size = x.shape
    units = PANEL_BYTES // values.itemsize
    first, last = chunk_bounds(n, thread, num_threads)
    for i in range(first, last):
        at = starts[i]
        inputs[at] = size * units
        values[at] = 1
        at += 1
        for j in range(size):
            # Written always, and overwritten if it was zero: there is no branch to mispredict.
            inputs[at] = j * units
            values[at] = x[i, j]
            at += x[i, j] != 0
        for k in range(at, starts[i + 1]):
            inputs[k] = (size + 1) * units
            values[k] = 0


class _Emitter:
    """Writes loops over one row's non-zeros, for one element type."""

    def __init__(self, builder: ir.IRBuilder, kind: types.Float):
        self.builder = builder
        element = element_type(kind)
        self.size = kind.bitwidth // 8
        self.vector = ir.VectorType(element, PANEL_BYTES // self.size)
        name = f"llvm.fmuladd.v{self.vector.count}f{kind.bitwidth}"
        function = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, function, name)

    def at(self, pointer: ir.Value) -> ir.Value:
        """Return a pointer to a panel's vector."""
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load(self, pointer: ir.Value) -> ir.Value:
        return self.builder.load(self.at(pointer), align=self.size)

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        self.builder.store(value, self.at(pointer), align=self.size)

    def entry(self, inputs: ir.Value, values: ir.Value, weights: ir.Value, k: ir.Value) -> Any:
        """Return the value of non-zero `k` in every lane, and the place of its weights."""
        b = self.builder
        offset = b.zext(b.load(b.gep(inputs, [k])), ir.IntType(64))
        value = splat(b, b.load(b.gep(values, [k])), self.vector.count)
        return value, b.gep(weights, [offset])


def _pointers(context: Any, builder: Any, kinds: Any, args: Any) -> list[Any]:
    """Return the addresses of elements, for arguments ``array, offset, array, offset ...``."""
    return [
        builder.gep(context.make_array(kinds[i])(context, builder, args[i]).data, [args[i + 1]])
        for i in range(0, len(kinds), 2)
    ]


@intrinsic
def _gather(context, inputs, inputs0, values, values0, weights, weights0, out, out0, count):
    i = types.intp
    kinds = (inputs, i, values, i, weights, i, out, i)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs_, values_, weights_, out_ = _pointers(context, builder, kinds, args[:8])
        e = _Emitter(builder, values.dtype)
        # Several sums side by side, in half of the vector registers: one chain of additions would
        # wait for each before the next.
        sums = max(1, min(STEP, 8 * VECTOR_BYTES // PANEL_BYTES))
        places = [cgutils.alloca_once(builder, e.vector) for _ in range(sums)]
        for place in places:
            builder.store(ir.Constant(e.vector, None), place)
        step = ir.Constant(args[8].type, STEP)
        with cgutils.for_range(builder, builder.sdiv(args[8], step)) as loop:
            first = builder.mul(loop.index, step)
            for u in range(STEP):
                k = builder.add(first, ir.Constant(first.type, u))
                value, at = e.entry(inputs_, values_, weights_, k)
                place = places[u % sums]
                builder.store(builder.call(e.fma, [value, e.load(at), builder.load(place)]), place)
        total = [builder.load(place) for place in places]
        while len(total) > 1:
            total = [builder.fadd(*total[:2]), *total[2:]]
        e.store(total[0], out_)
        return context.get_dummy_value()

    return types.void(*kinds, i), emit


@intrinsic
def _scatter(context, inputs, inputs0, values, values0, weights, weights0, change, change0, count):
    i = types.intp
    kinds = (inputs, i, values, i, weights, i, change, i)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs_, values_, weights_, change_ = _pointers(context, builder, kinds, args[:8])
        e = _Emitter(builder, values.dtype)
        change_now = e.load(change_)
        with cgutils.for_range(builder, args[8]) as loop:
            value, at = e.entry(inputs_, values_, weights_, loop.index)
            e.store(builder.call(e.fma, [value, change_now, e.load(at)]), at)
        return context.get_dummy_value()

    return types.void(*kinds, i), emit


@intrinsic
def _prefetch(context, inputs, values, start, count):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0",
        )
        read, locality, data = (ir.Constant(word, v) for v in (0, 2, 1))
        for kind, array in zip((inputs, values), args[:2], strict=True):
            (place,) = _pointers(context, builder, (kind, types.intp), (array, args[2]))
            line = ir.Constant(args[3].type, LINE * 8 // kind.dtype.bitwidth)
            last = ir.Constant(line.type, line.constant - 1)
            with cgutils.for_range(builder, builder.sdiv(builder.add(args[3], last), line)) as loop:
                at = builder.gep(place, [builder.mul(loop.index, line)])
                builder.call(function, [builder.bitcast(at, byte), read, locality, data])
        return context.get_dummy_value()

    return types.void(inputs, values, types.intp, types.intp), emit


@njit(nogil=True)
def _plain_gather(inputs, inputs0, values, values0, weights, weights0, out, out0, count):
    weights, out = weights.reshape(-1), out.reshape(-1)
    units = PANEL_BYTES // out.itemsize
    out[out0 : out0 + units] = 0
    for k in range(count):
        at = weights0 + int(inputs[inputs0 + k])
        out[out0 : out0 + units] += values[values0 + k] * weights[at : at + units]


@njit(nogil=True)
def _plain_scatter(inputs, inputs0, values, values0, weights, weights0, change, change0, count):
    weights, change = weights.reshape(-1), change.reshape(-1)
    units = PANEL_BYTES // change.itemsize
    for k in range(count):
        at = weights0 + int(inputs[inputs0 + k])
        weights[at : at + units] += values[values0 + k] * change[change0 : change0 + units]


def _plain_prefetch(inputs, values, start, count):
    pass


gather = _plain_gather if config.DISABLE_JIT else _gather
"""``out = sum of values * weights`` over one row's non-zeros, for one panel."""

scatter = _plain_scatter if config.DISABLE_JIT else _scatter
"""``weights += values * change`` over one row's non-zeros, for one panel."""

prefetch = _plain_prefetch if config.DISABLE_JIT else _prefetch
"""Begin to read a row that will be needed soon: random rows are in no cache."""

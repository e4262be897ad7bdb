"""Micro-kernel: a block of a matrix product computed in vector registers.

`microkernel` splits the columns into strips of a few vectors, and the rows of each strip into tiles
of up to ``TILE_ROWS[0]`` rows. A tile keeps rows x vectors of sums in registers; for each ``k`` it
loads one row of ``b``, broadcasts one element of ``a`` for each of its rows, and multiplies and
adds whole vectors. Remainder columns are loaded and stored under a mask, or in a vector that
overlaps its neighbour, so no memory outside the block is touched. Every element is the same chain
of multiply-adds over ``k``, whichever tile it is in: how a product is partitioned never changes its
bits.

LLVM's vectorisers do not generate this code from plain loops (``docs/vectorisation.md`` compares
them), so it is written in LLVM IR. `_plain_microkernel` is the same computation in Python, used
where compilation is disabled.

The structure is that of BLIS: F. Van Zee and R. van de Geijn, "BLIS: A Framework for Rapidly
Instantiating BLAS Functionality", ACM Transactions on Mathematical Software 41 (2015).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._addresses import element_type
from kernels._compiler import njit
from kernels._function_pointers import call_address
from kernels._plain_code import plain_array, plain_code, plain_code_address
from kernels._vectors import (
    EVEN_TILES,
    NARROW_TILE_ROWS,
    OVERLAPS,
    ROW_VECTORS,
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
)

_INT = ir.IntType(64)
_LANE = ir.IntType(32)
MICROKERNEL_TYPE = ir.FunctionType(ir.VoidType(), [_INT] * 15)


class _Emitter:
    """Emitter of the micro-kernel: ``a`` of one element type, ``b`` and ``c`` of another."""

    def __init__(self, module: ir.Module, a_type: types.Number, c_type: types.Float):
        self.module = module
        self.a_type, self.c_type = a_type, c_type
        self.size = c_type.bitwidth // 8
        self.element = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.lanes = VECTOR_BYTES // self.size
        self.narrow = max(1, self.lanes // 4)

    def microkernel(self) -> ir.Function:
        """Emit the entry function: split the columns into strips, and select a variant for each."""
        fn = ir.Function(
            self.module, MICROKERNEL_TYPE, f"njitnet_microkernel_{self.a_type}_{self.c_type}"
        )
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        *of_a, bs, b_row, b_part, k, parts, init, init_row, c, c_row, rows, columns = fn.args
        a, a_row, a_k, a_part = of_a
        a = b.inttoptr(a, element_type(self.a_type).as_pointer())
        bs, init, c = (b.inttoptr(x, self.element.as_pointer()) for x in (bs, init, c))
        width = constant(TILE_VECTORS * self.lanes)
        if not EVEN_TILES:
            # If whole tiles leave one or two of few rows, the tiles of narrower strips fit better.
            left, most = b.urem(rows, constant(TILE_ROWS[0])), constant(2 * NARROW_TILE_ROWS[1])
            few = b.and_(b.icmp_unsigned("<", b.sub(left, constant(1)), constant(2)),
                b.icmp_signed("<", rows, most))  # fmt: skip
            width = b.select(few, constant(TILE_VECTORS // 2 * self.lanes), width)
        single = b.icmp_signed("==", rows, constant(1))
        width = b.select(single, constant(ROW_VECTORS * self.lanes), width)
        strips = b.sdiv(b.add(columns, b.sub(width, constant(1))), width)
        with cgutils.for_range(b, strips) as loop:
            j = b.mul(loop.index, width)
            left = b.sub(columns, j)
            variant, rest = self._cut(b, b.select(b.icmp_signed("<", left, width), left, width))
            moved = [a, a_row, a_k, a_part, b.gep(bs, [j]), b_row, b_part, k, parts,
                b.gep(init, [j]), init_row, b.gep(c, [j]), c_row, rows, rest]  # fmt: skip
            done = b.append_basic_block("done")
            switch = b.switch(variant, done)
            full = product((*range(1, TILE_VECTORS + 1), ROW_VECTORS), (0,))
            tails = product(range(1 if OVERLAPS else TILE_VECTORS), (1, 2))
            for whole, tail in (*full, *tails):
                block = b.append_basic_block()
                switch.add_case(constant(3 * whole + tail), block)
                with b.goto_block(block):
                    b.call(self._strip(whole, (0, self.narrow, self.lanes)[tail]), moved)
                    b.branch(done)
            b.position_at_end(done)
        b.ret_void()
        return fn

    def _cut(self, b: ir.IRBuilder, wide: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the variant for a strip of `wide` columns, and the argument `rest` for it.

        The number of a variant is three times its number of whole vectors, plus 1 for a tail of a
        quarter of a vector or 2 for a tail of a vector.
        """
        lanes, three = constant(self.lanes), constant(3)
        whole, rest = b.udiv(wide, lanes), b.urem(wide, lanes)
        # A quarter of a vector is enough for a few remainder columns.
        few = b.icmp_unsigned("<=", rest, constant(self.narrow))
        tail = b.select(few, constant(1), constant(2))
        tail = b.select(b.icmp_unsigned("==", rest, constant(0)), constant(0), tail)
        variant = b.add(b.mul(whole, three), tail)
        vectors = b.udiv(b.add(wide, constant(self.lanes - 1)), lanes)
        many = b.icmp_unsigned(">", vectors, constant(TILE_VECTORS))
        vectors = b.select(many, constant(ROW_VECTORS), vectors)
        overlaps = b.icmp_unsigned(">=", wide, lanes) if OVERLAPS else many
        variant = b.select(overlaps, b.mul(vectors, three), variant)
        return variant, b.select(overlaps, b.sub(wide, lanes), rest)

    @staticmethod
    def _private(fn: ir.Function) -> None:
        fn.linkage = "internal"
        for attribute in ("noinline", "nounwind"):
            fn.attributes.add(attribute)

    def _strip(self, whole: int, tail: int) -> ir.Function:
        """Emit the function for all rows of a strip of `whole` vectors and a tail of `tail` lanes.

        Its argument `rest` is the number of columns in the tail. Where vectors overlap, and in a
        single row wider than a tile, it is the first column of the last vector, unless the strip is
        narrower than a vector.
        """
        a, c = element_type(self.a_type).as_pointer(), self.element.as_pointer()
        args = [a, *[_INT] * 3, c, *[_INT] * 4, c, _INT, c, *[_INT] * 3]
        name = f"njitnet_strip_{self.a_type}_{self.c_type}_{whole}_{tail}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), args), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        a, a_row, *_, init, init_row, c, c_row, rows, rest = fn.args
        vectors = [(constant(v * self.lanes), self.lanes, None) for v in range(whole)]
        # One variant serves several widths: vectors beyond the columns repeat the last vector.
        for v in range(TILE_VECTORS, whole):
            vectors[v] = (self._place(b, v, rest), self.lanes, None)
        if OVERLAPS and whole > 1:
            vectors[-1] = (rest, self.lanes, None)
        if tail:
            lanes = ir.Constant(ir.VectorType(_INT, tail), list(range(tail)))
            mask = b.icmp_signed("<", lanes, splat(b, rest, tail))
            vectors.append((constant(whole * self.lanes), tail, mask))
        at = cgutils.alloca_once_value(b, constant(0))
        narrow = len(vectors) <= TILE_VECTORS // 2 and (OVERLAPS or not tail)
        heights = NARROW_TILE_ROWS if narrow else TILE_ROWS if whole <= TILE_VECTORS else (1,)
        for height, end in self._ends(b, rows, heights):
            with self._steps(b, at, height, end) as row:
                moved = list(fn.args)
                moved[0] = b.gep(a, [b.mul(row, a_row)])
                moved[9] = b.gep(init, [b.mul(row, init_row)])
                moved[11] = b.gep(c, [b.mul(row, c_row)])
                self._tile(b, height, vectors, moved)
        b.ret_void()
        return fn

    def _place(self, b: ir.IRBuilder, v: int, last: ir.Value) -> ir.Value:
        """Return the first column of vector `v`, or `last` if that is less (an overlap)."""
        at = constant(v * self.lanes)
        return b.select(b.icmp_signed("<", at, last), at, last)

    @staticmethod
    def _ends(
        b: ir.IRBuilder, rows: ir.Value, heights: tuple[int, ...]
    ) -> Iterator[tuple[int, ir.Value]]:
        """Yield each height of a tile, and the row at which the tiles of this height end."""
        nothing = constant(0)
        if heights is NARROW_TILE_ROWS:
            left = b.urem(rows, constant(heights[0]))
            yield heights[0], b.select(b.icmp_unsigned("==", left, nothing), rows, nothing)
            yield from ((height, rows) for height in heights[1:])
        elif not EVEN_TILES:
            yield from ((height, rows) for height in heights)
        else:  # the fewest tiles: `of_high` rows in tiles of height `high`, the other rows in `low`
            one = constant(1)
            tiles = b.add(one, b.sdiv(b.sub(rows, one), constant(heights[0])))
            high = b.udiv(b.add(rows, b.sub(tiles, one)), tiles)
            low = b.sub(high, one)
            of_high = b.sub(rows, b.mul(b.sub(b.mul(tiles, high), rows), low))
            for height in heights:
                end = b.select(b.icmp_unsigned("==", low, constant(height)), rows, nothing)
                is_high = b.icmp_unsigned("==", high, constant(height))
                yield height, b.select(is_high, of_high, end)

    def _tile(self, b: ir.IRBuilder, height: int, vectors: list[Any], args: list[Any]) -> None:
        a, a_row, a_k, a_part, bs, b_row, b_part, k, parts, init, init_row, c, c_row, *_ = args
        sums = [
            [
                cgutils.alloca_once(b, ir.VectorType(self.element, n), zfill=False)
                for _, n, _ in vectors
            ]
            for _ in range(height)
        ]
        for line in sums:
            for s in line:
                b.store(ir.Constant(s.type.pointee, None), s)
        down = self._row_offsets(b, height, a_row)
        with self._loop(b, parts) as part, self._loop(b, k) as loop:
            b_at = b.add(b.mul(part.index, b_part), b.mul(loop.index, b_row))
            b_now = [self._load(b, b.gep(bs, [b_at]), *vector) for vector in vectors]
            a_at = b.add(b.mul(part.index, a_part), b.mul(loop.index, a_k))
            for r in range(height):
                x = self._widen(b, b.load(b.gep(b.gep(a, [a_at]), [down(r)])))
                for s, y in zip(sums[r], b_now, strict=True):
                    fma = self._llvm("fmuladd", y.type, [y.type] * 3)
                    b.store(b.call(fma, [splat(b, x, y.type.count), y, b.load(s)]), s)
        for r in range(height):
            i_at = b.gep(init, [b.mul(constant(r), init_row)])
            c_at = b.gep(c, [b.mul(constant(r), c_row)])
            results = [
                b.fadd(self._load(b, i_at, *vector), b.load(s))
                for s, vector in zip(sums[r], vectors, strict=True)
            ]
            # All vectors are loaded before one is stored: vectors overlap, and c may be init.
            for result, vector in zip(results, vectors, strict=True):
                self._store(b, result, c_at, *vector)

    @staticmethod
    def _row_offsets(b: ir.IRBuilder, height: int, row: ir.Value) -> Callable[[int], ir.Value]:
        """Return a function of `r` that returns ``r * row``, for addresses in a loop.

        LLVM would compute the address of each row from that of the row above, in a chain of
        additions that takes longer than the multiply-adds. Here the odd multiples are opaque to
        LLVM and stay in registers; x86 addressing scales them by 2, 4 or 8 at no cost.
        """
        kind = ir.FunctionType(_INT, [_INT])
        odd = {0: constant(0)}
        for r in range(1, height, 2):
            odd[r] = b.asm(kind, "", "=r,0", [b.mul(constant(r), row)], False)

        def offset(r: int) -> ir.Value:
            low = r & -r or 1
            return b.mul(odd[r // low], constant(low))

        return offset

    @staticmethod
    @contextmanager
    def _steps(b: ir.IRBuilder, at: ir.Value, step: int, end: ir.Value) -> Iterator[ir.Value]:
        """Emit a loop that advances the counter in `at` by `step` while it stays within `end`."""
        head, body, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        first = b.load(at)
        following = b.add(first, constant(step))
        b.cbranch(b.icmp_signed("<=", following, end), body, after)
        b.position_at_end(body)
        yield first
        b.store(following, at)
        b.branch(head)
        b.position_at_end(after)

    @contextmanager
    def _loop(self, b: ir.IRBuilder, count: ir.Value) -> Iterator[Any]:
        """Emit a loop with a hint not to unroll: the sums of two iterations would spill."""
        with cgutils.for_range(b, count) as loop:
            yield loop
            body = b.basic_block
        hint = self.module.add_metadata(
            [ir.MetaDataString(self.module, "llvm.loop.unroll.disable")]
        )
        node = self.module.add_metadata([hint, constant(len(self.module.metadata))])
        node.operands = (node, hint)
        body.terminator.set_metadata("llvm.loop", node)

    def _widen(self, b: ir.IRBuilder, x: ir.Value) -> ir.Value:
        if self.a_type == self.c_type:
            return x
        return (
            b.fpext(x, self.element)
            if isinstance(self.a_type, types.Float)
            else b.uitofp(x, self.element)
        )

    def _load(self, b: ir.IRBuilder, at: ir.Value, offset: ir.Value, n: int, mask: Any) -> ir.Value:
        vector = ir.VectorType(self.element, n)
        at = b.bitcast(b.gep(at, [offset]), vector.as_pointer())
        if mask is None:
            return b.load(at, align=self.size)
        load = self._llvm("masked.load", vector, [at.type, _LANE, mask.type, vector], ".p0")
        return b.call(load, [at, ir.Constant(_LANE, self.size), mask, ir.Constant(vector, None)])

    def _store(
        self, b: ir.IRBuilder, value: ir.Value, at: ir.Value, offset: ir.Value, n: int, mask: Any
    ) -> None:
        at = b.bitcast(b.gep(at, [offset]), value.type.as_pointer())
        if mask is None:
            b.store(value, at, align=self.size)
            return
        args = [value.type, at.type, _LANE, mask.type]
        store = self._llvm("masked.store", value.type, args, ".p0", ir.VoidType())
        b.call(store, [value, at, ir.Constant(_LANE, self.size), mask])

    def _llvm(
        self,
        name: str,
        vector: ir.VectorType,
        args: list[Any],
        suffix: str = "",
        result: Any = None,
    ) -> Any:
        kind = ir.FunctionType(result or vector, args)
        return cgutils.get_or_insert_function(
            self.module, kind, f"llvm.{name}.v{vector.count}f{8 * self.size}{suffix}"
        )


def constant(value: int) -> ir.Constant:
    """Return a 64-bit integer constant."""
    return ir.Constant(_INT, value)


def splat(b: ir.IRBuilder, x: ir.Value, n: int) -> ir.Value:
    """Return a vector of `n` copies of `x`."""
    empty = ir.Constant(ir.VectorType(x.type, n), ir.Undefined)
    one = b.insert_element(empty, x, ir.Constant(_LANE, 0))
    return b.shuffle_vector(one, empty, ir.Constant(ir.VectorType(_LANE, n), [0] * n))


def emit_address(write: Callable[..., ir.Function]) -> Callable[..., ir.Value]:
    """Return the body of an intrinsic: the address of ``write(module, *element_types)``."""

    def emit(context, builder, signature, args):
        function = write(builder.module, *(kind.dtype for kind in signature.args))
        return builder.ptrtoint(function, _INT)

    return emit


@intrinsic
def _address(context, a, c):
    return types.intp(a, c), emit_address(lambda *of: _Emitter(*of).microkernel())


@njit
def microkernel_address(a, c):
    """Return the address of the micro-kernel for the element types of ``a`` and ``c``."""
    return _address(a, c)


def _plain_microkernel(
    address, a, a_row, a_k, a_part, b, b_row, b_part, k, parts, init, init_row, c, c_row, rows,
    columns,
):  # fmt: skip
    a_type, c_type = plain_code(address)
    x, y = (
        plain_array(a, (rows, parts, k), (a_row, a_part, a_k), a_type),
        plain_array(b, (parts, k, columns), (b_part, b_row, 1), c_type),
    )
    sums = np.zeros((int(rows), int(columns)), c_type)
    for part, i in np.ndindex(int(parts), int(k)):
        sums += x[:, part, i, None].astype(c_type) * y[part, i]
    out = plain_array(c, (rows, columns), (c_row, 1), c_type)
    out[...] = plain_array(init, (rows, columns), (init_row, 1), c_type) + sums


def _plain_microkernel_address(a, c):
    return plain_code_address(a.dtype, c.dtype)


if config.DISABLE_JIT:
    microkernel_address = _plain_microkernel_address

microkernel = _plain_microkernel if config.DISABLE_JIT else call_address
"""Compute ``c = init + a @ b``; operands are given by their addresses and strides in elements.

``a`` and ``c`` have `rows` rows; ``b``, ``init`` and ``c`` have `columns` adjacent columns. A row
stride of 0 repeats the one row of ``init``. ``c`` may be ``init``. The sum runs over `parts` times
`k` columns of ``a`` and rows of ``b``. The stride is `a_k` and `b_row` within a part, `a_part` and
`b_part` between parts.
"""

"""Matrix products that skip the zeros of the left operand, given as a bitmap.

`bitmap_gemm` computes each element of the result as the micro-kernel of
:mod:`kernels._microkernel` does, by one chain of multiply-adds over ascending ``k``, but visits
only the set bits of the bitmap. The skipped multiply-adds of ``0 * b`` change nothing if ``b`` is
finite, so the result has the same bits as the dense product. (A sum of -0, which arises only by
underflow, becomes +0, the value of ``-0 + 0 * b``. So the result does not depend on which rows are
paired.) The values of ``a`` are read in place: no compressed copy is made, and no state is kept
between calls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._addresses import address_of, element_type
from kernels._bitmap import WORD
from kernels._cache_lines import (
    CACHE_LINE_BYTES,
    LINE_ELEMENTS,
    emit_prefetch,
    skip_to_line,
)
from kernels._compiler import inner, njit
from kernels._function_pointers import call_address
from kernels._microkernel import _Emitter, constant, emit_address, splat
from kernels._plain_code import plain_array, plain_code, plain_code_address
from kernels._vectors import LOADED_BYTES, VECTOR_BYTES

FIRST_CACHE_BYTES = 1 << 15
"""Bytes of `b` that are multiplied with all rows of `a` before the next rows of `b` are read."""

STRIP_VECTORS = tuple(
    count for count in (1, 4, 7, 8, 13) if WORD * count * LOADED_BYTES <= FIRST_CACHE_BYTES
)
"""Vectors of sums in registers, by variant: 13, one broadcast and one load fit 16 registers. The
`WORD` rows of a strip of ``b`` that belong to a word of the bitmap have to fit the L1 cache."""

SINGLE, PAIRED = np.int64(0), np.int64(1)
"""Whether rows of ``a`` are computed one by one, or two adjacent rows together, over the union of
their set bits. Pairs need fewer loads if the rows are similar, as adjacent pixels of images are."""

PAIRED_VECTORS = (
    tuple(v for v in STRIP_VECTORS if v * LOADED_BYTES >= 224) if VECTOR_BYTES == 64 else (4,)
)
"""Vectors of sums of the variants with pairs, where pairs are faster and the sums fit registers."""

MIN_PACKED_ROWS = 16
"""Below this many rows of ``a``, copying rows of `b` to aligned memory is not worthwhile."""

_INT = ir.IntType(64)
_BITMAP_GEMM_TYPE = ir.FunctionType(ir.VoidType(), [_INT] * 19)


class _BitmapEmitter(_Emitter):
    """Emitter of `bitmap_gemm`, for ``a`` of one element type, and ``b`` and ``c`` of another."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.lanes = LOADED_BYTES // self.size

    def bitmap_gemm(self) -> ir.Function:
        """Emit the entry function: split the columns into strips, and select a variant for each."""
        name = f"njitnet_bitmap_gemm_{self.a_type}_{self.c_type}"
        fn = ir.Function(self.module, _BITMAP_GEMM_TYPE, name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        paired, *head, bs, b_row, packed, kept, init, init_row, c, c_row, rows, columns = fn.args
        bs, kept, init, c = (b.inttoptr(x, self.element.as_pointer()) for x in (bs, kept, init, c))
        lanes, most = constant(self.lanes), constant(STRIP_VECTORS[-1])
        vectors = _ceil_div(b, columns, lanes)
        strips = _ceil_div(b, vectors, most)
        # All strips but the last have the same width.
        width = b.mul(_ceil_div(b, vectors, b.select(b.icmp_signed(">", strips, constant(0)),
            strips, constant(1))), lanes)  # fmt: skip
        with cgutils.for_range(b, strips) as loop:
            j = b.mul(loop.index, width)
            left = b.sub(columns, j)
            wide = b.select(b.icmp_signed("<", left, width), left, width)
            moved = [*head, b.gep(bs, [j]), b_row, packed, b.gep(kept, [j]), b.gep(init, [j]),
                init_row, b.gep(c, [j]), c_row, rows, wide]  # fmt: skip
            done = b.append_basic_block("done")
            pairs = STRIP_VECTORS[-1] + 1  # the first case with pairs
            case = b.select(b.icmp_signed("!=", paired, constant(0)), constant(pairs), constant(0))
            switch = b.switch(b.add(_ceil_div(b, wide, lanes), case), done)
            fewer = 0
            for count in STRIP_VECTORS:
                blocks = {}
                for height in (1, 2) if count in PAIRED_VECTORS else (1,):
                    block = blocks[height] = b.append_basic_block()
                    with b.goto_block(block):
                        b.call(self._bitmap_strip(count, fewer, height), moved)
                        b.branch(done)
                for case in range(fewer + 1, count + 1):
                    switch.add_case(constant(case), blocks[1])
                    switch.add_case(constant(case + pairs), blocks.get(2, blocks[1]))
                fewer = count
            b.position_at_end(done)
        b.ret_void()
        return fn

    def _bitmap_strip(self, count: int, fewer: int, height: int) -> ir.Function:
        """Emit the function for a strip of more than `fewer` and at most `count` vectors.

        The function computes all rows, `height` at a time. A single vector is masked. Otherwise
        the vectors that extend past the strip are moved back to its end, and the columns in which
        they overlap others are computed twice. So few variants serve all widths.
        """
        c = self.element.as_pointer()
        args = [*[_INT] * 8, c, _INT, _INT, c, c, _INT, c, _INT, _INT, _INT]
        name = f"njitnet_bitmap_strip_{self.a_type}_{self.c_type}_{count}_{height}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), args), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        words, words_row, depth, a, a_row, a_k, ahead, values, *rest = fn.args
        bs, b_row, packed, kept, init, init_row, c, c_row, rows, wide = rest
        words = b.inttoptr(words, _INT.as_pointer())
        a = b.inttoptr(a, element_type(self.a_type).as_pointer())
        values = b.inttoptr(values, self.element.as_pointer())
        mask = None
        if count == 1:
            lanes = ir.Constant(ir.VectorType(_INT, self.lanes), list(range(self.lanes)))
            mask = b.icmp_signed("<", lanes, splat(b, wide, self.lanes))
        vectors = [constant(v * self.lanes) for v in range(count)]
        moving = max(1, fewer)
        for v in range(moving, count):
            vectors[v] = self._place(b, v, b.sub(wide, constant(self.lanes)))
        kind = ir.VectorType(self.element, self.lanes)
        sums = [[cgutils.alloca_once(b, kind, zfill=False) for _ in vectors] for _ in range(height)]
        group = FIRST_CACHE_BYTES // (WORD * count * LOADED_BYTES) * WORD
        b_at, b_step = (cgutils.alloca_once_value(b, value) for value in (bs, b_row))
        places = {v: cgutils.alloca_once_value(b, vectors[v]) for v in range(moving, count)}
        parts = _ceil_div(b, depth, constant(group))
        parts = b.select(b.icmp_signed("<", parts, constant(1)), constant(1), parts)
        fma = self._llvm("fmuladd", kind, [kind] * 3)
        with cgutils.for_range(b, parts) as part:
            first = b.mul(part.index, constant(group))
            rest = b.sub(depth, first)
            more = b.icmp_signed(">", rest, constant(group))
            now = b.select(more, constant(group), rest)
            b.store(b.gep(bs, [b.mul(first, b_row)]), b_at)
            with b.if_then(b.icmp_signed("!=", packed, constant(0))):
                self._pack(b, b_at, b_step, places, packed, now, b_row, vectors, mask)
            with cgutils.for_range(b, _ceil_div(b, rows, constant(height))) as loop:
                row = [b.mul(loop.index, constant(height))]
                if height == 2:  # if the number of rows is odd, the last one is computed twice
                    last, after = b.sub(rows, constant(1)), b.add(row[0], constant(1))
                    row.append(b.select(b.icmp_signed("<", after, last), after, last))
                kept_at = [b.gep(kept, [b.mul(r, c_row)]) for r in row]
                with b.if_else(b.icmp_signed("==", first, constant(0))) as (begin, proceed):
                    with begin:
                        for s in chain(*sums):
                            b.store(ir.Constant(kind, None), s)
                    with proceed:
                        for place, of_row in zip(kept_at, sums, strict=True):
                            for s, v in zip(of_row, vectors, strict=True):
                                b.store(self._load(b, place, v, self.lanes, mask), s)
                a_at = [b.gep(a, [b.mul(r, a_row)]) for r in row]
                words_at = [b.gep(words, [b.mul(r, words_row)]) for r in row]
                with cgutils.for_range(b, _ceil_div(b, now, constant(WORD))) as loop:
                    inside = b.mul(loop.index, constant(WORD))
                    base = b.add(first, inside)
                    at = b.udiv(base, constant(WORD))
                    word = reduce(b.or_, [b.load(b.gep(place, [at])) for place in words_at])
                    xs_at = [b.gep(x_at, [b.mul(base, a_k)]) for x_at in a_at]
                    with b.if_then(b.icmp_signed("!=", ahead, constant(0))):
                        for x_at in xs_at:
                            self._prefetch(b, x_at, ahead)
                    step = b.load(b_step)
                    b_word = b.gep(b.load(b_at), [b.mul(inside, step)])
                    with self._set_bits(b, word) as k:
                        k_at = b.mul(k, a_k)
                        xs = [self._element(b, b.gep(x_at, [k_at]), values) for x_at in xs_at]
                        b_now = b.gep(b_word, [b.mul(k, step)])
                        for i in range(count):
                            v = b.load(places[i]) if i in places else vectors[i]
                            y = self._load(b, b_now, v, self.lanes, mask)
                            for x, of_row in zip(xs, sums, strict=True):
                                b.store(b.call(fma, [x, y, b.load(of_row[i])]), of_row[i])
                with b.if_else(more) as (pause, end):
                    with pause:
                        for place, of_row in zip(kept_at, sums, strict=True):
                            for s, v in zip(of_row, vectors, strict=True):
                                self._store(b, b.load(s), place, v, self.lanes, mask)
                    with end:
                        results = []
                        for r, of_row in zip(row, sums, strict=True):
                            i_at = b.gep(init, [b.mul(r, init_row)])
                            for s, v in zip(of_row, vectors, strict=True):
                                y = self._load(b, i_at, v, self.lanes, mask)
                                positive = b.fadd(b.load(s), ir.Constant(kind, None))
                                results.append((b.fadd(y, positive), r, v))
                        for y, r, v in results:  # stored after all loads: c may be init
                            c_at = b.gep(c, [b.mul(r, c_row)])
                            self._store(b, y, c_at, v, self.lanes, mask)
        b.ret_void()
        return fn

    def _element(self, b: ir.IRBuilder, at: ir.Value, values: ir.Value) -> ir.Value:
        """Broadcast an element of ``a`` to all lanes of a vector."""
        x = b.load(at)
        if isinstance(self.a_type, types.Float):
            x = self._widen(b, x)
        else:
            x = b.load(b.gep(values, [b.zext(x, _INT)]))
        return splat(b, x, self.lanes)

    @contextmanager
    def _set_bits(self, b: ir.IRBuilder, word: ir.Value) -> Iterator[ir.Value]:
        """Loop over the indices of a word's set bits, the lowest first."""
        rest = cgutils.alloca_once(b, _INT)
        b.store(word, rest)
        head, body, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        left = b.load(rest)
        b.cbranch(b.icmp_unsigned("!=", left, constant(0)), body, after)
        b.position_at_end(body)
        b.store(b.and_(left, b.sub(left, constant(1))), rest)
        yield b.cttz(left, ir.Constant(ir.IntType(1), 1))
        b.branch(head)
        b.position_at_end(after)

    def _pack(
        self,
        b: ir.IRBuilder,
        b_at: ir.Value,
        b_step: ir.Value,
        places: dict[int, ir.Value],
        packed: ir.Value,
        depth: ir.Value,
        b_row: ir.Value,
        vectors: list[ir.Value],
        mask: Any,
    ) -> None:
        """Copy rows of `b` to aligned memory, and set `b_at`, `b_step` and `places` accordingly.

        If the length of the rows is not a multiple of a vector, loads straddle two cache lines.
        """
        source, to = b.load(b_at), b.inttoptr(packed, self.element.as_pointer())
        width = len(vectors) * self.lanes
        with cgutils.for_range(b, depth) as loop:
            row = b.gep(source, [b.mul(loop.index, b_row)])
            target = b.gep(to, [b.mul(loop.index, constant(width))])
            for i, v in enumerate(vectors):
                value = self._load(b, row, v, self.lanes, mask)
                self._store(b, value, target, constant(i * self.lanes), self.lanes, None)
        b.store(to, b_at)
        b.store(constant(width), b_step)
        for i, place in places.items():
            b.store(constant(i * self.lanes), place)

    def _prefetch(self, b: ir.IRBuilder, at: ir.Value, ahead: ir.Value) -> None:
        """Prefetch the elements of a word, `ahead` bytes after the address `at`."""
        start = b.add(b.ptrtoint(at, _INT), ahead)
        for first in range(0, WORD * self.a_type.bitwidth // 8, CACHE_LINE_BYTES):
            emit_prefetch(b, b.add(start, constant(first)), 0)


def _ceil_div(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.sdiv(b.add(x, b.sub(y, constant(1))), y)


@intrinsic
def _address(context, a, c):
    return types.intp(a, c), emit_address(lambda *of: _BitmapEmitter(*of).bitmap_gemm())


@njit
def bitmap_gemm_address(a, c):
    """Return the address of `bitmap_gemm` for the element types of ``a`` and ``c``."""
    return _address(a, c)


def _plain_bitmap_gemm_address(a, c):
    return plain_code_address(a.dtype, c.dtype)


if config.DISABLE_JIT:
    bitmap_gemm_address = _plain_bitmap_gemm_address


def _plain_bitmap_gemm(
    address, paired, words, words_row, depth, a, a_row, a_k, ahead, values, b, b_row, packed, kept,
    init, init_row, c, c_row, rows, columns,
):  # fmt: skip
    (a_type, c_type), count = plain_code(address), -(-depth // WORD)
    bits = plain_array(words, (rows, count), (words_row, 1), np.uint64)
    for r in range(rows):
        sums = np.zeros(columns, c_type)
        for k in range(count * WORD):
            if int(bits[r, k // WORD]) >> k % WORD & 1:
                at = a + a_type.itemsize * (r * a_row + k * a_k)
                x = plain_array(at, (1,), (1,), a_type)
                if a_type == np.uint8:
                    x = plain_array(values, (256,), (1,), c_type)[x]
                x = x.astype(c_type)
                sums += x * plain_array(b + c_type.itemsize * k * b_row, (columns,), (1,), c_type)
        place = init + c_type.itemsize * r * init_row
        sums = plain_array(place, (columns,), (1,), c_type) + sums
        plain_array(c + c_type.itemsize * r * c_row, (columns,), (1,), c_type)[...] = sums


bitmap_gemm = _plain_bitmap_gemm if config.DISABLE_JIT else call_address
"""Compute ``c = init + a @ b`` over the set bits of a bitmap of ``a``.

The arguments are those of `_plain_bitmap_gemm`, of which `address` is from `bitmap_gemm_address`
and `paired` is `SINGLE` or `PAIRED`. Element ``(r, k)`` of ``a`` is at ``a + r * a_row + k * a_k``;
``a``, ``b``, ``init`` and ``c`` are described as for the micro-kernel. ``a`` has `depth` columns,
and the rows of its bitmap are `words_row` words apart. Elements of one byte are codes for the 256
numbers at `values`, the first of which is 0. Unless `ahead` is 0, the elements `ahead` bytes after
those of each word are prefetched.

``b`` is processed in blocks of rows that fit the L1 cache. Each block is multiplied with all rows
of ``a`` before the next block. Unless `packed` is 0, blocks are copied to the `FIRST_CACHE_BYTES`
from this address on, which must be aligned to a cache line. Between blocks the sums are stored at
`kept`, in rows with the stride of ``c``. `kept` may be ``c``, unless ``c`` is ``init``.
"""


@inner
def packing_space(like):
    """Return memory into which `bitmap_gemm` can pack blocks of ``b``."""
    return skip_to_line(np.empty(FIRST_CACHE_BYTES // like.itemsize + LINE_ELEMENTS, like.dtype))


@inner
def line_to_pack(packed, rows, b, b_row):
    """Return the address of `packed`, from `packing_space`, or 0 if packing is not worthwhile."""
    if rows < MIN_PACKED_ROWS or (b | b_row * packed.itemsize) % LOADED_BYTES == 0:
        return np.int64(0)
    return address_of(packed, 0)

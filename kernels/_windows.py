"""Windows of an image, each times a number: their sum, or a row added to all of them.

Where few outputs of a convolution have a gradient, a list tells which: the place of each one's
window, and its gradient. The gradient of a filter is the sum of these windows; that of the input
gets the filter in each of them. What all windows share stays in vector registers, so these loops
are written as LLVM instructions.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._cache import njit
from kernels._function_pointers import call_address
from kernels._microkernel import _Emitter, constant, emit_address, splat
from kernels._plain_code import plain_array, plain_code, plain_code_address
from kernels._pool_vectors import DEAD

WINDOWS_TO_ROW, ROW_TO_WINDOWS = np.int64(0), np.int64(1)
"""Whether the row gets the sum of the windows, or each window the row."""

_STRIPS = (12, 6, 3, 2)
"""Vectors of the row in registers; one more, or a part of one, is left."""

_LATENT_VECTORS = 3
"""Vectors of sums up to which a processor waits for the one multiply-add before the next."""

_INT = ir.IntType(64)


class _WindowEmitter(_Emitter):
    """Writes both for one element type."""

    def maxima(self) -> ir.Function:
        """List the maxima of one filter, without a branch for those that have no gradient."""
        name = f"njitnet_maxima_{self.c_type}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_INT] * 10), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        arg, arg_step, dout, dout_step, corners, shifts, pixels, places, values, count = fn.args
        arg = b.inttoptr(arg, ir.IntType(8).as_pointer())
        corners, shifts, places, count = (
            b.inttoptr(p, _INT.as_pointer()) for p in (corners, shifts, places, count)
        )
        dout, values = (b.inttoptr(p, self.element.as_pointer()) for p in (dout, values))
        found = cgutils.alloca_once_value(b, constant(0))
        with cgutils.for_range(b, pixels) as loop:
            k = b.zext(b.load(b.gep(arg, [b.mul(loop.index, arg_step)])), _INT)
            n = b.load(found)
            place = b.add(b.load(b.gep(corners, [loop.index])), b.load(b.gep(shifts, [k])))
            b.store(place, b.gep(places, [n]))
            b.store(b.load(b.gep(dout, [b.mul(loop.index, dout_step)])), b.gep(values, [n]))
            alive = b.icmp_unsigned("<", k, constant(int(DEAD)))
            b.store(b.add(n, b.zext(alive, _INT)), found)
        b.store(b.load(found), count)
        b.ret_void()
        return fn

    def windows(self) -> ir.Function:
        """Cut the row into strips."""
        name = f"njitnet_windows_{self.c_type}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_INT] * 8), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        way, values, places, count, windows, step, row, size = fn.args
        values, windows, row = (
            b.inttoptr(p, self.element.as_pointer()) for p in (values, windows, row)
        )
        places = b.inttoptr(places, _INT.as_pointer())
        at = cgutils.alloca_once_value(b, constant(0))

        def strip(first: ir.Value, whole: int, tail: bool) -> None:
            args = [values, places, count, b.gep(windows, [first]), step, b.gep(row, [first]),
                b.sub(size, first)]  # fmt: skip
            to_windows = b.icmp_signed("==", way, constant(int(ROW_TO_WINDOWS)))
            with b.if_else(to_windows) as (then, otherwise):
                with then:
                    b.call(self._strip_of_windows(whole, tail, True), args)
                with otherwise:
                    b.call(self._strip_of_windows(whole, tail, False), args)

        for whole in _STRIPS:
            with self._steps(b, at, whole * self.lanes, size) as first:
                strip(first, whole, False)
        first = b.load(at)
        left, lanes, one = b.sub(size, first), constant(self.lanes), constant(1)
        for whole, tail, fits in (
            (1, False, b.icmp_signed("==", left, lanes)),
            (1, True, b.icmp_signed(">", left, lanes)),
            (0, True, b.icmp_unsigned("<", b.sub(left, one), b.sub(lanes, one))),
        ):
            with b.if_then(fits):
                strip(first, whole, tail)
        b.ret_void()
        return fn

    def _strip_of_windows(self, whole: int, tail: bool, to_windows: bool) -> ir.Function:
        """Take all windows past `whole` vectors of the row, and a part of one under a mask."""
        pointer = self.element.as_pointer()
        args = [pointer, _INT.as_pointer(), _INT, pointer, _INT, pointer, _INT]
        name = f"njitnet_windows_{self.c_type}_{whole}_{int(tail)}_{int(to_windows)}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), args), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        values, places, count, windows, step, row, size = fn.args
        vectors: list[tuple[ir.Value, int, Any]] = [
            (constant(v * self.lanes), self.lanes, None) for v in range(whole)
        ]
        if tail:
            lanes = ir.Constant(ir.VectorType(_INT, self.lanes), list(range(self.lanes)))
            left = b.sub(size, constant(whole * self.lanes))
            mask = b.icmp_signed("<", lanes, splat(b, left, self.lanes))
            vectors.append((constant(whole * self.lanes), self.lanes, mask))
        kind = ir.VectorType(self.element, self.lanes)
        fma = self._llvm("fmuladd", kind, [kind] * 3)
        kept = [cgutils.alloca_once_value(b, self._load(b, row, *vector)) for vector in vectors]

        def take(index: ir.Value, kept: list[ir.Value]) -> None:
            x = splat(b, b.load(b.gep(values, [index])), self.lanes)
            window = b.gep(windows, [b.mul(b.load(b.gep(places, [index])), step)])
            for place, vector in zip(kept, vectors, strict=True):
                there, here = self._load(b, window, *vector), b.load(place)
                if to_windows:
                    self._store(b, b.call(fma, [x, here, there]), window, *vector)
                else:
                    b.store(b.call(fma, [x, there, here]), place)

        if to_windows or len(vectors) > _LATENT_VECTORS:
            with self._loop(b, count) as loop:
                take(loop.index, kept)
        else:  # two sums, which do not wait for each other
            zeros = ir.Constant(kind, None)
            other = [cgutils.alloca_once_value(b, zeros) for _ in vectors]
            with self._loop(b, b.lshr(count, constant(1))) as loop:
                index = b.shl(loop.index, constant(1))
                take(index, kept)
                take(b.add(index, constant(1)), other)
            with b.if_then(b.trunc(count, ir.IntType(1))):
                take(b.sub(count, constant(1)), kept)
            for place, rest in zip(kept, other, strict=True):
                b.store(b.fadd(b.load(place), b.load(rest)), place)
        if not to_windows:
            for place, vector in zip(kept, vectors, strict=True):
                self._store(b, b.load(place), row, *vector)
        b.ret_void()
        return fn


def _emit(write):
    return emit_address(lambda module, kind: write(_WindowEmitter(module, kind, kind)))


@intrinsic
def _list_address(context, a):
    return types.intp(a), _emit(_WindowEmitter.maxima)


@intrinsic
def _address(context, a):
    return types.intp(a), _emit(_WindowEmitter.windows)


@njit
def windows_addresses(a):
    """Addresses of `list_maxima` and of `add_windows` for the element type of ``a``."""
    return _list_address(a), _address(a)


def _plain_windows_addresses(a):
    return plain_code_address("maxima", a.dtype), plain_code_address("windows", a.dtype)


if config.DISABLE_JIT:
    windows_addresses = _plain_windows_addresses


def _plain_list_maxima(
    address, arg, arg_step, dout, dout_step, corners, shifts, pixels, places, values, count
):
    _, dtype = plain_code(address)
    k = plain_array(arg, (pixels,), (arg_step,), np.uint8).astype(np.int64)
    alive = k != DEAD
    n = plain_array(count, (1,), (1,), np.int64)
    n[0] = np.count_nonzero(alive)
    place = plain_array(corners, (pixels,), (1,), np.int64)
    place = place + plain_array(shifts, (DEAD + 1,), (1,), np.int64)[k]
    plain_array(places, (n[0],), (1,), np.int64)[...] = place[alive]
    gradient = plain_array(dout, (pixels,), (dout_step,), dtype)
    plain_array(values, (n[0],), (1,), dtype)[...] = gradient[alive]


def _plain_windows(address, way, values, places, count, windows, step, row, size):
    _, dtype = plain_code(address)
    row = plain_array(row, (size,), (1,), dtype)
    values = plain_array(values, (count,), (1,), dtype)
    for x, place in zip(values, plain_array(places, (count,), (1,), np.int64), strict=True):
        window = plain_array(windows + dtype.itemsize * place * step, (size,), (1,), dtype)
        if way == ROW_TO_WINDOWS:
            window += x * row
        else:
            row += x * window


list_maxima = _plain_list_maxima if config.DISABLE_JIT else call_address
"""List the places of a filter's maxima in an image, and their gradients:
``list_maxima(address, arg, arg_step, dout, dout_step, corners, shifts, pixels, places, values,
count)``.

All arrays are given by their addresses. Of each of the `pixels` that were pooled, `arg` tells which
of 4 outputs was the maximum, or `DEAD`, and `dout` the gradient, both some steps apart. An output's
place is that of the pixel in int64 `corners`, and what `shifts` has for it, also for `DEAD`. Their
number is written to `count`; after the list, one place and one value may be written.
"""

add_windows = _plain_windows if config.DISABLE_JIT else call_address
"""Add windows to a row, or the row to windows, each times its value:
``add_windows(address, way, values, places, count, windows, step, row, size)``.

All arrays are given by their addresses: `count` values and int64 places, the windows' first element
and the row's. A window begins `step` elements after the first for each unit of its place, and is
`size` long, as the row.
"""

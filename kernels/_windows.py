"""Sparse gradients of a convolution: scaled sums over windows of an image.

Where few outputs of a convolution have a nonzero gradient, these are listed: the position of the
window of each output, and its gradient. The gradient of a filter is the sum of these windows, each
times its gradient. The gradient of the input is the sum of the filter times each gradient, at the
positions of the windows. The loops are written as LLVM instructions, to keep the row of the filter
or of its gradient in vector registers for all windows.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._compiler import njit
from kernels._function_pointers import call_address
from kernels._microkernel import _Emitter, constant, emit_address, splat
from kernels._plain_code import plain_array, plain_code, plain_code_address
from kernels._pool_vectors import DEAD, in_vectors, load_vector, store_vector, vector_function
from kernels._vectors import COMPRESSES

WINDOWS_TO_ROW, ROW_TO_WINDOWS = np.int64(0), np.int64(1)
"""Modes of `add_windows`: add the windows to the row, or the row to each window."""

_STRIPS = (12, 6, 3, 2)
"""Widths, in vectors, of the strips of the row that are held in registers. The remainder is at most
one vector and a partial one."""

_LATENT_VECTORS = 3
"""Number of accumulators up to which the latency of a multiply-add limits the loop."""

_INT, _PLACE = ir.IntType(64), ir.IntType(32)


class _WindowEmitter(_Emitter):
    """Emitter of `list_maxima` and `add_windows` for one element type."""

    def maxima(self) -> ir.Function:
        """Emit `list_maxima`, without a branch for maxima that have no gradient."""
        name = f"njitnet_maxima_{self.c_type}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_INT] * 8), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        arg, dout, corners, across, pixels, places, values, count = fn.args
        arg = b.inttoptr(arg, ir.IntType(8).as_pointer())
        corners, places = (b.inttoptr(p, _PLACE.as_pointer()) for p in (corners, places))
        dout, values = (b.inttoptr(p, self.element.as_pointer()) for p in (dout, values))
        lanes = self.lanes if COMPRESSES else 1
        indices, positions, gradients = (
            ir.VectorType(kind, lanes) for kind in (ir.IntType(8), _PLACE, self.element)
        )
        across = splat(b, b.trunc(across, _PLACE), lanes)
        dead, one = ir.Constant(indices, [int(DEAD)] * lanes), ir.Constant(positions, [1] * lanes)
        found = cgutils.alloca_once_value(b, constant(0))

        def body(first: ir.Value, mask: Any) -> None:
            k = load_vector(b, b.gep(arg, [first]), indices, mask)
            place = load_vector(b, b.gep(corners, [first]), positions, mask)
            value = load_vector(b, b.gep(dout, [first]), gradients, mask)
            alive = b.icmp_unsigned("<", k, dead)
            if mask is not None:
                alive = b.and_(alive, mask)
            k = b.zext(k, positions)
            place = b.add(place, b.add(b.and_(k, one), b.mul(across, b.lshr(k, one))))
            n = b.load(found)
            self._store_selected(b, place, alive, b.gep(places, [n]))
            self._store_selected(b, value, alive, b.gep(values, [n]))
            selected = b.zext(b.bitcast(alive, ir.IntType(lanes)), _INT)
            b.store(b.add(n, b.ctpop(selected)), found)

        in_vectors(b, pixels, lanes, body)
        b.store(b.load(found), b.inttoptr(count, _INT.as_pointer()))
        b.ret_void()
        return fn

    def _store_selected(
        self, b: ir.IRBuilder, vector: ir.Value, mask: ir.Value, at: ir.Value
    ) -> None:
        """Emit the store of the selected elements side by side, in front of undefined ones."""
        if vector.type.count > 1:
            kind = ir.FunctionType(vector.type, [vector.type, mask.type, vector.type])
            name = vector_function("experimental.vector.compress", vector.type)
            compress = cgutils.get_or_insert_function(self.module, kind, name)
            vector = b.call(compress, [vector, mask, ir.Constant(vector.type, ir.Undefined)])
        store_vector(b, vector, at, None)

    def windows(self) -> ir.Function:
        """Emit `add_windows`, which splits the row into strips."""
        name = f"njitnet_windows_{self.c_type}"
        fn = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_INT] * 8), name)
        self._private(fn)
        b = ir.IRBuilder(fn.append_basic_block("entry"))
        way, values, places, count, windows, step, row, size = fn.args
        values, windows, row = (
            b.inttoptr(p, self.element.as_pointer()) for p in (values, windows, row)
        )
        places = b.inttoptr(places, _PLACE.as_pointer())
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
        """Emit the loop over all windows for `whole` vectors, and a masked one if `tail`."""
        pointer = self.element.as_pointer()
        args = [pointer, _PLACE.as_pointer(), _INT, pointer, _INT, pointer, _INT]
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
            place = b.zext(b.load(b.gep(places, [index])), _INT)
            window = b.gep(windows, [b.mul(place, step)])
            for place, vector in zip(kept, vectors, strict=True):
                there, here = self._load(b, window, *vector), b.load(place)
                if to_windows:
                    self._store(b, b.call(fma, [x, here, there]), window, *vector)
                else:
                    b.store(b.call(fma, [x, there, here]), place)

        if to_windows or len(vectors) > _LATENT_VECTORS:
            with self._loop(b, count) as loop:
                take(loop.index, kept)
        else:  # two independent sets of accumulators
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
    """Return the addresses of `list_maxima` and `add_windows` for the dtype of ``a``."""
    return _list_address(a), _address(a)


def _plain_windows_addresses(a):
    return plain_code_address("maxima", a.dtype), plain_code_address("windows", a.dtype)


if config.DISABLE_JIT:
    windows_addresses = _plain_windows_addresses


def _plain_list_maxima(address, arg, dout, corners, across, pixels, places, values, count):
    _, dtype = plain_code(address)
    k = plain_array(arg, (pixels,), (1,), np.uint8).astype(np.int32)
    alive = k != DEAD
    n = plain_array(count, (1,), (1,), np.int64)
    n[0] = np.count_nonzero(alive)
    place = plain_array(corners, (pixels,), (1,), np.int32) + k % 2 + np.int32(across) * (k // 2)
    plain_array(places, (n[0],), (1,), np.int32)[...] = place[alive]
    value = plain_array(dout, (pixels,), (1,), dtype)
    plain_array(values, (n[0],), (1,), dtype)[...] = value[alive]


def _plain_windows(address, way, values, places, count, windows, step, row, size):
    _, dtype = plain_code(address)
    row = plain_array(row, (size,), (1,), dtype)
    values = plain_array(values, (count,), (1,), dtype)
    for x, place in zip(values, plain_array(places, (count,), (1,), np.int32), strict=True):
        at = windows + dtype.itemsize * int(place) * step
        window = plain_array(at, (size,), (1,), dtype)
        if way == ROW_TO_WINDOWS:
            window += x * row
        else:
            row += x * window


list_maxima = _plain_list_maxima if config.DISABLE_JIT else call_address
"""List the positions of a filter's maxima in an image, and their gradients:
``list_maxima(address, arg, dout, corners, across, pixels, places, values, count)``.

Arrays are passed by address. For each of `pixels` pooling windows, `arg` holds the index of the
maximum, from 0 to 3, or `DEAD`, and `dout` its gradient. The position of a maximum is the window's
element of `corners` (int32), plus 1 for the right pixels, plus `across` for the lower ones. The
positions are written to `places` (int32), the gradients to `values`, and their number to `count`.
As many elements as a vector has may be overwritten after the end of `places` and of `values`.
"""

add_windows = _plain_windows if config.DISABLE_JIT else call_address
"""Add scaled windows to a row, or the scaled row to each window:
``add_windows(address, way, values, places, count, windows, step, row, size)``.

Arrays are passed by address. `values` holds the `count` factors and `places` (int32) the positions.
The window at position ``p`` begins at element ``p * step`` of `windows`. A window and `row` have
`size` elements.
"""

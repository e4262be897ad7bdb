"""Flushing of denormal numbers to zero, on processors that compute with them many times slower.

An optimizer's moving averages for a parameter whose gradient stays 0 shrink by a constant factor
with each update. In float32, with Adam's factor 0.9, they become denormal after some 800 updates
and stay denormal. Each operation with a denormal number takes x86 processors more than a hundred
cycles.
"""

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._compiler import inner

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_FLUSH = 0x8040  # MXCSR: flush denormal results to 0, and treat denormal operands as 0


def _access(builder: ir.IRBuilder, name: str, place: ir.Value) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def _flush_denormals(context):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not _IS_X86:  # other processors compute with denormals at full speed
            return ir.Constant(ir.IntType(32), 0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _access(builder, "stmxcsr", place)
        mode = builder.load(place)
        builder.store(builder.or_(mode, ir.Constant(mode.type, _FLUSH)), place)
        _access(builder, "ldmxcsr", place)
        return mode

    return types.int32(), emit


@intrinsic
def _restore_denormals(context, mode):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _IS_X86:
            place = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(args[0], place)
            _access(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), emit


def _plain_flush_denormals() -> int:
    return 0


def _plain_restore_denormals(mode: int) -> None:
    pass


flush_denormals = _plain_flush_denormals if config.DISABLE_JIT else _flush_denormals
"""Flush denormal numbers to 0 in the current thread from now on; return the previous mode."""

restore_denormals = _plain_restore_denormals if config.DISABLE_JIT else _restore_denormals
"""Restore the mode that `flush_denormals` returned."""


@inner
def has_denormals(a):
    """Return whether an element of a one-dimensional array is denormal."""
    least, found = np.finfo(a.dtype).tiny, np.int32(0)
    for i in range(a.size):
        found |= np.int32(a[i] != 0) & np.int32(abs(a[i]) < least)
    return found != 0

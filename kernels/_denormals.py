"""Taking denormal numbers for zero, where a processor would compute with them many times slower.

An optimizer's means of a parameter whose gradient stays 0 shrink by a factor with each update: in
float32 and with Adam's 0.9 they fall below the smallest normal number after some 800 of them, and
hover there. Each operation with such a number costs x86 processors more than a hundred cycles.
"""

import platform
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_FLUSH = 0x8040  # MXCSR: results that are denormal become 0, and operands are taken for it


def _access(builder: ir.IRBuilder, name: str, place: ir.Value) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def _flush_denormals(context):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not _IS_X86:  # others compute with them at full speed
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
"""Take denormal numbers for 0 from here on, in this thread, and return the mode before."""

restore_denormals = _plain_restore_denormals if config.DISABLE_JIT else _restore_denormals
"""Go back to the mode that `flush_denormals` returned."""

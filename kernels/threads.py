"""How many threads a kernel uses."""

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._cache import njit

SERIAL_ELEMENTS = 32_768
"""Arrays smaller than this are gone through faster by one thread than two take to meet."""


@intrinsic
def _thread_count(context):
    # `numba.get_num_threads` reads the same number through the address that the function has in
    # this process, which keeps its callers out of the compilation cache.
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [])
        function = cgutils.get_or_insert_function(builder.module, kind, "get_num_threads")
        return builder.call(function, [])

    return types.intp(), emit


def _one() -> int:
    return 1


thread_count = _one if config.DISABLE_JIT else _thread_count
"""Threads that ``numba.set_num_threads`` allows; called in functions with a parallel region."""


@njit(nogil=True)
def parts(elements):
    """Into how many parts to cut an array that is gone through once, one for each thread."""
    return 1 if elements < SERIAL_ELEMENTS else thread_count()

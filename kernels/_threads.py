"""How many threads a kernel uses, and teams of threads that stay together over many steps."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
from llvmlite import binding, ir
from numba import config, get_num_threads, threading_layer, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._cache import njit

MIN_PARALLEL_SIZE = 32_768
"""Arrays smaller than this are gone through faster by one thread than two take to meet."""

# Whether kernels compute on one thread, in a place that compiled code, also from the cache, finds
# by its name.
_serial = np.zeros(1, np.int64)
binding.add_symbol("njitnet_serial", _serial.ctypes.data)
_forked = False


def _start_threads() -> None:
    """Have Numba load its threading layer, and find out what it can do.

    The layer `workqueue` ends the process when two threads enter parallel regions at once, or one
    enters another. Whether a user's own code is in one cannot be known, so we do not enter any.
    """
    if not _forked:
        get_num_threads()
        _serial[0] = threading_layer() == "workqueue"


def _after_fork() -> None:
    """In a child, do without the parent's threads.

    They were not copied. GNU OpenMP ends a child that wants them, or waits for them for ever.
    """
    global _forked
    try:
        threading_layer()
    except ValueError:  # the parent had not started any: the child can start its own
        return
    _forked, _serial[0] = True, 1


if hasattr(os, "register_at_fork"):  # where there is a fork
    os.register_at_fork(after_in_child=_after_fork)


@intrinsic
def _thread_count(context):
    # `numba.get_num_threads` reads the same number through the address that the function has in
    # this process, which keeps its callers out of the compilation cache.
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _start_threads()
        context.active_code_library._reload_init.add(_start_threads)  # when loaded from the cache
        kind = ir.FunctionType(ir.IntType(64), [])
        count = cgutils.get_or_insert_function(builder.module, kind, "get_num_threads")
        serial = builder.module.globals.get("njitnet_serial") or ir.GlobalVariable(
            builder.module, ir.IntType(64), "njitnet_serial"
        )
        one = ir.Constant(ir.IntType(64), 1)
        return builder.select(
            builder.icmp_signed("==", builder.load(serial), one), one, builder.call(count, [])
        )

    return types.intp(), emit


def _single_thread() -> int:
    return 1


thread_count = _single_thread if config.DISABLE_JIT else _thread_count
"""Threads for a kernel: as many as ``numba.set_num_threads`` allows; 1 is to enter no region."""


_MEETINGS, _ABANDONED = 0, 8  # places in `Team.meetings`, on cache lines of their own


class Team:
    """Threads that run one compiled function side by side, each on its part of the work.

    A parallel region lets its threads go when it ends, which for regions of 50 us costs time, and
    compiles its body several times over. Here the whole stretch of work is one function that
    releases the GIL, called in each thread, and the threads meet in it by `meet`.

    Parameters
    ----------
    size : int, optional
        The number of threads; by default as many as Numba may use.
    """

    def __init__(self, size: int | None = None):
        if size is None:
            size = 1 if config.DISABLE_JIT or _forked else get_num_threads()
        self.size = size
        self._gather()

    def _gather(self) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(max(1, self.size - 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def run(
        self, function: Callable[..., Any], *args: Any, threads: int | None = None
    ) -> list[Any]:
        """Call ``function(*args, part, parts, meetings)`` once in each thread.

        Parameters
        ----------
        function : callable
            Compiled with ``nogil=True``.
        *args
            Its first arguments.
        threads : int, optional
            How many of the team take part; by default all.

        Returns
        -------
        list
            What each call returned.
        """
        num_threads = self.size if threads is None else threads
        if self._process != os.getpid():  # a child has none of its parent's threads
            self._gather()
        barrier = np.zeros(16, np.int64)
        others = []
        try:
            for thread in range(1, num_threads):
                others.append(self._pool.submit(function, *args, thread, num_threads, barrier))
            first = function(*args, 0, num_threads, barrier)
        except BaseException:  # Ctrl-C, before this thread had begun: the others must not wait
            barrier[_ABANDONED] = 1
            raise
        return [first, *(other.result() for other in others)]


@njit(nogil=True)
def chunk_bounds(n, thread, count):
    """Where one of `count` parts of `n` items begins and ends."""
    # As int64: a parallel loop's own counter is unsigned, and would compile its callees anew.
    return n * np.int64(thread) // count, n * (np.int64(thread) + 1) // count


@intrinsic
def count_up(context, counter):
    """Add 1 to a number that threads share, the first of an array, and return what it was."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.make_array(counter)(context, builder, args[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(counter), emit


@intrinsic
def _read(context, barrier, index):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.make_array(barrier)(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(place, [args[1]]), "acquire", 8)

    return types.int64(barrier, types.intp), emit


@intrinsic
def _step_aside(context):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            yield_ = cgutils.get_or_insert_function(builder.module, kind, "sched_yield")
            builder.call(yield_, [])
        return context.get_dummy_value()

    return types.void(), emit


SPINS = 2000
"""Looks at the others' progress, a few us, before a waiting thread lets another process run."""


@njit(nogil=True)
def _wait(barrier, goal):
    count_up(barrier)
    spins = 0
    while _read(barrier, _MEETINGS) < goal:
        if _read(barrier, _ABANDONED):
            return False
        spins += 1
        if spins % SPINS == 0:
            _step_aside()
    return True


def _no_wait(barrier, goal):
    return True


barrier_wait = _no_wait if config.DISABLE_JIT else _wait
"""Wait until all threads of a team have met ``goal / parts`` times; false if one gave up."""

"""Number of threads of a kernel, and teams of threads that work together over many steps."""

from __future__ import annotations

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
from numpy.typing import NDArray

from kernels._compiler import inner

MIN_PARALLEL_SIZE = 32_768
"""Elements of an array below which one thread is faster than two, which have to synchronise."""

# Whether kernels use one thread, at an address that compiled code, cached code too, finds by name.
_serial = np.zeros(1, np.int64)
binding.add_symbol("njitnet_serial", _serial.ctypes.data)
_forked = False


def _start_threads() -> None:
    """Load Numba's threading layer, and find out whether parallel regions are safe with it.

    The layer `workqueue` ends the process when two threads enter parallel regions at once, or when
    regions are nested. Whether the caller is inside one cannot be known: kernels then use one
    thread.
    """
    if not _forked:
        get_num_threads()
        _serial[0] = threading_layer() == "workqueue"


def _after_fork() -> None:
    """Use one thread in a forked process whose parent had started Numba's threads.

    A fork does not copy threads. GNU OpenMP ends a child that uses them, or deadlocks.
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
"""Number of threads of a kernel, as ``numba.set_num_threads`` set it; with 1, no parallel region
is entered."""


_ARRIVED, _ABANDONED = 0, 8  # elements of a barrier, on separate cache lines


def new_barrier() -> NDArray[np.int64]:
    """Return the state of a barrier for `barrier_wait`."""
    return np.zeros(16, np.int64)


class Team:
    """Threads that run one compiled function side by side, each on its part of the work.

    A parallel region starts and ends with all threads, which is slow for regions of 50 us, and its
    body is compiled several times. Here each thread calls one function that releases the GIL and
    runs many steps; the threads synchronise inside it by `barrier_wait`.

    Parameters
    ----------
    size : int, optional
        The number of threads; by default as many as Numba may use.
    """

    def __init__(self, size: int | None = None):
        if size is None:
            size = 1 if _forked else get_num_threads()
        self.size = 1 if config.DISABLE_JIT else size  # plain Python has no barrier
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
        """Call ``function(*args, thread, num_threads, barrier)`` once in each thread.

        Parameters
        ----------
        function : callable
            Compiled with ``nogil=True``.
        *args
            Its first arguments.
        threads : int, optional
            Number of threads of the team to use; by default all.

        Returns
        -------
        list
            The result of each call.
        """
        num_threads = self.size if threads is None else min(threads, self.size)
        if self._process != os.getpid():  # a child has none of its parent's threads
            self._gather()
        barrier = new_barrier()
        others = []
        try:
            for thread in range(1, num_threads):
                others.append(self._pool.submit(function, *args, thread, num_threads, barrier))
            first = function(*args, 0, num_threads, barrier)
        except BaseException:  # Ctrl-C before this thread began: release the others
            barrier[_ABANDONED] = 1
            raise
        return [first, *(other.result() for other in others)]


@inner
def chunk_bounds(n, thread, count):
    """Return the bounds of part `thread` of `n` items in `count` parts of nearly equal size."""
    # As int64: a parallel loop's own counter is unsigned, and would compile its callees anew.
    return n * np.int64(thread) // count, n * (np.int64(thread) + 1) // count


@intrinsic
def _count_up(context, counter):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.make_array(counter)(context, builder, args[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(counter), emit


def _plain_count_up(counter):
    counter[0] += 1
    return counter[0] - 1


count_up = _plain_count_up if config.DISABLE_JIT else _count_up
"""Atomically add 1 to the first element of an array, and return its value before."""


@intrinsic
def _read(context, barrier, index):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = context.make_array(barrier)(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(place, [args[1]]), "acquire", 8)

    return types.int64(barrier, types.intp), emit


@intrinsic
def _yield_processor(context):
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            yield_ = cgutils.get_or_insert_function(builder.module, kind, "sched_yield")
            builder.call(yield_, [])
        return context.get_dummy_value()

    return types.void(), emit


SPINS = 2000
"""Iterations of the spinning wait, a few us, after which a thread yields to other processes."""


@inner
def _wait(barrier, goal):
    count_up(barrier)
    spins = 0
    while _read(barrier, _ARRIVED) < goal:
        if _read(barrier, _ABANDONED):
            return False
        spins += 1
        if spins % SPINS == 0:
            _yield_processor()
    return True


def _no_wait(barrier, goal):
    return True


barrier_wait = _no_wait if config.DISABLE_JIT else _wait
"""Wait until all threads have arrived at a barrier; return False if one gave up.

``barrier_wait(barrier, goal)``: at the ``k``-th wait since the barrier was made, `goal` is ``k``
times the number of threads.
"""

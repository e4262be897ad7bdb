"""Base class and settings of the benchmarks for airspeed velocity."""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

from benchmarks import _timing
from benchmarks._report import CORES

DTYPES = ["float32", "float64"]
THREADS = ["1", "all"]


def set_threads(threads: str) -> None:
    """Set the number of threads of the kernels: ``"1"`` or ``"all"``."""
    _timing.set_threads("njitnet", 1 if threads == "1" else CORES)


def keep_memory() -> None:
    """Make glibc's malloc keep freed memory, so that large results cause no page faults.

    By default, page faults depend on the history of the process: the gradients of a convolution
    took 9.4 ms in one process and 11.2 ms in another, of which 800 page faults took 2 ms.
    """
    trim_threshold, mmap_threshold = -1, -3
    with suppress(AttributeError, OSError, TypeError):  # malloc of another system
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 25)


class Timed(ABC):  # asv ignores abstract classes
    """Benchmark of one call, which `make` returns for the parameters.

    asv runs `setup` before every timed call. Only the first `setup` has an effect: it runs the call
    once, which compiles the kernels or loads them from disk. A call that a commit does not support
    is skipped.
    """

    repeat = (5, 10, 1.0)
    """Samples per round: from 5 to 10, limited to one second."""

    @abstractmethod
    def make(self, *parameters: Any) -> Callable[[], Any]:
        """Return the call to time."""

    def setup(self, *parameters: Any) -> None:
        if hasattr(self, "call"):
            return
        keep_memory()
        try:
            self.call = self.make(*parameters)
        except (AttributeError, ImportError, KeyError) as error:
            # asv skips the row: this is how a benchmark says that it does not apply.
            raise NotImplementedError(f"not available in this version: {error}") from error
        self.call()
        begin = perf_counter()
        self.call()
        # Without a number asv makes samples of a single call where there is a setup.
        self.number = min(1000, 1 + int(0.01 / (perf_counter() - begin)))

    def time_call(self, *parameters: Any) -> None:
        self.call()

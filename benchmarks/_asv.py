"""How airspeed velocity times a call."""

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
    """Let kernels use one thread, or ``all``."""
    _timing.set_threads("njitnet", 1 if threads == "1" else CORES)


def keep_memory() -> None:
    """Let malloc of Linux keep what is freed, so that large results are not on fresh pages.

    By default that depends on what the process did before: the gradients of a convolution took
    9.4 ms in one process and 11.2 in the next, of which 800 page faults were 2.
    """
    trim_threshold, mmap_threshold = -1, -3
    with suppress(AttributeError, OSError, TypeError):  # another system's malloc
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 25)


class Timed(ABC):  # asv leaves out what is abstract
    """A benchmark of one call, which `make` makes from the parameters.

    asv runs `setup` again before every call that it times. Only the first does something: it makes
    the call once, which compiles it or loads it from disk. A call that a version does not have yet
    is skipped.
    """

    repeat = (5, 10, 1.0)
    """Samples in a round: 10, or as many from 5 on as fit into a second."""

    @abstractmethod
    def make(self, *parameters: Any) -> Callable[[], Any]:
        """Return the call."""

    def setup(self, *parameters: Any) -> None:
        if hasattr(self, "call"):
            return
        keep_memory()
        try:
            self.call = self.make(*parameters)
        except (AttributeError, ImportError, KeyError) as error:
            # What asv takes for a row to skip.
            raise NotImplementedError(f"this version has it not: {error}") from error
        self.call()
        begin = perf_counter()
        self.call()
        # Without a number asv makes samples of a single call where there is a setup.
        self.number = min(1000, 1 + int(0.01 / (perf_counter() - begin)))

    def time_call(self, *parameters: Any) -> None:
        self.call()

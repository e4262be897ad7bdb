"""What the benchmarks share: parameters, random data made once, and how a kernel is timed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Any

import numba
import numpy as np

BATCHES = [1, 100, 1000, 10_000]
DTYPES = ["float32", "float64"]
THREADS = ["1", "all"]
PIXELS, HIDDEN, CLASSES = 784, 50, 10


@cache
def normal(*shape: int, dtype: str) -> np.ndarray:
    """Return normally distributed numbers, the same array at every call."""
    return np.random.default_rng(shape).standard_normal(shape, np.dtype(dtype))


@cache
def images(count: int, dtype: str) -> np.ndarray:
    """Return images as sparse as MNIST's, in which 19 % of the pixels are not zero."""
    rng = np.random.default_rng(count)
    ink = rng.random((count, PIXELS), dtype=np.float32) < 0.19
    return (ink * rng.integers(1, 256, ink.shape, dtype=np.uint8) / np.float32(255)).astype(dtype)


@cache
def labels(count: int) -> np.ndarray:
    """Return class indices."""
    return np.random.default_rng(count).integers(0, CLASSES, count)


def set_threads(threads: str) -> None:
    """Let kernels use one thread, or ``all``."""
    numba.set_num_threads(1 if threads == "1" else numba.config.NUMBA_NUM_THREADS)


class Timed(ABC):
    """A benchmark of one call, made by `make` from the parameters.

    asv runs `setup` again before every call that it times. Only the first does something: it makes
    the call once, which compiles it or loads it from disk.
    """

    repeat = (5, 10, 1.0)
    """Samples in a round: 10, or as many from 5 on as fit into a second."""

    @abstractmethod
    def make(self, *parameters: Any) -> Callable[[], Any]: ...

    def setup(self, *parameters: Any) -> None:
        if hasattr(self, "call"):
            return
        self.call = self.make(*parameters)
        self.call()
        begin = perf_counter()
        self.call()
        # Without a number asv makes samples of a single call where there is a setup.
        self.number = min(1000, 1 + int(0.01 / (perf_counter() - begin)))

    def time_call(self, *parameters: Any) -> None:
        self.call()


class Kernel(Timed):
    """A kernel on the arrays that `arguments` makes."""

    params = (BATCHES, DTYPES, THREADS)
    param_names = ("batch", "dtype", "threads")

    kernel: Callable[..., Any]

    @abstractmethod
    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]: ...

    def make(self, batch: int, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        return partial(self.kernel, *self.arguments(batch, dtype))

"""What the benchmarks share: random data made once, and how a call is timed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Any

import numba
import numpy as np

BATCHES = [1, 100, 10_000]
DTYPES = ["float32", "float64"]
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


class Call(ABC):
    """A benchmark of one function on arguments that `setup` hands to `prepare`.

    asv runs `setup` again before every timed call. That costs next to nothing, because the data
    are kept, and it leaves code and data in the processor's caches.
    """

    @abstractmethod
    def setup(self, *parameters: Any) -> None: ...

    def prepare(self, function: Callable[..., Any], *arguments: Any, threads: str = "1") -> None:
        """Take what is to be timed, and call it: this compiles it, or loads it from disk."""
        set_threads(threads)
        self.call = partial(function, *arguments)
        self.call()
        if not hasattr(self, "number"):
            start = perf_counter()
            self.call()
            # Calls in a sample: without a number asv makes just one where there is a setup.
            self.number = min(1000, 1 + int(0.01 / (perf_counter() - start)))

    def time_call(self, *parameters: Any) -> None:
        self.call()


class KernelCall(Call):
    """A kernel on one thread, where a busy neighbour disturbs least."""

    params = (BATCHES, DTYPES)
    param_names = ("batch", "dtype")

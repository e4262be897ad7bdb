"""What a processor can do at most: multiply-adds in registers, and copies in memory."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._microkernel import VECTOR_BYTES, element_type

CHAINS = 12


@intrinsic
def _chains(context: Any, count: Any, factor: Any, term: Any) -> Any:
    # `CHAINS` vectors that are each multiplied and added to `count` times, in registers: so many
    # that the units never wait for a result, so few that no processor has to put one in memory.
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(element_type(factor), 8 * VECTOR_BYTES // factor.bitwidth)
        name = f"llvm.fmuladd.v{vector.count}f{factor.bitwidth}"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )
        lanes = [ir.Constant(ir.IntType(32), i) for i in range(vector.count)]
        operands = []
        for arg in args[1:]:
            filled: Any = ir.Constant(vector, ir.Undefined)
            for lane in lanes:
                filled = builder.insert_element(filled, arg, lane)
            operands.append(filled)
        ones = ir.Constant(vector, [1.0] * vector.count)
        sums = [cgutils.alloca_once_value(builder, ones) for _ in range(CHAINS)]
        with cgutils.for_range(builder, args[0]):
            for s in sums:
                builder.store(builder.call(fma, [builder.load(s), *operands]), s)
        total = builder.load(sums[0])
        for s in sums[1:]:
            total = builder.fadd(total, builder.load(s))
        result = builder.extract_element(total, lanes[0])
        for lane in lanes[1:]:
            result = builder.fadd(result, builder.extract_element(total, lane))
        return result

    return factor(types.intp, factor, factor), emit


@numba.njit(nogil=True)
def fma_chains(count: int, factor: Any, term: Any) -> Any:
    """Multiply and add `count` times in each of `CHAINS` vectors, and return the sum of all."""
    return _chains(count, factor, term)


def on_threads(threads: int, work: Callable[[int], Any]) -> float:
    """Return the seconds from when all threads begin to when the last is done."""
    together = threading.Barrier(threads)
    times: list[tuple[float, float]] = []

    def run(i: int) -> None:
        together.wait()
        begin = perf_counter()
        work(i)
        times.append((begin, perf_counter()))

    crew = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    begins, ends = zip(*times, strict=True)
    return max(ends) - min(begins)


def peak_flops(dtype: str, threads: int, duration: float = 0.01) -> float:
    """Return the multiplications and additions a second that the processor can do.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    threads : int
    duration : float, default 0.01
        About how many seconds to measure.

    Returns
    -------
    float
    """
    half = np.dtype(dtype).type(0.5)
    fma_chains(1, half, half)
    once = 2 * CHAINS * VECTOR_BYTES // half.itemsize
    count = int(duration * 100e9 / once)  # as if 100 GFLOP/s, to begin with
    count = max(1, int(count * duration / on_threads(1, lambda i: fma_chains(count, half, half))))
    return max(
        threads * once * count / on_threads(threads, lambda i: fma_chains(count, half, half))
        for _ in range(10)
    )


def copy_speed(threads: int, megabytes: int = 64) -> float:
    """Return the bytes a second, read and written, of copies too large for any cache.

    Parameters
    ----------
    threads : int
    megabytes : int, default 64
        What each thread reads.

    Returns
    -------
    float
    """
    size = megabytes << 17
    pairs = [(np.ones(size), np.ones(size)) for _ in range(threads)]
    seconds = min(
        on_threads(threads, lambda i: np.copyto(pairs[i][0], pairs[i][1])) for _ in range(3)
    )
    return threads * 16 * size / seconds


@dataclass
class Limits:
    """What the processor and the memory can do at most.

    Attributes
    ----------
    flops : dict of (str, int) to float
        Floating-point operations a second, by dtype and number of threads.
    copy : dict of int to float
        Bytes a second by number of threads.
    """

    flops: dict[tuple[str, int], float] = field(default_factory=dict)
    copy: dict[int, float] = field(default_factory=dict)

    def measure(self, dtypes: Sequence[str], threads: Sequence[int]) -> None:
        """Measure again, and keep the best."""
        for n in threads:
            for dtype in dtypes:
                self.flops[dtype, n] = max(self.flops.get((dtype, n), 0), peak_flops(dtype, n))
            self.copy[n] = max(self.copy.get(n, 0), copy_speed(n))

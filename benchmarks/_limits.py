"""Peak performance of the processor: multiply-adds in registers, and memory bandwidth."""

import threading
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# kernels._vectors is imported inside functions: asv imports this module for commits that do not
# have it.

CHAINS = 12


@intrinsic
def _chains(context: Any, count: Any, factor: Any, term: Any) -> Any:
    # Run `count` multiply-adds on each of `CHAINS` vectors in registers. The number of chains hides
    # the latency of the multiply-adds, and is small enough to avoid spills on every processor.
    from kernels._addresses import element_type
    from kernels._vectors import VECTOR_BYTES

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
    """Run `count` multiply-adds on each of `CHAINS` vectors, and return the sum of all elements."""
    return _chains(count, factor, term)


def on_threads(threads: int, work: Callable[[], Any]) -> float:
    """Run `work` in several threads; return the seconds from the first start to the last end."""
    together = threading.Barrier(threads)
    times: list[tuple[float, float]] = []

    def run() -> None:
        together.wait()
        begin = perf_counter()
        work()
        times.append((begin, perf_counter()))

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    begins, ends = zip(*times, strict=True)
    return max(ends) - min(begins)


@cache
def peak_flops(dtype: str, threads: int, duration: float = 0.01) -> float:
    """Measure the processor's peak of multiplications and additions per second."""
    from kernels._vectors import VECTOR_BYTES

    half = np.dtype(dtype).type(0.5)
    fma_chains(1, half, half)
    once = 2 * CHAINS * VECTOR_BYTES // half.itemsize
    count = int(duration * 100e9 / once)  # initial guess: 100 GFLOP/s
    count = max(1, int(count * duration / on_threads(1, lambda: fma_chains(count, half, half))))
    return max(
        threads * once * count / on_threads(threads, lambda: fma_chains(count, half, half))
        for _ in range(20)
    )


@cache
def read_speed(threads: int, megabytes: int = 64) -> float:
    """Measure the bytes per second of reading data that no cache holds."""
    words = np.ones((threads, megabytes << 17), np.int64)
    parts = iter(list(words) * 5)
    seconds = min(on_threads(threads, lambda: np.bitwise_or.reduce(next(parts))) for _ in range(5))
    return words.nbytes / seconds


@cache
def copy_speed(threads: int, megabytes: int = 64) -> float:
    """Measure the bytes per second, read and written, of copies too large for any cache."""
    source = np.ones((threads, megabytes << 17))
    copies = np.ones_like(source)
    parts = iter(list(zip(copies, source, strict=True)) * 5)
    seconds = min(on_threads(threads, lambda: np.copyto(*next(parts))) for _ in range(5))
    return 2 * source.nbytes / seconds

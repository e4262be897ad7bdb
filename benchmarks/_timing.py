"""Interleaved timing of several libraries in one process, each on its own numbers of threads."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numba

from benchmarks._report import CORES, installed

Call = Callable[[], Any]
LIBRARIES = ("njitnet", "numpy", "torch", "jax")


def settle(pause: float = 0.01, longest: float = 0.5) -> None:
    """Wait until all threads of this process are idle.

    Idle threads of a pool busy-wait for a while: those of OpenMP for some milliseconds, those of
    OpenBLAS for 130 ms. On two cores, an affine layer on two threads of njitnet took 45 us, 137 us
    right after a product on two threads of OpenBLAS, and 45 us again after this wait.
    """
    begin, used, quiet = time.perf_counter(), time.process_time(), 0
    # Two quiet periods, since on a busy machine a spinning thread may get no core for a while.
    while quiet < 2 and time.perf_counter() - begin < longest:
        time.sleep(pause)
        before, used = used, time.process_time()
        quiet = quiet + 1 if used - before < pause / 10 else 0


def set_threads(library: str, count: int) -> None:
    """Set the number of threads of a library; at most `count` for njitnet, no effect on JAX."""
    if library == "numpy":
        if installed("threadpoolctl"):
            from threadpoolctl import threadpool_limits

            threadpool_limits(count, user_api="blas")
    elif library == "torch":
        import torch

        torch.set_num_threads(count)
    else:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


@dataclass
class Row:
    """Samples in seconds, by call and number of threads."""

    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def best(self, name: str, count: int | None = None) -> float | None:
        """Return the shortest sample of a library, on `count` threads or any number."""
        found = [
            second
            for (each, n), seconds in self.seconds.items()
            if each.partition(",")[0] == name and count in (None, n)
            for second in seconds
        ]
        return min(found, default=None)

    def threads(self, name: str) -> int:
        """Return the number of threads on which a library is fastest."""
        counts = [n for each, n in self.seconds if each.partition(",")[0] == name]
        return min(counts, key=lambda n: self.best(name, n) or 0.0)

    def ratio(self, name: str) -> float | None:
        """Return the best time of a library divided by the best time of njitnet."""
        other, ours = self.best(name), self.best("njitnet")
        return other / ours if other and ours else None

    def peers(self) -> list[str]:
        """Return the libraries except njitnet, the fastest first."""
        names = {name.partition(",")[0] for name, _ in self.seconds} - {"njitnet"}
        return sorted(names, key=lambda name: self.best(name) or 0.0)

    def spread(self) -> float:
        """Return njitnet's median sample divided by its shortest, on its best number of threads."""
        samples = self.seconds["njitnet", self.threads("njitnet")]
        return median(samples) / min(samples)


def measure(
    calls: Mapping[str, Call], rounds: int, per: float = 1.0, duration: float = 0.0, **counts: Any
) -> Row:
    """Time calls in interleaved rounds, each call on each of its library's numbers of threads.

    Parameters
    ----------
    calls : mapping of str to callable
        Calls by library, or by library and variant: ``"torch, channels-last"``.
    rounds : int
        Number of samples of each call on each number of threads.
    per : float, default 1
        Number of iterations per call.
    duration : float, default 0
        Minimum seconds per sample; by default one call is a sample.
    **counts : sequence of int
        Numbers of threads by library. By default all threads for njitnet, JAX and "script", and
        one and all threads for the other libraries.
    """
    row = Row()
    repeats: dict[tuple[str, int], int] = {}
    for i in range(-1, rounds):  # the first round is a warm-up and may compile
        for name, call in calls.items():
            library = name.partition(",")[0]
            own = (CORES,) if library in ("njitnet", "jax", "script") else (1, CORES)
            for count in sorted(set(counts.get(library, own))):
                settle()
                set_threads(library, count)
                if i < 0:
                    call()
                    begin = time.perf_counter()
                    call()
                    taken = time.perf_counter() - begin
                    repeats[name, count] = max(1, int(duration / max(taken, 1e-7)))
                    continue
                if repeats[name, count] > 1:
                    call()
                begin = time.perf_counter()
                for _ in range(repeats[name, count]):
                    call()
                taken = time.perf_counter() - begin
                row.seconds.setdefault((name, count), []).append(taken / repeats[name, count] / per)
    set_threads("njitnet", CORES)
    return row

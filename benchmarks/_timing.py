"""Time several libraries in turn in one process, each on numbers of threads of its own."""

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
    """Wait until no thread of this process runs any more.

    Threads that have nothing to do go on spinning for a while in case more work comes: OpenMP's for
    some milliseconds, OpenBLAS's for 130. On two cores an affine layer that takes our two threads
    45 us took them 137 right after a product on OpenBLAS's two, and 45 again after this wait.
    """
    begin, used, quiet = time.perf_counter(), time.process_time(), 0
    # Twice, since on a busy machine a thread may spin and not get a core for a while.
    while quiet < 2 and time.perf_counter() - begin < longest:
        time.sleep(pause)
        before, used = used, time.process_time()
        quiet = quiet + 1 if used - before < pause / 10 else 0


def set_threads(library: str, count: int) -> None:
    """Let a library use so many threads: njitnet no more than that; JAX always takes all."""
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
    """The seconds of each contestant's samples, by its name and number of threads."""

    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def best(self, name: str, count: int | None = None) -> float | None:
        """Return the shortest sample of a contestant, on so many threads or any number."""
        found = [
            second
            for (each, n), seconds in self.seconds.items()
            if each.partition(",")[0] == name and count in (None, n)
            for second in seconds
        ]
        return min(found, default=None)

    def threads(self, name: str) -> int:
        """Return on how many threads a contestant is fastest."""
        counts = [n for each, n in self.seconds if each.partition(",")[0] == name]
        return min(counts, key=lambda n: self.best(name, n) or 0.0)

    def ratio(self, name: str) -> float | None:
        """Return how many times as long as njitnet a library takes, each at its best."""
        other, ours = self.best(name), self.best("njitnet")
        return other / ours if other and ours else None

    def peers(self) -> list[str]:
        """Return the other libraries, the fastest first."""
        names = {name.partition(",")[0] for name, _ in self.seconds} - {"njitnet"}
        return sorted(names, key=lambda name: self.best(name) or 0.0)

    def spread(self) -> float:
        """Return the median of our samples by the shortest, on the best number of threads."""
        samples = self.seconds["njitnet", self.threads("njitnet")]
        return median(samples) / min(samples)


def measure(
    calls: Mapping[str, Call], rounds: int, per: float = 1.0, duration: float = 0.0, **counts: Any
) -> Row:
    """Time calls in turn: each contestant on each of its numbers of threads, round after round.

    Parameters
    ----------
    calls : mapping of str to callable
        By the library, with a variant behind a comma: ``"torch, channels-last"``.
    rounds : int
    per : float, default 1
        How many iterations one call does.
    duration : float, default 0
        Seconds that a sample lasts at least; by default one call is a sample.
    **counts : sequence of int
        Numbers of threads by library. By default njitnet and JAX have all, the others 1 and all.
    """
    row = Row()
    repeats: dict[tuple[str, int], int] = {}
    for i in range(-1, rounds):  # the first round warms up, and may compile
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

"""The rows of the table of kernels, and how the contestants take turns in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

import kernels
from benchmarks import _peers
from benchmarks._libraries import PASSES, Library, arguments, libraries
from benchmarks._limits import Limits


@dataclass
class Row:
    """One operation on one shape, and how long each contestant took in each round.

    Attributes
    ----------
    operation, dtype : str
    shape : tuple of int
    seconds : dict of (str, int) to list of float
        By library and number of threads, a call's seconds in each round.
    """

    operation: str
    dtype: str
    shape: tuple[int, ...]
    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def best(self, name: str, threads: int | None = None) -> float | None:
        """Return the seconds of a library's best round, on so many threads or the best number."""
        found = [
            second
            for (library, n), seconds in self.seconds.items()
            if library == name and threads in (None, n)
            for second in seconds
        ]
        return min(found, default=None)

    def winner(self) -> tuple[str, float]:
        """Return the quickest of the others, and its seconds."""
        names = {name for name, _ in self.seconds} - {"ours"}
        return min(((name, self.best(name) or 0.0) for name in names), key=lambda pair: pair[1])

    def ratio(self) -> float:
        """Return how many times ours is as quick as the quickest of the others."""
        return self.winner()[1] / (self.best("ours") or np.inf)

    def our_threads(self) -> int:
        """Return on how many threads ours is quickest."""
        counts = [n for name, n in self.seconds if name == "ours"]
        return min(counts, key=lambda n: self.best("ours", n) or 0.0)

    def spread(self) -> float:
        """Return the median of our rounds by the best one, on the best number of threads."""
        seconds = self.seconds["ours", self.our_threads()]
        return float(np.median(seconds)) / min(seconds)

    def work(self) -> float:
        """Return the floating-point operations of a matrix product, or the bytes of the rest."""
        if self.operation in PASSES:
            n, d, m = self.shape
            return (2.0 if self.operation == "affine_forward" else 4.0) * n * d * m
        arrays = arguments(self.operation, self.shape, self.dtype)
        result = getattr(kernels, self.operation)(*arrays)
        results = result if isinstance(result, tuple) else (result,)
        return float(sum(np.asarray(a).nbytes for a in (*arrays, *results)))


def take_turns(
    rows: Sequence[Row], contestants: Sequence[Library], threads: Sequence[int], duration: float
) -> None:
    """Measure all rows once, the contestants in turn.

    Parameters
    ----------
    rows : sequence of Row
        They get the figures.
    contestants : sequence of Library
    threads : sequence of int
    duration : float
        Seconds for a block of calls, if a call takes less.
    """
    for row in rows:
        arrays = arguments(row.operation, row.shape, row.dtype)
        for n in threads:
            for library in contestants:
                if n not in library.settings(row.operation, threads):
                    continue
                with library.limit(n):
                    converted = [library.convert(a) for a in arrays]
                    call = library.operations[row.operation](*converted)
                    _peers.settle()
                    took = _peers.seconds_a_call(call, duration)
                row.seconds.setdefault((library.name, n), []).append(took)


def measure(
    rows: Sequence[Row], threads: Sequence[int], rounds: int, duration: float
) -> tuple[list[Library], Limits]:
    """Measure all rows, round after round.

    A round goes through all rows, so that the rounds of one row lie apart and what else runs for a
    while does not spoil all of them.

    Parameters
    ----------
    rows : sequence of Row
        They get the figures.
    threads : sequence of int
    rounds : int
    duration : float
        Seconds for a block of calls.

    Returns
    -------
    contestants : list of Library
    limits : Limits
    """
    contestants, limits = libraries(), Limits()
    dtypes = sorted({row.dtype for row in rows})
    with tqdm(total=rounds * len(rows), unit="row", disable=None) as bar:
        for _ in range(rounds):
            _peers.settle()
            limits.measure(dtypes, threads)
            for row in rows:
                take_turns([row], contestants, threads, duration)
                bar.update()
    return contestants, limits

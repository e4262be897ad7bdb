"""The jobs of the training table, and what is measured of each."""

import os
from dataclasses import dataclass, field
from statistics import median

PIXELS, CLASSES, IMAGES, RATE = 784, 10, 60_000, 0.1
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes
    ----------
    who : str
        A key of `CONTESTANTS`.
    dtype : {"float32", "float64"}
    threads : int
    iterations : int
        How many it does.
    of : int
        How many the whole job has.
    hidden, batch : int
    data : {"mnist", "random"}
        The second has no zeros.
    """

    who: str
    dtype: str = "float32"
    threads: int = CORES
    iterations: int = 1200
    of: int = 10_000
    hidden: int = 50
    batch: int = 100
    data: str = "mnist"

    def evaluations(self, iterations: int) -> int:
        """Return how often the accuracies are taken in so many iterations: once an epoch."""
        return -(-iterations // self.epoch())

    def epoch(self) -> int:
        """Return the iterations of an epoch."""
        return max(1, IMAGES // self.batch)


@dataclass
class Result:
    """What one process measured.

    Attributes
    ----------
    start : dict of str to float
        Seconds before the first iteration, for ``import``, ``load`` and ``compile``.
    seconds : float
        For the whole job, once that is done.
    memory : float
        Largest size of the process in MB.
    accuracy : float or None
        On the test set in the end, if the job was not cut short.
    note : str
    process : float
        Seconds from the start of the process to its end.
    """

    start: dict[str, float]
    seconds: float
    memory: float
    accuracy: float | None = None
    note: str = ""
    process: float = 0.0


@dataclass
class Entry:
    """A job and the results of all rounds."""

    job: Job
    results: list[Result] = field(default_factory=list)

    def best(self) -> Result:
        """Return the result of the quickest round."""
        return min(self.results, key=lambda result: result.seconds)

    def seconds(self) -> float:
        """Return the seconds of the whole job."""
        return self.best().seconds

    def start(self) -> dict[str, float]:
        """Return the seconds before the first iteration, of the round with the fewest."""
        return min((r.start for r in self.results), key=lambda start: sum(start.values()))

    def memory(self) -> float:
        """Return the largest size of the process, in the round in which it compiled least."""
        return min(r.memory for r in self.results)

    def process(self) -> Result:
        """Return the result of the round with the shortest process."""
        return min(self.results, key=lambda result: result.process)

    def spread(self) -> float:
        """Return the median of the rounds by the best one."""
        return median(result.seconds for result in self.results) / self.seconds()


@dataclass
class Tables:
    """All that is measured.

    Attributes
    ----------
    main : list of Entry
        MNIST, 784-50-10, batches of 100.
    cold : dict of str to Result
        By dtype, `net.train` with nothing compiled.
    sizes : list of Entry
        Other sizes and data, ours and NumPy.
    """

    main: list[Entry]
    cold: dict[str, Result]
    sizes: list[Entry]

    def ours(self, dtype: str) -> Entry | None:
        """Return the entry of `net.train` as a user has it."""
        wanted = ("train", dtype)
        return next((e for e in self.main if (e.job.who, e.job.dtype) == wanted), None)

"""The number of threads for a training run, by timing the run itself."""

from collections import Counter


class ThreadTuner:
    """Choose a number of threads by timing, and look again from time to time.

    Threads that wait for each other in every iteration run at the speed of the slowest: where
    another process is busy on a core, two of them can be several times slower than one.

    Parameters
    ----------
    most : int
        The largest number of threads to try.
    length : int
        Iterations between two choices.
    probe_iterations : int
        Iterations that tell how fast a number of threads is; fewer are not counted.
    """

    FIRST_PROBES = 2  # of each: what the first one waits for once, as pages and caches, is not it
    PROBE_EVERY = 10  # in stretches of `length`
    CROWDED = 1.25  # without a neighbour, two threads cost little even where they gain nothing

    def __init__(self, most: int, length: int = 100, probe_iterations: int = 20):
        self.choices = sorted({1, most} | {2**k for k in range(most.bit_length())})
        self.seconds: dict[int, float] = {}  # of one iteration, lately
        self.counts: dict[int, int] = {}
        self._probes: Counter[int] = Counter()
        self._length, self._probe_iterations = length, probe_iterations
        self._turn = 0

    def next(self) -> tuple[int, int]:
        """Return the number of threads for the next iterations, and how many those are."""
        probed = min(self._probes[n] for n in self.choices)
        if probed < self.FIRST_PROBES:
            threads = max(n for n in self.choices if self._probes[n] == probed)
            return threads, self._probe_iterations
        best = min(self.choices, key=self.seconds.__getitem__)
        self._turn += 1
        others = [n for n in self.choices if n != best]
        if others and self._turn % self.PROBE_EVERY == 0:
            return others[self._turn // self.PROBE_EVERY % len(others)], self._probe_iterations
        return best, self._length

    def record(self, threads: int, iterations: int, seconds: float) -> None:
        """Record how long some iterations took; a single slow time counts no more than double.

        Of the first probes, the quickest counts.
        """
        self.counts[threads] = self.counts.get(threads, 0) + iterations
        if iterations < self._probe_iterations:  # a cold start, as before the first evaluation
            return
        now = seconds / iterations
        before = self.seconds.get(threads, now)
        if self._probes[threads] < self.FIRST_PROBES:
            self.seconds[threads] = min(now, before)
        else:
            self.seconds[threads] = 0.7 * before + 0.3 * min(now, 2 * before)
        self._probes[threads] += 1

    @property
    def is_crowded(self) -> bool:
        """Whether all threads took much longer than one, as beside a process that keeps a core."""
        one, most = (self.seconds.get(n) for n in (1, self.choices[-1]))
        return one is not None and most is not None and most > self.CROWDED * one

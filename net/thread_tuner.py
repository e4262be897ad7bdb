"""Choice of the number of threads of a training run by timing its iterations and evaluations."""

from collections import Counter

CALL_SECONDS = 0.02
"""Time between two choices, which are also the checks for Ctrl-C and the updates of the progress
bar. Starting the threads takes a few tenths of a millisecond."""
PROBE_SECONDS = 0.003
"""Duration of a probe, beside which the start of the threads is short."""


class ThreadTuner:
    """The number of threads of a training run, chosen by timing and checked periodically.

    Threads that wait for each other in every iteration run at the speed of the slowest thread. If
    another process is busy on a core, two threads can be several times slower than one.

    Parameters
    ----------
    most : int
        The largest number of threads to try.
    probe_iterations : int
        Smallest number of iterations that time a number of threads; the times of fewer are
        ignored.
    """

    FIRST_PROBES = 2  # per number of threads: the first may include page faults and cold caches
    PROBE_EVERY = 8  # choices between two probes of another number of threads
    LEAST = 100  # iterations between two choices, unless they are probes

    def __init__(self, most: int, probe_iterations: int = 20):
        self.choices = sorted({1, most} | {2**k for k in range(most.bit_length())})
        self.seconds: dict[int, float] = {}  # of one iteration: a running average
        self.counts: dict[int, int] = {}
        self._probes: Counter[int] = Counter()
        self._probe_iterations = probe_iterations
        self._turn = 0

    def next(self) -> tuple[int, int]:
        """Return the number of threads for the next iterations, and the number of iterations."""
        probed = min(self._probes[n] for n in self.choices)
        if probed < self.FIRST_PROBES:
            threads = max(n for n in self.choices if self._probes[n] == probed)
            return threads, self._count(threads, self._probe_iterations, PROBE_SECONDS)
        best = min(self.choices, key=self.seconds.__getitem__)
        self._turn += 1
        others = [n for n in self.choices if n != best]
        if others and self._turn % self.PROBE_EVERY == 0:
            other = others[self._turn // self.PROBE_EVERY % len(others)]
            return other, self._count(other, self._probe_iterations, PROBE_SECONDS)
        return best, self._count(best, self.LEAST, CALL_SECONDS)

    def _count(self, threads: int, least: int, seconds: float) -> int:
        """Return the number of iterations, `least` or more, that take about `seconds`."""
        return max(least, int(seconds / max(1e-6, self.seconds.get(threads, seconds))))

    def record(self, threads: int, iterations: int, seconds: float) -> None:
        """Record the time of some iterations on a number of threads.

        The minimum of the first probes is used. Later times enter a running average, each limited
        to twice that average.
        """
        self.counts[threads] = self.counts.get(threads, 0) + iterations
        if iterations < self._probe_iterations:  # too few to time, as before the first evaluation
            return
        now = seconds / iterations
        before = self.seconds.get(threads, now)
        if self._probes[threads] < self.FIRST_PROBES:
            self.seconds[threads] = min(now, before)
        else:
            self.seconds[threads] = 0.7 * before + 0.3 * min(now, 2 * before)
        self._probes[threads] += 1

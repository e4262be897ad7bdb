"""Two ways to do the iterations of a training run: by the network's layers, or fused."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels._arrays import as_kernel_array
from kernels._threads import Team
from kernels.fused import Fused, prepare
from net.two_layer_net import TwoLayerNet

Array = NDArray[Any]
Examples = tuple[Array, Array]

STRETCH = 100
"""Iterations in compiled code between two looks at Ctrl-C, the progress bar and the clock."""


class Steps(Protocol):
    """Iterations of one training run."""

    @property
    def threads(self) -> dict[int, int]:
        """How many iterations ran on how many threads."""

    def advance(self, count: int) -> Iterator[list[float]]:
        """Do some iterations, and give their losses as they come."""

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""

    def store(self) -> None:
        """Bring the network's parameters up to date."""


def choose(
    network: TwoLayerNet,
    sets: list[Examples],
    batch_size: int,
    rate: float,
    random: Any,
    team: Team,
    sparse: bool | None,
) -> Steps:
    """Return the quickest way to train a network: fused if it is the lecture's, unchanged.

    Parameters
    ----------
    network : TwoLayerNet
    sets : list of (x, t)
        The training set, and perhaps a test set.
    batch_size : int
    rate : float
    random : numpy.random.Generator, RandomState or the module numpy.random
    team : Team
    sparse : bool or None
        As for `net.train`.

    Returns
    -------
    Steps
    """
    if network.is_plain():
        return FusedSteps(network, sets, batch_size, rate, random, team, sparse)
    return LayerSteps(network, sets, batch_size, rate, random)


class LayerSteps:
    """Iterations as the lecture writes them, for any layers.

    Parameters
    ----------
    network, sets, batch_size, rate, random
        As for `choose`.
    """

    def __init__(
        self, network: TwoLayerNet, sets: list[Examples], batch_size: int, rate: float, random: Any
    ):
        self.network, self.sets = network, sets
        self.batch_size, self.rate, self.random = batch_size, rate, random
        self.threads: dict[int, int] = {}

    def advance(self, count: int) -> Iterator[list[float]]:
        """Do some iterations, and give the loss of each."""
        x_train, t_train = self.sets[0]
        params = self.network.params
        for _ in range(count):
            batch_mask = self.random.choice(x_train.shape[0], self.batch_size)
            x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
            grads = self.network.gradient(x_batch, t_batch)
            with np.errstate(over="ignore", invalid="ignore"):  # `train` tells when it diverges
                for key, grad in grads.items():
                    params[key] -= self.rate * grad
            yield [self.network.loss(x_batch, t_batch)]

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""
        return self.network.accuracy(*self.sets[which])

    def store(self) -> None:
        """Nothing to do: the layers compute with the network's parameters."""


class FusedSteps:
    """Whole stretches of iterations in one compiled function, with the same results.

    Parameters
    ----------
    network, sets, batch_size, rate, random, team, sparse
        As for `choose`.
    """

    def __init__(
        self,
        network: TwoLayerNet,
        sets: list[Examples],
        batch_size: int,
        rate: float,
        random: Any,
        team: Team,
        sparse: bool | None,
    ):
        dtype = network.params["W1"].dtype
        if not all(np.isfinite(a).all() for a in network.params.values()):
            sparse = False  # zero times infinity is NaN
        self.batch_size, self.rate, self.random = batch_size, rate, random
        self.inputs = [prepare(x.reshape(x.shape[0], -1), dtype, team, sparse) for x, _ in sets]
        self.targets = sets[0][1]
        if self.targets.ndim == 2:
            self.targets = as_kernel_array(self.targets, dtype, "t_train")
        self.classes = [(t if t.ndim == 1 else t.argmax(axis=1)).astype(np.int64) for _, t in sets]
        self.fused = Fused(list(network.params.values()), batch_size, self.inputs[0], team)
        self.pace = Pace(min(team.size, self.fused.panels))

    @property
    def threads(self) -> dict[int, int]:
        """How many iterations ran on how many threads."""
        return self.pace.counts

    def advance(self, count: int) -> Iterator[list[float]]:
        """Do some iterations, and give the losses of each stretch of them."""
        size, none = self.targets.shape[0], np.empty((1, 0), np.int64)
        no_targets = np.empty((1, 0, 0), self.fused.parameters[0].dtype)
        while count:
            threads, length = self.pace.next()
            length = min(length, count)
            drawn = self.random.choice(size, (length, self.batch_size))
            labels, targets = none, no_targets
            if self.targets.ndim == 1:
                labels = self.classes[0][drawn]
            else:
                targets = self.targets[drawn]
            begin = time.perf_counter()
            losses = self.fused.train(drawn, labels, targets, self.rate, threads)
            self.pace.note(threads, length, time.perf_counter() - begin)
            count -= length
            yield losses.tolist()

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""
        return self.fused.accuracy(self.inputs[which], self.classes[which])

    def store(self) -> None:
        """Bring the network's parameters up to date."""
        self.fused.store()


class Pace:
    """How many threads to use, by timing the job itself and looking again from time to time.

    Threads that meet once an iteration wait for the slowest: where another process is busy on a
    core, two of them can be several times slower than one.

    Parameters
    ----------
    most : int
        The largest number of threads to try.
    """

    PROBE, AGAIN = 20, 10  # iterations of a trial; stretches between two trials

    def __init__(self, most: int):
        self.choices = sorted({1, most} | {2**k for k in range(most.bit_length())})
        self.seconds: dict[int, float] = {}  # for one iteration, lately
        self.counts: dict[int, int] = {}
        self.turn = 0

    def next(self) -> tuple[int, int]:
        """Return the number of threads for the next stretch, and its number of iterations."""
        untried = [n for n in self.choices if n not in self.seconds]
        if untried:
            return untried[-1], self.PROBE
        best = min(self.choices, key=self.seconds.__getitem__)
        self.turn += 1
        others = [n for n in self.choices if n != best]
        if others and self.turn % self.AGAIN == 0:
            return others[self.turn // self.AGAIN % len(others)], self.PROBE
        return best, STRETCH

    def note(self, threads: int, iterations: int, seconds: float) -> None:
        """Remember how long a stretch took, a single slow one not too well."""
        self.counts[threads] = self.counts.get(threads, 0) + iterations
        if iterations < self.PROBE:  # a cold start, such as the one before the first evaluation
            return
        now = seconds / iterations
        before = self.seconds.get(threads, now)
        self.seconds[threads] = 0.7 * before + 0.3 * min(now, 2 * before)

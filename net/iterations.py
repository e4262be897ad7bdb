"""Training iterations: draw a batch, compute its gradient, update, and compute its new loss."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

import numba
import numpy as np

from net.distributed import Examples, SingleProcess
from net.layer_list import is_custom
from net.thread_tuner import ThreadTuner

BATCHES_AHEAD = 100
"""Number of batches that are drawn together."""


class Iterations(Protocol):
    """Protocol of the iterations of a training run."""

    def run(self, count: int) -> Iterator[list[float]]:
        """Run `count` iterations; yield lists of their losses."""

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""

    def sync_params(self) -> None:
        """Update the network's parameters and the optimizer's state to the latest iteration."""


def draw_rows(rng: Any, n: int, batch_size: int, count: int) -> Any:
    """Draw the rows of several batches with replacement.

    The rows are those of one call of ``choice(n, batch_size)`` for each batch.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState or the module numpy.random
    n : int
        Number of examples.
    batch_size, count : int
        Size and number of the batches.

    Returns
    -------
    ndarray of int64, shape (count, batch_size)
    """
    return rng.choice(n, (count, batch_size))


def draws_random_numbers(network: Any) -> bool:
    """Return whether a layer of a network may draw random numbers in training.

    Parameters
    ----------
    network : Network

    Returns
    -------
    bool
        True also if the network has a layer that is not one of `net`.
    """
    return any(
        is_custom(type(layer)) or hasattr(layer, "dropout_ratio")
        for layer in network.layers.values()
    )


class LayerIterations:
    """Training iterations by the methods of the network, for any layers and optimizer.

    Parameters
    ----------
    network : Network
    optimizer : Optimizer
    sets : list of (x, t)
        The training set and, optionally, a test set; this rank's shards if there are several ranks.
    n : int
        Number of training examples on all ranks.
    batch_size : int
    rng : numpy.random.Generator, RandomState or the module numpy.random
    group : SingleProcess or ProcessGroup
    tuner : ThreadTuner
    evaluation_tuner : ThreadTuner
        For evaluations; it counts examples, not iterations.
    """

    def __init__(
        self,
        network: Any,
        optimizer: Any,
        sets: list[Examples],
        n: int,
        batch_size: int,
        rng: Any,
        group: SingleProcess,
        tuner: ThreadTuner,
        evaluation_tuner: ThreadTuner,
    ):
        self._network, self._optimizer, self._sets = network, optimizer, sets
        self._n, self._batch_size, self._rng = n, batch_size, rng
        self._group, self._tuner, self._evaluation_tuner = group, tuner, evaluation_tuner
        draws = draws_random_numbers(network) or is_custom(type(optimizer))
        self._ahead = 1 if draws else BATCHES_AHEAD

    def run(self, count: int) -> Iterator[list[float]]:
        """Run `count` iterations; yield the loss of each."""
        if self._group.size > 1:  # no tuning: the slowest rank sets the pace of all
            yield from self._run(count)
            self._tuner.record(numba.get_num_threads(), count, 0.0)
            return
        most = numba.get_num_threads()
        try:
            while count:
                threads, length = self._tuner.next()
                length = min(length, count)
                numba.set_num_threads(min(threads, most))
                begin = time.perf_counter()
                yield from self._run(length)
                self._tuner.record(threads, length, time.perf_counter() - begin)
                count -= length
        finally:
            numba.set_num_threads(most)

    def _run(self, count: int) -> Iterator[list[float]]:
        network, exchange = self._network, self._group.exchange(self._network.params)
        batches, share, loss = self._batches(count), 1.0, 0.0
        batch = exchange.attempt(next, batches)
        for i in range(count):
            grads = None
            if batch is not None:
                share = len(batch[0]) / self._batch_size
                if share:
                    grads = exchange.attempt(network.gradient, *batch)
            exchange.start(grads, share, loss)
            following = None
            if self._ahead > 1 and i + 1 < count:  # while the message is being sent
                following = exchange.attempt(next, batches)
            summed, latest = exchange.finish()
            if i > 0:
                yield [latest]
            exchange.check()
            loss = exchange.attempt(self._update, summed, batch) or 0.0
            if self._ahead == 1 and i + 1 < count:  # layers may draw from the same state
                following = exchange.attempt(next, batches)
            batch = following
        loss = exchange.total(loss)
        exchange.check()
        yield [loss]

    def _batches(self, count: int) -> Iterator[Examples]:
        """Draw the batches that a single process would draw; yield this rank's part of each."""
        x, t = self._sets[0]
        for done in range(0, count, self._ahead):
            length = min(self._ahead, count - done)
            for rows in draw_rows(self._rng, self._n, self._batch_size, length):
                local = self._group.local_rows(rows)
                yield x[local], t[local]

    def _update(self, grads: Any, batch: Examples) -> float:
        """Update the parameters, and return this rank's contribution to the new loss."""
        x, t = batch
        with np.errstate(over="ignore", invalid="ignore"):  # `train` warns of divergence
            self._optimizer.update(self._network.params, grads)
        if not len(x):
            return 0.0
        loss: float = self._network.loss(x, t)
        return loss if len(x) == self._batch_size else loss * (len(x) / self._batch_size)

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""
        x, t = self._sets[which]
        if self._group.size > 1:
            return self._group.accuracy(self._network, x, t)
        most = numba.get_num_threads()
        threads, _ = self._evaluation_tuner.next()
        try:
            numba.set_num_threads(min(threads, most))
            begin = time.perf_counter()
            accuracy = self._group.accuracy(self._network, x, t)
            self._evaluation_tuner.record(threads, len(x), time.perf_counter() - begin)
            return accuracy
        finally:
            numba.set_num_threads(most)

    def sync_params(self) -> None:
        """Do nothing: the iterations update the network's parameters directly."""

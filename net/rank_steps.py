"""The iterations of training on several processes.

Synchronous data-parallel gradient descent. Every rank draws the same batches, takes the gradient of
those of the examples that lie in its part of the data, and divides by the size of the whole batch;
the sum over the ranks is the gradient of the batch, and every rank makes the same update.

An iteration sends one message, of the gradient of all parameters, the loss of the batch before with
the new weights, and whether something went wrong. While it is under way, the next batch is fetched.
It is not cut into pieces: nearly all of it is the gradient of `W1`, which is computed last.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numba
import numpy as np

from net.steps import STRETCH, Examples
from net.two_layer_net import TwoLayerNet

if TYPE_CHECKING:
    from net.ranks import Ranks

T = TypeVar("T")

# The end of the message.
LOSS, FAILED = -2, -1


class RankSteps:
    """Iterations on all ranks, for any layers.

    Parameters
    ----------
    network, sets, batch_size, rate, random
        As for `net.steps.choose`; the sets are this rank's parts.
    ranks : Ranks
    """

    def __init__(
        self,
        network: TwoLayerNet,
        sets: list[Examples],
        batch_size: int,
        rate: float,
        random: Any,
        ranks: "Ranks",
    ):
        self.network, self.sets, self.ranks = network, sets, ranks
        self.batch_size, self.rate, self.random = batch_size, rate, random
        counts = ranks.counts[0]
        self.total, self.start = sum(counts), sum(counts[: ranks.rank])
        self.threads: dict[int, int] = {}
        values = dict(network.params)
        sizes = [value.size for value in values.values()]
        self.message = np.zeros(sum(sizes) + 2, np.result_type(*values.values()))
        pieces = np.split(self.message, np.cumsum(sizes))
        self.grads = {
            key: piece.reshape(value.shape)
            for (key, value), piece in zip(values.items(), pieces[:-1], strict=True)
        }
        self.loss = 0.0
        self.error: BaseException | None = None

    def advance(self, count: int) -> Iterator[list[float]]:
        """Do some iterations, and give the loss of each."""
        batches, following = self._batches(count), None
        batch = self._attempt(next, batches)
        for i in range(count):
            self._attempt(self._gradient, batch)
            self.message[LOSS] = self.loss
            self.message[FAILED] = self.error is not None or self.ranks.interrupted
            sending = self.ranks.sum(self.message)
            if i + 1 < count:
                following = self._attempt(next, batches)
            sending.Wait()
            if i > 0:
                yield [float(self.message[LOSS])]
            if self.message[FAILED]:
                self.ranks.settle(self.error)
            self._attempt(self._update, batch)
            batch = following
        self.ranks.settle(self.error)
        yield [sum(self.ranks.gather(self.loss))]
        threads = numba.get_num_threads()
        self.threads[threads] = self.threads.get(threads, 0) + count

    def _attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """Call a function, unless something failed before; an error waits for the next message."""
        if self.error is None:
            try:
                return function(*args)
            except BaseException as error:
                self.error = error
        return None

    def _batches(self, count: int) -> Iterator[Examples]:
        """Draw batches as one process would, and give what is this rank's of each."""
        x, t = self.sets[0]
        for done in range(0, count, STRETCH):
            length = min(STRETCH, count - done)
            for drawn in self.random.choice(self.total, (length, self.batch_size)):
                mask = drawn - self.start
                mask = mask[(mask >= 0) & (mask < len(x))]
                yield x[mask], t[mask]

    def _gradient(self, batch: Examples) -> None:
        """Put this rank's share of the gradient into the message."""
        x, t = batch
        if not len(x):
            self.message[:LOSS] = 0
            return
        for key, grad in self.network.gradient(x, t).items():
            np.multiply(grad, len(x) / self.batch_size, out=self.grads[key])

    def _update(self, batch: Examples) -> None:
        """Update the parameters by the message, and take this rank's share of the new loss."""
        x, t = batch
        for key, grad in self.grads.items():
            grad *= self.rate  # in place: nobody reads it again
            self.network.params[key] -= grad
        self.loss = self.network.loss(x, t) * len(x) / self.batch_size if len(x) else 0.0

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""
        return self.ranks.accuracy(self.network, *self.sets[which])

    def store(self) -> None:
        """Nothing to do: the layers compute with the network's parameters."""

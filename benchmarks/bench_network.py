"""The lecture's network, 784-50-10: a batch of 100, its training loop, and `train`."""

import numpy as np

from benchmarks.bench_base import (
    CLASSES,
    DTYPES,
    HIDDEN,
    PIXELS,
    Call,
    images,
    labels,
    set_threads,
)
from net import History, TwoLayerNet, train

BATCH, IMAGES = 100, 6_000
THREADS = ["1", "all"]


def new_network(dtype: str) -> TwoLayerNet:
    """Return the network with weights that are the same at every call."""
    rng = np.random.default_rng(0)
    return TwoLayerNet(PIXELS, HIDDEN, CLASSES, dtype=np.dtype(dtype), rng=rng)


def lecture_loop(
    network: TwoLayerNet, x_train: np.ndarray, t_train: np.ndarray, iterations: int = 200
) -> float:
    """Train as the lecture does, step by step in Python; return the last loss."""
    rng = np.random.default_rng(1)
    for _ in range(iterations):
        batch_mask = rng.choice(len(x_train), BATCH)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        grad = network.gradient(x_batch, t_batch)
        for key in ("W1", "b1", "W2", "b2"):
            network.params[key] -= 0.1 * grad[key]
        loss = network.loss(x_batch, t_batch)
    return loss


def run_train(
    network: TwoLayerNet, x_train: np.ndarray, t_train: np.ndarray, iterations: int = 200
) -> History:
    """Train with `net.train`."""
    rng = np.random.default_rng(1)
    return train(network, x_train, t_train, iterations=iterations, batch_size=BATCH, rng=rng)


class NetworkCall(Call):
    """A method of the network, on one batch."""

    params = (DTYPES, THREADS)
    param_names = ("dtype", "threads")


class Loss(NetworkCall):
    """The loss of one batch."""

    def setup(self, dtype: str, threads: str) -> None:
        network = new_network(dtype)
        self.prepare(network.loss, images(BATCH, dtype), labels(BATCH), threads=threads)


class Gradient(NetworkCall):
    """All gradients of one batch, forward and backward."""

    def setup(self, dtype: str, threads: str) -> None:
        network = new_network(dtype)
        self.prepare(network.gradient, images(BATCH, dtype), labels(BATCH), threads=threads)


class Loop:
    """200 iterations, in the lecture's own loop and in `train`, from the same weights."""

    params = (DTYPES, THREADS)
    param_names = ("dtype", "threads")

    def setup(self, dtype: str, threads: str) -> None:
        set_threads(threads)
        self.data = images(IMAGES, dtype), labels(IMAGES)
        if not hasattr(self, "network"):
            lecture_loop(new_network(dtype), *self.data, iterations=1)
            run_train(new_network(dtype), *self.data, iterations=1)
        self.network = new_network(dtype)

    def time_lecture_loop(self, dtype: str, threads: str) -> None:
        lecture_loop(self.network, *self.data)

    def time_train(self, dtype: str, threads: str) -> None:
        run_train(self.network, *self.data)


class Memory:
    """The largest size of the process, Numba and the data included."""

    params = (DTYPES,)
    param_names = ("dtype",)

    def setup_cache(self) -> None:
        """Fill the disk cache in another process, so that no compiler's memory is counted."""
        for dtype in DTYPES:
            self.peakmem_gradient(dtype)
            self.peakmem_train(dtype)

    def peakmem_gradient(self, dtype: str) -> None:
        new_network(dtype).gradient(images(10_000, dtype), labels(10_000))

    def peakmem_train(self, dtype: str) -> None:
        run_train(new_network(dtype), images(IMAGES, dtype), labels(IMAGES))

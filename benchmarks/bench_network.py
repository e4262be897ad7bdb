"""The lecture's network, 784-50-10: its methods, its training loop, and `train`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench_base import (
    CLASSES,
    DTYPES,
    HIDDEN,
    PIXELS,
    THREADS,
    Timed,
    images,
    labels,
    normal,
    set_threads,
)
from net import History, TwoLayerNet, load_mnist, train

BATCH, IMAGES, ITERATIONS = 100, 6_000, 200


def new_network(dtype: str, hidden: int = HIDDEN) -> TwoLayerNet:
    """Return the network with weights that are the same at every call."""
    rng = np.random.default_rng(0)
    return TwoLayerNet(PIXELS, hidden, CLASSES, dtype=np.dtype(dtype), rng=rng)


def lecture_loop(network: TwoLayerNet, x_train: np.ndarray, t_train: np.ndarray) -> float:
    """Train as the lecture does, step by step in Python; return the last loss."""
    rng = np.random.default_rng(1)
    for _ in range(ITERATIONS):
        batch_mask = rng.choice(len(x_train), BATCH)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        grad = network.gradient(x_batch, t_batch)
        for key in ("W1", "b1", "W2", "b2"):
            network.params[key] -= 0.1 * grad[key]
        loss = network.loss(x_batch, t_batch)
    return loss


def run_train(network: TwoLayerNet, x_train: np.ndarray, t_train: np.ndarray) -> History:
    """Train with `net.train`."""
    rng = np.random.default_rng(1)
    return train(network, x_train, t_train, iterations=ITERATIONS, batch_size=BATCH, rng=rng)


class Network(Timed):
    """Something that the network does."""

    params: tuple[list[str], ...] = (DTYPES, THREADS)
    param_names: tuple[str, ...] = ("dtype", "threads")


class Loss(Network):
    """The loss of one batch."""

    def make(self, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        return partial(new_network(dtype).loss, images(BATCH, dtype), labels(BATCH))


class Gradient(Network):
    """All gradients of one batch, forward and backward."""

    def make(self, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        return partial(new_network(dtype).gradient, images(BATCH, dtype), labels(BATCH))


class LectureLoop(Network):
    """200 iterations of the lecture's own loop."""

    def make(self, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        data = images(IMAGES, dtype), labels(IMAGES)
        return lambda: lecture_loop(new_network(dtype), *data)


class Train(Network):
    """200 iterations of `train`, on images with MNIST's zeros and on data without any."""

    params = (DTYPES, THREADS, ["sparse", "dense"])
    param_names = ("dtype", "threads", "data")

    def make(self, dtype: str, threads: str, data: str) -> Callable[[], Any]:
        set_threads(threads)
        x = images(IMAGES, dtype) if data == "sparse" else normal(IMAGES, PIXELS, dtype=dtype)
        return lambda: run_train(new_network(dtype), x, labels(IMAGES))


class Evaluation(Network):
    """The accuracy on as many images as MNIST's test set has."""

    def make(self, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        return partial(new_network(dtype).accuracy, images(10_000, dtype), labels(10_000))


class NumericalGradient(Network):
    """The gradient check of a network with 10 hidden units, 7,960 parameters, on three images."""

    def make(self, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        return partial(new_network(dtype, 10).numerical_gradient, images(3, dtype), labels(3))


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


class Accuracy:
    """What `train` learns from MNIST in 3,000 iterations, always the same batches."""

    params = (DTYPES,)
    param_names = ("dtype",)
    unit = "errors"

    def track_test_errors(self, dtype: str) -> int:
        """Return how many of the 10,000 test images are taken for something else.

        asv takes lower as better, so these are the errors and not the accuracy.
        """
        (x_train, t_train), (x_test, t_test) = load_mnist()
        network = new_network(dtype)
        train(network, x_train, t_train, iterations=3_000, rng=1)
        return round(len(x_test) * (1 - network.accuracy(x_test, t_test)))

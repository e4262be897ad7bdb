"""The lecture's network, 784-50-10: its methods, `train`, memory, and test errors."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks._asv import DTYPES, THREADS, Timed, set_threads
from benchmarks._jobs import images, load, two_layer_net
from benchmarks._operations import labels, normal
from net import load_mnist, train

ITERATIONS = 200


class Method(Timed):
    """Time of a method of the network on a batch of 100 images.

    `accuracy` takes 10,000 images; `numerical_gradient` takes 3 images and 10 hidden units.
    """

    params = (["loss", "gradient", "accuracy", "numerical_gradient"], DTYPES, THREADS)
    param_names = ("method", "dtype", "threads")

    def make(self, method: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        network = two_layer_net(dtype, 10 if method == "numerical_gradient" else 50)
        batch = {"accuracy": 10_000, "numerical_gradient": 3}.get(method, 100)
        return partial(getattr(network, method), images(batch, dtype), labels(batch))


class Train(Timed):
    """Time of 200 iterations of `train`, on images as sparse as MNIST's and on dense data."""

    params = (DTYPES, THREADS, ["sparse", "dense"])
    param_names = ("dtype", "threads", "data")

    def make(self, dtype: str, threads: str, data: str) -> Callable[[], Any]:
        set_threads(threads)
        x = images(6000, dtype) if data == "sparse" else normal(6000, 784, dtype=dtype)
        return lambda: train(two_layer_net(dtype), x, labels(6000), iterations=ITERATIONS, rng=1)


class Memory:
    """Peak memory of the process, including Numba and the data."""

    params = (DTYPES,)
    param_names = ("dtype",)

    def setup_cache(self) -> None:
        """Fill the disk cache in another process, so that no compiler's memory is counted."""
        for dtype in DTYPES:
            self.peakmem_gradient(dtype)
            self.peakmem_train(dtype)

    def peakmem_gradient(self, dtype: str) -> None:
        two_layer_net(dtype).gradient(images(10_000, dtype), labels(10_000))

    def peakmem_train(self, dtype: str) -> None:
        train(two_layer_net(dtype), *load("synthetic")[:2], iterations=ITERATIONS, rng=1)


class Accuracy:
    """Test errors after 3,000 iterations of `train` on MNIST, with fixed batches."""

    params = (DTYPES,)
    param_names = ("dtype",)
    unit = "errors"

    def track_test_errors(self, dtype: str) -> int:
        """Return how many of the 10,000 test images are taken for something else.

        asv takes lower as better, so these are the errors and not the accuracy.
        """
        (x_train, t_train), (x_test, t_test) = load_mnist()
        network = two_layer_net(dtype)
        train(network, x_train, t_train, iterations=3_000, rng=1)
        return round(len(x_test) * (1 - network.accuracy(x_test, t_test)))

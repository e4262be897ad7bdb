"""Speed of the kernels, and the difference of their results from NumPy."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks._asv import DTYPES, THREADS, Timed, set_threads
from benchmarks._operations import CONVOLUTIONAL, OPERATIONS, difference, ours

BATCHES = [1, 100, 1000]
LAYERS = {
    "1x28x28 30x5x5": (100, 1, 28, 28, 30, 5),
    "16x28x28 16x3x3": (100, 16, 28, 28, 16, 3),
    "32x14x14 32x3x3": (100, 32, 14, 14, 32, 3),
    "64x8x8 64x3x3": (100, 64, 8, 8, 64, 3),
}
"""Batch, channels, height, width, filters and filter size; 3 x 3 filters have a pad of 1."""
OF_IMAGES = ["convolution_forward", "convolution_backward", "max_pool_forward"]
UPDATES = [name for name in OPERATIONS if name.endswith("_update")]
OF_BATCHES = [name for name in OPERATIONS if name not in [*OF_IMAGES, *UPDATES]]


def shape(operation: str, size: Any) -> tuple[int, ...]:
    """Return the shape for an operation: of the lecture's layers, of parameters, or of images."""
    if operation in OF_IMAGES:
        return LAYERS[size][:4] if operation.startswith("max_pool") else LAYERS[size]
    if operation in UPDATES:
        return (size,)
    if operation.startswith("affine"):
        return size, 784, 50
    return (size, 10) if operation.startswith("softmax") else (size, 50)


class Kernel(Timed):
    """Time of a kernel on a batch of the lecture's network."""

    params: tuple[list[Any], ...] = (OF_BATCHES, BATCHES, DTYPES, THREADS)
    param_names = ("operation", "size", "dtype", "threads")

    def make(self, operation: str, size: Any, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        arguments = OPERATIONS[operation].arguments(*shape(operation, size), dtype=dtype)
        return partial(ours(operation), *arguments)


class Update(Kernel):
    """Time of updating the lecture's first layer, or all parameters of SimpleConvNet."""

    params = (UPDATES, [784 * 50, CONVOLUTIONAL], DTYPES, THREADS)


class Images(Kernel):
    """Time of convolution and pooling of 100 images in layers of the course's networks."""

    params = (OF_IMAGES, list(LAYERS), DTYPES, THREADS)


class Correctness:
    """Largest relative difference from NumPy over sizes and numbers of threads.

    It shows a kernel that is fast but wrong.
    """

    params = (list(OPERATIONS), DTYPES)
    param_names = ("operation", "dtype")
    unit = "of the largest value"

    def track_difference(self, operation: str, dtype: str) -> float:
        sizes: list[Any] = [1000] if operation in UPDATES else BATCHES
        if operation in OF_IMAGES:
            sizes = list(LAYERS)
        worst = 0.0
        for threads in THREADS:
            set_threads(threads)
            for size in sizes:
                worst = max(worst, difference(operation, shape(operation, size), dtype))
        return worst

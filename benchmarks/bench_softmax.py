"""Softmax and its cross-entropy on ten classes."""

import numpy as np

from benchmarks.bench_base import CLASSES, KernelCall, labels, normal
from kernels import softmax, softmax_cross_entropy_backward, softmax_cross_entropy_forward


class Softmax(KernelCall):
    """Probabilities from logits."""

    def setup(self, batch: int, dtype: str) -> None:
        self.prepare(softmax, normal(batch, CLASSES, dtype=dtype))


class SoftmaxCrossEntropyForward(KernelCall):
    """The mean loss and the probabilities, from logits and class indices."""

    def setup(self, batch: int, dtype: str) -> None:
        self.prepare(
            softmax_cross_entropy_forward, normal(batch, CLASSES, dtype=dtype), labels(batch)
        )


class SoftmaxCrossEntropyBackward(KernelCall):
    """The gradient of the logits."""

    def setup(self, batch: int, dtype: str) -> None:
        y = np.full((batch, CLASSES), 1 / CLASSES, dtype=dtype)
        self.prepare(softmax_cross_entropy_backward, y, labels(batch))

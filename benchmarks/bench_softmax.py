"""Softmax and its cross-entropy on ten classes."""

from typing import Any

import numpy as np

import kernels
from benchmarks.bench_base import CLASSES, Kernel, labels, normal


class Softmax(Kernel):
    """Probabilities from logits."""

    kernel = staticmethod(kernels.softmax)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        return (normal(batch, CLASSES, dtype=dtype),)


class SoftmaxCrossEntropyForward(Kernel):
    """The mean loss and the probabilities, from logits and class indices."""

    kernel = staticmethod(kernels.softmax_cross_entropy_forward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        return normal(batch, CLASSES, dtype=dtype), labels(batch)


class SoftmaxCrossEntropyBackward(Kernel):
    """The gradient of the logits."""

    kernel = staticmethod(kernels.softmax_cross_entropy_backward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        y = abs(normal(batch, CLASSES, dtype=dtype))
        return np.divide(y, y.sum(axis=1, keepdims=True)), labels(batch)

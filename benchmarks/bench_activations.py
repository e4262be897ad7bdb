"""ReLU and sigmoid on a hidden layer."""

from typing import Any

import kernels
from benchmarks.bench_base import HIDDEN, Kernel, normal


class ReluForward(Kernel):
    """The positive part, and the mask of the rest."""

    kernel = staticmethod(kernels.relu_forward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        return (normal(batch, HIDDEN, dtype=dtype),)


class ReluBackward(Kernel):
    """The gradient where the mask lets it through."""

    kernel = staticmethod(kernels.relu_backward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        dout = normal(batch, HIDDEN, dtype=dtype)
        return dout, dout[::-1] <= 0


class SigmoidForward(Kernel):
    """One exponential an element."""

    kernel = staticmethod(kernels.sigmoid_forward)
    arguments = ReluForward.arguments


class SigmoidBackward(Kernel):
    """The gradient, from the output."""

    kernel = staticmethod(kernels.sigmoid_backward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        dout = normal(batch, HIDDEN, dtype=dtype)
        return dout, 1 / (1 + abs(dout))

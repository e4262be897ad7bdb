"""ReLU and sigmoid on a hidden layer."""

from benchmarks.bench_base import HIDDEN, KernelCall, normal
from kernels import relu_backward, relu_forward, sigmoid_backward, sigmoid_forward


class ReluForward(KernelCall):
    """The positive part, and the mask of the rest."""

    def setup(self, batch: int, dtype: str) -> None:
        self.prepare(relu_forward, normal(batch, HIDDEN, dtype=dtype))


class ReluBackward(KernelCall):
    """The gradient where the mask lets it through."""

    def setup(self, batch: int, dtype: str) -> None:
        x = normal(batch, HIDDEN, dtype=dtype)
        self.prepare(relu_backward, x, x <= 0)


class SigmoidForward(KernelCall):
    """One exponential an element."""

    def setup(self, batch: int, dtype: str) -> None:
        self.prepare(sigmoid_forward, normal(batch, HIDDEN, dtype=dtype))


class SigmoidBackward(KernelCall):
    """The gradient, from the output."""

    def setup(self, batch: int, dtype: str) -> None:
        dout = normal(batch, HIDDEN, dtype=dtype)
        self.prepare(sigmoid_backward, dout, 1 / (1 + abs(dout)))

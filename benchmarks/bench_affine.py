"""The affine kernels on the shapes of the first layer."""

from benchmarks.bench_base import HIDDEN, PIXELS, KernelCall, normal
from kernels import affine_backward, affine_forward


class AffineForward(KernelCall):
    """``out = x W + b``."""

    def setup(self, batch: int, dtype: str) -> None:
        x, W, b = (normal(*s, dtype=dtype) for s in [(batch, PIXELS), (PIXELS, HIDDEN), (HIDDEN,)])
        self.prepare(affine_forward, x, W, b)


class AffineBackward(KernelCall):
    """The gradients of input, weights and bias."""

    def setup(self, batch: int, dtype: str) -> None:
        dout, x, W = (
            normal(*s, dtype=dtype) for s in [(batch, HIDDEN), (batch, PIXELS), (PIXELS, HIDDEN)]
        )
        self.prepare(affine_backward, dout, x, W)

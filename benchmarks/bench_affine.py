"""The affine kernels on the shapes of the first layer."""

from typing import Any

import kernels
from benchmarks.bench_base import HIDDEN, PIXELS, Kernel, normal


class AffineForward(Kernel):
    """``out = x W + b``."""

    kernel = staticmethod(kernels.affine_forward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        shapes = (batch, PIXELS), (PIXELS, HIDDEN), (HIDDEN,)
        return tuple(normal(*shape, dtype=dtype) for shape in shapes)


class AffineBackward(Kernel):
    """The gradients of input, weights and bias."""

    kernel = staticmethod(kernels.affine_backward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        shapes = (batch, HIDDEN), (batch, PIXELS), (PIXELS, HIDDEN)
        return tuple(normal(*shape, dtype=dtype) for shape in shapes)


class AffineGradient(Kernel):
    """The gradients of weights and bias alone."""

    kernel = staticmethod(kernels.affine_backward_params)
    arguments = AffineBackward.arguments

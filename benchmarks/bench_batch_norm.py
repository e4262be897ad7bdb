"""Batch normalisation and dropout of a hidden layer and of a convolution's output."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import kernels
from benchmarks.bench_base import HIDDEN, Kernel, normal
from benchmarks.bench_peers import BesidePeers

IMAGES = (100, 30, 24, 24)
"""Output of the first convolution of the course's SimpleConvNet."""


@cache
def arguments(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, ...]:
    """Return a batch, its gradient, scale and shift, and the batch's mean and variance."""
    x, dout = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype)[::-1].copy()
    gamma, beta = normal(2, shape[1], dtype=dtype)
    _, mean, var = kernels.batch_norm_forward(x, gamma, beta)
    return x, dout, gamma, beta, mean, var


class BatchNormForward(Kernel):
    """Training: statistics of the batch, and the batch normalised by them."""

    kernel = staticmethod(kernels.batch_norm_forward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        x, _, gamma, beta, _, _ = arguments((batch, HIDDEN), dtype)
        return x, gamma, beta


class BatchNormInference(Kernel):
    """Normalisation by given statistics."""

    kernel = staticmethod(kernels.batch_norm_inference)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        x, _, gamma, beta, mean, var = arguments((batch, HIDDEN), dtype)
        return x, gamma, beta, mean, var + 1  # that of a batch of one is 0


class BatchNormBackward(Kernel):
    """Three gradients."""

    kernel = staticmethod(kernels.batch_norm_backward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        x, dout, gamma, _, mean, var = arguments((batch, HIDDEN), dtype)
        return dout, x, gamma, mean, var + 1


class DropoutForward(Kernel):
    """A product with a mask."""

    kernel = staticmethod(kernels.dropout_forward)

    def arguments(self, batch: int, dtype: str) -> tuple[Any, ...]:
        x = normal(batch, HIDDEN, dtype=dtype)
        return x, x[::-1] > 0


def numpy_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Any:
    """Return the result in NumPy."""
    columns = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    mean = columns.mean(axis=0)
    xc = columns - mean
    var = np.mean(xc**2, axis=0)
    return gamma * (xc / np.sqrt(var + 1e-6)) + beta, mean, var


class BatchNormOfImages(BesidePeers):
    """Forward in training, for the output of a convolution, in each library."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        x, _, gamma, beta, _, _ = arguments(IMAGES, dtype)
        if library == "ours":
            return partial(kernels.batch_norm_forward, x, gamma, beta)
        if library == "numpy":
            return partial(numpy_forward, x, gamma, beta)
        if library == "torch":
            import torch

            tensors = [torch.from_numpy(a) for a in (x, gamma, beta)]
            return partial(torch.native_batch_norm, *tensors, None, None, True, 0.1, 1e-6)
        raise NotImplementedError(f"{library} has no batch normalisation of its own")


class BatchNormOfImagesBackward(BesidePeers):
    """Its gradients."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        x, dout, gamma, _, mean, var = arguments(IMAGES, dtype)
        if library == "ours":
            return partial(kernels.batch_norm_backward, dout, x, gamma, mean, var)
        if library == "torch":
            import torch

            scale = (1 / np.sqrt(var + 1e-6)).astype(dtype)
            d, x, g, m, s = map(torch.from_numpy, (dout, x, gamma, mean.astype(dtype), scale))
            backward = torch.ops.aten.native_batch_norm_backward
            return partial(backward, d, x, g, None, None, m, s, True, 1e-6, [True] * 3)
        raise NotImplementedError(f"{library} has no backward pass in one call")

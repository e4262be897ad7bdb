"""Convolution and pooling on the layers of the course's two convolutional networks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import kernels
from benchmarks.bench_base import DTYPES, THREADS, Timed, normal, set_threads
from kernels._convolution_block import (
    convolution_relu_pool_backward,
    convolution_relu_pool_forward,
)

BATCH = 100
LAYERS = ["1x28x28 30x5x5", "16x28x28 16x3x3", "32x14x14 32x3x3", "64x8x8 64x3x3"]
"""Channels, height and width, and filters and their size; those of 3 x 3 have a pad of 1."""


def operands(layer: str, dtype: str) -> tuple[Any, ...]:
    """Return images with the channels last in memory, filters, bias and the pad."""
    (c, h, w), (filters, fh, fw) = (map(int, part.split("x")) for part in layer.split())
    x = normal(BATCH, h, w, c, dtype=dtype).transpose(0, 3, 1, 2)
    return x, normal(filters, c, fh, fw, dtype=dtype), normal(filters, dtype=dtype), int(fh == 3)


class Layer(Timed):
    """A kernel on one layer."""

    params = (LAYERS, DTYPES, THREADS)
    param_names = ("layer", "dtype", "threads")


class ConvolutionForward(Layer):
    """The output of a convolution."""

    def make(self, layer: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        x, W, b, pad = operands(layer, dtype)
        return partial(kernels.convolution_forward, x, W, b, 1, pad)


class ConvolutionBackward(Layer):
    """The gradients of input, filters and bias."""

    def make(self, layer: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        x, W, b, pad = operands(layer, dtype)
        dout = np.ones_like(kernels.convolution_forward(x, W, b, 1, pad))
        return partial(kernels.convolution_backward, dout, x, W, 1, pad)


class FusedForward(Layer):
    """Convolution, ReLU and pooling in one pass."""

    def make(self, layer: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        x, W, b, pad = operands(layer, dtype)
        return partial(convolution_relu_pool_forward, x, W, b, 1, pad)


class FusedBackward(Layer):
    """The gradients of filters and bias from that of the pooled output."""

    def make(self, layer: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        x, W, b, pad = operands(layer, dtype)
        out, arg = convolution_relu_pool_forward(x, W, b, 1, pad)
        return partial(convolution_relu_pool_backward, out, arg, x, W, 1, pad, input_gradient=False)


class MaxPoolForward(Layer):
    """Maxima of windows of 2 x 2, and where they are."""

    def make(self, layer: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        x = operands(layer, dtype)[0]
        return partial(kernels.max_pool_forward, x, 2, 2, 2)


class MaxPoolBackward(Layer):
    """The gradient of the input of a pooling."""

    def make(self, layer: str, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        x = operands(layer, dtype)[0]
        out, arg_max = kernels.max_pool_forward(x, 2, 2, 2)
        return partial(kernels.max_pool_backward, out, arg_max, x.shape, 2, 2, 2)

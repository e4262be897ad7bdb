"""Batch normalisation per channel, for images whose channels come last in memory.

The elements of a channel have stride C there. So a pass over memory sums every column of the matrix
(N, H W C). The sums of the columns of each channel are added afterwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kernels._arrays import Array, as_kernel_array, as_real
from kernels._columns import gradient, normalise, sum_columns, sum_products, sum_squares
from kernels._compiler import by_address
from kernels._function_pointers import get_function_address, run_chunks
from kernels._threads import MIN_PARALLEL_SIZE

CHUNK = 512
"""Columns per chunk."""


def as_batch(a: ArrayLike, name: str, gamma: Array) -> tuple[Array, bool]:
    """Convert a batch to the dtype of `gamma`; return whether its channels come last in memory.

    Images whose channels come last in memory keep that order if they are normalised per channel.
    """
    a = as_real(a, name)
    if a.ndim > 2 and gamma.shape == a.shape[1:2] and not a.flags.c_contiguous:
        pixels = pixels_of(a)
        if pixels.flags.c_contiguous:
            return np.moveaxis(as_kernel_array(pixels, gamma.dtype, name), -1, 1), True
    return as_kernel_array(a, gamma.dtype, name), False


def pixels_of(a: Array) -> Array:
    """Return images with their channels as the last axis."""
    return np.moveaxis(a, 1, -1)


def images_of(memory: Array, shape: tuple[int, ...]) -> Array:
    """Return images (N, C, ...) as a view of memory in which the channels come last."""
    return np.moveaxis(memory.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


class _Pass(NamedTuple):
    x: Array  # (N, M), M is H W C
    dout: Array  # (N, M), or empty
    out: Array  # (N, M), or empty
    vectors: Array  # float64 (k, M): k values for each column, such as means and sums


@by_address
def _sum(args, start, stop):
    sum_columns(args.x, start, args.vectors[0][start:stop])


@by_address
def _sum_squares(args, start, stop):
    v = args.vectors
    sum_squares(args.x, start, v[0][start:stop], v[1][start:stop])


@by_address
def _sum_products(args, start, stop):
    v = args.vectors
    sum_products(args.dout, args.x, start, v[0][start:stop], v[1][start:stop], v[2][start:stop])


@by_address
def _normalise(args, start, stop):
    v = args.vectors
    normalise(args.x, start, v[0][start:stop], v[1][start:stop], v[2][start:stop], args.out)


@by_address
def _gradient(args, start, stop):
    v = args.vectors
    gradient(args.dout, args.x, start, v[0][start:stop], v[1][start:stop], v[2][start:stop],
        v[3][start:stop], args.out)  # fmt: skip


def _run(kernel: Any, x: Array, dout: Array, out: Array, channels: list[Array]) -> Array:
    """Call a kernel for all columns, and return its vectors (k, H W, C).

    The vectors are initialised from `channels`; the kernel adds its sums to some of them.
    """
    columns = x.shape[1]
    vectors = np.empty((len(channels), columns))
    by_pixel = vectors.reshape(len(channels), -1, channels[0].size)
    for vector, values in zip(by_pixel, channels, strict=True):
        vector[...] = values
    args = _Pass(x, dout, out, vectors)
    address = get_function_address(kernel, args, x.dtype)
    run_chunks(address, args, columns, CHUNK, x.size >= MIN_PARALLEL_SIZE)
    return by_pixel


def forward_images(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, given: bool, epsilon: float
) -> Array:
    """Return the output, and fill `mean` and `var` unless `given` is true."""
    none, out, zeros = np.empty((0, 0), x.dtype), np.empty_like(x), np.zeros(gamma.size)
    count = x.size / gamma.size
    with np.errstate(all="ignore"):
        if not given:
            mean[...] = _run(_sum, x, none, none, [zeros])[0].sum(axis=0) / count
            var[...] = _run(_sum_squares, x, none, none, [mean, zeros])[1].sum(axis=0) / count
        _run(_normalise, x, none, out, [mean, gamma / np.sqrt(var + epsilon), beta])
    return out


def backward_images(
    dout: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    """Return the gradients of `x`, `gamma` and `beta`."""
    none, dx, zeros = np.empty((0, 0), x.dtype), np.empty_like(x), np.zeros(gamma.size)
    count = x.size / gamma.size
    with np.errstate(all="ignore"):
        vectors = _run(_sum_products, x, dout, none, [mean, zeros, zeros])
        sums, products = vectors[1].sum(axis=0), vectors[2].sum(axis=0)
        std = np.sqrt(var + epsilon)
        shift, slope = sums / count, products / (std * std * count)
        _run(_gradient, x, dout, dx, [mean, gamma / std, shift, slope])
        return dx, (products / std).astype(x.dtype), sums.astype(x.dtype)

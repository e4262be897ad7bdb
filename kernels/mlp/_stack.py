"""Forward and backward pass of a stack of affine layers and activations, by ranges of examples.

One compiled code serves all depths and sizes: sizes and activations are arrays, and parameters,
activations and gradients are found by a table of addresses. All layers go by the product, and by
the formulas, of the layers' own kernels, so that the bits are theirs.
"""

from typing import NamedTuple

import numpy as np

from kernels._arrays import Array
from kernels._cache import njit
from kernels._exp import exp
from kernels._gemm import gemm_block_at
from kernels._microkernel import matrix_at

IDENTITY, RELU, SIGMOID = (np.int64(code) for code in range(3))
"""Activations: nothing between two affine layers, ReLU, sigmoid."""

# Columns of the table of addresses, a row for each affine layer: its parameters, its output after
# the activation, the gradient with respect to its output before it, those of its parameters.
WEIGHT, BIAS, OUTPUT, DOUT, D_WEIGHT, D_BIAS = (np.int64(column) for column in range(6))
NUM_FIELDS = 6


class Stack(NamedTuple):
    """A network, as compiled code sees it. ``L`` affine layers."""

    sizes: Array  # int64 (L + 1,): columns of the input, then of each layer's output
    units: Array  # int64 (L + 1,): how many of them are used; the others stay 0
    activations: Array  # int64 (L,): after each layer; IDENTITY after the last
    table: Array  # int64 (L, NUM_FIELDS)
    first: tuple[int, ...]  # product addresses of the first layer: its input may be narrower
    rest: tuple[int, ...]  # of the others
    zeros: Array  # at least as many as the largest size
    values: Array  # (256,): what uint8 input stands for, where its zeros are skipped; or empty


@njit(nogil=True)
def field(net, layer, column, n):
    """An array of the table: parameters and their gradients, or one of `n` examples."""
    m = net.sizes[layer + 1]
    if column in (WEIGHT, D_WEIGHT):
        n = net.sizes[layer]
    elif column in (BIAS, D_BIAS):
        n = np.int64(1)
    return matrix_at(net.table[layer, column], n, m, net.zeros)


@njit(nogil=True, error_model="numpy")
def _activate(code, a):
    zero, one = a.dtype.type(0), a.dtype.type(1)
    if code == RELU:
        for i in range(a.size):
            a[i] = zero if a[i] <= zero else a[i]
    elif code == SIGMOID:
        for i in range(a.size):
            e = exp(-abs(a[i]))
            a[i] = (one if a[i] >= zero else e) / (one + e)


@njit(nogil=True)
def _deactivate(code, dout, a):
    """Multiply a gradient by the derivative of the activation whose output is `a`."""
    zero, one = a.dtype.type(0), a.dtype.type(1)
    if code == RELU:
        for i in range(a.size):
            dout[i] = zero if a[i] == zero else dout[i]
    elif code == SIGMOID:
        for i in range(a.size):
            dout[i] = dout[i] * (one - a[i]) * a[i]


@njit(nogil=True)
def forward_rows(net, x, r0, r1, start, skip):
    """Compute the outputs of layers from `start` on for examples `r0` to `r1`.

    `x` is the batch, whose zeros are skipped or not; its rows are read by the first layer alone.
    """
    n, none = x.shape[0], np.int64(0)
    for layer in range(start, net.activations.size):
        k, m = net.sizes[layer], net.sizes[layer + 1]
        W, b, out = net.table[layer, WEIGHT], net.table[layer, BIAS], net.table[layer, OUTPUT]
        if layer:
            a = net.table[layer - 1, OUTPUT]
            gemm_block_at(net.rest, a, none, W, none, b, out, n, k, m, r0, r1, none, m, none,
                none, net.zeros, net.zeros)  # fmt: skip
        else:
            values = np.int64(net.values.ctypes.data) if net.values.size else none
            gemm_block_at(net.first, x.ctypes.data, none, W, none, b, out, n, k, m, r0, r1, none,
                m, skip, values, x, net.zeros)  # fmt: skip
        activate_rows(net, layer, r0, r1)


@njit(nogil=True)
def activate_rows(net, layer, r0, r1):
    """Apply a layer's activation to the outputs of examples `r0` to `r1`."""
    m, units = net.sizes[layer + 1], net.units[layer + 1]
    at = net.table[layer, OUTPUT] + net.zeros.itemsize * r0 * m
    a = matrix_at(at, np.int64(1), (r1 - r0) * m, net.zeros)[0]
    _activate(net.activations[layer], a)
    for r in range(r1 - r0):
        for j in range(units, m):
            a[r * m + j] = 0


@njit(nogil=True)
def backward_rows(net, n, r0, r1):
    """Go from the gradient of the logits to those of all layers' outputs."""
    none, size = np.int64(0), net.zeros.itemsize
    for layer in range(net.activations.size - 1, 0, -1):
        d, m = net.sizes[layer], net.sizes[layer + 1]
        dout, dx = net.table[layer, DOUT], net.table[layer - 1, DOUT]
        gemm_block_at(net.rest, dout, none, net.table[layer, WEIGHT], np.int64(1),
            net.zeros.ctypes.data, dx, n, m, d, r0, r1, none, d, none, none,
            net.zeros, net.zeros)  # fmt: skip
        first, count = size * r0 * d, (r1 - r0) * d
        a = matrix_at(net.table[layer - 1, OUTPUT] + first, np.int64(1), count, net.zeros)[0]
        gradient = matrix_at(dx + first, np.int64(1), count, net.zeros)[0]
        _deactivate(net.activations[layer - 1], gradient, a)


@njit(nogil=True)
def column_sums(a, sums):
    """Sum the rows of `a`, in their order."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            sums[j] += a[i, j]


@njit(nogil=True)
def largest_of(row):
    """Return what NumPy's argmax does: the first of the largest, or the first NaN."""
    best = 0
    for j in range(1, row.size):
        if row[best] == row[best] and not row[j] <= row[best]:
            best = j
    return best

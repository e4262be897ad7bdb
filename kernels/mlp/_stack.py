"""Forward and backward pass of a stack of affine layers and activations, by ranges of examples.

The same compiled code serves all depths and sizes: a network is a table of integers that holds the
sizes of its layers and the addresses of their parameters, activations and gradients. All layers use
the matrix product and the formulas of the public kernels, so the results are bit-identical. (In
training, the first layer's sums are divided: see `kernels.mlp._parts`.)
"""

import numpy as np

from kernels._addresses import address_of, matrix_at
from kernels._compiler import inner
from kernels._exp import exp
from kernels._gemm import gemm_block_at

IDENTITY, RELU, SIGMOID = (np.int64(code) for code in range(3))
"""Activations: none, ReLU, sigmoid."""

# Columns of a network's table, which has a row for each affine layer. (Numba would unpack a tuple
# of arrays at each call, and compiling that takes longer than compiling all other code.)
INPUTS, OUTPUTS, UNITS, ACTIVATION = (np.int64(column) for column in range(4))
"""Number of inputs, of outputs with padding, and of outputs in use (the padding stays 0). Then the
activation after the layer, `IDENTITY` after the last layer."""
WEIGHT, BIAS, D_WEIGHT, D_BIAS = (np.int64(column) for column in range(4, 8))
"""Addresses of the parameters and of their gradients."""
OUTPUT, DOUT = (np.int64(column) for column in range(8, 10))
"""Addresses of the output after the activation, and of the gradient before the activation."""
DENSE_BLOCK, ROWS_BLOCK, TRANSPOSED_BLOCK, MULTIPLY, BY_BITS = (
    np.int64(column) for column in range(10, 15)
)
"""Addresses from `kernels._gemm.get_product_addresses`, for the dtype of the layer's input."""
VALUES = np.int64(15)
"""Address of the 256 values that codes of one byte stand for; 0 if the bytes are the values."""
ITEMSIZE, ROW_BITMAP = np.int64(16), np.int64(17)
"""Bytes of an input element, and the address from `kernels._bitmap.get_row_bitmap_address`."""
NUM_COLUMNS = 18


@inner
def rows_of(net, zeros, layer, column, r0, r1):
    """Return rows `r0` to `r1` of a layer's `OUTPUT` or `DOUT`, as the column says."""
    m = net[layer, OUTPUTS]
    return matrix_at(net[layer, column] + zeros.itemsize * r0 * m, r1 - r0, m, zeros)


@inner
def weights_of(net, zeros):
    """Return the first layer's weights."""
    return matrix_at(net[0, WEIGHT], net[0, INPUTS], net[0, OUTPUTS], zeros)


@inner(error_model="numpy")
def _activate(code, a):
    zero, one = a.dtype.type(0), a.dtype.type(1)
    if code == RELU:
        for i in range(a.size):
            a[i] = zero if a[i] <= zero else a[i]
    elif code == SIGMOID:
        for i in range(a.size):
            e = exp(-abs(a[i]))
            a[i] = (one if a[i] >= zero else e) / (one + e)


@inner
def _deactivate(code, dout, a):
    """Multiply a gradient by the derivative of the activation whose output is `a`."""
    zero, one = a.dtype.type(0), a.dtype.type(1)
    if code == RELU:
        for i in range(a.size):
            dout[i] = zero if a[i] == zero else dout[i]
    elif code == SIGMOID:
        for i in range(a.size):
            dout[i] = dout[i] * (one - a[i]) * a[i]


@inner
def forward_rows(net, zeros, x, n, r0, r1, start, skip, words):
    """Compute the outputs of the layers from `start` on, for examples `r0` to `r1` of `n`.

    `x` is the address of the batch. `skip` says whether zeros of the batch are skipped, and `words`
    is as for `gemm_block_at`.
    """
    a = x
    for layer in range(net.shape[0]):
        if layer >= start:
            way, kernel = (ROWS_BLOCK, BY_BITS) if skip and layer == 0 else (DENSE_BLOCK, MULTIPLY)
            k, m = net[layer, INPUTS], net[layer, OUTPUTS]
            gemm_block_at(net[layer, way], net[layer, kernel], net[layer, VALUES], words, a, 0,
                net[layer, WEIGHT], 0, net[layer, BIAS], net[layer, OUTPUT], n, k, m, r0, r1, 0,
                m)  # fmt: skip
            activate_rows(net, zeros, layer, r0, r1)
        a = net[layer, OUTPUT]


@inner
def activate_rows(net, zeros, layer, r0, r1):
    """Apply a layer's activation to the outputs of examples `r0` to `r1`."""
    m, units = net[layer, OUTPUTS], net[layer, UNITS]
    a = rows_of(net, zeros, layer, OUTPUT, r0, r1)
    _activate(net[layer, ACTIVATION], a.reshape(-1))
    for r in range(r1 - r0):
        for j in range(units, m):
            a[r, j] = 0


@inner
def backward_rows(net, zeros, n, r0, r1):
    """Compute the gradients of all layers' outputs from the gradient of the logits."""
    for layer in range(net.shape[0] - 1, 0, -1):
        d, m, below = net[layer, INPUTS], net[layer, OUTPUTS], layer - 1
        gemm_block_at(net[layer, DENSE_BLOCK], net[layer, MULTIPLY], 0, 0, net[layer, DOUT], 0,
            net[layer, WEIGHT], 1, address_of(zeros, 0), net[below, DOUT], n, m, d, r0, r1, 0,
            d)  # fmt: skip
        out = rows_of(net, zeros, below, OUTPUT, r0, r1)
        dout = rows_of(net, zeros, below, DOUT, r0, r1)
        _deactivate(net[below, ACTIVATION], dout.reshape(-1), out.reshape(-1))


@inner
def largest_of(row):
    """Return the index of the first maximum, or of the first NaN, as `numpy.argmax` does."""
    best = 0
    for j in range(1, row.size):
        if row[best] == row[best] and not row[j] <= row[best]:
            best = j
    return best


@inner
def is_largest(row, k):
    """Return whether ``largest_of(row) == k``, by a loop without branches, which vectorizes."""
    if not 0 <= k < row.size:
        return False
    value, others = row[k], 0
    for j in range(row.size):
        others += not (row[j] < value or (row[j] == value and j >= k))
    return others == 0 if value == value else largest_of(row) == k

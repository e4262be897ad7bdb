"""How many examples a two-layer network classifies correctly, in compiled code."""

import numpy as np

from kernels._cache import njit
from kernels._microkernel import address_of, microkernel
from kernels._threads import chunk_bounds
from kernels.sparse import gather

BLOCK = 64
"""Examples that are evaluated together."""


@njit(nogil=True)
def _correct_part(W1, W2, b2, data, engines, labels, start, stop, hidden, logits):
    """How many of at most `BLOCK` examples are classified correctly."""
    panels, stride, classes = W1.shape[0], W1[0].size, W2.shape[2]
    inputs, units, n = W1.shape[1] - 2, W1.shape[2], stop - start
    for p in range(panels):
        if data.dense.size:
            microkernel(engines[0], address_of(data.dense, start * inputs), inputs, 1,
                address_of(W1, p * stride), units, inputs,
                address_of(W1, p * stride + inputs * units), 0,
                address_of(hidden, 0), units, n, units)  # fmt: skip
        else:
            for r in range(n):
                at = data.starts[start + r]
                gather(data.inputs, at, data.values, at, W1, p * stride,
                    hidden, r * units, data.starts[start + r + 1] - at)  # fmt: skip
        for r in range(n):
            for u in range(units):
                hidden[r, u] = 0 if hidden[r, u] <= 0 else hidden[r, u]
        init, init_row = (address_of(logits, 0), classes) if p else (address_of(b2, 0), 0)
        microkernel(engines[1], address_of(hidden, 0), units, 1,
            address_of(W2, p * units * classes), classes,
            units, init, init_row, address_of(logits, 0), classes, n, classes)  # fmt: skip
    correct = 0
    for r in range(n):
        best = 0
        for c in range(1, classes):
            # As NumPy's argmax: the first of the largest, or the first NaN.
            if logits[r, best] == logits[r, best] and not logits[r, c] <= logits[r, best]:
                best = c
        correct += best == labels[start + r]
    return correct


@njit(nogil=True)
def count_correct(W1, W2, b2, data, engines, labels, thread, num_threads, _):
    """How many of one thread's examples are classified correctly."""
    blocks = (labels.size + BLOCK - 1) // BLOCK
    hidden = np.empty((BLOCK, W1.shape[2]), W1.dtype)
    logits = np.empty((BLOCK, W2.shape[2]), W1.dtype)
    count = 0
    first, last = chunk_bounds(blocks, thread, num_threads)
    for i in range(first, last):
        stop = min((i + 1) * BLOCK, labels.size)
        count += _correct_part(W1, W2, b2, data, engines, labels, i * BLOCK, stop, hidden, logits)
    return count

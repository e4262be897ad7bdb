"""One forward and backward pass of a batch, and evaluation: what each thread does."""

import numpy as np

from kernels._cache import njit
from kernels._gemm import gemm_block_at, skips_zeros
from kernels._targets import _all_finite
from kernels._threads import barrier_wait, chunk_bounds
from kernels.mlp._stack import (
    BIAS,
    D_BIAS,
    D_WEIGHT,
    DOUT,
    NUM_FIELDS,
    OUTPUT,
    WEIGHT,
    Stack,
    backward_rows,
    column_sums,
    field,
    forward_rows,
    largest_of,
)
from kernels.softmax import _backward_part, _softmax_part, _sum

EVALUATED = 256
"""Examples that are evaluated together."""


@njit(nogil=True)
def narrow_targets(t, out):
    """Copy targets to another dtype and tell whether they are finite in it."""
    flat = out.reshape(-1)
    for i in range(t.size):
        flat[i] = t[i]
    return _all_finite(flat)


@njit(nogil=True)
def run_part(
    sizes, activations, addresses, first, rest, x, labels, targets, outputs, y, masks, douts,
    gradient, losses, thread, num_threads, barrier,
):  # fmt: skip
    """What one thread does of a forward pass, and of a backward pass if there is a gradient."""
    n, layers = x.shape[0], activations.size
    table = np.empty((layers, NUM_FIELDS), np.int64)
    size, example, parameter, largest = y.itemsize, np.int64(0), np.int64(0), np.int64(0)
    for i in range(layers):
        d, m = sizes[i], sizes[i + 1]
        table[i, WEIGHT], table[i, BIAS] = addresses[2 * i], addresses[2 * i + 1]
        table[i, OUTPUT] = outputs.ctypes.data + size * example
        table[i, DOUT] = douts.ctypes.data + size * example
        table[i, D_WEIGHT] = gradient.ctypes.data + size * parameter
        table[i, D_BIAS] = gradient.ctypes.data + size * (parameter + d * m)
        example += n * m
        parameter += d * m + m
        largest = max(largest, d, m)
    net = Stack(sizes, sizes, activations, table, first, rest, np.zeros(largest, y.dtype),
        np.empty(0, y.dtype))  # fmt: skip
    skip, _ = skips_zeros(x, field(net, 0, WEIGHT, n), sizes[1])
    r0, r1 = chunk_bounds(n, thread, num_threads)
    forward_rows(net, x, r0, r1, np.int64(0), skip)
    logits = field(net, layers - 1, OUTPUT, n)
    _softmax_part(logits[r0:r1], y[r0:r1], targets[r0:r1], labels[r0:r1], losses[r0:r1])
    at = np.int64(0)
    for i in range(layers - 1):
        m = sizes[i + 1]
        out, mask = outputs[at + r0 * m : at + r1 * m], masks[at + r0 * m : at + r1 * m]
        if masks.size:
            for k in range(out.size):
                mask[k] = out[k] == 0
        at += n * m
    if gradient.size:
        dlogits, scale = field(net, layers - 1, DOUT, n), y.dtype.type(1.0 / n)
        _backward_part(y[r0:r1], targets[r0:r1], labels[r0:r1], scale, dlogits[r0:r1])
        backward_rows(net, n, r0, r1)
    if not barrier_wait(barrier, num_threads):
        return 0.0
    if gradient.size:
        _parameter_gradients(net, x, thread, num_threads)
    return _sum(losses) / n


@njit(nogil=True)
def _parameter_gradients(net, x, thread, num_threads):
    """Fill one thread's part of the gradients of all parameters."""
    n, none, one = x.shape[0], np.int64(0), np.int64(1)
    for layer in range(net.activations.size):
        d, m = net.sizes[layer], net.sizes[layer + 1]
        dout, dW, zeros = net.table[layer, DOUT], net.table[layer, D_WEIGHT], net.zeros.ctypes.data
        j0, j1 = chunk_bounds(d, thread, num_threads)
        if layer:
            gemm_block_at(net.rest, net.table[layer - 1, OUTPUT], one, dout, none, zeros, dW, d, n,
                m, j0, j1, none, m, none, none, net.zeros, net.zeros)  # fmt: skip
        else:
            skip, _ = skips_zeros(x, field(net, layer, DOUT, n), m)
            gemm_block_at(net.first, x.ctypes.data, one, dout, none, zeros, dW, d, n, m, j0, j1,
                none, m, skip, none, x, net.zeros)  # fmt: skip
        if layer % num_threads == thread:
            db = field(net, layer, D_BIAS, n)[0]
            db[:] = 0
            column_sums(field(net, layer, DOUT, n), db)


@njit(nogil=True)
def fill_logits(net, x, logits, outputs, thread, num_threads, barrier):
    """Compute the logits of one thread's examples."""
    n, last = x.shape[0], net.activations.size - 1
    table, at = net.table.copy(), thread * outputs.shape[1]
    for i in range(last):
        table[i, OUTPUT] = outputs.ctypes.data + outputs.itemsize * at
        at += EVALUATED * net.sizes[i + 1]
    own = Stack(net.sizes, net.units, net.activations, table, net.first, net.rest, net.zeros,
        net.values)  # fmt: skip
    skip, _ = skips_zeros(x, field(own, 0, WEIGHT, n), net.sizes[1])
    first, stop = chunk_bounds((n + EVALUATED - 1) // EVALUATED, thread, num_threads)
    zero = np.int64(0)
    for start in range(first * EVALUATED, min(n, stop * EVALUATED), EVALUATED):
        rows = min(n - start, EVALUATED)
        table[last, OUTPUT] = logits.ctypes.data + logits.itemsize * start * logits.shape[1]
        forward_rows(own, x[start : start + rows], zero, rows, zero, skip)


@njit(nogil=True)
def count_correct(net, x, labels, targets, outputs, thread, num_threads, barrier):
    """How many of one thread's examples are classified correctly, or -1 for targets not finite."""
    n, layers = x.shape[0], net.activations.size
    table, at = net.table.copy(), thread * outputs.shape[1]
    for i in range(layers):
        table[i, OUTPUT] = outputs.ctypes.data + outputs.itemsize * at
        at += EVALUATED * net.sizes[i + 1]
    own = Stack(net.sizes, net.units, net.activations, table, net.first, net.rest, net.zeros,
        net.values)  # fmt: skip
    skip, _ = skips_zeros(x, field(own, 0, WEIGHT, n), net.sizes[1])
    if net.values.size:  # codes: not to be multiplied themselves
        skip = True
    first, last = chunk_bounds((n + EVALUATED - 1) // EVALUATED, thread, num_threads)
    correct, zero = np.int64(0), np.int64(0)
    for block in range(first, last):
        start, stop = block * EVALUATED, min(n, (block + 1) * EVALUATED)
        forward_rows(own, x[start:stop], zero, stop - start, zero, skip)
        logits = field(own, layers - 1, OUTPUT, stop - start)
        for r in range(stop - start):
            best = largest_of(logits[r])
            if labels.size:
                correct += best == labels[start + r]
            else:
                row = targets[start + r]
                if not _all_finite(row):
                    return np.int64(-1)
                correct += best == largest_of(row)
    return correct

"""Forward and backward pass of a batch, and evaluation, as run by each thread."""

import numpy as np

from kernels._addresses import address_of, matrix_at
from kernels._arrays import all_finite
from kernels._bitmap import WORD, skips_zeros
from kernels._compiler import inner, njit
from kernels._gemm import NO_TRANSPOSE, count_blocks, gemm_block_at
from kernels._threads import barrier_wait, chunk_bounds, count_up
from kernels.affine import column_sums
from kernels.mlp._losses import fill_losses
from kernels.mlp._stack import (
    BY_BITS,
    D_BIAS,
    D_WEIGHT,
    DENSE_BLOCK,
    DOUT,
    INPUTS,
    MULTIPLY,
    OUTPUT,
    OUTPUTS,
    ROWS_BLOCK,
    TRANSPOSED_BLOCK,
    VALUES,
    backward_rows,
    forward_rows,
    is_largest,
    largest_of,
    rows_of,
    weights_of,
)
from kernels.softmax import backward_part, sum_losses

EVALUATED = 512
"""Number of examples that are evaluated together."""


@njit(nogil=True)
def narrow_targets(t, out):
    """Copy targets to the dtype of `out`, and return whether all are finite in that dtype."""
    flat = out.reshape(-1)
    for i in range(t.size):
        flat[i] = t[i]
    return all_finite(flat)


@njit(nogil=True)
def run_part(
    network, zeros, losses_address, x, words, labels, targets, outputs, y, masks, douts, gradient,
    losses, thread, num_threads, barrier,
):  # fmt: skip
    """Run one thread's share of a forward pass, and of a backward pass if there is a gradient.

    `words` has room for a bitmap of the batch, or is empty.

    Return the loss, and whether the network's table holds all kernels that the batch needs.
    """
    n, layers, zero = x.shape[0], network.shape[0], np.int64(0)
    net, size, example, parameter = network.copy(), y.itemsize, np.int64(0), np.int64(0)
    for i in range(layers):
        d, m = net[i, INPUTS], net[i, OUTPUTS]
        net[i, OUTPUT] = address_of(outputs, 0) + size * example
        net[i, DOUT] = address_of(douts, 0) + size * example
        net[i, D_WEIGHT] = address_of(gradient, 0) + size * parameter
        net[i, D_BIAS] = net[i, D_WEIGHT] + size * d * m
        example += n * m
        parameter += d * m + m
    skip, _ = skips_zeros(x, weights_of(net, zeros), net[0, OUTPUTS])
    blocks = count_blocks(n, net[0, INPUTS], net[0, OUTPUTS], NO_TRANSPOSE, NO_TRANSPOSE, size)
    bits = address_of(words, 0) if skip and blocks == 1 and words.size else zero
    if net[0, ROWS_BLOCK if skip else DENSE_BLOCK] == 0:
        return 0.0, False
    r0, r1 = chunk_bounds(n, thread, num_threads)
    forward_rows(net, zeros, address_of(x, 0), n, r0, r1, zero, np.int64(skip), bits)
    logits = rows_of(net, zeros, layers - 1, OUTPUT, r0, r1)
    fill_losses(losses_address, logits, y[r0:r1], targets[r0:r1], labels[r0:r1], losses[r0:r1])
    if masks.size:
        at = np.int64(0)
        for i in range(layers - 1):
            m = net[i, OUTPUTS]
            _fill_mask(outputs[at + r0 * m : at + r1 * m], masks[at + r0 * m : at + r1 * m])
            at += n * m
    if gradient.size:
        dlogits, scale = rows_of(net, zeros, layers - 1, DOUT, r0, r1), y.dtype.type(1.0 / n)
        backward_part(y[r0:r1], targets[r0:r1], labels[r0:r1], scale, dlogits)
        backward_rows(net, zeros, n, r0, r1)
    if not barrier_wait(barrier, num_threads):
        return 0.0, True
    complete = not gradient.size or _parameter_gradients(net, zeros, x, bits, thread, num_threads)
    return sum_losses(losses) / n, complete


@inner
def _fill_mask(output, mask):
    for k in range(output.size):
        mask[k] = output[k] == 0


@inner
def _parameter_gradients(net, zeros, x, words, thread, num_threads):
    """Fill one thread's share of all gradients; return False if the table lacks a kernel."""
    n, zero, a = x.shape[0], np.int64(0), address_of(x, 0)
    for layer in range(net.shape[0]):
        d, m = net[layer, INPUTS], net[layer, OUTPUTS]
        dout = rows_of(net, zeros, layer, DOUT, zero, n)
        way, kernel = DENSE_BLOCK, MULTIPLY
        # With a bitmap, the batch is known to have many zeros.
        if layer == 0 and (all_finite(dout.reshape(-1)) if words else skips_zeros(x, dout, m)[0]):
            way, kernel = TRANSPOSED_BLOCK, BY_BITS
        if net[layer, way] == 0:
            return False
        j0, j1 = chunk_bounds((d + WORD - 1) // WORD, thread, num_threads)
        j0, j1 = j0 * WORD, min(d, j1 * WORD)
        gemm_block_at(net[layer, way], net[layer, kernel], net[layer, VALUES], words, a, 1,
            net[layer, DOUT], 0, address_of(zeros, 0), net[layer, D_WEIGHT], d, n, m, j0, j1, 0,
            m)  # fmt: skip
        if layer % num_threads == thread:
            db = matrix_at(net[layer, D_BIAS], np.int64(1), m, zeros)[0]
            db[:] = 0
            column_sums(dout, db)
        a = net[layer, OUTPUT]
    return True


# In an evaluation no thread waits for another one: the barrier counts the blocks of examples, which
# the threads take one after another. So a thread that starts late, or is slow, takes fewer.


@njit(nogil=True)
def fill_logits(network, zeros, x, skip, logits, outputs, thread, num_threads, barrier):
    """Compute the logits of one thread's examples; `x` and `skip` are as for `count_correct`."""
    (n, row_bytes), last, zero = x.shape, network.shape[0] - 1, np.int64(0)
    net, at = network.copy(), thread * outputs.shape[1]
    for i in range(last):
        net[i, OUTPUT] = address_of(outputs, at)
        at += EVALUATED * net[i, OUTPUTS]
    start = count_up(barrier) * EVALUATED
    while start < n:
        count = min(n - start, EVALUATED)
        net[last, OUTPUT] = address_of(logits, start * logits.shape[1])
        forward_rows(
            net, zeros, address_of(x, start * row_bytes), count, zero, count, zero, skip, zero
        )
        start = count_up(barrier) * EVALUATED


@njit(nogil=True)
def count_correct(network, zeros, x, skip, labels, targets, outputs, thread, num_threads, barrier):
    """Count one thread's correctly classified examples; return -1 if a target is not finite.

    `x` holds the examples as bytes. `skip` says whether their zeros are skipped.
    """
    n, row_bytes = x.shape
    net, layers, at = network.copy(), network.shape[0], thread * outputs.shape[1]
    for i in range(layers):
        net[i, OUTPUT] = address_of(outputs, at)
        at += EVALUATED * net[i, OUTPUTS]
    correct, zero = np.int64(0), np.int64(0)
    start = count_up(barrier) * EVALUATED
    while start < n:
        count = min(n - start, EVALUATED)
        forward_rows(
            net, zeros, address_of(x, start * row_bytes), count, zero, count, zero, skip, zero
        )
        logits = rows_of(net, zeros, layers - 1, OUTPUT, zero, count)
        for r in range(count):
            if labels.size:
                correct += is_largest(logits[r], labels[start + r])
            else:
                row = targets[start + r]
                if not all_finite(row):
                    return np.int64(-1)
                correct += is_largest(logits[r], largest_of(row))
        start = count_up(barrier) * EVALUATED
    return correct

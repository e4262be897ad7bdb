"""Whole stretches of training in compiled code: what each thread does of each iteration.

1. Each thread takes some examples through all layers: those of the last batch with the new
   parameters, for its loss, then those of this batch, forward and back to the first layer's output.
2. Barrier. Each thread takes blocks of 64 rows of the weight matrices: their gradient, and at once
   the optimizer's update.
3. Barrier.

No sum depends on which thread computes it: the bits are the same for any number of threads.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._arrays import Array
from kernels._bitmap import WORD, bitmap_gemm, row_bitmap, transposed_bitmap
from kernels._cache import njit
from kernels._microkernel import address_of, microkernel
from kernels._targets import _all_finite
from kernels._threads import barrier_wait, chunk_bounds
from kernels.mlp._stack import (
    DOUT,
    OUTPUT,
    activate_rows,
    backward_rows,
    column_sums,
    field,
    forward_rows,
)
from kernels.optimizers import NUM_COEFFICIENTS, rule_coefficients, update_block
from kernels.sigmoid import cross_entropy_part
from kernels.softmax import _backward_part, _softmax_part, total

FORWARD_WORDS, GRADIENT_WORDS = 4, 4
"""Words of a bitmap done for all rows before the next ones: what they meet stays in a cache."""

GRADIENT_SIZE = 16_384
"""Elements of a weight gradient that are computed before their update."""

CACHE_LINE = 64


class Workspace(NamedTuple):
    """Parameters, the optimizer's state and the buffers of a batch of ``B`` examples."""

    parameters: Array  # all in one array, each on a cache line
    s0: Array  # the optimizer's states: as the parameters, or empty
    s1: Array
    offsets: Array  # int64 (L, 2): where a layer's weights and bias begin
    rows: Array  # int64 (B,): where the batch's examples begin in the data
    words: Array  # uint64 (B * W,): their bitmaps; empty if zeros are not skipped
    batch: Array  # (B, D): copies of the examples; (B, 0) if zeros are skipped
    columns: Array  # int64 (64,): 0, 1 ...
    y: Array  # (B, C)
    losses: Array  # float64 (B,)
    gradients: Array  # (threads, ...): of the block that a thread updates
    squares: Array  # float64: sums of squared weights, block by block
    infinite: Array  # int64 (1,): whether NaN or infinity has come, beside which no zero is skipped


@intrinsic
def _prefetch(context, array, start, count):
    def emit(context, builder, signature, args):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0",
        )
        read, locality, data = (ir.Constant(word, v) for v in (0, 2, 1))
        place = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        line = ir.Constant(args[2].type, CACHE_LINE * 8 // array.dtype.bitwidth)
        last = ir.Constant(line.type, line.constant - 1)
        with cgutils.for_range(builder, builder.sdiv(builder.add(args[2], last), line)) as loop:
            at = builder.gep(place, [builder.mul(loop.index, line)])
            builder.call(function, [builder.bitcast(at, byte), read, locality, data])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), emit


def _plain_prefetch(array, start, count):
    pass


prefetch = _plain_prefetch if config.DISABLE_JIT else _prefetch
"""Begin to read elements that will be needed soon: random examples are in no cache."""


@njit(nogil=True)
def _take_batch(net, work, data, examples, r0, r1):
    """Find examples `r0` to `r1` of a batch, and make their bitmaps or copies."""
    d, width = net.sizes[0], work.words.size // work.rows.size
    flat = data.reshape(-1)
    for r in range(r0, r1):
        work.rows[r] = examples[r] * d
        if width:
            row_bitmap(flat, work.rows[r], d, work.words, r * width)
        else:
            source, copy = data[examples[r]], work.batch[r]
            for j in range(copy.size):
                copy[j] = source[j]
    if width and work.infinite[0]:
        _fill_words(work.words, r0, r1, width, d)


@njit(nogil=True)
def _fill_words(words, r0, r1, width, size):
    """Set all bits of rows `r0` to `r1`, as if no element was zero."""
    for r in range(r0, r1):
        for w in range(width):
            rest = size - w * WORD
            ones = ~np.uint64(0)
            words[r * width + w] = ones if rest >= WORD else ~(ones << np.uint64(max(rest, 0)))


@njit(nogil=True)
def _forward(net, work, data, r0, r1):
    """Compute the logits of examples `r0` to `r1` of the batch."""
    start, zero = np.int64(0), np.int64(0)
    if work.words.size:
        start = np.int64(1)
        m, width = net.sizes[1], work.words.size // work.rows.size
        out = address_of(field(net, 0, OUTPUT, work.rows.size), r0 * m)
        for w in range(0, width, FORWARD_WORDS):
            init, init_row = (out, m) if w else (address_of(work.parameters, work.offsets[0, 1]), 0)
            bitmap_gemm(net.first[2], address_of(work.words, r0 * width + w), width,
                min(FORWARD_WORDS, width - w), address_of(data, w * WORD),
                address_of(work.rows, r0), address_of(work.columns, 0), address_of(net.values, 0),
                address_of(work.parameters, work.offsets[0, 0] + w * WORD * m), m, init, init_row,
                out, m, r1 - r0, m)  # fmt: skip
        activate_rows(net, zero, r0, r1)
    forward_rows(net, work.batch, r0, r1, start, zero)


@njit(nogil=True)
def _gradient_by_bits(net, work, data, first, j0, j1, transposed, out):
    """Rows `j0` to `j1` of the first weights' gradient, by the batch's transposed bitmap."""
    batch, m = work.rows.size, net.sizes[1]
    dout = field(net, 0, DOUT, batch)
    width = (batch + WORD - 1) // WORD
    for v in range(0, width, GRADIENT_WORDS):
        init, init_row = (address_of(out, 0), m) if v else (address_of(net.zeros, 0), 0)
        bitmap_gemm(net.first[2], address_of(transposed, (j0 - first) * width + v), width,
            min(GRADIENT_WORDS, width - v), address_of(data, j0), address_of(work.columns, 0),
            address_of(work.rows, v * WORD), address_of(net.values, 0),
            address_of(dout, v * WORD * m), m, init, init_row, address_of(out, 0), m, j1 - j0,
            m)  # fmt: skip


@njit(nogil=True)
def _dense_gradient(address, a, dout, zeros, j0, j1, out):
    """Rows `j0` to `j1` of ``a.T @ dout``."""
    (batch, d), m = a.shape, dout.shape[1]
    for k in range(0, batch, GRADIENT_WORDS * WORD):
        init, init_row = (address_of(out, 0), m) if k else (address_of(zeros, 0), 0)
        microkernel(address, address_of(a, k * d + j0), 1, d, address_of(dout, k * m), m,
            min(GRADIENT_WORDS * WORD, batch - k), init, init_row, address_of(out, 0), m,
            j1 - j0, m)  # fmt: skip


@njit(nogil=True)
def _update(rule, work, at, count, gradient, decay, coefficients):
    """Update some adjacent parameters, and return the sum of their squares if weights decay."""
    p, g = work.parameters[at : at + count], gradient[:count]
    if decay != 0:
        scale = p.dtype.type(decay)
        for i in range(count):
            g[i] += scale * p[i]
    s0, s1 = work.s0[at : at + count], work.s1[at : at + count]
    update_block(rule, p, g, s0, s1, coefficients)
    if work.words.size and not _all_finite(p):
        work.infinite[0] = 1
    if decay == 0:
        return 0.0
    for i in range(count):
        g[i] = p[i] * p[i]  # by whole vectors; added one by one, each would wait for the one before
    return total(g)


@njit(nogil=True)
def _update_weights(net, work, data, rule, decay, coefficients, thread, num_threads):
    """Update one thread's blocks of all weights."""
    batch, gradient = work.rows.size, work.gradients[thread]
    first, last = chunk_bounds(work.squares.size, thread, num_threads)
    width = (batch + WORD - 1) // WORD
    transposed = np.empty(WORD * width, np.uint64)
    block = np.int64(0)
    for layer in range(net.activations.size):
        d, m = net.sizes[layer], net.sizes[layer + 1]
        step = min(WORD, max(1, GRADIENT_SIZE // m))
        for j in range(0, d, WORD):
            if first <= block < last:
                if layer == 0 and work.words.size:
                    words = work.words[j // WORD :]
                    transposed_bitmap(words, work.words.size // batch, batch, transposed, width)
                    if work.infinite[0]:
                        _fill_words(transposed, np.int64(0), np.int64(WORD), width, batch)
                squares, stop = 0.0, min(d, j + WORD)
                for j0 in range(j, stop, step):
                    j1 = min(stop, j0 + step)
                    if layer == 0 and work.words.size:
                        _gradient_by_bits(net, work, data, j, j0, j1, transposed, gradient)
                    elif layer == 0:
                        dout = field(net, layer, DOUT, batch)
                        _dense_gradient(net.first[1], work.batch, dout, net.zeros, j0, j1, gradient)
                    else:
                        dout, a = (
                            field(net, layer, DOUT, batch),
                            field(net, layer - 1, OUTPUT, batch),
                        )
                        _dense_gradient(net.rest[1], a, dout, net.zeros, j0, j1, gradient)
                    at = work.offsets[layer, 0] + j0 * m
                    squares += _update(rule, work, at, (j1 - j0) * m, gradient, decay, coefficients)
                work.squares[block] = squares
            block += 1
        if layer % num_threads == thread:
            for i in range(m):
                gradient[i] = 0
            column_sums(field(net, layer, DOUT, batch), gradient)
            _update(rule, work, work.offsets[layer, 1], m, gradient, 0.0, coefficients)


@njit(nogil=True)
def _weigh_rows(a, weights):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] *= weights[i]


@njit(nogil=True)
def train_iterations(
    net, work, data, indices, labels, targets, weights, logistic, before, rule, options, t,
    decays, losses, penalties, thread, num_threads, barrier,
):  # fmt: skip
    """What one thread does in a stretch of iterations; see `kernels.mlp.MLPTrainer.train`."""
    count, batch = indices.shape
    r0, r1 = chunk_bounds(batch, thread, num_threads)
    last = net.activations.size - 1
    coefficients = np.empty(NUM_COEFFICIENTS)
    scale = work.y.dtype.type(1.0 / batch)
    logits, dlogits = field(net, last, OUTPUT, batch), field(net, last, DOUT, batch)
    dout = field(net, 0, DOUT, batch)
    y = work.y[r0:r1]
    for i in range(count + 1):
        for now in (False, True):  # the loss of the last batch, then this one
            if i + now == 0 or (now and i == count) or (before and not now):
                continue
            if now:
                _take_batch(net, work, data, indices[i], r0, r1)
            _forward(net, work, data, r0, r1)
            k = i if now else i - 1
            row_losses = losses[k, r0:r1] if before or not now else work.losses[r0:r1]
            some_targets = targets[k % len(targets)][r0:r1]
            some_labels = labels[k % len(labels)][r0:r1]
            if logistic:
                cross_entropy_part(logits[r0:r1], y, some_targets, row_losses)
            else:
                _softmax_part(logits[r0:r1], y, some_targets, some_labels, row_losses)
            if now:
                _backward_part(y, some_targets, some_labels, scale, dlogits[r0:r1])
                if weights.size:
                    _weigh_rows(dlogits[r0:r1], weights[k, r0:r1])
        recorded = i if before else i - 1
        if thread == 0 and 0 <= recorded < count and decays[recorded] != 0:
            for k in range(work.squares.size):
                penalties[recorded] += 0.5 * decays[recorded] * work.squares[k]
        if i == count:
            break
        backward_rows(net, batch, r0, r1)
        if work.words.size and not _all_finite(dout[r0:r1].reshape(-1)):
            work.infinite[0] = 1
        if i + 1 < count:
            d = net.sizes[0]
            for r in range(r0, r1):
                prefetch(data, indices[i + 1, r] * d, d)
        if not barrier_wait(barrier, (2 * i + 1) * num_threads):
            return
        rule_coefficients(rule, options, t + i + 1, coefficients)
        _update_weights(net, work, data, rule, decays[i], coefficients, thread, num_threads)
        if not barrier_wait(barrier, (2 * i + 2) * num_threads):
            return

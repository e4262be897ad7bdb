"""Sequences of training iterations in compiled code, as run by each thread.

1. Each thread runs its examples through all layers: the examples of the previous batch with the new
   parameters, for the loss, then those of the current batch, forward, and backward to the first
   layer's output.
2. Barrier. Each thread takes blocks of 64 rows of the weight matrices, computes their gradient and
   immediately applies the optimizer's update.
3. Barrier.

No sum depends on which thread computes it: results are bit-identical for any number of threads.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._addresses import address_of
from kernels._arrays import Array, all_finite
from kernels._bitmap import WORD, lowest_bit, row_bitmap_at, transposed_bitmap
from kernels._bitmap_gemm import PAIRED, SINGLE, bitmap_gemm
from kernels._cache import inner, njit
from kernels._cache_lines import CACHE_LINE_BYTES
from kernels._denormals import flush_denormals, restore_denormals
from kernels._function_pointers import borrow
from kernels._microkernel import microkernel
from kernels._threads import barrier_wait, chunk_bounds
from kernels._update_rules import NUM_COEFFICIENTS, SGD, rule_coefficients, update_block
from kernels.affine import column_sums
from kernels.mlp._losses import fill_losses
from kernels.mlp._stack import (
    BIAS,
    BY_BITS,
    DOUT,
    INPUTS,
    ITEMSIZE,
    MULTIPLY,
    OUTPUT,
    OUTPUTS,
    ROW_BITMAP,
    VALUES,
    WEIGHT,
    activate_rows,
    backward_rows,
    forward_rows,
    rows_of,
)
from kernels.softmax import backward_part

GRADIENT_WORDS = 4
"""Number of 64-bit words of examples over which a weight gradient is summed at a time."""

GRADIENT_SIZE = 16_384
"""Number of elements of a weight gradient that are computed before their update."""

UPDATE_SIZE = 2048
"""Number of elements updated at a time, which stay in the L1 cache during all passes."""


class Workspace(NamedTuple):
    """Parameters, the optimizer's state and the buffers of a batch of ``B`` examples."""

    state: Array  # (1 to 3, ...): the parameters, aligned to cache lines, and the states
    words: Array  # uint64 (B * W,): bitmaps of the examples; empty if zeros are not skipped
    transposed: Array  # uint64 (threads, ...): transposed bitmap of the block of a thread
    batch: Array  # uint8 (B, D * bytes): copies of the examples
    y: Array  # (B, C)
    losses: Array  # float64 (B,)
    gradients: Array  # (threads, ...): gradient of the block of a thread, and its partial sums
    squares: Array  # float64: sums of squared weights, block by block
    infinite: Array  # int64 (1,): 1 once a value is NaN or infinite, after which no zero is
    # skipped; empty if zeros are never skipped


def _emit_prefetch(writes):
    def emit(context, builder, signature, args):
        array = signature.args[0]
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0",
        )
        # Data to write is prefetched to the L1 cache, data to read to the L2 cache.
        options = [ir.Constant(word, v) for v in (writes, 3 if writes else 2, 1)]
        place = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        line = ir.Constant(args[2].type, CACHE_LINE_BYTES * 8 // array.dtype.bitwidth)
        last = ir.Constant(line.type, line.constant - 1)
        with cgutils.for_range(builder, builder.sdiv(builder.add(args[2], last), line)) as loop:
            at = builder.gep(place, [builder.mul(loop.index, line)])
            builder.call(function, [builder.bitcast(at, byte), *options])
        return context.get_dummy_value()

    return emit


@intrinsic
def _prefetch(context, array, start, count):
    return types.void(array, types.intp, types.intp), _emit_prefetch(0)


@intrinsic
def _prefetch_to_write(context, array, start, count):
    return types.void(array, types.intp, types.intp), _emit_prefetch(1)


def _plain_prefetch(array, start, count):
    pass


prefetch = _plain_prefetch if config.DISABLE_JIT else _prefetch
"""Prefetch elements for reading: examples drawn at random are not in a cache."""

prefetch_to_write = _plain_prefetch if config.DISABLE_JIT else _prefetch_to_write
"""Prefetch elements for writing, whose cache lines other threads have read."""


@inner
def _take_batch(net, data, examples, batch, words, r0, r1):
    """Copy examples `r0` to `r1` of a batch, and compute their bitmaps."""
    d, width, start = net[0, INPUTS], words.size // batch.shape[0], address_of(batch, 0)
    for r in range(r0, r1):
        source, target = data[examples[r]], batch[r]
        for j in range(source.size):
            target[j] = source[j]
        if width:
            row_bitmap_at(net[0, ROW_BITMAP], start, r * d, d, address_of(words, r * width))


@inner
def _fill_words(words, r0, r1, width, size):
    """Set all bits of rows `r0` to `r1`, as if no element were zero."""
    for r in range(r0, r1):
        for w in range(width):
            rest = size - w * WORD
            ones = ~np.uint64(0)
            words[r * width + w] = ones if rest >= WORD else ~(ones << np.uint64(max(rest, 0)))


@inner
def _first_by_bits(net, zeros, batch, words, r0, r1):
    """Compute the first layer's output for examples `r0` to `r1` from the batch's bitmap."""
    d, m, width = net[0, INPUTS], net[0, OUTPUTS], words.size // batch.shape[0]
    out = net[0, OUTPUT] + zeros.itemsize * r0 * m
    bitmap_gemm(net[0, BY_BITS], SINGLE, address_of(words, r0 * width), width, d,
        address_of(batch, r0 * batch.shape[1]), d, 1, 0, net[0, VALUES], net[0, WEIGHT], m, 0, out,
        net[0, BIAS], 0, out, m, r1 - r0, m)  # fmt: skip
    activate_rows(net, zeros, np.int64(0), r0, r1)


@inner
def _gradient_by_bits(net, zeros, batch, first, j0, j1, transposed, out):
    """Compute rows `j0` to `j1` of the first weights' gradient from the transposed bitmap."""
    n, d, m = batch.shape[0], net[0, INPUTS], net[0, OUTPUTS]
    width = (n + WORD - 1) // WORD
    for v in range(0, width, GRADIENT_WORDS):
        init, init_row = (address_of(out, 0), m) if v else (address_of(zeros, 0), 0)
        sums = address_of(out, out.size // 2) if v else address_of(out, 0)
        bitmap_gemm(net[0, BY_BITS], PAIRED, address_of(transposed, (j0 - first) * width + v),
            width, min(GRADIENT_WORDS * WORD, n - v * WORD),
            address_of(batch, net[0, ITEMSIZE] * (v * WORD * d + j0)), 1, d, 0, net[0, VALUES],
            net[0, DOUT] + zeros.itemsize * v * WORD * m, m, 0, sums, init, init_row,
            address_of(out, 0), m, j1 - j0, m)  # fmt: skip


@inner
def _dense_gradient(net, layer, a, zeros, n, j0, j1, out):
    """Compute rows `j0` to `j1` of a layer's weight gradient; `a` is the address of its input."""
    d, m, size_a = net[layer, INPUTS], net[layer, OUTPUTS], net[layer, ITEMSIZE]
    for k in range(0, n, GRADIENT_WORDS * WORD):
        init, init_row = (address_of(out, 0), m) if k else (address_of(zeros, 0), 0)
        microkernel(net[layer, MULTIPLY], a + size_a * (k * d + j0), 1, d, 0,
            net[layer, DOUT] + zeros.itemsize * k * m, m, 0, min(GRADIENT_WORDS * WORD, n - k), 1,
            init, init_row, address_of(out, 0), m, j1 - j0, m)  # fmt: skip


@inner(fastmath={"reassoc"})
def _sum_of_squares(p):
    sum_squares = 0.0
    for i in range(p.size):
        x = np.float64(p[i])
        sum_squares += x * x
    return sum_squares


@inner
def _update(update, state, at, count, gradient, decay, coefficients, infinite):
    """Update adjacent parameters, and return their sum of squares, or 0 without decay."""
    last, sum_squares = state.shape[0] - 1, 0.0
    for start in range(0, count, UPDATE_SIZE):
        i0, i1 = at + start, at + min(count, start + UPDATE_SIZE)
        p, g = state[0, i0:i1], gradient[start : start + i1 - i0]
        if decay != 0:
            mode, scale = flush_denormals(), p.dtype.type(decay)
            for i in range(p.size):
                g[i] += scale * p[i]
            restore_denormals(mode)
        update_block(update, p, g, state[min(1, last), i0:i1], state[last, i0:i1], coefficients)
        if infinite.size and not all_finite(p):
            infinite[0] = 1
        if decay != 0:
            sum_squares += _sum_of_squares(p)
    return sum_squares


@inner
def _next_rows(some, first, j, stop, count):
    """Return the next range of at most `count` adjacent rows whose bits are set.

    Bit 0 belongs to row `first`. Without such a row the range is empty: ``stop, stop``.
    """
    j += lowest_bit(some >> np.uint64(j - first))
    if j >= stop:
        return stop, stop
    return j, min(stop, j + min(count, lowest_bit(~(some >> np.uint64(j - first)))))


@inner
def _update_weights(
    net, zeros, state, batch, words, transposed, gradient, squares, infinite, update, decay,
    coefficients, changes_all, thread, num_threads,
):  # fmt: skip
    """Update one thread's blocks of all weights, and its biases.

    Unless `changes_all`, skip the rows of the first weights whose gradient is 0.
    """
    n, start = batch.shape[0], net[0, WEIGHT]
    width = (n + WORD - 1) // WORD
    block, some = np.int64(0), np.uint64(0)
    a, size, parameters = address_of(batch, 0), zeros.itemsize, state[0]
    for layer in range(net.shape[0]):
        d, m = net[layer, INPUTS], net[layer, OUTPUTS]
        by_bits, step = layer == 0 and words.size > 0, min(WORD, max(1, GRADIENT_SIZE // m))
        for j in range(0, d, WORD):
            if block % num_threads == thread:
                if by_bits:
                    transposed_bitmap(words[j // WORD :], words.size // n, n, transposed, width)
                    some = np.uint64(0)  # bits of the block's inputs that are non-zero
                    for r in range(n):
                        some |= words[r * (words.size // n) + j // WORD]
                    if infinite[0]:
                        _fill_words(transposed, np.int64(0), np.int64(WORD), width, n)
                        some = ~np.uint64(0)
                sum_squares, stop, j1 = 0.0, min(d, j + WORD), j
                while j1 < stop:
                    j0, j1 = j1, min(stop, j1 + step)
                    if by_bits and not changes_all:
                        j0, j1 = _next_rows(some, j, j0, stop, step)
                    at = (net[layer, WEIGHT] - start) // size + j0 * m
                    if num_threads > 1:
                        prefetch_to_write(parameters, at, (j1 - j0) * m)
                    if by_bits:
                        _gradient_by_bits(net, zeros, batch, j, j0, j1, transposed, gradient)
                    else:
                        _dense_gradient(net, layer, a, zeros, n, j0, j1, gradient)
                    sum_squares += _update(update, state, at, (j1 - j0) * m, gradient, decay,
                        coefficients, infinite)  # fmt: skip
                squares[block] = sum_squares
            block += 1
        if layer % num_threads == thread:
            gradient[:m] = 0
            column_sums(rows_of(net, zeros, layer, DOUT, np.int64(0), n), gradient)
            at = (net[layer, BIAS] - start) // size
            _update(update, state, at, m, gradient, 0.0, coefficients, infinite)
        a = net[layer, OUTPUT]


@inner
def _weigh_rows(a, weights):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] *= weights[i]


@njit(nogil=True)
def train_iterations(
    net, zeros, work, data, indices, labels, targets, weights, losses_address, before, rule, update,
    options, t, decays, losses, penalties, thread, num_threads, barrier,
):  # fmt: skip
    """Run one thread's share of a sequence of iterations; see `kernels.mlp.MLPTrainer.train`.

    `data` holds the bytes of the training set, one row for each example, so that the same compiled
    code serves all dtypes of the training set.
    """
    # An iteration takes hundreds of slices: `borrow` avoids counting their references.
    net, zeros, data = borrow(net), borrow(zeros), borrow(data)
    indices, labels, targets = borrow(indices), borrow(labels), borrow(targets)
    weights, decays, losses = borrow(weights), borrow(decays), borrow(losses)
    state, words, batch = borrow(work.state), borrow(work.words), borrow(work.batch)
    y, row_losses = borrow(work.y), borrow(work.losses)
    squares, infinite = borrow(work.squares), borrow(work.infinite)
    gradient, transposed = borrow(work.gradients)[thread], borrow(work.transposed)[thread]
    count, n = indices.shape
    r0, r1 = chunk_bounds(n, thread, num_threads)
    last, zero, sparse = net.shape[0] - 1, np.int64(0), np.int64(words.size > 0)
    coefficients = np.empty(NUM_COEFFICIENTS)
    scale = y.dtype.type(1.0 / n)
    logits = rows_of(net, zeros, last, OUTPUT, r0, r1)
    dlogits = rows_of(net, zeros, last, DOUT, r0, r1)
    dout = rows_of(net, zeros, zero, DOUT, r0, r1)
    for i in range(count + 1):
        for now in (False, True):  # the loss of the previous batch, then the current batch
            if i + now == 0 or (now and i == count) or (before and not now):
                continue
            if now:
                _take_batch(net, data, indices[i], batch, words, r0, r1)
            if sparse:
                if infinite[0]:
                    _fill_words(words, r0, r1, words.size // n, net[0, INPUTS])
                _first_by_bits(net, zeros, batch, words, r0, r1)
            forward_rows(net, zeros, address_of(batch, 0), n, r0, r1, sparse, zero)
            k = i if now else i - 1
            some_losses = losses[k, r0:r1] if before or not now else row_losses[r0:r1]
            some_targets = targets[k % len(targets)][r0:r1]
            some_labels = labels[k % len(labels)][r0:r1]
            fill_losses(losses_address, logits, y[r0:r1], some_targets, some_labels, some_losses)
            if now:
                backward_part(y[r0:r1], some_targets, some_labels, scale, dlogits)
                if weights.size:
                    _weigh_rows(dlogits, weights[k, r0:r1])
        recorded = i if before else i - 1
        if thread == 0 and 0 <= recorded < count and decays[recorded] != 0:
            for k in range(squares.size):
                penalties[recorded] += 0.5 * decays[recorded] * squares[k]
        if i == count:
            break
        backward_rows(net, zeros, n, r0, r1)
        if sparse and not all_finite(dout.reshape(-1)):
            infinite[0] = 1
        if i + 1 < count:
            for r in range(r0, r1):
                prefetch(data, indices[i + 1, r] * data.shape[1], data.shape[1])
        if not barrier_wait(barrier, (2 * i + 1) * num_threads):
            return
        rule_coefficients(rule, options, t + i + 1, coefficients)
        # SGD without decay changes no weight whose gradient is 0: one example changes few rows.
        changes_all = rule != SGD or decays[i] != 0
        _update_weights(net, zeros, state, batch, words, transposed, gradient, squares, infinite,
            update, decays[i], coefficients, changes_all, thread, num_threads)  # fmt: skip
        if not barrier_wait(barrier, (2 * i + 2) * num_threads):
            return

"""Sequences of training iterations in compiled code, as run by each thread.

Where zeros are skipped, the inputs of the first layer are divided into one or two parts. The
weights of a part and its columns of the batch belong to one thread, or are shared by several, and
stay in their caches.

1. Each thread multiplies its part of the previous batch, for the loss with the new parameters, and
   of the current batch, which it copies, by its part of the first weights. Barrier.
2. Each thread adds the products of its examples, and runs them through the other layers; those of
   the current batch back to the first layer's output, too. Barrier.
3. Each thread takes its part of the first weights, and blocks of 64 rows of the others, computes
   their gradient and immediately applies the optimizer's update. For a single example, gradient
   descent changes the first weights in one pass.

If there are more threads than parts, the threads of a part share it: the next batch is copied in
step 2, and step 3 ends with a barrier. Where zeros are not skipped, step 2 begins with the whole
product, and step 3 takes all weights by blocks and ends with a barrier.

No sum depends on which thread computes it: results are bit-identical for any number of threads.
"""

from typing import NamedTuple

import numpy as np

from kernels._addresses import address_of
from kernels._arrays import Array, all_finite
from kernels._bitmap import WORD, lowest_bit, transposed_bitmap
from kernels._cache_lines import prefetch_to_write
from kernels._compiler import inner, njit
from kernels._denormals import flush_denormals, has_denormals, restore_denormals
from kernels._function_pointers import borrow
from kernels._microkernel import microkernel
from kernels._threads import barrier_wait, chunk_bounds
from kernels._updates import update_block
from kernels.affine import column_sums
from kernels.mlp._losses import fill_losses
from kernels.mlp._parts import (
    GRADIENT_WORDS,
    add_parts,
    descend_by_one,
    fill_words,
    gradient_by_bits,
    gradient_of_one,
    multiply_parts,
    part_share,
    take_batch,
)
from kernels.mlp._stack import (
    BIAS,
    DOUT,
    INPUTS,
    ITEMSIZE,
    MULTIPLY,
    OUTPUT,
    OUTPUTS,
    WEIGHT,
    backward_rows,
    forward_rows,
    rows_of,
)
from kernels.softmax import backward_part

GRADIENT_SIZE = 16_384
"""Number of elements of a weight gradient that are computed before their update."""

NO, YES = np.False_, np.True_
"""Arguments of functions. With a literal, Numba would compile another specialisation of each."""

UPDATE_SIZE = 2048
"""Number of elements updated at a time, which stay in the L1 cache during all passes."""


class Workspace(NamedTuple):
    """Parameters, the optimizer's state and the buffers of a batch of ``B`` examples."""

    state: Array  # (1 to 3, ...): the parameters, aligned to cache lines, and the states
    bounds: Array  # int64 (P + 1,): the first input of each part, and D
    words: Array  # uint64 (as many, B * W): bitmaps of the batches; empty if zeros are not skipped
    transposed: Array  # uint64 (threads, ...): transposed bitmap of the block of a thread
    batches: Array  # uint8 (1 or 2, B * D * bytes): copies of the batches, part by part; two
    # if the team has more threads than parts
    sums: Array  # (2, 2, B * M): products of the parts of two batches, 0 for a missing part;
    # empty if zeros are not skipped
    y: Array  # (B, C)
    losses: Array  # float64 (B,)
    gradients: Array  # (threads, ...): gradient of the block of a thread, and its partial sums
    squares: Array  # float64: sums of squared weights, block by block
    infinite: Array  # int64 (1,): 1 once a value is NaN or infinite, after which no zero is
    # skipped; empty if zeros are never skipped


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
def _update(rule, options, t, state, at, count, gradient, decay, penalized, infinite):
    """Update adjacent parameters, and return their sum of squares if `penalized`."""
    last, sum_squares = state.shape[0] - 1, 0.0
    for start in range(0, count, UPDATE_SIZE):
        i0, i1 = at + start, at + min(count, start + UPDATE_SIZE)
        p, g = state[0, i0:i1], gradient[start : start + i1 - i0]
        if decay != 0:
            mode, scale = flush_denormals(), p.dtype.type(decay)
            for i in range(p.size):
                g[i] += scale * p[i]
            restore_denormals(mode)
        update_block(rule, p, g, state[min(1, last), i0:i1], state[last, i0:i1], options, t)
        if infinite.size and not all_finite(p):
            infinite[0] = 1
        if penalized:
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
def _update_parts(
    net, zeros, state, n, bounds, batch, words, transposed, gradient, squares, infinite, rule,
    options, t, decay, penalized, descends, thread, num_threads,
):  # fmt: skip
    """Update one thread's share of the first weights.

    If the rule `descends`, skip the rows whose gradient is 0.
    """
    m, parts, start = net[0, OUTPUTS], bounds.size - 1, np.int64(0)
    out_row, step = (n + WORD - 1) // WORD, min(WORD, max(1, GRADIENT_SIZE // m))
    for part in range(parts):
        first, size = bounds[part], bounds[part + 1] - bounds[part]
        width = (size + WORD - 1) // WORD
        a = address_of(batch, net[0, ITEMSIZE] * n * first)
        w0, w1 = part_share(width, part, parts, thread, num_threads)
        for w in range(w0, w1):
            if n > 1:
                transposed_bitmap(words[n * start + w :], width, n, transposed, out_row)
            some = np.uint64(0)  # bits of the block's inputs that are non-zero
            for r in range(n):
                some |= words[n * start + r * width + w]
            if infinite[0]:
                fill_words(transposed, np.int64(0), np.int64(WORD), out_row, n)
                some = ~np.uint64(0)
            sum_squares, j = 0.0, w * WORD
            j1, stop = j, min(size, j + WORD)
            while j1 < stop:
                j0, j1 = j1, min(stop, j1 + step)
                if descends:
                    j0, j1 = _next_rows(some, j, j0, stop, step)
                at = (first + j0) * m
                if num_threads > parts:
                    prefetch_to_write(state[0], at, (j1 - j0) * m)
                if n == 1:
                    gradient_of_one(net, zeros, batch, first + j0, first + j1, gradient)
                else:
                    gradient_by_bits(
                        net, zeros, n, a, size, j0, j1, transposed[(j0 - j) * out_row :], gradient
                    )
                sum_squares += _update(rule, options, t, state, at, (j1 - j0) * m, gradient,
                    decay, penalized, infinite)  # fmt: skip
            if penalized:
                squares[start + w] = sum_squares
        start += width


@inner
def _update_layers(
    net, zeros, state, n, batch, gradient, squares, infinite, rule, options, t, decay,
    penalized, sparse, block, thread, num_threads,
):  # fmt: skip
    """Update one thread's blocks of the weights, without the first if `sparse`, and its biases.

    The blocks are counted from `block`.
    """
    a, size, start = address_of(batch, 0), zeros.itemsize, net[0, WEIGHT]
    for layer in range(net.shape[0]):
        d, m = net[layer, INPUTS], net[layer, OUTPUTS]
        step = min(WORD, max(1, GRADIENT_SIZE // m))
        for j in range(0, 0 if sparse and layer == 0 else d, WORD):
            if block % num_threads == thread:
                sum_squares = 0.0
                for j0 in range(j, min(d, j + WORD), step):
                    j1 = min(d, j + WORD, j0 + step)
                    at = (net[layer, WEIGHT] - start) // size + j0 * m
                    if num_threads > 1:
                        prefetch_to_write(state[0], at, (j1 - j0) * m)
                    _dense_gradient(net, layer, a, zeros, n, j0, j1, gradient)
                    sum_squares += _update(rule, options, t, state, at, (j1 - j0) * m, gradient,
                        decay, penalized, infinite)  # fmt: skip
                if penalized:
                    squares[block] = sum_squares
            block += 1
        # The first bias is read without a barrier by the thread of the first part, which is 0.
        if layer % num_threads == thread:
            gradient[:m] = 0
            column_sums(rows_of(net, zeros, layer, DOUT, np.int64(0), n), gradient)
            at = (net[layer, BIAS] - start) // size
            _update(rule, options, t, state, at, m, gradient, 0.0, NO, infinite)
        a = net[layer, OUTPUT]


@inner
def _weigh_rows(a, weights):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] *= weights[i]


@njit(nogil=True)
def train_iterations(
    net, zeros, work, data, indices, labels, targets, weights, losses_address, before,
    is_sgd, rule, options, t, decays, losses, penalties, thread, num_threads, barrier,
):  # fmt: skip
    """Run one thread's share of a sequence of iterations; see `kernels.mlp.MLPTrainer.train`.

    `is_sgd` says whether the rule is ``p -= lr g``, which changes no weight whose gradient is 0.
    `data` holds the bytes of the training set, one row for each example, so that the same compiled
    code serves all dtypes of the training set.
    """
    # An iteration takes hundreds of slices: `borrow` avoids counting their references.
    net, zeros, data = borrow(net), borrow(zeros), borrow(data)
    indices, labels, targets = borrow(indices), borrow(labels), borrow(targets)
    weights, decays, losses = borrow(weights), borrow(decays), borrow(losses)
    state, bounds, words = borrow(work.state), borrow(work.bounds), borrow(work.words)
    batches, sums = borrow(work.batches), borrow(work.sums)
    y, row_losses = borrow(work.y), borrow(work.losses)
    squares, infinite = borrow(work.squares), borrow(work.infinite)
    gradient, transposed = borrow(work.gradients)[thread], borrow(work.transposed)[thread]
    count, n = indices.shape
    r0, r1 = chunk_bounds(n, thread, num_threads)
    last, zero, sparse = net.shape[0] - 1, np.int64(0), np.int64(words.size > 0)
    parts, blocks, arrived = bounds.size - 1, zero, zero
    for part in range(parts if sparse else 0):
        blocks += (bounds[part + 1] - bounds[part] + WORD - 1) // WORD
    scale = y.dtype.type(1.0 / n)
    logits = rows_of(net, zeros, last, OUTPUT, r0, r1)
    dlogits = rows_of(net, zeros, last, DOUT, r0, r1)
    dout = rows_of(net, zeros, zero, DOUT, r0, r1)
    slots, shared = len(batches), sparse and parts % num_threads != 0
    penalized = NO
    for i in range(count):
        penalized |= decays[i] != 0
    descends = is_sgd and not penalized
    dout_of_one = rows_of(net, zeros, zero, DOUT, zero, np.int64(1))[0]
    if shared:
        take_batch(net, data, indices[0], bounds, batches[0], words[0], NO, thread, num_threads)
        arrived += num_threads
        if not barrier_wait(barrier, arrived):
            return
    for i in range(count + 1):
        # The loss of the previous batch with the new parameters, then the current batch.
        first, stop = i if before or i == 0 else i - 1, min(i + 1, count)
        if sparse:
            for k in range(first, stop):
                batch, bits = batches[k % slots], words[k % slots]
                if k == i and not shared:
                    take_batch(net, data, indices[k], bounds, batch, bits, NO, thread, num_threads)
                multiply_parts(net, zeros, n, bounds, batch, bits, infinite, sums[k % 2], thread,
                    num_threads)  # fmt: skip
            arrived += num_threads
            if not barrier_wait(barrier, arrived):
                return
        for k in range(first, stop):
            now = k == i
            if sparse:
                add_parts(net, zeros, sums[k % 2], r0, r1)
            elif now:
                take_batch(
                    net, data, indices[k], bounds, batches[0], words[0], NO, thread, num_threads
                )
            forward_rows(net, zeros, address_of(batches, 0), n, r0, r1, sparse, zero, zero)
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
        if shared and i + 1 < count:
            take_batch(net, data, indices[i + 1], bounds, batches[(i + 1) % slots],
                words[(i + 1) % slots], NO, thread, num_threads)  # fmt: skip
        if i + 1 + shared < count:  # examples drawn at random are not in a cache
            take_batch(net, data, indices[i + 1 + shared], bounds, batches[0], words[0], YES,
                thread, num_threads)  # fmt: skip
        arrived += num_threads
        if not barrier_wait(barrier, arrived):
            return
        in_one_pass = sparse and n == 1 and descends and not infinite[0]
        if in_one_pass and not has_denormals(dout_of_one):  # which the pass would flush
            if not descend_by_one(net, zeros, state[0], bounds, batches[i % slots],
                words[i % slots], zeros.dtype.type(options[0]), thread, num_threads):  # fmt: skip
                infinite[0] = 1
        elif sparse:
            _update_parts(net, zeros, state, n, bounds, batches[i % slots], words[i % slots],
                transposed, gradient, squares, infinite, rule, options, t + i + 1, decays[i],
                penalized, descends, thread, num_threads)  # fmt: skip
        _update_layers(net, zeros, state, n, batches[0], gradient, squares, infinite, rule, options,
            t + i + 1, decays[i], penalized, sparse, blocks, thread, num_threads)  # fmt: skip
        if shared or not sparse:
            arrived += num_threads
            if not barrier_wait(barrier, arrived):
                return

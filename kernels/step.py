"""The fused training step in compiled code: what each thread does for its panels.

The hidden units are cut into panels (see `kernels.sparse`), and a thread does all that concerns a
panel: its hidden activations, its share of the logits, its gradients and its update.  Only the
shares of the logits pass between panels, through buffers that are written in one parallel region
and read in the next, summed in the order of the panels.  So there is one region for an iteration,
nothing is summed by whoever comes first, and the bits are the same for any number of threads.

One region does, for its panel: the loss of the iteration before (a part of its rows); softmax and
gradients of this batch; the update; with the new weights the shares of this batch's logits once
more and those of the next batch's.
"""

import numpy as np

from kernels._cache import njit
from kernels._exp import exp
from kernels._microkernel import address_of, microkernel
from kernels._threads import barrier_wait, chunk_bounds
from kernels.softmax import total
from kernels.sparse import gather, prefetch, scatter


@njit(nogil=True)
def _hidden(state, p, data, engines, examples, at, which):
    """Activations of a panel's hidden units for a batch, and their share of its logits."""
    batch, units, classes = state.hidden.shape[2], state.W1.shape[2], state.W2.shape[2]
    inputs = state.W1.shape[1] - 2
    stride = state.W1[0].size
    out = state.hidden[which, p]
    if data.dense.size:
        microkernel(engines[0], address_of(state.batch, at % 3 * batch * inputs), inputs, 1,
            address_of(state.W1, p * stride), units, inputs,
            address_of(state.W1, p * stride + inputs * units), 0,
            address_of(out, 0), units, batch, units)  # fmt: skip
    else:
        for r in range(batch):
            start = data.starts[examples[r]]
            gather(data.inputs, start, data.values, start, state.W1, p * stride,
                out, r * units, data.starts[examples[r] + 1] - start)  # fmt: skip
    for r in range(batch):
        for u in range(units):
            out[r, u] = 0 if out[r, u] <= 0 else out[r, u]
    share = (state.after if which else state.before)[at % 2, p]
    microkernel(engines[1], address_of(out, 0), units, 1, address_of(state.W2, p * units * classes),
            classes, units, address_of(state.zeros, 0), 0,
            address_of(share, 0), classes, batch, classes)  # fmt: skip


@njit(nogil=True)
def _logits(shares, start, bias, z, peaks):
    """Logits of some examples less their largest, class by class: ``z = x - max x``.

    With the classes as rows, the loops along the batch fill the vectors.
    """
    classes, n = z.shape
    for c in range(classes):
        for r in range(n):
            z[c, r] = bias[c]
    for q in range(shares.shape[0]):
        for r in range(n):
            for c in range(classes):
                z[c, r] += shares[q, start + r, c]
    for r in range(n):
        peaks[r] = z[0, r]
    for c in range(1, classes):
        for r in range(n):
            peaks[r] = z[c, r] if z[c, r] > peaks[r] else peaks[r]
    for c in range(classes):
        for r in range(n):
            z[c, r] -= peaks[r]


@njit(nogil=True)
def _exponentiate(z, totals):
    """``z = exp z``, and its sums over the classes."""
    classes, n = z.shape
    for r in range(n):
        totals[r] = 0
    for c in range(classes):
        for r in range(n):
            z[c, r] = exp(z[c, r])
        for r in range(n):
            totals[r] += z[c, r]


@njit(nogil=True)
def _losses(z, totals, labels, targets, losses):
    """Cross-entropy of some examples: ``log sum exp z - sum t z``."""
    classes, n = z.shape
    for r in range(n):
        if labels.size:
            losses[r] = -z[labels[r], r]
        else:
            losses[r] = 0
            for c in range(classes):
                if targets[r, c] != 0:
                    losses[r] -= np.float64(targets[r, c]) * z[c, r]
    _exponentiate(z, totals)
    for r in range(n):
        weight = 1.0
        if not labels.size:
            weight = 0.0
            for c in range(classes):
                weight += targets[r, c]
        losses[r] += weight * np.log(np.float64(totals[r]))


@njit(nogil=True, error_model="numpy")
def _change_of_logits(z, totals, labels, targets, scale, delta):
    """``delta = scale * (softmax - t)``."""
    classes, batch = z.shape
    _exponentiate(z, totals)
    for r in range(batch):
        totals[r] = scale / totals[r]
    for c in range(classes):
        for r in range(batch):
            delta[c, r] = z[c, r] * totals[r]
    for r in range(batch):
        if labels.size:
            delta[labels[r], r] -= scale
        else:
            for c in range(classes):
                delta[c, r] -= scale * targets[r, c]


@njit(nogil=True)
def _update(state, p, data, engines, examples, at):
    """Change a panel's parameters by its gradients, given the change of the logits."""
    batch, units, classes = state.hidden.shape[2], state.W1.shape[2], state.W2.shape[2]
    inputs = state.W1.shape[1] - 2
    stride = state.W1[0].size
    delta, hidden, change = state.delta[p], state.hidden[0, p], state.change[p]
    W2T = address_of(state.W2T, p * classes * units)
    microkernel(engines[1], address_of(delta, 0), 1, batch, W2T, units, classes,
        address_of(state.zeros, 0), 0, address_of(change, 0), units, batch, units)  # fmt: skip
    microkernel(engines[1], address_of(delta, 0), batch, 1, address_of(hidden, 0), units, batch,
        W2T, units, W2T, units, classes, units)  # fmt: skip
    for c in range(classes):
        state.b2[p, c] += total(delta[c])
        for u in range(units):
            state.W2[p, u, c] = state.W2T[p, c, u]
    for r in range(batch):
        for u in range(units):
            change[r, u] = 0 if hidden[r, u] == 0 else change[r, u]
    if data.dense.size:
        W1 = address_of(state.W1, p * stride)
        microkernel(engines[0], address_of(state.batch, at % 3 * batch * inputs), 1, inputs,
            address_of(change, 0), units, batch, W1, units, W1, units, inputs, units)  # fmt: skip
        bias = state.W1[p, inputs]
        for r in range(batch):
            for u in range(units):
                bias[u] += change[r, u]
    else:
        for r in range(batch):
            start = data.starts[examples[r]]
            scatter(data.inputs, start, data.values, start, state.W1, p * stride,
                change, r * units, data.starts[examples[r] + 1] - start)  # fmt: skip


@njit(nogil=True)
def _region(state, p, i, data, engines, indices, labels, targets, rate, losses):
    """What one panel does between two meetings of the threads, around iteration `i`."""
    count, batch = indices.shape
    panels = state.W1.shape[0]
    first, last = chunk_bounds(batch, p, panels)  # a panel's part of the rows
    zero, one = np.int64(0), np.int64(1)  # literals would compile the callees once more
    z, peaks, totals = state.logits[p], state.peaks[p], state.totals[p]
    if i > 0:
        # Of the rows that are this panel's part, packed together:
        thread = z.reshape(-1)[: z.shape[0] * (last - first)].reshape(z.shape[0], last - first)
        _logits(state.after[(i - 1) % 2], first, state.b2[p], thread, peaks)
        t, k = targets[(i - 1) % len(targets)], labels[(i - 1) % len(labels)]
        _losses(thread, totals, k[first:last], t[first:last], losses[i - 1, first:last])
    if 0 <= i < count:
        _logits(state.before[i % 2], zero, state.b2[p], z, peaks)
        t, k = targets[i % len(targets)], labels[i % len(labels)]
        _change_of_logits(z, totals, k, t, z.dtype.type(-rate / batch), state.delta[p])
        _update(state, p, data, engines, indices[i], i)
        _hidden(state, p, data, engines, indices[i], i, one)
    if 0 <= i + 1 < count:
        _hidden(state, p, data, engines, indices[i + 1], i + 1, zero)
    if i + 2 < count:
        if data.dense.size:
            for r in range(first, last):
                row = indices[i + 2, r]
                for j in range(data.dense.shape[1]):
                    state.batch[(i + 2) % 3, r, j] = data.dense[row, j]
        else:
            starts = data.starts
            for r in indices[i + 2]:
                prefetch(data.inputs, data.values, starts[r], starts[r + 1] - starts[r])


@njit(nogil=True)
def train_stretch(
    state, data, engines, indices, labels, targets, rate, losses, thread, num_threads, barrier
):
    """What one thread does in a stretch of iterations; see `kernels.fused.Fused.train`."""
    panels = state.W1.shape[0]
    first, last = chunk_bounds(panels, thread, num_threads)
    for i in range(-2, indices.shape[0] + 1):
        for p in range(first, last):
            _region(state, p, i, data, engines, indices, labels, targets, rate, losses)
        if not barrier_wait(barrier, (i + 3) * num_threads):
            return

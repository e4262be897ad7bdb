"""The fused training step: whole stretches of training of a two-layer network in compiled code.

For each batch: forward, softmax cross-entropy, backward, update, and the loss once more with the
new weights, ``W -= rate * dW``; nothing is allocated between iterations.

The hidden units are cut into panels (see `kernels.sparse`), and a thread does all that concerns a
panel: its hidden activations, its share of the logits, its gradients and its update.  Only the
shares of the logits pass between panels, through buffers that are written in one parallel region
and read in the next, summed in the order of the panels.  So there is one region for an iteration,
nothing is summed by whoever comes first, and the bits are the same for any number of threads.

One region does, for its panel: the loss of the iteration before (a part of its rows); softmax and
gradients of this batch; the update; with the new weights the shares of this batch's logits once
more and those of the next batch's.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kernels._cache import njit
from kernels.affine import engine
from kernels.edge import UINT8, Array, floats, widened
from kernels.exp import exp
from kernels.softmax import total
from kernels.sparse import compact, density, gather, panel_units, prefetch, scatter
from kernels.threads import Team, meet, span
from kernels.tile import panel, place

DENSE_FROM = 0.4
"""Share of non-zeros from which multiplying all is faster: ``python -m benchmarks.density``."""


class Data(NamedTuple):
    """A data set as the training step reads it: its non-zeros or all of it, whichever is quicker.

    Attributes
    ----------
    starts, inputs, values : ndarray
        The non-zeros, from `kernels.sparse.compact`; empty if `dense` is not.
    dense : ndarray, shape (N, D), or (0, 0)
    """

    starts: Array
    inputs: Array
    values: Array
    dense: Array


class State(NamedTuple):
    """Parameters in panels, and the buffers of a batch. ``P`` panels of ``U`` hidden units."""

    W1: Array  # (P, D + 2, U): weights, bias, a row that only fills up
    W2: Array  # (P, U, C): a copy of the next, transposed
    W2T: Array  # (P, C, U)
    b2: Array  # (P, C): each panel has all of it, and updates it alike
    batch: Array  # (3, B, D): the last, this and the next batch; (3, 0, 0) if not dense
    hidden: Array  # (2, P, B, U): of this batch with the old weights, and with the new ones
    before: Array  # (2, P, B, C): shares of the logits with the old weights, by parity
    after: Array  # (2, P, B, C): with the new weights
    logits: Array  # (P, C, B): each panel's own sum of the shares, then exponentials
    delta: Array  # (P, C, B): change of the logits, -rate * dlogits
    peaks: Array  # (P, B): the largest logit of each example
    totals: Array  # (P, B): the sum of its exponentials
    change: Array  # (P, B, U): change of the hidden activations
    zeros: Array


def prepare(x: Array, dtype: np.dtype[Any], team: Team, sparse: bool | None = None) -> Data:
    """Bring a data set into the form in which it is read fastest.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    dtype : dtype
        Of the network.
    team : Team
        The threads that do it.
    sparse : bool, optional
        Whether to keep the non-zeros alone; by default, where there are few enough.

    Returns
    -------
    Data
    """
    fits = x.shape[1] < 2**31 // panel_units(dtype) - 2  # offsets have 32 bits
    if fits and (density(x) < DENSE_FROM if sparse is None else sparse):
        x = widened(x, dtype, "x") if x.dtype == UINT8 else floats(x, "x")
        return Data(*compact(x, dtype, team), np.empty((0, 0), dtype))
    starts, inputs, values = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, dtype)
    return Data(starts, inputs, values, widened(x, dtype, "x"))


class Fused:
    """A two-layer network's parameters in the form in which whole stretches are trained.

    Parameters
    ----------
    parameters : list of ndarray
        ``W1 (D, H), b1 (H,), W2 (H, C), b2 (C,)`` of one dtype. Read here and written by `store`.
    batch_size : int
    data : Data
        The training set.
    team : Team
        The threads that do it.
    """

    def __init__(
        self,
        parameters: list[Array],
        batch_size: int,
        data: Data,
        team: Team,
    ):
        W1, _, W2, _ = self.parameters = parameters
        dtype, (d, h), c = W1.dtype, W1.shape, W2.shape[1]
        units = panel_units(dtype)
        p, b = -(-h // units), batch_size
        dense = data.dense
        self.data, self.team = data, team
        self.engines = engine(dense.dtype, dtype), engine(dtype, dtype)
        self.state = State(
            W1=aligned((p, d + 2, units), dtype),
            W2=aligned((p, units, c), dtype),
            W2T=aligned((p, c, units), dtype),
            b2=aligned((p, c), dtype),
            batch=aligned((3, b, d) if dense.size else (3, 0, 0), dense.dtype),
            hidden=aligned((2, p, b, units), dtype),
            before=aligned((2, p, b, c), dtype),
            after=aligned((2, p, b, c), dtype),
            logits=aligned((p, c, b), dtype),
            delta=aligned((p, c, b), dtype),
            peaks=aligned((p, b), dtype),
            totals=aligned((p, b), dtype),
            change=aligned((p, b, units), dtype),
            zeros=aligned((max(c, units),), dtype),
        )
        self.panels = p
        self.load()

    def _units(self, hidden_size: int) -> Iterator[tuple[int, slice]]:
        """Each panel, and the hidden units in it."""
        panels, _, units = self.state.W1.shape
        for p in range(panels):
            yield p, slice(p * units, min(hidden_size, (p + 1) * units))

    def load(self) -> None:
        """Take the parameters from their arrays."""
        W1, b1, W2, b2 = self.parameters
        s, (d, h) = self.state, W1.shape
        for p, units in self._units(h):
            n = units.stop - units.start
            s.W1[p, :d, :n], s.W1[p, d, :n] = W1[:, units], b1[units]
            s.W2[p, :n], s.W2T[p, :, :n] = W2[units], W2[units].T
        s.b2[:] = b2

    def store(self) -> None:
        """Put the parameters back into their arrays."""
        W1, b1, W2, b2 = self.parameters
        s, (d, h) = self.state, W1.shape
        for p, units in self._units(h):
            n = units.stop - units.start
            W1[:, units], b1[units] = s.W1[p, :d, :n], s.W1[p, d, :n]
            W2[units] = s.W2[p, :n]
        b2[:] = s.b2[0]

    def train(
        self, indices: Array, labels: Array, targets: Array, rate: float, threads: int
    ) -> Array:
        """Do one iteration for each row of indices.

        Parameters
        ----------
        indices : ndarray of int64, shape (n, B)
            The examples of each batch.
        labels : ndarray of int64, shape (n, B), or (1, 0)
            Their classes.
        targets : ndarray, shape (n, B, C), or (1, 0, 0)
            Their target distributions; the one of the two that there is.
        rate : float
            Learning rate.
        threads : int
            How many of the team take part.

        Returns
        -------
        losses : ndarray of float64, shape (n,)
            Mean loss of each batch after its update.
        """
        losses = np.empty(indices.shape)
        args = (self.state, self.data, self.engines, indices, labels, targets, rate, losses)
        self.team.run(_train, *args, threads=min(threads, self.panels))
        mean: Array = losses.mean(axis=1)
        return mean

    def accuracy(self, data: Data, labels: Array) -> float:
        """Return the share of examples whose largest logit is that of their class.

        Parameters
        ----------
        data : Data
        labels : ndarray of int64, shape (N,)

        Returns
        -------
        float
        """
        s = self.state
        counts = self.team.run(_correct, s.W1, s.W2, s.b2, data, self.engines, labels)
        return int(sum(counts)) / labels.size


def accuracy(parameters: list[Array], x: Array, labels: Array) -> float:
    """Return the share of examples whose largest logit is that of their class.

    Parameters
    ----------
    parameters : list of ndarray
        ``W1 (D, H), b1 (H,), W2 (H, C), b2 (C,)`` of one dtype.
    x : ndarray, shape (N, D)
    labels : ndarray of int64, shape (N,)

    Returns
    -------
    float
    """
    with Team(None if x.size > 1_000_000 else 1) as team:
        data = prepare(x, parameters[0].dtype, team, sparse=False)
        return Fused(parameters, 1, data, team).accuracy(data, labels)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin with a cache line, so that no vector straddles two of them.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    ndarray
    """
    line = 64
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(dtype).reshape(shape)


@njit(nogil=True)
def _hidden(state, p, data, engines, examples, at, which):
    """Activations of a panel's hidden units for a batch, and their share of its logits."""
    batch, units, classes = state.hidden.shape[2], state.W1.shape[2], state.W2.shape[2]
    inputs = state.W1.shape[1] - 2
    stride = state.W1[0].size
    out = state.hidden[which, p]
    if data.dense.size:
        panel(engines[0], place(state.batch, at % 3 * batch * inputs), inputs, 1,
            place(state.W1, p * stride), units, inputs,
            place(state.W1, p * stride + inputs * units), 0,
            place(out, 0), units, batch, units)  # fmt: skip
    else:
        for r in range(batch):
            start = data.starts[examples[r]]
            gather(data.inputs, start, data.values, start, state.W1, p * stride,
                out, r * units, data.starts[examples[r] + 1] - start)  # fmt: skip
    for r in range(batch):
        for u in range(units):
            out[r, u] = 0 if out[r, u] <= 0 else out[r, u]
    share = (state.after if which else state.before)[at % 2, p]
    panel(engines[1], place(out, 0), units, 1, place(state.W2, p * units * classes), classes,
        units, place(state.zeros, 0), 0, place(share, 0), classes, batch, classes)  # fmt: skip


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
    W2T = place(state.W2T, p * classes * units)
    panel(engines[1], place(delta, 0), 1, batch, W2T, units, classes,
        place(state.zeros, 0), 0, place(change, 0), units, batch, units)  # fmt: skip
    panel(engines[1], place(delta, 0), batch, 1, place(hidden, 0), units, batch,
        W2T, units, W2T, units, classes, units)  # fmt: skip
    for c in range(classes):
        state.b2[p, c] += total(delta[c])
        for u in range(units):
            state.W2[p, u, c] = state.W2T[p, c, u]
    for r in range(batch):
        for u in range(units):
            change[r, u] = 0 if hidden[r, u] == 0 else change[r, u]
    if data.dense.size:
        W1 = place(state.W1, p * stride)
        panel(engines[0], place(state.batch, at % 3 * batch * inputs), 1, inputs,
            place(change, 0), units, batch, W1, units, W1, units, inputs, units)  # fmt: skip
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
    first, last = span(batch, p, panels)  # a panel's part of the rows
    zero, one = np.int64(0), np.int64(1)  # literals would compile the callees once more
    z, peaks, totals = state.logits[p], state.peaks[p], state.totals[p]
    if i > 0:
        # Of the rows that are this panel's part, packed together:
        part = z.reshape(-1)[: z.shape[0] * (last - first)].reshape(z.shape[0], last - first)
        _logits(state.after[(i - 1) % 2], first, state.b2[p], part, peaks)
        t, k = targets[(i - 1) % len(targets)], labels[(i - 1) % len(labels)]
        _losses(part, totals, k[first:last], t[first:last], losses[i - 1, first:last])
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
def _train(state, data, engines, indices, labels, targets, rate, losses, part, parts, meetings):
    panels = state.W1.shape[0]
    first, last = span(panels, part, parts)
    for i in range(-2, indices.shape[0] + 1):
        for p in range(first, last):
            _region(state, p, i, data, engines, indices, labels, targets, rate, losses)
        if not meet(meetings, (i + 3) * parts):
            return


BLOCK = 64
"""Examples that are evaluated together."""


@njit(nogil=True)
def _correct_part(W1, W2, b2, data, engines, labels, start, stop, hidden, logits):
    """How many of at most `BLOCK` examples are classified correctly."""
    panels, stride, classes = W1.shape[0], W1[0].size, W2.shape[2]
    inputs, units, n = W1.shape[1] - 2, W1.shape[2], stop - start
    for p in range(panels):
        if data.dense.size:
            panel(engines[0], place(data.dense, start * inputs), inputs, 1,
                place(W1, p * stride), units, inputs,
                place(W1, p * stride + inputs * units), 0,
                place(hidden, 0), units, n, units)  # fmt: skip
        else:
            for r in range(n):
                at = data.starts[start + r]
                gather(data.inputs, at, data.values, at, W1, p * stride,
                    hidden, r * units, data.starts[start + r + 1] - at)  # fmt: skip
        for r in range(n):
            for u in range(units):
                hidden[r, u] = 0 if hidden[r, u] <= 0 else hidden[r, u]
        init, init_row = (place(logits, 0), classes) if p else (place(b2, 0), 0)
        panel(engines[1], place(hidden, 0), units, 1, place(W2, p * units * classes), classes,
            units, init, init_row, place(logits, 0), classes, n, classes)  # fmt: skip
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
def _correct(W1, W2, b2, data, engines, labels, part, parts, _):
    blocks = (labels.size + BLOCK - 1) // BLOCK
    hidden, logits = (
        np.empty((BLOCK, W1.shape[2]), W1.dtype),
        np.empty((BLOCK, W2.shape[2]), W1.dtype),
    )
    count = 0
    first, last = span(blocks, part, parts)
    for i in range(first, last):
        stop = min((i + 1) * BLOCK, labels.size)
        count += _correct_part(W1, W2, b2, data, engines, labels, i * BLOCK, stop, hidden, logits)
    return count

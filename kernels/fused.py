"""The fused training step: whole stretches of training of a two-layer network in compiled code.

For each batch: forward, softmax cross-entropy, backward, update, and the loss once more with the
new weights, ``W -= rate * dW``; nothing is allocated between iterations.

What is done in compiled code stands in `kernels.step` and `kernels.evaluation`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kernels._arrays import UINT8, Array, as_float, as_widenable
from kernels._threads import Team
from kernels.affine import get_microkernel_address
from kernels.evaluation import count_correct
from kernels.sparse import LINE, compact, density, offset_type, panel_units
from kernels.step import train_stretch

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
    fits = x.shape[1] < 2**31 // panel_units(dtype) - 2  # offsets have 32 bits at most
    if fits and (density(x) < DENSE_FROM if sparse is None else sparse):
        x = as_widenable(x, dtype, "x") if x.dtype == UINT8 else as_float(x, "x")
        return Data(*compact(x, dtype, team), np.empty((0, 0), dtype))
    inputs = np.empty(0, offset_type(x.shape[1], dtype))  # the same code serves both forms
    return Data(np.empty(0, np.int64), inputs, np.empty(0, dtype), as_widenable(x, dtype, "x"))


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
        self.engines = (
            get_microkernel_address(dense.dtype, dtype),
            get_microkernel_address(dtype, dtype),
        )
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
        self.team.run(train_stretch, *args, threads=min(threads, self.panels))
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
        counts = self.team.run(count_correct, s.W1, s.W2, s.b2, data, self.engines, labels)
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
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)

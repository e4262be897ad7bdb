"""Training of any stack of affine layers and activations by any optimizer, in compiled code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kernels._arrays import FLOAT64, INT64, UINT8, Array, as_kernel_array, as_widenable
from kernels._bitmap import WORD, get_row_bitmap_address, skips_zeros
from kernels._cache_lines import CACHE_LINE_BYTES
from kernels._gemm import BITMAP, DENSE, SKIP_ROWS, get_product_addresses
from kernels._threads import Team
from kernels._updates import get_rule_address
from kernels._vectors import LOADED_BYTES, VECTOR_BYTES
from kernels.mlp._iterations import (
    GRADIENT_SIZE,
    Workspace,
    train_iterations,
)
from kernels.mlp._losses import get_losses_address
from kernels.mlp._stack import (
    BIAS,
    DENSE_BLOCK,
    DOUT,
    ITEMSIZE,
    OUTPUT,
    ROW_BITMAP,
    VALUES,
    WEIGHT,
)
from kernels.mlp.encoding import EncodedData, has_many_zeros
from kernels.mlp.network import check_parameters, count_correct_on_threads, network_table
from kernels.optimizers import RULES

SAMPLED = 512
"""About the number of examples of which the non-zero elements are counted."""


class MLPTrainer:
    """Trainer of a network, with the parameters and the optimizer's state in padded storage.

    Each iteration computes the gradient of a batch, updates all parameters, and records the loss of
    the batch with the new parameters or, optionally, with the old parameters.

    Parameters
    ----------
    weights, biases, activations
        As for `CompiledNetwork`. The arrays are copied, and written by `store`.
    batch_size : int
        Maximum number of examples in a batch.
    data : ndarray, shape (N, D), or EncodedData
        The training set, or the result of `encode`. uint8 and float32 are widened to the dtype of
        the parameters as they are read.
    team : Team
        Threads that train.
    rule : str
        Optimizer, a key of `kernels.optimizers.RULES`.
    options : array_like of float
        Options of the rule, in the order of its update in `kernels`.
    states : sequence of sequence of ndarray
        At most two states of the optimizer, each a list of arrays in the order
        ``W1 b1 W2 b2 ...``. The arrays are copied, and written by `store`.
    iteration : int, default 0
        Number of updates that the optimizer has done. The attribute `iteration` continues the
        count.
    weight_decay : float, default 0
        ``lambda``: adds ``0.5 lambda sum W^2`` over all weights to the loss, and ``lambda W`` to
        their gradients.
    sparse : bool, optional
        Whether to skip the zeros of `data`; by default, if skipping is faster.
    logistic : bool, default False
        Whether the outputs are independent sigmoids with binary cross-entropy, in place of softmax.
        Each target is then a number from 0 to 1, and rows of targets need not sum to 1.
    loss_before_update : bool, default False
        Whether to record losses with the old parameters, which saves a forward pass.

    Raises
    ------
    ValueError
        If the shapes or dtypes of arrays are incompatible.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels._threads import Team
    >>> from kernels.mlp import RELU, MLPTrainer
    >>> rng = np.random.default_rng(0)
    >>> weights = [rng.normal(size=(4, 8)), rng.normal(size=(8, 2))]
    >>> biases, x, t = [np.zeros(8), np.zeros(2)], np.eye(4), np.array([0, 1, 1, 0])
    >>> with Team(1) as team:
    ...     trainer = MLPTrainer(weights, biases, [RELU], 4, x, team, "sgd", [0.5], [])
    ...     indices = np.tile(np.arange(4), (100, 1))
    ...     losses = trainer.train(indices, t[indices], None, threads=1)
    ...     trainer.store()
    ...     trainer.accuracy(x, t), bool(losses[-1] < losses[0])
    (1.0, True)
    """

    def __init__(
        self,
        weights: Sequence[Array],
        biases: Sequence[Array],
        activations: Sequence[int],
        batch_size: int,
        data: Array | EncodedData,
        team: Team,
        rule: str,
        options: ArrayLike,
        states: Sequence[Sequence[Array]],
        iteration: int = 0,
        weight_decay: float = 0.0,
        sparse: bool | None = None,
        logistic: bool = False,
        loss_before_update: bool = False,
    ):
        units = check_parameters(weights, biases, activations)
        dtype, count = weights[0].dtype, len(weights)
        self.arrays = [a for pair in zip(weights, biases, strict=True) for a in pair]
        self.states, self.team, self.iteration = states, team, int(iteration)
        shapes = [a.shape for a in self.arrays]
        if len(states) > 2 or any([s.shape for s in state] != shapes for state in states):
            raise ValueError(f"states: expected at most two lists of arrays of shapes {shapes}")
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
        self.rule, self.options = rule, np.array(options, FLOAT64)
        self.weight_decay = float(weight_decay)
        self._logistic, self._before = logistic, np.bool_(loss_before_update)
        values = None
        if isinstance(data, EncodedData):
            values = np.ascontiguousarray(data.values, dtype)
            data = data.codes
        data = self.data = as_widenable(data, dtype, "data")
        if data.ndim != 2 or data.shape[1] != units[0]:
            raise ValueError(f"data: expected (N, {units[0]}), got {data.shape}")
        if sparse is None:
            sparse = has_many_zeros(data, dtype, units[1])
        if not sparse and values is not None:
            raise ValueError("data: expected codes only if zeros are skipped, got sparse=False")
        self.sparse = sparse
        # Hidden layers are padded to whole vectors: rows of weights straddle as few cache lines as
        # possible, and need no masked loads.
        sizes = list(units)
        for i in range(1, len(units) - 1):
            vector = LOADED_BYTES if sparse and i == 1 else VECTOR_BYTES
            lanes = vector // dtype.itemsize
            sizes[i] = -(-units[i] // lanes) * lanes
        self._units, self._sizes = units, sizes
        line, at = CACHE_LINE_BYTES // dtype.itemsize, 0
        self._offsets: list[int] = []  # offset of each parameter in the workspace
        for d, m in pairwise(sizes):
            for size in (d * m, m):
                self._offsets.append(at)
                at += -(-size // line) * line
        b, bounds = batch_size, _input_parts(data) if sparse else np.array([0, units[0]])
        words = int((-(-np.diff(bounds) // WORD)).sum())
        slots = 2 if sparse and team.size >= len(bounds) else 1
        self._work = Workspace(
            state=aligned((1 + len(states), at), dtype),
            bounds=bounds,
            words=aligned((slots, b * words if sparse else 0), np.dtype(np.uint64)),
            transposed=aligned(
                (team.size, WORD * -(-b // WORD) if sparse else 0), np.dtype(np.uint64)
            ),
            batches=aligned((slots, b * units[0] * data.itemsize), UINT8),
            sums=aligned((2, 2, b * sizes[1] if sparse else 0), dtype),
            y=aligned((b, units[-1]), dtype),
            losses=np.zeros(b),
            gradients=aligned((team.size, 2 * max(GRADIENT_SIZE, *sizes)), dtype),
            squares=np.zeros(words + sum(-(-d // WORD) for d in sizes[1:-1])),
            infinite=np.zeros(1 if sparse else 0, np.int64),
        )
        self._buffers = aligned((2, b * sum(sizes[1:]) + line * count), dtype)
        self._zeros = aligned((max(sizes),), dtype)
        net = self._net = network_table(sizes, units, activations)
        addresses = self._work.state.ctypes.data + dtype.itemsize * np.array(self._offsets)
        net[:, WEIGHT], net[:, BIAS] = addresses[::2], addresses[1::2]
        at = 0
        for i, m in enumerate(sizes[1:]):
            net[i, OUTPUT] = self._buffers[0, at:].ctypes.data
            net[i, DOUT] = self._buffers[1, at:].ctypes.data
            at += -(-b * m // line) * line
        net[:, DENSE_BLOCK:VALUES] = get_product_addresses(dtype, dtype, DENSE)
        needs = BITMAP if sparse else DENSE
        net[0, DENSE_BLOCK:VALUES] = get_product_addresses(data.dtype, dtype, needs)
        net[0, ITEMSIZE], net[1:, ITEMSIZE] = data.itemsize, dtype.itemsize
        if sparse:
            net[0, ROW_BITMAP] = get_row_bitmap_address(data.dtype)
        if sparse and data.dtype == UINT8:
            self._values = np.arange(256).astype(dtype) if values is None else values
            net[0, VALUES] = self._values.ctypes.data
        self.load()

    def _places(self) -> Iterator[tuple[tuple[Array, ...], tuple[Array, ...]]]:
        """Yield each parameter's array with its states, and their views in the workspace."""
        for i, (a, at) in enumerate(zip(self.arrays, self._offsets, strict=True)):
            layer, is_bias = divmod(i, 2)
            d, m = self._sizes[layer], self._sizes[layer + 1]
            rows = 1 if is_bias else d
            shape = (1, *a.shape) if is_bias else a.shape
            parts = tuple(
                flat[at : at + rows * m].reshape(rows, m)[: shape[0], : shape[1]].reshape(a.shape)
                for flat in self._work.state
            )
            yield (a, *(state[i] for state in self.states)), parts

    def load(self) -> None:
        """Copy the parameters and the optimizer's state from their arrays to the workspace."""
        self._work.state[...] = 0
        finite = True
        for arrays, parts in self._places():
            for a, part in zip(arrays, parts, strict=True):
                part[...] = a
            finite = finite and bool(np.isfinite(arrays[0]).all())
        self._work.infinite[:] = not finite
        self._penalized = False

    def _sum_squares(self) -> None:
        """Compute the sum of the squared weights, which updates with weight decay keep current."""
        squares = self._work.squares
        squares[:] = 0  # each update overwrites the sums block by block
        with np.errstate(over="ignore", invalid="ignore"):
            squares[0] = sum(
                np.sum(np.square(parts[0], dtype=FLOAT64))
                for _, parts in islice(self._places(), 0, None, 2)
            )

    def store(self) -> None:
        """Copy the parameters and the optimizer's state from the workspace to their arrays."""
        for arrays, parts in self._places():
            for a, part in zip(arrays, parts, strict=True):
                a[...] = part

    def train(
        self,
        indices: Array,
        labels: Array | None,
        targets: Array | None,
        threads: int | None,
        weights: Array | None = None,
        weight_decay: ArrayLike | None = None,
    ) -> Array:
        """Run one iteration for each row of `indices`.

        Parameters
        ----------
        indices : ndarray of int64, shape (n, B)
            Indices of the examples of each batch; B is from 1 to `batch_size`.
        labels : ndarray of int64, shape (n, B), or None
            Classes of the examples. Pass either `labels` or `targets`.
        targets : ndarray, shape (n, B, C), or None
            Target distributions of the examples.
        threads : int or None
            Number of threads of the team to use; None uses all threads.
        weights : ndarray of float64, shape (n, B), optional
            Factor of each example's loss and gradient, applied before the mean is taken.
        weight_decay : array_like, shape (n,), optional
            Weight decay of each batch; by default the trainer's `weight_decay`.

        Returns
        -------
        losses : ndarray of float64, shape (n,)
            Loss of each batch, weight decay included.

        Raises
        ------
        ValueError
            If an index or a label is out of range, or shapes are incompatible.
        """
        dtype, classes = self._work.y.dtype, self._units[-1]
        indices = as_kernel_array(indices, INT64, "indices").copy()  # cannot change once checked
        batch, work = len(self._work.y), self._work
        if indices.ndim != 2 or not 0 < indices.shape[1] <= batch:
            raise ValueError(f"indices: expected (n, B), B from 1 to {batch}, got {indices.shape}")
        no_labels, no_targets = np.empty((1, 0), np.int64), np.empty((1, 0, 0), dtype)
        k = no_labels if labels is None else as_kernel_array(labels, INT64, "labels").copy()
        t = no_targets if targets is None else as_kernel_array(targets, dtype, "targets")
        if (labels is None) == (targets is None) or (
            k.shape != indices.shape if targets is None else t.shape != (*indices.shape, classes)
        ):
            raise ValueError(
                f"expected labels {indices.shape} or targets {(*indices.shape, classes)}, "
                f"got {k.shape} and {t.shape}"
            )
        for a, stop, name in ((indices, len(self.data), "indices"), (k, classes, "labels")):
            if a.size and not (a.min() >= 0 and a.max() < stop):
                raise ValueError(
                    f"{name}: expected integers from 0 to {stop - 1}, got {a.min()} to {a.max()}"
                )
        w = np.empty((1, 0)) if weights is None else as_kernel_array(weights, FLOAT64, "weights")
        decays = np.empty(len(indices))
        decays[:] = self.weight_decay if weight_decay is None else weight_decay
        if weights is not None and w.shape != indices.shape:
            raise ValueError(f"weights: expected {indices.shape}, got {w.shape}")
        if self._logistic and targets is None:
            raise ValueError("targets: expected targets of logistic outputs, got labels")
        if not len(indices):
            return np.zeros(0)
        penalized = bool(decays.any())
        if penalized and not self._penalized:
            self._sum_squares()
        self._penalized = penalized
        losses, penalties = np.empty(indices.shape), np.zeros(len(indices))
        self.team.run(
            *(train_iterations, self._net, self._zeros, work, self.data.view(UINT8)),
            *(indices, k, t, w),
            *(get_losses_address(dtype, self._logistic), self._before),
            *(np.bool_(self.rule == "sgd"), get_rule_address(RULES[self.rule], dtype)),
            *(self.options, np.int64(self.iteration), decays, losses, penalties),
            threads=threads,
        )
        self.iteration += len(indices)
        mean: Array = (losses if weights is None else losses * w).mean(axis=1)
        return mean + penalties

    def accuracy(self, data: Array | EncodedData, labels: Array) -> float:
        """Return the fraction of examples whose largest logit is that of their class.

        Parameters
        ----------
        data : ndarray, shape (N, D), or EncodedData
        labels : ndarray of int64, shape (N,)

        Returns
        -------
        float
        """
        dtype, values = self._work.y.dtype, None
        if isinstance(data, EncodedData):
            # Zeros are not skipped if a parameter is NaN or infinite, but codes require skipping.
            if np.isfinite(self._work.state[0]).all():
                values = np.ascontiguousarray(data.values, dtype)
            data = data.source if values is None else data.codes
        x = as_widenable(data, dtype, "data")
        if x.ndim != 2 or x.shape[1] != self._units[0] or labels.shape != x.shape[:1]:
            raise ValueError(
                f"expected data (N, {self._units[0]}) and labels (N,), got {x.shape} and "
                f"{labels.shape}"
            )
        state = self._work.state[:1]
        skip = values is not None or bool(skips_zeros(x, state, np.int64(self._sizes[1]))[0])
        net = self._net.copy()
        needs = SKIP_ROWS if skip else DENSE
        net[0, DENSE_BLOCK:VALUES] = get_product_addresses(x.dtype, dtype, needs)
        net[0, VALUES] = 0 if values is None else values.ctypes.data
        labels, none = labels.astype(np.int64), np.empty((0, 0))
        correct = count_correct_on_threads(net, self._zeros, x, skip, labels, none, self.team)
        return correct / max(1, labels.size)


def _input_parts(data: Array) -> Array:
    """Return the bounds of the parts of the inputs, with as many non-zeros in each part.

    There are two parts, which are summed apart, so that two threads can each keep one half of the
    weights in its cache. The bounds depend on a sample of the data, not on the number of threads.
    """
    d = data.shape[1]
    if d < 2 * WORD:
        return np.array([0, d])
    counts = np.cumsum(np.count_nonzero(data[:: max(1, len(data) // SAMPLED)], axis=0))
    middle = int(np.searchsorted(counts, counts[-1] / 2))
    return np.array([0, min(max(middle, WORD), d - WORD), d])


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros aligned to a cache line, so that no vector straddles two cache lines."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)

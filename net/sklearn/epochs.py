"""Training epochs of `net.sklearn` in compiled code."""

import time
from dataclasses import dataclass, field

from kernels._arrays import Array
from kernels._threads import Team
from kernels.mlp import MIN_PASSES, MLPTrainer, encode, pays_codes
from net.thread_tuner import ThreadTuner


@dataclass
class OptimizerState:
    """State of an optimizer between two calls of `partial_fit`.

    Attributes
    ----------
    rule : str
        Update rule, a key of `kernels.optimizers.RULES`.
    options : list of float
        Options of the rule, in the order of its update in `kernels`.
    states : list of list of ndarray
        For each state of the rule, one array per parameter, in the order ``W1 b1 W2 b2 ...``.
    iteration : int
        Number of updates so far.
    """

    rule: str
    options: list[float]
    states: list[list[Array]] = field(default_factory=list)
    iteration: int = 0


class Epochs:
    """Trainer of epochs of mini-batches, which records the loss before each update.

    Parameters
    ----------
    weights, biases, activations
        As for `kernels.mlp.MLPTrainer`. `store` writes `weights` and `biases`.
    x : ndarray, shape (N, D)
    labels : ndarray of int64, shape (N,), or None
        Class indices, for a softmax output.
    targets : ndarray, shape (N, C), or None
        Targets from 0 to 1, for logistic outputs. Exactly one of `labels` and `targets` is None.
    sample_weight : ndarray, shape (N,), or None
    batch_size : int
        Number of examples per batch; the last batch of an epoch may be smaller.
    alpha : float
        Strength of the L2 penalty: ``0.5 alpha sum W^2 / n`` is added to the loss of a batch,
        where ``n`` is the sum of its sample weights, or its number of examples.
    optimizer : OptimizerState
        Initial state, updated by `store`.
    team : Team
    most : int
        Maximum number of epochs.
    """

    def __init__(
        self,
        weights: list[Array],
        biases: list[Array],
        activations: list[int],
        x: Array,
        labels: Array | None,
        targets: Array | None,
        sample_weight: Array | None,
        batch_size: int,
        alpha: float,
        optimizer: OptimizerState,
        team: Team,
        most: int,
    ):
        encodes = most >= MIN_PASSES and pays_codes(x, x.dtype, weights[0].shape[1])
        self._labels, self._targets, self._sample_weight = labels, targets, sample_weight
        self._batch_size, self._alpha, self._optimizer = batch_size, alpha, optimizer
        self._trainer = MLPTrainer(
            weights,
            biases,
            activations,
            batch_size,
            (encode(x, team) if encodes else None) or x,
            team,
            optimizer.rule,
            optimizer.options,
            optimizer.states,
            optimizer.iteration,
            logistic=labels is None,
            loss_before_update=True,
        )
        probe = max(1, min(20, len(x) // batch_size))  # at most one epoch of a small set
        self._tuner = ThreadTuner(team.size, probe_iterations=probe)
        self._cold = True

    def run(self, order: Array) -> float:
        """Train one epoch.

        Parameters
        ----------
        order : ndarray of int64, shape (N,)
            Indices of the examples, in the order of the batches.

        Returns
        -------
        float
            Mean loss of the examples; the loss of a batch is computed before its update.
        """
        batch, total, done = self._batch_size, 0.0, 0
        full = len(order) // batch
        rows = order[: full * batch].reshape(full, batch)
        while done < full:
            threads, length = self._tuner.next()
            part = rows[done : done + (1 if self._cold else length)]
            begin = time.perf_counter()
            total += batch * float(self._train(part, threads).sum())
            if not self._cold:  # the first call may compile
                self._tuner.record(threads, len(part), time.perf_counter() - begin)
            self._cold = False
            done += len(part)
        rest = order[full * batch :]
        if rest.size:
            total += rest.size * float(self._train(rest[None], threads)[0])
        return total / len(order)

    def _train(self, rows: Array, threads: int) -> Array:
        labels = None if self._labels is None else self._labels[rows]
        targets = None if self._targets is None else self._targets[rows]
        if self._sample_weight is None:
            decay = self._alpha / rows.shape[1]
            return self._trainer.train(rows, labels, targets, threads, weight_decay=decay)
        weights = self._sample_weight[rows]
        sums = weights.sum(axis=1)
        sums[sums == 0] = 1  # a batch of zero weight has no gradient
        weights *= (rows.shape[1] / sums)[:, None]
        return self._trainer.train(rows, labels, targets, threads, weights, self._alpha / sums)

    def store(self) -> None:
        """Write the current values to the parameter arrays and the optimizer state."""
        self._trainer.store()
        self._optimizer.iteration = self._trainer.iteration

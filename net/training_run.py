"""The state of a training run: its iterations, evaluations, history and checkpoints."""

import math
import warnings
import zlib
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernels._threads import Team
from kernels.mlp import MIN_PASSES
from net import archive, fast_path, structure
from net import checkpoint as checkpoints
from net.distributed import Examples, SingleProcess
from net.history import History
from net.iterations import Iterations, LayerIterations, draws_random_numbers
from net.network import Network
from net.random_state import clone, describe, get_state, set_state
from net.thread_tuner import ThreadTuner


class TrainingRun:
    """A training run, which can be advanced, evaluated, and saved to a checkpoint.

    Parameters
    ----------
    network : Network
    sets : list of (x, t)
        The training set and, optionally, a test set, which `check_examples` returned.
    optimizer : Optimizer
    batch_size : int
    rng : numpy.random.Generator, RandomState or the module numpy.random
    group : SingleProcess or ProcessGroup
    **options
        Further values that must be the same on all ranks.

    Attributes
    ----------
    history : History
    done : int
        Number of iterations done.
    n : int
        Total number of training examples on all ranks.
    diverged : bool
        Whether the loss stopped being finite.
    evaluated_sets : list of (x, t), optional
        Data sets on which `evaluate` computes accuracies in place of `sets`.
    """

    def __init__(
        self,
        network: Network,
        sets: list[Examples],
        optimizer: Any,
        batch_size: int,
        rng: Any,
        group: SingleProcess,
        **options: Any,
    ):
        self.network, self.optimizer, self.sets = network, optimizer, sets
        self.batch_size, self.rng, self.group = batch_size, rng, group
        fields = {
            **options,
            "structure": structure.describe(network),
            "rng": describe(rng),
            "batch_size": batch_size,
            "optimizer": repr(optimizer) if hasattr(optimizer, "state") else type(optimizer),
        }
        self.n = group.check_consistent(network, sets, fields)
        self.history, self.done, self.diverged = History(), 0, False
        self._settings = {
            "examples": self.n,
            "batch_size": batch_size,
            "optimizer": type(optimizer).__name__,
            "data": self._fingerprint(),
        }
        self._draw_from = rng
        self._rngs = {"batches": rng}
        if draws_random_numbers(network) and rng is not np.random:
            self._rngs["layers"] = np.random
        self._prepared: dict[Any, Any] = {}
        self._encodes = self._changes = False
        self._tuners: tuple[ThreadTuner, ThreadTuner] | None = None  # of iterations, evaluations
        self._saves = False
        self.evaluated_sets: list[Examples] | None = None

    def _fingerprint(self) -> list[int]:
        """Return checksums of a few training examples, to detect other data on resuming."""
        x, t = self.sets[0]
        local = self.group.local_rows(np.linspace(0, self.n - 1, min(self.n, 32)).astype(np.int64))
        sums = [zlib.crc32(t[i].tobytes(), zlib.crc32(x[i].tobytes())) for i in local]
        return [value for each in self.group.allgather(sums) for value in each]

    def prepare_checkpoint(self, path: Path | None, resume: bool | str) -> None:
        """Check that a checkpoint can be written, and resume from it if requested."""
        self._saves = path is not None
        if path is None:
            return
        archive.check_writable(path)
        if resume is True or (resume == "auto" and path.exists()):
            self.done = checkpoints.restore(
                path, self.network, self.optimizer, self.history, self._rngs, self._settings
            )

    def write_checkpoint(self, path: Path) -> None:
        """Write the state of the run to a file."""
        checkpoints.write(
            path, self.network, self.optimizer, self.history, self._rngs, self._settings
        )

    def begin(self) -> None:
        """Broadcast the initial state of rank 0 to all ranks."""
        self.group.broadcast_state(self._state, self._set_state)
        if self.group.size > 1 and self.rng is np.random and draws_random_numbers(self.network):
            # Layers draw different numbers on each rank, batches the same: batches are drawn from a
            # copy of the state.
            self._draw_from = self._rngs["batches"] = clone(self.rng)
            np.random.seed((np.random.randint(2**31) + self.group.rank) % 2**32)

    def _state(self) -> Any:
        arrays = {key: np.asarray(value) for key, value in self.network.params.items()}
        buffers = dict(self.network.buffers)
        optimizer = self.optimizer.state() if hasattr(self.optimizer, "state") else None
        measured = {**vars(self.history), "threads": {}}
        return arrays, buffers, optimizer, measured, get_state(self.rng), self.done

    def _set_state(self, state: Any) -> None:
        arrays, buffers, optimizer, measured, rng, self.done = state
        for key, value in arrays.items():
            current: Any = self.network.params[key]
            if isinstance(current, np.ndarray):
                current[...] = value
            else:
                self.network.params[key] = value
        for key, (layer, name) in self.network.buffers.places().items():
            setattr(layer, name, buffers[key])
        if optimizer is not None:
            self.optimizer.set_state(optimizer, self.network.params)
        vars(self.history).update(measured)
        set_state(self.rng, rng)

    def start(self, team: Team, count: int, callback: bool = False) -> None:
        """Prepare to run `count` iterations, by compiled code or by the layers.

        Parameters
        ----------
        team : Team
        count : int
        callback : bool, default False
            Whether a callback may change the data between iterations, if they are not read-only.
        """
        self._team = team
        self._changes = any(a.flags.writeable for examples in self.sets for a in examples)
        pays = count * self.batch_size >= MIN_PASSES * self.n
        self._encodes = pays and not (self._changes and callback)
        if self._tuners is None:
            tuner = ThreadTuner(team.size)
            self._tuners = tuner, ThreadTuner(team.size, probe_iterations=1)
            self.history.threads = tuner.counts
        self.restart()

    def restart(self) -> None:
        """Prepare again: a callback may have changed the network, the optimizer or the data."""
        if self._changes:
            self._prepared.clear()
        tuners = self._tuners
        assert tuners is not None  # made by `start`
        made: Iterations | None = None
        if self.group.size == 1:
            made = fast_path.make_iterations(
                self.network,
                self.network.stack(),
                self.optimizer,
                self.sets,
                self.batch_size,
                self._draw_from,
                self._team,
                tuners[0],
                self._prepared,
                self._encodes,
            )
        self._iterations = made or LayerIterations(
            self.network,
            self.optimizer,
            self.sets,
            self.n,
            self.batch_size,
            self._draw_from,
            self.group,
            *tuners,
        )

    def advance(self, stop: int, bar: Any = None) -> None:
        """Run iterations until `stop` iterations are done."""
        with self.group.deferred_interrupts():
            try:
                for losses in self._iterations.run(stop - self.done):
                    self.history.train_loss_list.extend(losses)
                    if bar is not None:
                        bar.update(len(losses))
                    if not (self.diverged or math.isfinite(sum(losses))):
                        self.diverged = self._warn_if_diverged(len(losses))
                    if self.group.interrupted:
                        self.group.raise_if_interrupted()
            finally:  # also on Ctrl-C
                self._iterations.sync_params()
                self.done = len(self.history.train_loss_list)

    def evaluate(self) -> None:
        """Compute and record the accuracies on both sets."""
        with self.group.deferred_interrupts():
            if self.evaluated_sets is None:
                accuracies = [self._iterations.accuracy(i) for i in range(len(self.sets))]
            else:
                accuracies = [self.network.accuracy(x, t) for x, t in self.evaluated_sets]
            self.history.evaluated_at.append(self.done - 1)
            self.history.train_acc_list.append(accuracies[0])
            self.history.test_acc_list.extend(accuracies[1:])

    def finish(self) -> None:
        """Record the accuracies after the last iteration."""
        history = self.history
        if self.evaluated_sets is None and history.evaluated_at[-1:] == [self.done - 1]:
            history.train_acc = history.train_acc_list[-1]
            history.test_acc = history.test_acc_list[-1] if len(self.sets) > 1 else None
        else:
            history.train_acc = self._iterations.accuracy(0)
            history.test_acc = self._iterations.accuracy(1) if len(self.sets) > 1 else None
        if self._draw_from is not self.rng:
            set_state(self.rng, get_state(self._draw_from))

    def _warn_if_diverged(self, latest: int) -> bool:
        """Return whether one of the latest losses is not finite; if so, warn on rank 0."""
        losses = self.history.train_loss_list
        for i in range(len(losses) - latest, len(losses)):
            if not math.isfinite(losses[i]):
                message = (
                    f"the loss stopped being finite at iteration {i} ({losses[i]}); try a learning "
                    f"rate below {getattr(self.optimizer, 'lr', math.nan):g}, or scale the data to "
                    "about 0 to 1, and look for NaN in them"
                )
                if self._saves:
                    message += "; the checkpoint is unchanged"
                self.group.on_rank_zero(
                    partial(warnings.warn, message, RuntimeWarning, stacklevel=5)
                )
                return True
        return False  # all losses are finite, but their sum is not


def next_stop(
    done: int, iterations: int, n: int, batch_size: int, epochs: bool
) -> tuple[int, bool]:
    """Return the next iteration at which to stop, and whether to evaluate accuracies there.

    Parameters
    ----------
    done, iterations : int
        Number of iterations done, and total number.
    n, batch_size : int
        Number of examples in the training set and in a batch.
    epochs : bool
        Whether to stop also at the end of each epoch, if evaluations are less frequent.

    Returns
    -------
    stop : int
    evaluate : bool
        True after an iteration ``i`` with ``i % max(n / batch_size, 1) == 0``, the lecture's
        condition, evaluated in floating point.
    """
    epoch = max(n / batch_size, 1)
    step = Fraction(epoch).numerator  # integers divisible by `epoch` are multiples of `step`
    evaluation = -(-done // step) * step + 1
    stop = min(evaluation, iterations)
    if epochs and step > epoch:  # otherwise each epoch has an evaluation
        passed = done * batch_size // n + 1
        stop = min(stop, -(-passed * n // batch_size))
    return stop, stop == evaluation

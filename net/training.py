"""The function `train`: the training loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kernels._threads import Team
from net.history import History
from net.network import Network
from net.processes import processes
from net.training_checks import (
    LEARNING_RATE,
    check_examples,
    check_network,
    check_optimizer,
    check_resume,
)
from net.training_run import TrainingRun, next_stop
from net.validation import Random, check_int, check_path, check_rng

Callback = Callable[[int, History], Any]


def train(
    network: Network,
    x_train: ArrayLike,
    t_train: ArrayLike,
    x_test: ArrayLike | None = None,
    t_test: ArrayLike | None = None,
    *,
    iterations: int = 10_000,
    batch_size: int = 100,
    learning_rate: float = LEARNING_RATE,
    optimizer: Any = None,
    rng: Random = None,
    progress: bool | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool | str = False,
    comm: Any = None,
) -> History:
    """Train a network by gradient descent on random batches, as the lecture's loop does.

    Each iteration draws a batch with replacement by ``choice(N, batch_size)``, computes the
    gradient, updates the parameters by the optimizer, and records the loss of the same batch with
    the new parameters. The accuracies on both sets are evaluated after each iteration ``i`` with
    ``i % max(N / batch_size, 1) == 0``: the first iteration of each epoch if `batch_size` divides
    N, and fewer iterations otherwise.

    Parameters
    ----------
    network : Network
        The network, which is trained in place.
    x_train : array_like, shape (N, ...)
        Examples of the training set.
    t_train : array_like, shape (N,) or (N, C)
        Class indices, or one-hot or soft targets.
    x_test, t_test : array_like, optional
        The test set, in the same format.
    iterations : int, default 10000
        Total number of iterations, including those of a resumed run.
    batch_size : int, default 100
        Number of examples in a batch.
    learning_rate : float, default 0.1
        Short for ``optimizer=SGD(learning_rate)``.
    optimizer : Optimizer, optional
        An optimizer of `net`, or an object with ``update(params, grads)``. To continue the training
        of an earlier call, pass the same optimizer object.
    rng : numpy.random.Generator, RandomState, int or None
        Source of random numbers for the batches. An int is the seed of a new Generator. None draws
        from NumPy's global state, as the lecture does.
    progress : bool, optional
        True shows a progress bar on a terminal and in a notebook, and otherwise prints a line on
        standard error for each evaluation. By default nothing is shown.
    callback : callable, optional
        Function that is called as ``callback(iteration, history)`` after each evaluation and at the
        end, with the number of iterations done. The callback may change the network and the
        optimizer. Training stops if the callback returns True.
    checkpoint : str or os.PathLike, optional
        File to which the state of the run is written after each evaluation, after each epoch and at
        the end.
    resume : bool or 'auto', default False
        Whether to resume from `checkpoint`: network, optimizer, history and random state are
        restored from the file. 'auto' starts a new run if the file does not exist.
    comm : mpi4py.MPI.Intracomm, optional
        Communicator of the processes that train together, each with its shard of the data: see
        Notes.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. Nothing is changed in that case.
    OSError
        If a checkpoint cannot be written or read. The network in memory is kept.
    KeyboardInterrupt
        On Ctrl-C, at the end of an iteration. The network keeps its trained parameters, and the
        history that was passed to the callback holds the iterations done.

    Warns
    -----
    RuntimeWarning
        Once, with the iteration at which the loss stopped being finite. Training continues, as in
        the lecture's loop, but the checkpoint is no longer overwritten.

    Notes
    -----
    A stack of Affine layers with ReLU or Sigmoid in between is trained with an optimizer of `net`
    by compiled code that runs many iterations in each call. Any other network is trained by its
    layers. The history is the same to rounding.

    With `comm`, every rank of the communicator makes the same call with its own shard of the data,
    which may be empty if another rank's is not. ``load_mnist(part=(comm.rank, comm.size))`` loads a
    shard. The data set is the concatenation of the shards in the order of the ranks. The batches
    are those that a single process would draw. The history is that of a single process to rounding,
    if the layers treat each example independently and the loss is the mean over the batch. Batch
    normalisation computes its statistics from each rank's part of a batch, and dropout draws its
    masks on each rank. The statistics of rank 0 are saved.

    Ranks start with the network, optimizer and random state of rank 0, and end with equal ones.
    Only rank 0 shows progress, calls its `callback`, and reads and writes its `checkpoint`. A
    checkpoint can be resumed by any number of ranks or by a single process.

    An error on one rank, or Ctrl-C, is raised on all ranks. The other ranks raise an error of the
    same type with the number of the failing rank. Ranks on one computer share its cores, unless the
    number of threads is set. See ``docs/scaling.md``.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Adam, TwoLayerNet, train
    >>> x, t = np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0])
    >>> network = TwoLayerNet(4, 8, 2, weight_init_std=0.5, rng=0)
    >>> history = train(
    ...     network, x, t, x, t, iterations=500, batch_size=4, optimizer=Adam(lr=0.01), rng=1
    ... )
    >>> history.test_acc
    1.0
    """
    with processes(comm) as group:
        with group.errors_on_all_ranks():
            check_network(network)
            sets = [check_examples(network, x_train, t_train, "train", group.min_examples)]
            if x_test is not None or t_test is not None:
                sets.append(check_examples(network, x_test, t_test, "test", group.min_examples))
            iterations = check_int(iterations, "iterations", 0)
            batch_size = check_int(batch_size, "batch_size", 1)
            optimizer = check_optimizer(optimizer, learning_rate)
            source = check_rng(rng)
            if callback is not None and not callable(callback):
                raise TypeError(f"callback: expected a function, got {callback!r}")
            path = None if checkpoint is None else check_path(checkpoint, "checkpoint")
            resume = check_resume(resume, path, optimizer)
        args = network, sets, optimizer, batch_size, source, group
        run = TrainingRun(*args, iterations=iterations, resume=resume)
        group.on_rank_zero(partial(run.prepare_checkpoint, path, resume))
        run.begin()
        # Create a bar only if it is shown: even a disabled bar acquires a lock that is shared by
        # processes, and a child that is killed while it holds the lock never releases it.
        shown = group.is_rank_zero and shows_bar(progress)
        bar = _make_bar(iterations, run.done) if shown else None
        with Team() as team, nullcontext() if bar is None else bar:
            run.start(team, iterations - run.done, callback is not None)
            stopped = False
            while run.done < iterations and not stopped:
                stop, evaluate = next_stop(
                    run.done, iterations, run.n, batch_size, path is not None
                )
                run.advance(stop, bar)
                if evaluate:
                    run.evaluate()
                group.raise_if_interrupted()
                stopped = group.on_rank_zero(
                    partial(_pause, run, bar, progress, path, callback, evaluate, iterations)
                )
                if callback is not None:
                    run.restart()
            run.finish()
    return run.history


def _pause(
    run: TrainingRun,
    bar: Any,
    progress: bool | None,
    path: Path | None,
    callback: Callback | None,
    evaluated: bool,
    iterations: int,
) -> bool:
    """Report and save the state of a run; return whether the callback requests a stop."""
    if progress and evaluated:
        _report(bar, run.history)
    if path is not None and not run.diverged:
        run.write_checkpoint(path)
    if callback is None or not (evaluated or run.done == iterations):
        return False
    answer = callback(run.done, run.history)
    return isinstance(answer, bool | np.bool_) and bool(answer)


def shows_bar(progress: bool | None) -> bool:
    """Return whether progress is shown as a bar, as on a terminal or in a notebook.

    Parameters
    ----------
    progress : bool or None

    Returns
    -------
    bool
    """
    if not progress:
        return False
    from tqdm.auto import tqdm  # imported only for a run with a bar

    return sys.stderr.isatty() or tqdm.__module__ == "tqdm.auto"  # in a notebook


def _report(bar: Any, history: History) -> None:
    """Show the latest loss and accuracies beside the bar, or print a line without a bar."""
    figures = {"loss": history.train_loss_list[-1], "train": history.train_acc_list[-1]}
    if history.test_acc_list:
        figures["test"] = history.test_acc_list[-1]
    if bar is None:
        line = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"iteration {history.evaluated_at[-1]}: {line}", file=sys.stderr, flush=True)
    else:
        bar.set_postfix({name: f"{value:.4f}" for name, value in figures.items()})


def _make_bar(iterations: int, done: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=iterations, initial=done, unit="it")

"""The lecture's training loop as a function, and what it leaves behind."""

import math
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from kernels._arrays import as_real, compute_dtype
from kernels._targets import check_targets
from kernels._threads import Team
from net import checkpoint as checkpoints
from net.alone import Alone
from net.layers import SoftmaxWithLoss
from net.options import Random, file_path, finite, generator, whole_number
from net.two_layer_net import TwoLayerNet

if TYPE_CHECKING:
    from net.ranks import Ranks

Array = NDArray[Any]


@dataclass
class History:
    """What a training run measured.

    Attributes
    ----------
    train_loss_list : list of float
        Loss of each iteration's batch, after the update.
    train_acc_list, test_acc_list : list of float
        Accuracies on both sets at each evaluation; the second is empty without a test set.
    evaluated_at : list of int
        The iterations, counted from 0, after which the accuracies were taken.
    threads : dict of int to int
        How many iterations ran on how many threads, as timing suggested; empty for a network with
        other layers.
    """

    train_loss_list: list[float] = field(default_factory=list)
    train_acc_list: list[float] = field(default_factory=list)
    test_acc_list: list[float] = field(default_factory=list)
    evaluated_at: list[int] = field(default_factory=list)
    threads: dict[int, int] = field(default_factory=dict, compare=False)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the loss and the accuracies over the iterations into a picture.

        Parameters
        ----------
        path : str or os.PathLike
            Its ending chooses the form: .png, .svg, .pdf.

        Raises
        ------
        TypeError
            If `path` is no name of a file.
        OSError
            If the picture cannot be written.
        ValueError
            If the ending names no form of picture.
        """
        from net.plot import plot_history

        plot_history(self, file_path(path, "path"))


def train(
    network: TwoLayerNet,
    x_train: ArrayLike,
    t_train: ArrayLike,
    x_test: ArrayLike | None = None,
    t_test: ArrayLike | None = None,
    *,
    iterations: int = 10_000,
    batch_size: int = 100,
    learning_rate: float = 0.1,
    rng: Random = None,
    progress: bool | None = None,
    callback: Callable[[int, History], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    sparse: bool | None = None,
    comm: Any = None,
) -> History:
    """Train by stochastic gradient descent, as the lecture's loop does.

    Each iteration draws a batch with replacement by ``choice(N, batch_size)``, takes the gradient,
    updates ``params[key] -= learning_rate * grads[key]``, and records the loss of the same batch
    with the new weights. The accuracies on both sets are taken after each iteration ``i`` with
    ``i % (N / batch_size) == 0``: the first of each epoch where `batch_size` divides N, and fewer
    where it does not. (A `batch_size` above N counts as N here.)

    Parameters
    ----------
    network : TwoLayerNet
        Trained in place.
    x_train : array_like, shape (N, input_size) or (N, ...)
    t_train : array_like, shape (N,) or (N, output_size)
        Class indices, or one-hot or soft targets.
    x_test, t_test : array_like, optional
        The test set, in the same form.
    iterations : int, default 10000
        How many there are in all, those of a resumed run included.
    batch_size : int, default 100
    learning_rate : float, default 0.1
    rng : numpy.random.Generator, RandomState, int or None
        What draws the batches; an int is the seed of a new Generator. None draws as the lecture
        does, from NumPy's global state.
    progress : bool, optional
        True shows a progress bar on standard error, or a line for each evaluation where that is no
        terminal. By default nothing is shown.
    callback : callable, optional
        Called as ``callback(iteration, history)`` after each evaluation and at the end, with the
        number of iterations done. If it returns True, training stops.
    checkpoint : str or os.PathLike, optional
        A file to which the state of the run is written after each evaluation and at the end.
    resume : bool, default False
        Go on from `checkpoint`: network, history and random state are taken from it.
    sparse : bool, optional
        Whether to multiply only what is not zero in the data, which is quicker for MNIST, where
        four pixels of five are zero. By default what the share of zeros suggests; for measurements.
    comm : mpi4py.MPI.Intracomm, optional
        The processes that train together, each called with its part of the data: see Notes.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is described here, before anything is changed.
    OSError
        If a checkpoint cannot be written or read; the network in memory is kept.
    KeyboardInterrupt
        On Ctrl-C; the network keeps what was trained, and the history that the callback was given
        holds the iterations done.

    Warns
    -----
    RuntimeWarning
        Once, with the iteration at which the loss stopped being finite. Training goes on, as the
        lecture's loop does, but the checkpoint stays as it was before.

    Notes
    -----
    With `comm`, every rank of the communicator makes the same call, but for the data: each gives
    the examples that it holds, any number of them, none too, of which there must be one somewhere.
    ``load_mnist(part=(comm.rank, comm.size))`` reads them. All parts in the order of the ranks are
    the data set: the same batches are drawn from it as one process would draw, and the history is
    the same to rounding. It takes layers that treat each example by itself, and a loss that is the
    mean over the batch. `sparse` has no meaning then: all inputs are multiplied.

    The network and the random state of rank 0 are where all begin, and in the end they are the
    same on all. Only rank 0 shows progress, calls its `callback`, and reads and writes its
    `checkpoint`, which any number of ranks, or one process, can resume.

    An error on one rank is raised on all, on the others as one of the same kind that tells the
    number of the rank; so is Ctrl-C. Ranks on one computer share its cores, unless you have set the
    number of threads. More in ``docs/scaling.md``.

    Examples
    --------
    >>> import numpy as np
    >>> from net import TwoLayerNet, train
    >>> x, t = np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0])
    >>> network = TwoLayerNet(4, 8, 2, weight_init_std=0.5, rng=0)
    >>> history = train(network, x, t, x, t, iterations=500, batch_size=4, rng=1)
    >>> len(history.train_loss_list), history.test_acc_list[-1]
    (500, 1.0)
    """
    with _processes(comm) as ranks:
        with ranks.together():
            _check_network(network)
            sets = [_examples(network, x_train, t_train, "train", ranks.least)]
            if x_test is not None or t_test is not None:
                sets.append(_examples(network, x_test, t_test, "test", ranks.least))
            iterations = whole_number(iterations, "iterations", 0)
            batch_size = whole_number(batch_size, "batch_size", 1)
            rate = finite(learning_rate, "learning_rate")
            random = generator(rng)
            if callback is not None and not callable(callback):
                raise TypeError(f"callback: expected a function, got {callback!r}")
            path = None if checkpoint is None else file_path(checkpoint, "checkpoint")
            if resume and path is None:
                raise ValueError("resume: expected a checkpoint to go on from, got checkpoint=None")
        size = ranks.agree(
            network,
            sets,
            random,
            iterations=iterations,
            batch_size=batch_size,
            learning_rate=rate,
            resume=resume,
        )
        settings = {"examples": size, "batch_size": batch_size}
        history, done, diverged = History(), 0, False
        if resume and path is not None:
            state = network, history, random, settings
            done = ranks.lead(partial(checkpoints.restore, path, *state))
        ranks.share(network, history, random)
        # No bar unless it is seen: one that is not takes a lock, too, which processes share, and
        # which a child that is killed at that moment never gives back.
        shown = ranks.first and shows_bar(progress)
        bar = tqdm(total=iterations, initial=done, unit="it") if shown else None
        with Team() as team, nullcontext() if bar is None else bar:
            steps = ranks.steps(network, sets, batch_size, rate, random, team, sparse)
            history.threads = steps.threads

            def pause(evaluated: bool) -> bool:
                """Tell and keep how far it is; return whether the callback says to stop."""
                if progress and evaluated:
                    _report(bar, history)
                if path is not None and not diverged:
                    checkpoints.write(path, network, history, random, settings)
                return callback is not None and callback(done, history) is True

            while done < iterations:
                stop, evaluate = _next_stop(done, iterations, max(size / batch_size, 1))
                try:
                    for losses in steps.advance(stop - done):
                        history.train_loss_list.extend(losses)
                        if bar is not None:
                            bar.update(len(losses))
                        if not (diverged or math.isfinite(sum(losses))):
                            diverged = ranks.lead(
                                partial(_diverged, history, len(losses), rate, path)
                            )
                finally:  # also on Ctrl-C
                    steps.store()
                done = stop
                if evaluate:
                    history.evaluated_at.append(done - 1)
                    history.train_acc_list.append(steps.accuracy(0))
                    if len(sets) > 1:
                        history.test_acc_list.append(steps.accuracy(1))
                if ranks.lead(partial(pause, evaluate)):
                    break
    return history


def _diverged(history: History, latest: int, rate: float, checkpoint: Path | None) -> bool:
    """Tell whether one of the latest losses is not finite, and warn if so."""
    losses = history.train_loss_list
    for i in range(len(losses) - latest, len(losses)):
        if not math.isfinite(losses[i]):
            kept = "" if checkpoint is None else "; the checkpoint is kept as it was before"
            warnings.warn(
                f"the loss stopped being finite at iteration {i} ({losses[i]}); try a learning "
                f"rate below {rate:g}, or bring the data to about 0 to 1{kept}",
                RuntimeWarning,
                stacklevel=4,  # over `lead` and `train`
            )
            return True
    return False  # only their sum is not


def shows_bar(progress: bool | None) -> bool:
    """Tell whether progress is shown as a bar: only a terminal can.

    Parameters
    ----------
    progress : bool or None

    Returns
    -------
    bool
    """
    return bool(progress) and sys.stderr.isatty()


def _check_network(network: Any) -> None:
    """Check that there is a network that can be trained in place."""
    if not isinstance(network, TwoLayerNet):
        raise TypeError(f"network: expected a TwoLayerNet, got {network!r}")
    for key, value in network.params.items():
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            raise ValueError(
                f"network.params[{key!r}]: expected an array that can be changed, got a read-only "
                "one; assign a copy of it"
            )


def _processes(comm: Any) -> "Alone | Ranks":
    """Return who trains: this process alone, or with others."""
    if comm is None:
        return Alone()
    from net.ranks import Ranks

    return Ranks(comm)


def _examples(network: TwoLayerNet, x: Any, t: Any, which: str, least: int) -> tuple[Array, Array]:
    """Return a data set that fits together, so that no error comes in the middle of a run."""
    if x is None or t is None:
        raise ValueError(f"x_{which}, t_{which}: expected both or neither, got one")
    x, t = as_real(x, f"x_{which}"), as_real(t, f"t_{which}")
    if x.ndim < 2 or x.shape[0] < least or t.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"x_{which}, t_{which}: expected (N, ...) and (N,) or (N, C) with N at least {least}, "
            f"got {x.shape} and {t.shape}"
        )
    if not len(x):  # one rank's part
        return x, t
    W1, b2 = network.params["W1"], network.params["b2"]
    logits = (x.shape[0], b2.shape[0])
    if not (network.is_plain() and x[0].size == W1.shape[0]):  # other layers, or a mistake
        logits = (x.shape[0], network.predict(x[:1]).shape[1])
    if type(network.lastLayer) is SoftmaxWithLoss:
        check_targets(t, logits, compute_dtype(W1))
    return x, t


def _next_stop(done: int, iterations: int, epoch: float) -> tuple[int, bool]:
    """Return where to stop after `done` iterations, and whether the accuracies are taken there."""
    for i in range(done, iterations):
        if i % epoch == 0:  # word for word the lecture's condition
            return i + 1, True
    return iterations, False


def _report(bar: "tqdm[Any] | None", history: History) -> None:
    """Show the latest figures beside the bar, or on a line of their own where there is none."""
    figures = {"loss": history.train_loss_list[-1], "train": history.train_acc_list[-1]}
    if history.test_acc_list:
        figures["test"] = history.test_acc_list[-1]
    if bar is None:
        line = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"iteration {history.evaluated_at[-1]}: {line}", file=sys.stderr, flush=True)
    else:
        bar.set_postfix({name: f"{value:.4f}" for name, value in figures.items()})

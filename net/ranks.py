"""The processes that train together: the ranks of an MPI communicator.

How they share the work is in `net.rank_steps`. Here is what they have in common: the cores of a
computer, their data's place in the whole, what has to be the same on all, and their end.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numba
import numpy as np
from mpi4py import MPI
from mpi4py.run import set_abort_status

from net import checkpoint as checkpoints
from net.alone import on_all_ranks
from net.rank_steps import RankSteps
from net.steps import Array, Examples, Steps
from net.two_layer_net import TwoLayerNet

if TYPE_CHECKING:
    from net.training import History

T = TypeVar("T")

_LIKE = (KeyboardInterrupt, ValueError, TypeError, OSError, MemoryError, OverflowError)
"""Errors of one rank that the others raise as well; for any other they raise RuntimeError."""


class Ranks:
    """The processes of one training run, seen from one of them.

    What fails on one of them fails on all, in the same iteration: none waits for a message that
    never comes.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm

    Attributes
    ----------
    comm, itself : mpi4py.MPI.Intracomm
        The communicator, and one of this process alone.
    rank : int
        The number of this one.
    first : bool
        Whether it is rank 0, which speaks and writes for all.
    part : (int, int)
        The part of the data that it has, for `net.load_mnist`.
    least : int
        Examples that it has to have.
    counts : list of list of int
        How many examples each rank has of each data set.
    interrupted : bool
        Whether Ctrl-C reached this rank.

    Raises
    ------
    TypeError
        If `comm` is no communicator.
    """

    def __init__(self, comm: Any):
        if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
            raise TypeError(f"comm: expected a communicator of mpi4py, got {comm!r}")
        self.comm, self.itself, self.rank = comm, MPI.COMM_SELF, comm.Get_rank()
        self.first, self.part, self.least = self.rank == 0, (self.rank, comm.Get_size()), 0
        self.counts: list[list[int]] = []
        self.interrupted = False

    # ------------------------------------------------------------------------ begin and end
    def __enter__(self) -> Self:
        self._threads = numba.get_num_threads()
        chosen = "NUMBA_NUM_THREADS" in os.environ
        share = self._share_of_cores()
        if not chosen and self._threads == numba.config.NUMBA_NUM_THREADS:
            numba.set_num_threads(min(self._threads, share))
        # Ctrl-C reaches the ranks in different iterations: it must stop them in the same one.
        self._catches = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._catches:
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        numba.set_num_threads(self._threads)
        if self._catches:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if error is not None and not on_all_ranks(
            error
        ):  # as when MPI itself fails: the others hang
            set_abort_status(error)

    def _interrupt(self, *_: Any) -> None:
        self.interrupted = True

    def _share_of_cores(self) -> int:
        """Return how many threads there are for this rank: ranks on one computer share its cores.

        They share only those on which both may run, so ranks bound to cores of their own keep them.
        """
        if hasattr(os, "sched_getaffinity"):
            mine = sorted(os.sched_getaffinity(0))
        else:
            mine = list(range(os.cpu_count() or 1))
        computer = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        users = Counter(chain(*computer.allgather(mine)))
        computer.Free()
        return max(1, int(sum(Fraction(1, users[core]) for core in mine)))

    # ------------------------------------------------------------------------ one for all
    @contextmanager
    def together(self) -> Iterator[None]:
        """Do something on every rank, and raise on all what one of them raises."""
        error = None
        try:
            yield
        except BaseException as caught:
            error = caught
        self.settle(error)

    def settle(self, error: BaseException | None) -> None:
        """Tell the others of an error, or hear of theirs.

        Parameters
        ----------
        error : BaseException or None
            This rank's.

        Raises
        ------
        BaseException
            This rank's error; or else one like another rank's, that tells its number.
        """
        if error is None and self.interrupted:
            error = KeyboardInterrupt()
        told = None
        if error is not None:
            like = next((kind for kind in _LIKE if isinstance(error, kind)), RuntimeError)
            told = like, str(error) if like is not RuntimeError else repr(error)
        for rank, other in enumerate(self.comm.allgather(told)):
            if other is not None:
                like, message = other
                raise _for_all(error or like(f"rank {rank}: {message}"))

    def lead(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 alone.

        Parameters
        ----------
        function : callable

        Returns
        -------
        object
            Its result, on every rank.
        """
        result = None
        with self.together():
            if self.first:
                result = function()
        result = self.comm.bcast(result)
        return result  # type: ignore[no-any-return]  # pickled and unpickled

    def sum(self, message: Array) -> Any:
        """Begin to sum an array over the ranks, in its place.

        Parameters
        ----------
        message : ndarray
            Not to be touched before the request is done.

        Returns
        -------
        mpi4py.MPI.Request
            Its method `Wait` returns when the sum is there.
        """
        return self.comm.Iallreduce(MPI.IN_PLACE, message)

    def gather(self, value: T) -> list[T]:
        """Return every rank's value."""
        values: list[T] = self.comm.allgather(value)
        return values

    def accuracy(self, network: TwoLayerNet, x: Array, t: Array) -> float:
        """Return the accuracy on a data set of which each rank has a part.

        Parameters
        ----------
        network : TwoLayerNet
        x, t : ndarray
            This rank's part, which may be empty.

        Returns
        -------
        float
        """
        right = 0
        with self.together():
            if len(x):
                right = round(network.accuracy(x, t) * len(x))
        return sum(self.gather(right)) / sum(self.gather(len(x)))

    # ------------------------------------------------------------------------ the same on all
    def agree(
        self,
        network: TwoLayerNet,
        sets: list[Examples],
        random: Any,
        **options: Any,
    ) -> int:
        """See that all ranks do the same work.

        Parameters
        ----------
        network : TwoLayerNet
        sets : list of (x, t)
            This rank's part of the training set, and perhaps of the test set.
        random : numpy.random.Generator, RandomState or the module numpy.random
        **options
            What else has to be the same.

        Returns
        -------
        int
            The number of training examples on all ranks.

        Raises
        ------
        ValueError
            On all ranks, if something differs or a set has no examples.
        """
        fields: dict[str, Any] = {
            "njitnet": _version(),
            "NumPy": np.__version__,  # whose releases may draw other numbers from the same state
            "layers": [type(layer).__name__ for layer in network.layers.values()],
            "rng": _kind(random),
        }
        for key, value in network.params.items():
            fields[key] = f"{value.shape} of {value.dtype}"
        fields["sets"] = ["train", "test"][: len(sets)]
        for which, (x, t) in zip(fields["sets"], sets, strict=True):
            fields[f"x_{which}"] = f"(..., {', '.join(map(str, x.shape[1:]))}) of {x.dtype}"
            kind = "class indices" if t.ndim == 1 else f"targets for {t.shape[1]} classes"
            fields[f"t_{which}"] = kind
        given = self.comm.allgather(({**fields, **options}, [len(x) for x, _ in sets]))
        for name in dict.fromkeys(chain(*(each for each, _ in given))):
            holders: dict[Any, list[int]] = {}
            for rank, (each, _) in enumerate(given):
                holders.setdefault(str(each.get(name)), []).append(rank)
            if len(holders) > 1:
                values = "; ".join(f"{value} on {_ranks(on)}" for value, on in holders.items())
                raise _for_all(ValueError(f"{name}: expected the same on all ranks, got {values}"))
        self.counts = [list(counts) for counts in zip(*(sizes for _, sizes in given), strict=True)]
        for which, counts in zip(fields["sets"], self.counts, strict=True):
            if not sum(counts):
                raise _for_all(
                    ValueError(f"x_{which}: expected an example on one rank at least, got none")
                )
        return sum(self.counts[0])

    def share(self, network: TwoLayerNet, history: "History", random: Any) -> None:
        """Begin where rank 0 does: with its parameters, history and random state.

        Parameters
        ----------
        network : TwoLayerNet
        history : History
        random : numpy.random.Generator, RandomState or the module numpy.random
        """
        params, measured, state = self.comm.bcast(
            (dict(network.params), vars(history), checkpoints.get_state(random))
        )
        with self.together():
            for key, value in params.items():
                network.params[key][...] = value
            vars(history).update(measured)
            checkpoints.set_state(random, state)

    def steps(
        self,
        network: TwoLayerNet,
        sets: list[Examples],
        batch_size: int,
        rate: float,
        random: Any,
        *_: Any,
    ) -> Steps:
        """Return how the iterations are done; the arguments are those of `net.steps.choose`."""
        return RankSteps(network, sets, batch_size, rate, random, self)


def world() -> Ranks:
    """Return this process as one of all that mpiexec started.

    Returns
    -------
    Ranks
    """
    return Ranks(MPI.COMM_WORLD)


def _for_all(error: BaseException) -> BaseException:
    """Mark an error that every rank raises now, in its own form."""
    error.on_all_ranks = True  # type: ignore[attr-defined]  # ours, see `on_all_ranks`
    return error


def _version() -> str:
    try:
        return version("njitnet")
    except PackageNotFoundError:
        return "not installed"


def _kind(random: Any) -> str:
    bits = getattr(random, "bit_generator", None)
    name = getattr(random, "__name__", type(random).__name__)
    return name if bits is None else f"{name} ({type(bits).__name__})"


def _ranks(numbers: list[int]) -> str:
    """Return ``rank 3``, or ``ranks 0, 1, 2``, the first of many."""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"rank{'s' * (len(numbers) > 1)} {shown}"

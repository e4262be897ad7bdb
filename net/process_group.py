"""Processes that train together: the ranks of an MPI communicator.

Synchronous data-parallel gradient descent. Every rank draws the same batches, takes the gradient of
those examples that lie in its shard of the data, and divides by the size of the whole batch; the
sum over the ranks is the gradient of the batch, and every rank makes the same update.

An iteration sends one message: the gradients of all parameters, the loss of the batch before with
the new weights, and whether something failed. While it is under way, the next batch is fetched.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import Any, Self, TypeVar

import numba
import numpy as np
from mpi4py import MPI
from mpi4py.run import set_abort_status

import net
from net.distributed import Array, Examples, Exchange, SingleProcess, is_raised_on_all_ranks

T = TypeVar("T")

_SAME_ERRORS = (KeyboardInterrupt, ValueError, TypeError, OSError, MemoryError, OverflowError)
"""Errors of one rank that the other ranks raise as well; for any other they raise RuntimeError."""

_LOSS, _FAILED = -2, -1  # the end of the message


class _MessageExchange(Exchange):
    """Sum gradients and losses by one non-blocking message an iteration."""

    def __init__(self, group: "ProcessGroup", params: Mapping[str, Array]):
        super().__init__()
        self._group = group
        values = {key: np.asarray(value) for key, value in params.items()}
        sizes = [value.size for value in values.values()]
        dtype = np.result_type(np.float32, *values.values())
        self._message = np.zeros(sum(sizes) + 2, dtype)
        pieces = np.split(self._message, np.cumsum(sizes))
        self._grads = {
            key: piece.reshape(value.shape)
            for (key, value), piece in zip(values.items(), pieces[:-1], strict=True)
        }
        self._request: Any = None

    def start(self, grads: Mapping[str, Array] | None, share: float, loss: float) -> None:
        if grads:
            for key, grad in grads.items():
                np.multiply(grad, share, out=self._grads[key], casting="same_kind")
        else:
            self._message[:_LOSS] = 0
        self._message[_LOSS] = loss
        self._message[_FAILED] = self.error is not None or self._group.interrupted
        self._request = self._group.comm.Iallreduce(MPI.IN_PLACE, self._message)

    def finish(self) -> tuple[Mapping[str, Array], float]:
        self._request.Wait()
        return self._grads, float(self._message[_LOSS])

    def check(self) -> None:
        if self._message[_FAILED]:
            self._group.raise_on_all_ranks(self.error)

    def total(self, loss: float) -> float:
        self._group.raise_on_all_ranks(self.error)
        return sum(self._group.allgather(loss))


class ProcessGroup(SingleProcess):
    """The processes of one training run, seen from one of them.

    What fails on one of them fails on all, in the same iteration: none waits for a message that
    never comes.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm

    Raises
    ------
    TypeError
        If `comm` is no communicator.
    """

    min_examples = 0

    def __init__(self, comm: Any):
        super().__init__()
        if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
            raise TypeError(f"comm: expected a communicator of mpi4py, got {comm!r}")
        self.comm, self.self_comm = comm, MPI.COMM_SELF
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._first_row, self._row_count = 0, 0

    # ------------------------------------------------------------------------ begin and end
    def __enter__(self) -> Self:
        self._num_threads = numba.get_num_threads()
        chosen = "NUMBA_NUM_THREADS" in os.environ
        share = self._share_of_cores()
        if not chosen and self._num_threads == numba.config.NUMBA_NUM_THREADS:
            numba.set_num_threads(min(self._num_threads, share))
        # Ctrl-C reaches the ranks in different iterations: it must stop them in the same one.
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        numba.set_num_threads(self._num_threads)
        super().__exit__(kind, error, trace)
        if error is not None and not is_raised_on_all_ranks(error):
            set_abort_status(error)  # as when MPI itself fails: the other ranks hang

    def _on_interrupt(self, *_: Any) -> None:
        self.interrupted = True

    def raise_if_interrupted(self) -> None:
        """Do nothing: a message tells all ranks, which raise in the same iteration."""

    def _share_of_cores(self) -> int:
        """Return the number of threads for this rank: ranks on one computer share its cores.

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
    def errors_on_all_ranks(self) -> Iterator[None]:
        """Run a block on every rank, and raise on all ranks what one of them raises."""
        error = None
        try:
            yield
        except BaseException as caught:
            error = caught
        self.raise_on_all_ranks(error)

    def raise_on_all_ranks(self, error: BaseException | None) -> None:
        """Exchange errors; raise the first on every rank.

        Parameters
        ----------
        error : BaseException or None
            This rank's.

        Raises
        ------
        BaseException
            This rank's error; or else one like another rank's, with its number.
        """
        if error is None and self.interrupted:
            error = KeyboardInterrupt()
        sent = None
        if error is not None:
            kind = next((kind for kind in _SAME_ERRORS if isinstance(error, kind)), RuntimeError)
            sent = kind, str(error) if kind is not RuntimeError else repr(error)
        for rank, received in enumerate(self.comm.allgather(sent)):
            if received is not None:
                kind, message = received
                self.interrupted = False
                raise _mark(error or kind(f"rank {rank}: {message}"))

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 alone, and return its result on every rank."""
        result = None
        with self.errors_on_all_ranks():
            if self.is_rank_zero:
                result = function()
        result = self.comm.bcast(result)
        return result  # type: ignore[no-any-return]  # pickled and unpickled

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks."""
        values: list[T] = self.comm.allgather(value)
        return values

    def local_rows(self, rows: Array) -> Array:
        """Return the positions, in this rank's shard, of those rows that are in it."""
        local = rows - self._first_row
        return local[(local >= 0) & (local < self._row_count)]

    def exchange(self, params: Mapping[str, Array]) -> Exchange:
        """Return what sums the gradients of some parameters over the ranks."""
        return _MessageExchange(self, params)

    def accuracy(self, network: Any, x: Array, t: Array) -> float:
        """Return the accuracy on a data set of which each rank has a part, which may be empty."""
        correct = 0
        with self.errors_on_all_ranks():
            if len(x):
                correct = round(network.accuracy(x, t) * len(x))
        counts = self.allgather((correct, len(x)))
        return sum(c for c, _ in counts) / sum(n for _, n in counts)

    # ------------------------------------------------------------------------ the same on all
    def check_consistent(
        self, network: Any, sets: list[Examples], fields: Mapping[str, Any]
    ) -> int:
        """Check that all ranks do the same work.

        Parameters
        ----------
        network : Network
        sets : list of (x, t)
            This rank's shards of the training set, and perhaps of the test set.
        fields : mapping
            What else has to be the same.

        Returns
        -------
        int
            The number of training examples on all ranks.

        Raises
        ------
        ValueError
            On all ranks, if something differs, a set has no examples, or each rank has a copy of
            the whole training set in place of its shard.
        """
        names = ["train", "test"][: len(sets)]
        common: dict[str, Any] = {
            "njitnet": net.__version__,
            "NumPy": np.__version__,  # whose releases may draw other numbers from the same state
            "sets": names,
            **fields,
        }
        for key, value in network.params.items():
            common[key] = f"{np.shape(value)} of {np.asarray(value).dtype}"
        for name, (x, t) in zip(names, sets, strict=True):
            common[f"x_{name}"] = f"(..., {', '.join(map(str, x.shape[1:]))}) of {x.dtype}"
            kind = "class indices" if t.ndim == 1 else f"targets for {t.shape[1]} classes"
            common[f"t_{name}"] = kind
        received = self.comm.allgather((common, [len(x) for x, _ in sets]))
        for name in dict.fromkeys(chain(*(each for each, _ in received))):
            ranks: dict[str, list[int]] = {}
            for rank, (each, _) in enumerate(received):
                ranks.setdefault(str(each.get(name)), []).append(rank)
            if len(ranks) > 1:
                values = "; ".join(f"{value} on {_ranks(on)}" for value, on in ranks.items())
                raise _mark(ValueError(f"{name}: expected the same on all ranks, got {values}"))
        counts = [sizes for _, sizes in received]
        for i, name in enumerate(names):
            if not sum(sizes[i] for sizes in counts):
                raise _mark(
                    ValueError(f"x_{name}: expected an example on one rank at least, got none")
                )
        self._check_shards(sets[0], [sizes[0] for sizes in counts])
        self._row_count = counts[self.rank][0]
        self._first_row = sum(sizes[0] for sizes in counts[: self.rank])
        return sum(sizes[0] for sizes in counts)

    def _check_shards(self, examples: Examples, counts: list[int]) -> None:
        """Notice the easy mistake of giving every rank the whole data set."""
        n = counts[0]
        if self.size == 1 or n < 2 or set(counts) != {n}:
            return
        x, t = examples
        sample = np.linspace(0, n - 1, min(n, 64)).astype(int)
        seen = x[sample].tobytes(), t[sample].tobytes()
        if len(set(self.allgather(seen))) == 1:
            raise _mark(
                ValueError(
                    f"x_train: expected a shard of the data on each rank, got the same {n} "
                    "examples on all; pass each rank its part, such as load_mnist(part=(comm.rank, "
                    f"comm.size)) or x[{n} * rank // size : {n} * (rank + 1) // size]"
                )
            )

    def broadcast_state(self, get: Callable[[], Any], set_: Callable[[Any], None]) -> None:
        """Give every rank the state of rank 0.

        Parameters
        ----------
        get, set_ : callable
            Return the state, and take one.
        """
        state = self.comm.bcast(get() if self.is_rank_zero else None)
        with self.errors_on_all_ranks():
            if not self.is_rank_zero:
                set_(state)


def world() -> ProcessGroup:
    """Return this process as one of all that mpiexec started.

    Returns
    -------
    ProcessGroup
    """
    return ProcessGroup(MPI.COMM_WORLD)


def _mark(error: BaseException) -> BaseException:
    """Mark an error that every rank raises now."""
    error.on_all_ranks = True  # type: ignore[attr-defined]  # see `is_raised_on_all_ranks`
    return error


def _ranks(numbers: list[int]) -> str:
    """Return ``rank 3``, or ``ranks 0, 1, 2``, the first of many."""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"rank{'s' * (len(numbers) > 1)} {shown}"

"""Synchronous data-parallel training on the ranks of an MPI communicator.

Every rank draws the same batches, computes the gradient of the batch's examples that are in its
shard of the data, and divides by the size of the whole batch. The sum over the ranks is the
gradient of the batch, and every rank makes the same update.

Each iteration sends one message: the gradients of all parameters, the loss of the previous batch
with the new weights, and a flag for errors. The next batch is fetched while the message is sent.
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
"""Error types that the other ranks raise, too; for any other type they raise RuntimeError."""

_LOSS, _FAILED = -2, -1  # indices at the end of the message


class _MessageExchange(Exchange):
    """Sums of gradients and losses by one non-blocking message in each iteration."""

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
    """The processes of a distributed training run.

    An error on one rank is raised on all ranks in the same iteration, so that no rank waits for a
    message that is never sent.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm

    Raises
    ------
    TypeError
        If `comm` is not a communicator of mpi4py.
    """

    min_examples = 0

    def __init__(self, comm: Any):
        super().__init__()
        if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
            raise TypeError(f"comm: expected a communicator of mpi4py, got {comm!r}")
        self.comm, self.self_comm = comm, MPI.COMM_SELF
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._first_row, self._row_count = 0, 0

    # ------------------------------------------------------------------------ set-up and clean-up
    def __enter__(self) -> Self:
        self._num_threads = numba.get_num_threads()
        chosen = "NUMBA_NUM_THREADS" in os.environ
        share = self._share_of_cores()
        if not chosen and self._num_threads == numba.config.NUMBA_NUM_THREADS:
            numba.set_num_threads(min(self._num_threads, share))
        # Ctrl-C reaches the ranks in different iterations, but must stop them in the same one.
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
            set_abort_status(error)  # such as an error of MPI: the other ranks would hang

    def _on_interrupt(self, *_: Any) -> None:
        self.interrupted = True

    def raise_if_interrupted(self) -> None:
        """Do nothing: the message of each iteration carries the interrupt to all ranks."""

    def _share_of_cores(self) -> int:
        """Return the number of threads for this rank: ranks on one computer share its cores.

        A core is divided among the ranks whose CPU affinity includes the core, so a rank that is
        bound to its own cores uses all of them.
        """
        if hasattr(os, "sched_getaffinity"):
            mine = sorted(os.sched_getaffinity(0))
        else:
            mine = list(range(os.cpu_count() or 1))
        computer = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        users = Counter(chain(*computer.allgather(mine)))
        computer.Free()
        return max(1, int(sum(Fraction(1, users[core]) for core in mine)))

    # ------------------------------------------------------------------------ collectives
    @contextmanager
    def errors_on_all_ranks(self) -> Iterator[None]:
        """Run a block on every rank; if one rank raises an error, raise it on all ranks."""
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
            The error of this rank.

        Raises
        ------
        BaseException
            This rank's error, or else an error of the same type with the number of the rank on
            which it was raised.
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
        """Call a function on rank 0 only, and return its result on every rank."""
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
        """Return the rows that are in this rank's shard, as indices into the shard."""
        local = rows - self._first_row
        return local[(local >= 0) & (local < self._row_count)]

    def exchange(self, params: Mapping[str, Array]) -> Exchange:
        """Return an `Exchange` that sums the gradients of `params` over the ranks."""
        return _MessageExchange(self, params)

    def accuracy(self, network: Any, x: Array, t: Array) -> float:
        """Return the accuracy on a data set that is distributed over the ranks.

        A rank's shard may be empty.
        """
        correct = 0
        with self.errors_on_all_ranks():
            if len(x):
                correct = round(network.accuracy(x, t) * len(x))
        counts = self.allgather((correct, len(x)))
        return sum(c for c, _ in counts) / sum(n for _, n in counts)

    # ------------------------------------------------------------------------ consistency
    def check_consistent(
        self, network: Any, sets: list[Examples], fields: Mapping[str, Any]
    ) -> int:
        """Check that all ranks have equal arguments and their own shards of the data.

        Parameters
        ----------
        network : Network
        sets : list of (x, t)
            This rank's shards of the training set and, optionally, of the test set.
        fields : mapping
            Further values that must be the same on all ranks.

        Returns
        -------
        int
            The number of training examples on all ranks.

        Raises
        ------
        ValueError
            On all ranks, if a value differs between ranks, a set has no examples, or every rank
            has the same examples in place of its shard of the training set.
        """
        names = ["train", "test"][: len(sets)]
        common: dict[str, Any] = {
            "njitnet": net.__version__,
            "NumPy": np.__version__,  # random streams may differ between releases
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
                    ValueError(f"x_{name}: expected an example on at least one rank, got none")
                )
        self._check_shards(sets[0], [sizes[0] for sizes in counts])
        self._row_count = counts[self.rank][0]
        self._first_row = sum(sizes[0] for sizes in counts[: self.rank])
        return sum(sizes[0] for sizes in counts)

    def _check_shards(self, examples: Examples, counts: list[int]) -> None:
        """Raise ValueError if every rank was given the whole data set."""
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
        """Broadcast the state of rank 0 to all ranks.

        Parameters
        ----------
        get, set_ : callable
            Functions that return the state, and that set a given state.
        """
        state = self.comm.bcast(get() if self.is_rank_zero else None)
        with self.errors_on_all_ranks():
            if not self.is_rank_zero:
                set_(state)


def world() -> ProcessGroup:
    """Return the group of all processes that mpiexec started.

    Returns
    -------
    ProcessGroup
    """
    return ProcessGroup(MPI.COMM_WORLD)


def _mark(error: BaseException) -> BaseException:
    """Mark an error as one that every rank raises."""
    error.on_all_ranks = True  # type: ignore[attr-defined]  # see `is_raised_on_all_ranks`
    return error


def _ranks(numbers: list[int]) -> str:
    """Format rank numbers, at most eight of them: ``rank 3`` or ``ranks 0, 1, 2``."""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"rank{'s' * (len(numbers) > 1)} {shown}"

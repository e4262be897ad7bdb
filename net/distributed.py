"""The interface between training and the processes of a run, implemented for one process.

`SingleProcess` is the process of an ordinary run. `net.process_group.ProcessGroup` implements the
same methods for the ranks of an MPI communicator.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

T = TypeVar("T")
Array = NDArray[Any]
Examples = tuple[Array, Array]


class Exchange:
    """Sums of gradients and losses over the ranks of a run; in this class, over one rank.

    An error does not interrupt an iteration. `check` raises the error on all ranks in the same
    iteration, after the loss of the previous iteration is recorded.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._sent: tuple[Mapping[str, Array], float] = {}, 0.0

    def attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """Call a function unless an earlier call failed; keep an error for `check`."""
        if self.error is None:
            try:
                return function(*args)
            except BaseException as error:
                self.error = error
        return None

    def start(self, grads: Mapping[str, Array] | None, share: float, loss: float) -> None:
        """Start the sum of gradients and of the loss of the previous iteration.

        Parameters
        ----------
        grads : mapping of str to ndarray, or None
            Mean over this rank's part of the batch; None if that part is empty or a call failed.
        share : float
            Fraction of the batch's examples that this rank has.
        loss : float
            This rank's contribution to the loss of the previous iteration.
        """
        self._sent = grads or {}, loss

    def finish(self) -> tuple[Mapping[str, Array], float]:
        """Return the gradient of the whole batch, and the loss of the previous iteration."""
        return self._sent

    def check(self) -> None:
        """Raise the error that `attempt` kept, if any, on all ranks."""
        if self.error is not None:
            raise self.error

    def total(self, loss: float) -> float:
        """Return the sum of a loss over the ranks."""
        return loss


class SingleProcess:
    """The only process of a run, which is rank 0.

    Attributes
    ----------
    comm, self_comm : None
        Communicators of mpi4py: of all ranks, and of this rank alone.
    rank, size : int
        Number of this rank, and number of ranks.
    min_examples : int
        Minimum number of examples on each rank.
    interrupted : bool
        Whether Ctrl-C was pressed during an iteration and is not handled yet.
    """

    comm: Any = None
    self_comm: Any = None
    rank, size = 0, 1
    min_examples = 1

    def __init__(self) -> None:
        self.interrupted = False
        self._handles_interrupts = self._in_iterations = False

    @property
    def is_rank_zero(self) -> bool:
        """Whether this rank is rank 0, which reads, writes and prints for all ranks."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """The argument `part` of `net.load_mnist` for this rank's shard of the data."""
        return self.rank, self.size

    # ------------------------------------------------------------------------ Ctrl-C
    def __enter__(self) -> Self:
        self._handles_interrupts = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._handles_interrupts:
            signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handles_interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_interrupt(self, *_: Any) -> None:
        if self.interrupted or not self._in_iterations:  # pressed again, or in a callback
            raise KeyboardInterrupt
        self.interrupted = True

    @contextmanager
    def deferred_interrupts(self) -> Iterator[None]:
        """Defer Ctrl-C to `raise_if_interrupted`, so that no iteration is interrupted."""
        self._in_iterations = True
        try:
            yield
        finally:
            self._in_iterations = False

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed during `deferred_interrupts`."""
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    # ------------------------------------------------------------------------ collectives
    def errors_on_all_ranks(self) -> AbstractContextManager[None]:
        """Run a block on every rank; if one rank raises an error, raise it on all ranks."""
        return nullcontext()

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 only, and return its result on every rank."""
        return function()

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks."""
        return [value]

    def check_consistent(
        self, network: Any, sets: list[Examples], fields: Mapping[str, Any]
    ) -> int:
        """Check that all ranks have equal arguments; return the number of training examples."""
        return len(sets[0][0])

    def broadcast_state(self, get: Callable[[], Any], set_: Callable[[Any], None]) -> None:
        """Broadcast the state of rank 0 to all ranks."""

    def local_rows(self, rows: Array) -> Array:
        """Return the rows that are in this rank's shard, as indices into the shard."""
        return rows

    def exchange(self, params: Mapping[str, Array]) -> Exchange:
        """Return an `Exchange` that sums the gradients of `params` over the ranks."""
        return Exchange()

    def accuracy(self, network: Any, x: Array, t: Array) -> float:
        """Return the accuracy on a data set that is distributed over the ranks."""
        value: float = network.accuracy(x, t)
        return value


def is_raised_on_all_ranks(error: BaseException | None) -> bool:
    """Return whether an error was raised on all ranks.

    Parameters
    ----------
    error : BaseException or None

    Returns
    -------
    bool
    """
    return getattr(error, "on_all_ranks", False)

"""What training needs of the processes that share it: this process alone, and the interface.

`SingleProcess` is the one process of an ordinary run. `net.process_group.ProcessGroup` has the same
methods for the ranks of an MPI communicator.
"""

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
    """Sum gradients and losses over the ranks of a run; here there is one rank.

    An error does not leave an iteration half done: it waits for `check`, which raises it on all
    ranks in the same iteration, when the loss of the iteration before is recorded.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._sent: tuple[Mapping[str, Array], float] = {}, 0.0

    def attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """Call a function, unless something failed before; keep its error for `check`."""
        if self.error is None:
            try:
                return function(*args)
            except BaseException as error:
                self.error = error
        return None

    def start(self, grads: Mapping[str, Array] | None, share: float, loss: float) -> None:
        """Begin to sum this rank's gradients, and its part of the latest loss.

        Parameters
        ----------
        grads : mapping of str to ndarray, or None
            Mean over this rank's part of the batch; None where it is empty or something failed.
        share : float
            This rank's share of the examples of the batch.
        loss : float
            This rank's part of the loss of the iteration before.
        """
        self._sent = grads or {}, loss

    def finish(self) -> tuple[Mapping[str, Array], float]:
        """Return the gradient of the whole batch, and the loss of the iteration before."""
        return self._sent

    def check(self) -> None:
        """Raise an error that `attempt` kept, on all ranks."""
        if self.error is not None:
            raise self.error

    def total(self, loss: float) -> float:
        """Return the sum of a loss over the ranks."""
        return loss


class SingleProcess:
    """The one process of a run, rank 0.

    Attributes
    ----------
    comm, self_comm : None
        Communicators of mpi4py: of all ranks, and of this one alone.
    rank, size : int
        Number of this rank, and how many there are.
    min_examples : int
        Examples that each rank has to have.
    interrupted : bool
        Whether Ctrl-C came amid an iteration, and waits for its end.
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
        """Whether this rank reads, writes and prints for all."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """The part of the data that this rank has, for `net.load_mnist`."""
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
        if self.interrupted or not self._in_iterations:  # the second time, or in a user's callback
            raise KeyboardInterrupt
        self.interrupted = True

    @contextmanager
    def deferred_interrupts(self) -> Iterator[None]:
        """Let Ctrl-C wait for `raise_if_interrupted`, so that no iteration is left half done."""
        self._in_iterations = True
        try:
            yield
        finally:
            self._in_iterations = False

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C came meanwhile."""
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    # ------------------------------------------------------------------------ one for all
    def errors_on_all_ranks(self) -> AbstractContextManager[None]:
        """Run a block on every rank, and raise on all ranks what one of them raises."""
        return nullcontext()

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 alone, and return its result on every rank."""
        return function()

    def allgather(self, value: T) -> list[T]:
        """Return the values of all ranks."""
        return [value]

    def check_consistent(
        self, network: Any, sets: list[Examples], fields: Mapping[str, Any]
    ) -> int:
        """Check that all ranks do the same work, and return the number of training examples."""
        return len(sets[0][0])

    def broadcast_state(self, get: Callable[[], Any], set_: Callable[[Any], None]) -> None:
        """Give every rank the state of rank 0."""

    def local_rows(self, rows: Array) -> Array:
        """Return the positions, in this rank's shard, of those rows that are in it."""
        return rows

    def exchange(self, params: Mapping[str, Array]) -> Exchange:
        """Return what sums the gradients of some parameters over the ranks."""
        return Exchange()

    def accuracy(self, network: Any, x: Array, t: Array) -> float:
        """Return the accuracy on a data set of which each rank has a part."""
        value: float = network.accuracy(x, t)
        return value


def is_raised_on_all_ranks(error: BaseException | None) -> bool:
    """Tell whether an error was raised on all ranks.

    Parameters
    ----------
    error : BaseException or None

    Returns
    -------
    bool
    """
    return getattr(error, "on_all_ranks", False)

"""One process that trains by itself: what `net.ranks.Ranks` is for one of several."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from net.steps import Examples, Steps
    from net.two_layer_net import TwoLayerNet

T = TypeVar("T")


class Alone:
    """Rank 0 of one; the methods are explained in `net.ranks.Ranks`."""

    comm: Any = None
    itself: Any = None
    first, part, least = True, (0, 1), 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do."""

    def together(self) -> AbstractContextManager[None]:
        """Do something that may raise."""
        return nullcontext()

    def lead(self, function: Callable[[], T]) -> T:
        """Return what a function returns."""
        return function()

    def gather(self, value: T) -> list[T]:
        """Return a list of one."""
        return [value]

    def agree(
        self, network: "TwoLayerNet", sets: "list[Examples]", random: Any, **options: Any
    ) -> int:
        """Return the number of training examples."""
        return len(sets[0][0])

    def share(self, network: "TwoLayerNet", history: Any, random: Any) -> None:
        """Nothing to do."""

    def steps(self, *args: Any) -> "Steps":
        """Return how the iterations are done; the arguments are those of `net.steps.choose`."""
        from net.steps import choose

        return choose(*args)

    def accuracy(self, network: "TwoLayerNet", x: NDArray[Any], t: NDArray[Any]) -> float:
        """Return the accuracy on a data set."""
        return network.accuracy(x, t)


def on_all_ranks(error: BaseException | None) -> bool:
    """Tell whether an error was raised on all ranks.

    Parameters
    ----------
    error : BaseException or None

    Returns
    -------
    bool
    """
    return getattr(error, "on_all_ranks", False)

"""What a training run measured."""

import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LISTS = ("train_loss_list", "train_acc_list", "test_acc_list", "evaluated_at")


@dataclass(repr=False)
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
    train_acc, test_acc : float or None
        Accuracies after the last iteration; None before the end of the run.
    threads : dict of int to int
        How many iterations ran on how many threads, as timing suggested.
    """

    train_loss_list: list[float] = field(default_factory=list)
    train_acc_list: list[float] = field(default_factory=list)
    test_acc_list: list[float] = field(default_factory=list)
    evaluated_at: list[int] = field(default_factory=list)
    train_acc: float | None = None
    test_acc: float | None = None
    threads: dict[int, int] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        parts = [f"{len(self.train_loss_list)} iterations"]
        if self.train_loss_list:
            parts.append(f"loss {self.train_loss_list[-1]:.4f}")
        for name, last, values in (
            ("train", self.train_acc, self.train_acc_list),
            ("test", self.test_acc, self.test_acc_list),
        ):
            if last is not None or values:
                parts.append(f"{name} accuracy {values[-1] if last is None else last:.4f}")
        return f"History({', '.join(parts)})"

    def plot(
        self, path: str | os.PathLike[str] | IO[bytes] | None = None, *, ax: Any = None
    ) -> "Figure | Axes":
        """Draw the loss and the accuracies over the iterations.

        Parameters
        ----------
        path : str, os.PathLike or file object, optional
            Where the picture is written; the ending of a name chooses the format: .png, .svg, .pdf.
        ax : matplotlib.axes.Axes, optional
            Axes of your own, in which the accuracies alone are drawn.

        Returns
        -------
        matplotlib.figure.Figure
            Which a notebook shows; or `ax`.

        Raises
        ------
        TypeError
            If `path` is neither a file name nor an object to write to.
        OSError
            If the picture cannot be written.
        ValueError
            If the ending is that of no format of pictures.
        """
        from net.plot import plot_history

        drawn: Figure | Axes = plot_history(vars(self), path, ax=ax)
        return drawn

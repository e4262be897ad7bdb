"""Losses and accuracies of a training run."""

import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LISTS = ("train_loss_list", "train_acc_list", "test_acc_list", "evaluated_at")


@dataclass(repr=False)
class History:
    """Losses and accuracies of a training run.

    Attributes
    ----------
    train_loss_list : list of float
        Loss of each iteration's batch, after the update.
    train_acc_list, test_acc_list : list of float
        Accuracies on the training and the test set at each evaluation. `test_acc_list` is empty
        without a test set.
    evaluated_at : list of int
        Iterations, counted from 0, after which the accuracies were evaluated.
    train_acc, test_acc : float or None
        Accuracies after the last iteration; None before the end of the run.
    threads : dict of int to int
        Number of iterations by the number of threads on which they ran. The number of threads is
        chosen by timing.
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
            File to write the figure to. The extension of a file name selects the format: .png,
            .svg, .pdf.
        ax : matplotlib.axes.Axes, optional
            Existing axes in which only the accuracies are drawn.

        Returns
        -------
        matplotlib.figure.Figure or `ax`
            A figure, which a notebook displays, or `ax` if given.

        Raises
        ------
        TypeError
            If `path` is neither a file name nor a file object.
        OSError
            If the figure cannot be written.
        ValueError
            If the extension is not that of a supported format.
        """
        from net.plot import plot_history

        drawn: Figure | Axes = plot_history(vars(self), path, ax=ax)
        return drawn

"""Pictures, by Matplotlib, which is imported only here and so only when there is one to draw."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from net.training import History


def plot_history(history: "History", path: str | os.PathLike[str]) -> None:
    """Draw the loss (each iteration, and smoothed) above the accuracies of each evaluation.

    Parameters
    ----------
    history : History
    path : str or os.PathLike
        Its ending chooses the form.

    Raises
    ------
    OSError
        If the picture cannot be written.
    ValueError
        If the ending names no form of picture.
    """
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    loss = np.array(history.train_loss_list)
    above.plot(loss, color="0.8", linewidth=0.5, label="each batch")
    window = loss.size // 100
    if window > 1:
        smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
        middle = np.arange(smooth.size) + (window - 1) / 2
        above.plot(middle, smooth, label=f"mean of {window} batches")
    above.set_ylabel("loss")
    above.legend()
    for name, style, accuracies in (
        ("training set", "o-", history.train_acc_list),
        ("test set", "s--", history.test_acc_list),
    ):
        if accuracies:  # there is one less than evaluations if Ctrl-C came amid the last
            at = history.evaluated_at[: len(accuracies)]
            label = f"{name}, {accuracies[-1]:.4f} at last"
            below.plot(at, accuracies, style, markersize=4, label=label)
            below.legend(loc="lower right")
    below.set_xlabel("iteration")
    below.set_ylabel("accuracy")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def plot_digits(
    images: NDArray[Any], titles: list[str], path: str | os.PathLike[str], heading: str = ""
) -> None:
    """Draw images in a grid, each under its title.

    Parameters
    ----------
    images : ndarray, shape (N, height, width)
    titles : list of str
    path : str or os.PathLike
        Its ending chooses the form.
    heading : str, optional
        Above all of them.

    Raises
    ------
    OSError
        If the picture cannot be written.
    ValueError
        If the ending names no form of picture.
    """
    columns = min(10, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(max(6, 1.3 * columns), 1.6 * rows), layout="constrained")
    figure.suptitle(heading)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in axes:
        place.axis("off")
    for place, image, title in zip(axes, images, titles, strict=False):
        place.imshow(image, cmap="gray_r")
        place.set_title(title, fontsize=9, pad=1)
    figure.savefig(path, dpi=120)

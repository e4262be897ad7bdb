"""Figures of training runs, filters and images.

Matplotlib is imported only in this module, which is imported when a figure is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

import numpy as np
from matplotlib import figure as mpl
from numpy.typing import NDArray

from net.validation import check_path

Path_ = str | os.PathLike[str] | IO[bytes]
Measured = Mapping[str, Any]
"""The attributes of a `History` by name."""


class Figure(mpl.Figure):
    """Figure that a notebook displays as the value of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def plot_history(measured: Measured, path: Path_ | None = None, ax: Any = None) -> Any:
    """Plot the loss of each iteration and its moving average, above the accuracies.

    Parameters
    ----------
    measured : mapping
        The attributes of a `History`.
    path : str, os.PathLike or file object, optional
        File to write the figure to. The extension of a file name selects the format.
    ax : matplotlib.axes.Axes, optional
        Existing axes in which only the accuracies are drawn.

    Returns
    -------
    matplotlib.figure.Figure or `ax`

    Raises
    ------
    OSError
        If the figure cannot be written.
    TypeError
        If `path` is neither a file name nor a file object.
    ValueError
        If the extension is not that of a supported format.
    """
    if ax is not None:
        _draw_accuracies(ax, measured)
        return ax if path is None else _save(ax.figure, path, ax)
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    loss = np.array(measured["train_loss_list"])
    above.plot(loss, color="0.8", linewidth=0.5, label="each batch")
    at, smooth = _smooth(loss)
    if smooth.size < loss.size:
        above.plot(at, smooth, label=f"mean of {loss.size - smooth.size + 1} batches")
    above.set_ylabel("loss")
    above.legend()
    above.grid(alpha=0.3)
    _draw_accuracies(below, measured)
    return figure if path is None else _save(figure, path, figure)


def plot_histories(
    histories: Mapping[str, Any],
    path: Path_ | None = None,
    *,
    values: str = "loss",
    title: str = "",
) -> Any:
    """Plot several training runs in one figure, to compare them.

    Parameters
    ----------
    histories : mapping of str to History or Trainer
        Runs by the labels under which they are shown.
    path : str, os.PathLike or file object, optional
        File to write the figure to. The extension of a file name selects the format.
    values : {'loss', 'accuracy', 'overfitting'}, default 'loss'
        What to plot. 'loss' and 'accuracy' plot the moving average of the loss, or the accuracy on
        the test set, of all runs in one diagram. 'overfitting' plots the accuracies on both sets in
        one diagram for each run.
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OSError
        If the figure cannot be written.
    TypeError
        If a run is neither a `History` nor a `Trainer`, or `path` is neither a file name nor a
        file object.
    ValueError
        If there are no runs, or `values` or the extension of `path` is not supported.

    Examples
    --------
    >>> from net import History, plot_histories
    >>> plot_histories({"SGD": History([2.3, 1.2]), "Adam": History([2.3, 0.4])})
    <Figure size 800x500 with 1 Axes>
    """
    if not isinstance(histories, Mapping) or not histories:
        raise ValueError(f"histories: expected a dict of runs by name, got {histories!r}")
    if values not in ("loss", "accuracy", "overfitting"):
        raise ValueError(f"values: expected loss, accuracy or overfitting, got {values!r}")
    runs = {str(name): _measured(run) for name, run in histories.items()}
    if values == "overfitting":
        columns = min(len(runs), 4)
        rows = -(-len(runs) // columns)
        figure = Figure(figsize=(max(6, 4 * columns), 3.5 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (name, run) in zip(grid, runs.items(), strict=False):
            _draw_accuracies(axes, run)
            axes.set_title(name)
        for axes in grid[len(runs) :]:
            axes.axis("off")
    else:
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for name, run in runs.items():
            if values == "loss":
                axes.plot(*_smooth(np.array(run["train_loss_list"])), label=name)
            else:
                axes.plot(*_accuracies(run, "test_acc"), "o-", markersize=4, label=name)
        axes.set_xlabel("iteration")
        axes.set_ylabel("loss" if values == "loss" else "accuracy on the test set")
        axes.grid(alpha=0.3)
        axes.legend()
    if title:
        figure.suptitle(title)
    return figure if path is None else _save(figure, path, figure)


def _measured(run: Any) -> Measured:
    attributes = vars(getattr(run, "history", run)) if hasattr(run, "__dict__") else {}
    if "train_loss_list" not in attributes:
        raise TypeError(f"histories: expected runs as History or Trainer, got {run!r}")
    return attributes


def _smooth(loss: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the iterations at the window centres and the moving average of the loss.

    The window is a hundredth of the run, at least one iteration.
    """
    window = max(1, loss.size // 100)
    if loss.size == 0:
        return loss, loss
    smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
    return np.arange(smooth.size) + (window - 1) / 2, smooth


def _accuracies(measured: Measured, key: str) -> tuple[list[int], list[float]]:
    """Return iterations and accuracies, including the accuracy after the last iteration."""
    at, accuracies = list(measured["evaluated_at"]), list(measured[f"{key}_list"])
    done, last = len(measured["train_loss_list"]), measured.get(key)
    if last is not None and at[-1:] != [done - 1]:
        at, accuracies = [*at, done - 1], [*accuracies, last]
    return at[: len(accuracies)], accuracies


def _draw_accuracies(axes: Any, measured: Measured) -> None:
    for name, style, key in (("training set", "o-", "train_acc"), ("test set", "s--", "test_acc")):
        at, accuracies = _accuracies(measured, key)
        if accuracies:
            label = f"{name}, {accuracies[-1]:.4f} at the end"
            axes.plot(at, accuracies, style, markersize=4, label=label)
    if axes.lines:
        axes.legend(loc="lower right")
        # The first evaluation is that of a nearly untrained network. The axis is scaled without it,
        # so that the gap between the two sets is visible.
        seen = np.concatenate([line.get_ydata()[1:] for line in axes.lines])
        if seen.size and np.isfinite(seen).all():
            low = float(seen.min())
            axes.set_ylim(max(0.0, low - 0.15 * (1.005 - low) - 0.005), 1.005)
    axes.set_xlabel("iteration")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.3)


def _save(figure: Any, path: Any, result: Any) -> Any:
    if not hasattr(path, "write"):
        path = check_path(path, "path")
    figure.savefig(path, dpi=120)
    return result


def plot_filters(weights: Mapping[str, NDArray[Any]], path: Path_ | None = None) -> Any:
    """Draw the first channel of convolution filters, in one grid for each array of weights.

    Parameters
    ----------
    weights : mapping of str to ndarray, shape (FN, C, FH, FW)
        Weights by the titles of their grids, such as "before" and "after" training.
    path : str, os.PathLike or file object, optional
        File to write the figure to. The extension of a file name selects the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OSError
        If the figure cannot be written.
    ValueError
        If there are no weights, or an array does not have four dimensions.
    """
    if not weights or any(np.ndim(W) != 4 for W in weights.values()):
        raise ValueError("weights: expected arrays (FN, C, FH, FW) by title")
    figure = Figure(figsize=(5 * len(weights), 4), layout="constrained")
    parts: Any = np.ravel(figure.subfigures(1, len(weights), squeeze=False))
    for part, (title, W) in zip(parts, weights.items(), strict=True):
        columns = int(np.ceil(np.sqrt(1.25 * len(W))))
        grid = part.subplots(-(-len(W) // columns), columns, squeeze=False).ravel()
        part.suptitle(title)
        for axes in grid:
            axes.axis("off")
        for axes, one in zip(grid, W, strict=False):
            axes.imshow(one[0], cmap="gray_r")
    return figure if path is None else _save(figure, path, figure)


def plot_digits(
    images: NDArray[Any], titles: list[str], path: str | os.PathLike[str], heading: str = ""
) -> None:
    """Draw images in a grid, each with a title.

    Parameters
    ----------
    images : ndarray, shape (N, height, width)
    titles : list of str
        Title of each image.
    path : str or os.PathLike
        File to write the figure to. The extension selects the format.
    heading : str, optional
        Title of the figure.

    Raises
    ------
    OSError
        If the figure cannot be written.
    ValueError
        If the extension is not that of a supported format.
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

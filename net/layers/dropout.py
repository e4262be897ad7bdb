"""Dropout: random omission of units in training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kernels
from kernels._arrays import as_float
from net.layers._base import Array, Layer, require_forward
from net.validation import check_share


class Dropout(Layer):
    """Dropout: set random units to zero in training: ``out = x * mask``.

    In inference all units are kept and scaled: ``out = x * (1 - dropout_ratio)``.

    Parameters
    ----------
    dropout_ratio : float, default 0.5
        Probability that a unit is dropped, from 0 to 1.

    Attributes
    ----------
    dropout_ratio : float
    mask : ndarray of bool, or None
        True where the last training input was kept.

    Raises
    ------
    TypeError, ValueError
        If `dropout_ratio` is not a number from 0 to 1.

    Notes
    -----
    The mask is ``np.random.rand(*x.shape) > dropout_ratio``, from NumPy's global state. N.
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15
    (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from net import Dropout
    >>> np.random.seed(0)
    >>> layer = Dropout(0.5)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0]]))
    array([[1., 2., 3.]])
    >>> layer.forward(np.array([[1.0, 2.0, 3.0]]), train_flg=False)
    array([[0.5, 1. , 1.5]])
    """

    options: ClassVar[tuple[str, ...]] = ("dropout_ratio",)

    def __init__(self, dropout_ratio: float = 0.5):
        self.dropout_ratio = check_share(dropout_ratio, "dropout_ratio")
        self.mask: NDArray[np.bool_] | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Drop units in training, scale them otherwise.

        Parameters
        ----------
        x : array_like, any shape
        train_flg : bool, default True

        Returns
        -------
        ndarray, shape of `x`
        """
        x = as_float(x, "x")
        if not train_flg:
            scaled: Array = x * x.dtype.type(1.0 - self.dropout_ratio)
            return scaled
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return kernels.dropout_forward(x, self.mask)

    def backward(self, dout: ArrayLike) -> Array:
        """Return the gradient with respect to the input: ``dout * mask``."""
        return kernels.dropout_backward(dout, require_forward(self, "mask"))

    def __repr__(self) -> str:
        return f"Dropout({self.dropout_ratio:g})"

"""Activation functions: ReLU and sigmoid."""

from __future__ import annotations

from numpy.typing import ArrayLike

import kernels
from net.layers._base import Array, Layer, MaybeLater, require_forward


class Relu(Layer):
    """Rectifier: ``out = max(x, 0)``.

    Attributes
    ----------
    mask : ndarray of bool or None
        True where the last input was 0 or less.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Relu
    >>> layer = Relu()
    >>> layer.forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    >>> layer.backward(np.array([[5.0, 5.0]]))
    array([[0., 5.]])
    """

    mask = MaybeLater()

    def __init__(self) -> None:
        self.mask = None

    def forward(self, x: ArrayLike) -> Array:
        """Compute ``max(x, 0)``; see `kernels.relu_forward`."""
        out, self.mask = kernels.relu_forward(x)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return the gradient with respect to the input; see `kernels.relu_backward`."""
        return kernels.relu_backward(dout, require_forward(self, "mask"))

    def __repr__(self) -> str:
        return "Relu()"


class Sigmoid(Layer):
    """Sigmoid: ``out = 1 / (1 + exp(-x))``.

    Attributes
    ----------
    out : ndarray or None
        Last output.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Sigmoid
    >>> layer = Sigmoid()
    >>> layer.forward(np.array([[0.0]]))
    array([[0.5]])
    >>> layer.backward(np.array([[1.0]]))
    array([[0.25]])
    """

    def __init__(self) -> None:
        self.out: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """Compute ``1 / (1 + exp(-x))``; see `kernels.sigmoid_forward`."""
        self.out = kernels.sigmoid_forward(x)
        return self.out

    def backward(self, dout: ArrayLike) -> Array:
        """Return the gradient with respect to the input; see `kernels.sigmoid_backward`."""
        return kernels.sigmoid_backward(dout, require_forward(self, "out"))

    def __repr__(self) -> str:
        return "Sigmoid()"

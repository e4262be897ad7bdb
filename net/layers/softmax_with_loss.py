"""Last layer of a classifier: softmax with cross-entropy loss."""

from __future__ import annotations

from numpy.typing import ArrayLike

import kernels
from net.layers._base import Array, require_forward


class SoftmaxWithLoss:
    """Softmax, and the mean cross-entropy of its output with the targets.

    Attributes
    ----------
    loss : float or None
        Last loss.
    y : ndarray, shape (N, C), or None
        Last probabilities.
    t : array_like or None
        Last targets, as given: class indices (N,), or distributions (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from net import SoftmaxWithLoss
    >>> layer = SoftmaxWithLoss()
    >>> round(layer.forward(np.array([[0.0, 0.0]]), np.array([1])), 4)
    0.6931
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(self) -> None:
        self.loss: float | None = None
        self.y: Array | None = None
        self.t: ArrayLike | None = None

    def forward(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the loss; see `kernels.softmax_cross_entropy_forward`."""
        self.loss, self.y = kernels.softmax_cross_entropy_forward(x, t)
        self.t = t
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return the gradient with respect to the logits: ``dout * (y - t) / N``."""
        y = require_forward(self, "y")
        # `forward` sets `t` together with `y`, so it is not None here.
        return kernels.softmax_cross_entropy_backward(y, self.t, dout)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return "SoftmaxWithLoss()"

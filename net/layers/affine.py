"""Affine (fully connected) layer: ``out = x W + b``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

import kernels
from kernels._arrays import as_real
from net.layers._base import Array, Layer, as_parameter, require_forward


class Affine(Layer):
    """Fully connected layer: ``out = x W + b``.

    Parameters
    ----------
    W : ndarray, shape (D, M)
        Weights, float32 or float64; integers are converted to float64. Not copied: changing the
        array in place changes the layer.
    b : ndarray, shape (M,)
        Bias, converted to the dtype of `W`.
    input_gradient : bool, default True
        Whether `backward` computes the gradient with respect to the input. A network's first layer
        does not need it.

    Attributes
    ----------
    W, b : ndarray
        Parameters.
    x : ndarray, shape (N, D), or None
        Last input, each sample flattened.
    dW, db : ndarray or None
        Gradients of the last `backward`, new arrays each time.
    input_gradient : bool

    Notes
    -----
    ``dx = dout W^T``, ``dW = x^T dout``, ``db`` is the sum of the rows of ``dout``.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Affine
    >>> layer = Affine(np.array([[1.0], [2.0]]), np.array([0.5]))
    >>> layer.forward(np.array([[1.0, 1.0]]))
    array([[3.5]])
    >>> layer.backward(np.array([[1.0]]))
    array([[1., 2.]])
    >>> layer.dW, layer.db
    (array([[1.],
           [1.]]), array([1.]))
    """

    parameters: ClassVar[tuple[str, ...]] = ("W", "b")
    options: ClassVar[tuple[str, ...]] = ("input_gradient",)

    def __init__(self, W: ArrayLike, b: ArrayLike, *, input_gradient: bool = True):
        self.W = as_parameter(W, "W", 2)
        self.b = as_parameter(b, "b", 1, self.W.dtype)
        self.input_gradient = bool(input_gradient)
        if self.b.shape[0] != self.W.shape[1]:
            raise ValueError(
                f"b: expected shape {self.W.shape[1:]} for W {self.W.shape}, got {self.b.shape}"
            )
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None
        self._shape: tuple[int, ...] = ()

    def forward(self, x: ArrayLike) -> Array:
        """Compute ``x W + b`` for a batch of shape (N, ...) whose samples have D elements.

        Parameters
        ----------
        x : array_like, shape (N, D) or (N, ...)

        Returns
        -------
        out : ndarray, shape (N, M)

        Raises
        ------
        TypeError
            If `x` does not hold real numbers, or is masked.
        ValueError
            If a sample does not have D elements.
        """
        x = x if type(x) is np.ndarray else as_real(x, "x")
        shape = x.shape
        if x.ndim < 2 or (x.ndim > 2 and np.prod(shape[1:]) != self.W.shape[0]):
            raise ValueError(
                f"Affine: expected x of shape (N, {self.W.shape[0]}), or (N, ...) with that many "
                f"elements in each sample, got {shape}"
            )
        flat = x if x.ndim == 2 else x.reshape(shape[0], self.W.shape[0])
        out = kernels.affine_forward(flat, self.W, self.b)
        self.x, self._shape = flat, shape
        return out

    def backward(self, dout: ArrayLike) -> Any:
        """Set `dW` and `db`, and return the gradient with respect to the input.

        Parameters
        ----------
        dout : array_like, shape (N, M)
            Gradient with respect to the output.

        Returns
        -------
        dx : ndarray, shape of the input, or None
            None without `input_gradient`.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If `dout` does not have the shape of the output.
        """
        x = require_forward(self, "x")
        if not self.input_gradient:
            self.dW, self.db = kernels.affine_backward_params(dout, x, self.W)
            return None
        dx, self.dW, self.db = kernels.affine_backward(dout, x, self.W)
        return dx.reshape(self._shape)

    def __repr__(self) -> str:
        return f"Affine{self.W.shape}"

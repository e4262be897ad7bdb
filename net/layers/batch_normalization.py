"""Batch normalisation."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

import kernels
from kernels._arrays import as_float
from net.layers._base import Array, Layer, as_parameter, require_forward
from net.validation import check_share


class BatchNormalization(Layer):
    """Normalise each feature over the batch: ``out = gamma (x - mean) / sqrt(var + 1e-6) + beta``.

    In inference, mean and variance are running averages over the training batches.

    Parameters
    ----------
    gamma, beta : ndarray, shape (D,)
        Scale and shift, float32 or float64. Images (N, C, H, W) are normalised per channel if
        D = C, and per element if D = C H W.
    momentum : float, default 0.9
        Weight of the old running averages in each update, from 0 to 1.
    running_mean, running_var : ndarray, shape (D,), optional
        Initial running averages; by default 0.

    Attributes
    ----------
    gamma, beta : ndarray
        Parameters.
    dgamma, dbeta : ndarray or None
        Gradients of the last `backward`, new arrays each time.
    running_mean, running_var : ndarray
    momentum : float

    Raises
    ------
    TypeError, ValueError
        If shapes do not match, or `momentum` is not a number from 0 to 1.

    Notes
    -----
    The variance is the biased one. S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep
    Network Training by Reducing Internal Covariate Shift", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from net import BatchNormalization
    >>> layer = BatchNormalization(np.ones(2), np.zeros(2))
    >>> layer.forward(np.array([[1.0, 5.0], [3.0, 5.0]])).round(3)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> layer.running_mean, layer.running_var
    (array([0.2, 0.5]), array([0.1, 0. ]))
    """

    parameters: ClassVar[tuple[str, ...]] = ("gamma", "beta")
    buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")
    options: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(
        self,
        gamma: ArrayLike,
        beta: ArrayLike,
        momentum: float = 0.9,
        running_mean: ArrayLike | None = None,
        running_var: ArrayLike | None = None,
    ):
        self.gamma = as_parameter(gamma, "gamma", 1)
        size, dtype = self.gamma.shape, self.gamma.dtype
        given = {"beta": beta, "running_mean": running_mean, "running_var": running_var}
        for name, value in given.items():
            array = np.zeros(size, dtype) if value is None else as_parameter(value, name, 1, dtype)
            if array.shape != size:
                raise ValueError(f"{name}: expected shape {size}, as gamma, got {array.shape}")
            setattr(self, name, array)
        self.momentum = check_share(momentum, "momentum")
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None
        self._x: Array | None = None
        self._statistics: tuple[Array, Array] | None = None

    beta: Array
    running_mean: Array
    running_var: Array

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Normalise a batch, with its own statistics in training, otherwise with running averages.

        Parameters
        ----------
        x : array_like, shape (N, D) or (N, C, H, W)
        train_flg : bool, default True

        Returns
        -------
        ndarray, shape of `x`

        Raises
        ------
        TypeError, ValueError
            If the shape of `x` does not match `gamma`, or the batch is empty in training.
        """
        if not train_flg:
            return kernels.batch_norm_inference(
                x, self.gamma, self.beta, self.running_mean, self.running_var
            )
        x = x if isinstance(x, np.ndarray) else as_float(x, "x")
        out, mean, var = kernels.batch_norm_forward(x, self.gamma, self.beta)
        self._x, self._statistics = x, (mean, var)
        keep = self.momentum
        self.running_mean = self._average(keep, self.running_mean, mean)
        self.running_var = self._average(keep, self.running_var, var)
        return out

    @staticmethod
    def _average(keep: float, running: Array, new: Array) -> Array:
        """Return the updated running average, in the dtype of `running`."""
        return (keep * running + (1 - keep) * new).astype(running.dtype, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """Set `dgamma` and `dbeta`, and return the gradient with respect to the input.

        Parameters
        ----------
        dout : array_like, shape of the input

        Returns
        -------
        dx : ndarray, shape of the input

        Raises
        ------
        RuntimeError
            If `forward` has not been called with ``train_flg=True``.
        ValueError
            If `dout` does not have the shape of the output.
        """
        x, statistics = require_forward(self, "_x"), require_forward(self, "_statistics")
        dx, self.dgamma, self.dbeta = kernels.batch_norm_backward(dout, x, self.gamma, *statistics)
        return dx

    def __repr__(self) -> str:
        return f"BatchNormalization({self.gamma.size}, momentum={self.momentum:g})"

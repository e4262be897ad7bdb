"""Layers that behave differently in training: dropout and batch normalisation."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kernels
from kernels._arrays import as_float, as_real, compute_dtype
from net.options import finite

Array = NDArray[Any]


class Dropout:
    """Dropout: switches off a random share of its input, in training only.

    Parameters
    ----------
    dropout_ratio : float, default 0.5
        Share that is switched off, from 0 to 1.

    Attributes
    ----------
    mask : ndarray of bool or None
        True where the last input in training was kept.
    rng : module, numpy.random.Generator or numpy.random.RandomState
        Draws the masks: NumPy's global state, unless set to something else.

    Notes
    -----
    The mask is ``np.random.rand(*x.shape) > dropout_ratio``. What is kept is not scaled up; in
    inference, the output is ``x * (1 - dropout_ratio)``.

    Examples
    --------
    >>> import numpy as np
    >>> from net.regularization import Dropout
    >>> layer = Dropout(0.25)
    >>> np.random.seed(0)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]))
    array([[1., 2., 3., 4., 5., 6., 7., 8.]])
    >>> layer.forward(np.array([[4.0]]), train_flg=False)
    array([[3.]])
    """

    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    options: tuple[str, ...] = ("dropout_ratio",)

    def __init__(self, dropout_ratio: float = 0.5):
        self.dropout_ratio = _share(dropout_ratio, "dropout_ratio")
        self.mask: NDArray[np.bool_] | None = None
        self.rng: Any = np.random

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Compute ``x * mask`` in training and ``x * (1 - dropout_ratio)`` otherwise.

        Parameters
        ----------
        x : array_like, any shape
        train_flg : bool, default True
            Whether this is training.

        Returns
        -------
        out : ndarray, shape of `x`

        Raises
        ------
        TypeError
            If `x` does not hold real numbers, or is masked.
        """
        x = as_float(x, "x")
        if not train_flg:
            scaled: Array = x * x.dtype.type(1 - self.dropout_ratio)
            return scaled
        # `rand`, or the same numbers from a Generator
        self.mask = self.rng.random(x.shape) > self.dropout_ratio
        return kernels.dropout_forward(x, self.mask)

    def backward(self, dout: ArrayLike) -> Array:
        """Return the gradient with respect to the input: ``dout * mask``.

        Parameters
        ----------
        dout : array_like, shape of the input

        Returns
        -------
        dx : ndarray, shape of the input

        Raises
        ------
        RuntimeError
            If `forward` has not been called in training.
        ValueError
            If `dout` has not the shape of the output.
        """
        if self.mask is None:
            raise RuntimeError(
                "Dropout.backward: expected a call of forward in training before it, got none"
            )
        return kernels.dropout_backward(dout, self.mask)


class BatchNormalization:
    """Batch normalisation: ``out = gamma (x - mean) / sqrt(var + 1e-6) + beta``.

    In training, mean and variance are those of the batch, and their running averages are updated;
    otherwise the running averages are used.

    Parameters
    ----------
    gamma, beta : ndarray, shape (D,), (C,), or the number of elements in an example
        Scale and shift, float32 or float64; integers are converted to float64. Not copied: changing
        the arrays in place changes the layer. With C elements, an input (N, C, H, W) is normalised
        by channel; with C H W, by element.
    momentum : float, default 0.9
        Share of the running averages that is kept at each batch, from 0 to 1.
    running_mean, running_var : array_like, shape of `gamma`, optional
        Running averages to begin with; by default 0.

    Attributes
    ----------
    gamma, beta : ndarray
        Parameters.
    dgamma, dbeta : ndarray or None
        Gradients of the last `backward`, new arrays each time.
    running_mean, running_var : ndarray or None
        Running averages in the dtype of `gamma`, 0 before the first batch.

    Examples
    --------
    >>> import numpy as np
    >>> from net.regularization import BatchNormalization
    >>> layer = BatchNormalization(gamma=np.ones(1), beta=np.zeros(1))
    >>> np.round(layer.forward(np.array([[1.0], [3.0]])), 3)
    array([[-1.],
           [ 1.]])
    >>> np.round(layer.running_mean, 3), np.round(layer.running_var, 3)
    (array([0.2]), array([0.1]))
    >>> np.round(layer.backward(np.array([[1.0], [1.0]])), 3), layer.dbeta
    (array([[0.],
           [0.]]), array([2.]))
    """

    parameters: tuple[str, ...] = ("gamma", "beta")
    buffers: tuple[str, ...] = ("running_mean", "running_var")
    options: tuple[str, ...] = ("momentum",)

    def __init__(
        self,
        gamma: ArrayLike,
        beta: ArrayLike,
        momentum: float = 0.9,
        running_mean: ArrayLike | None = None,
        running_var: ArrayLike | None = None,
    ):
        self.gamma = _vector(gamma, "gamma")
        self.beta = _vector(beta, "beta", like=self.gamma)
        self.momentum = _share(momentum, "momentum")
        self.running_mean = _average(running_mean, "running_mean", self.gamma)
        self.running_var = _average(running_var, "running_var", self.gamma)
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None
        self._batch: tuple[Array, Array, Array] | None = None  # x, mean, var

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Normalise a batch.

        Parameters
        ----------
        x : array_like, shape (N, D) or (N, C, H, W)
        train_flg : bool, default True
            Whether this is training.

        Returns
        -------
        out : ndarray, shape of `x`

        Raises
        ------
        TypeError
            If `x` does not hold real numbers, or is masked.
        ValueError
            If `x` does not fit `gamma`, or is empty in training.
        """
        x = as_real(x, "x")
        if not train_flg:
            return kernels.batch_norm_inference(
                x, self.gamma, self.beta, self.running_mean, self.running_var
            )
        out, mean, var = kernels.batch_norm_forward(x, self.gamma, self.beta)
        self._batch = x, mean, var
        self.running_mean = self._averaged(self.running_mean, mean)
        self.running_var = self._averaged(self.running_var, var)
        return out

    def _averaged(self, running: Array, new: Array) -> Array:
        with np.errstate(all="ignore"):
            average = self.momentum * running + (1 - self.momentum) * new
            return average.astype(self.gamma.dtype)

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
            If `forward` has not been called in training.
        ValueError
            If `dout` has not the shape of the output.
        """
        if self._batch is None:
            raise RuntimeError(
                "BatchNormalization.backward: expected a call of forward in training before it, "
                "got none"
            )
        x, mean, var = self._batch
        dx, self.dgamma, self.dbeta = kernels.batch_norm_backward(dout, x, self.gamma, mean, var)
        return dx


def _share(value: Any, name: str) -> float:
    """Return a number from 0 to 1, or raise."""
    number = finite(value, name)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {number}")
    return number


def _vector(a: ArrayLike, name: str, like: Array | None = None) -> Array:
    """Return a one-dimensional array of floats, itself where it already is one, or raise."""
    a = as_real(a, name)
    if a.ndim != 1 or (like is not None and a.shape != like.shape):
        expected = "one dimension" if like is None else f"the shape of gamma, {like.shape}"
        raise ValueError(f"{name}: expected {expected}, got shape {a.shape}")
    with np.errstate(all="ignore"):
        return a.astype(compute_dtype(a) if like is None else like.dtype, copy=False)


def _average(a: ArrayLike | None, name: str, gamma: Array) -> Array:
    """Return running averages, a copy of those given or zeros."""
    return np.zeros_like(gamma) if a is None else _vector(a, name, like=gamma).copy()

"""The lecture's layers: state and attributes around :mod:`kernels`, no arithmetic of their own."""

from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import kernels
from kernels._arrays import as_real, compute_dtype, format_shapes

Array = NDArray[Any]


class Affine:
    """Fully connected layer: ``out = x W + b``.

    Parameters
    ----------
    W : ndarray, shape (D, M)
        Weights, float32 or float64; integers are converted to float64. Not copied: changing the
        array in place changes the layer.
    b : ndarray, shape (M,)
        Bias, converted to the dtype of `W`.

    Attributes
    ----------
    W, b : ndarray
        Parameters.
    x : ndarray, shape (N, D), or None
        Last input, each sample flattened.
    dW, db : ndarray or None
        Gradients of the last `backward`, new arrays each time.

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

    def __init__(self, W: ArrayLike, b: ArrayLike):
        self.W = _parameter(W, "W", 2)
        self.b = _parameter(b, "b", 1, self.W.dtype)
        if self.b.shape[0] != self.W.shape[1]:
            raise ValueError(
                f"b: expected shape {self.W.shape[1:]} beside W {self.W.shape}, got {self.b.shape}"
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

    def backward(self, dout: ArrayLike) -> Array:
        """Set `dW` and `db`, and return the gradient with respect to the input.

        Parameters
        ----------
        dout : array_like, shape (N, M)
            Gradient with respect to the output.

        Returns
        -------
        dx : ndarray, shape of the input

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If `dout` has not the shape of the output.
        """
        x = _kept(self, "x")
        dx, self.dW, self.db = kernels.affine_backward(dout, x, self.W)
        return dx.reshape(self._shape)

    def backward_parameters(self, dout: ArrayLike) -> None:
        """Set `dW` and `db` only: for the first layer of a network, whose `dx` nobody reads.

        Parameters
        ----------
        dout : array_like, shape (N, M)
            Gradient with respect to the output.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If `dout` has not the shape of the output.
        """
        self.dW, self.db = kernels.affine_backward_params(dout, _kept(self, "x"), self.W)


class Relu:
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

    def __init__(self) -> None:
        self.mask: NDArray[np.bool_] | None = None

    def forward(self, x: ArrayLike) -> Array:
        """Compute ``max(x, 0)``; see `kernels.relu_forward`."""
        out, self.mask = kernels.relu_forward(x)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return the gradient with respect to the input; see `kernels.relu_backward`."""
        return kernels.relu_backward(dout, _kept(self, "mask"))


class Sigmoid:
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
        return kernels.sigmoid_backward(dout, _kept(self, "out"))


class SoftmaxWithLoss:
    """Softmax and the mean cross-entropy of its output with the targets.

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
        y = _kept(self, "y")
        # `forward` sets `t` together with `y`, so it is not None here.
        return kernels.softmax_cross_entropy_backward(y, self.t, dout)  # type: ignore[arg-type]


class Add:
    """Addition node of a computational graph: ``x + y``, of scalars or arrays.

    Examples
    --------
    >>> from net import Add
    >>> node = Add()
    >>> node.forward(200, 450)
    650
    >>> node.backward(1.1)
    (1.1, 1.1)
    """

    def forward(self, x: Any, y: Any) -> Any:
        """Return ``x + y``."""
        x, y = _operands(x=x, y=y)
        return x + y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to `x` and `y`: `dout`, passed on to both."""
        (dout,) = _operands(dout=dout)
        return dout * 1, dout * 1


class Mul:
    """Multiplication node of a computational graph: ``x * y``, of scalars or arrays.

    Attributes
    ----------
    x, y : scalar or ndarray, or None
        Last inputs.

    Examples
    --------
    >>> from net import Mul
    >>> node = Mul()
    >>> node.forward(100, 2)
    200
    >>> node.backward(1.5)
    (3.0, 150.0)
    """

    def __init__(self) -> None:
        self.x: Any = None
        self.y: Any = None

    def forward(self, x: Any, y: Any) -> Any:
        """Return ``x * y``."""
        self.x, self.y = _operands(x=x, y=y)
        return self.x * self.y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to `x` and `y`: `dout` times the other one."""
        dout, x, y = _operands(dout=dout, x=_kept(self, "x"), y=_kept(self, "y"))
        return dout * y, dout * x


def _operands(**operands: Any) -> tuple[Any, ...]:
    """Return numbers as they are and anything else as arrays, all of shapes that fit together."""
    checked: tuple[Any, ...] = tuple(
        a if isinstance(a, Number) and not isinstance(a, complex | np.generic) else as_real(a, name)
        for name, a in operands.items()
    )
    try:
        np.broadcast_shapes(*[np.shape(a) for a in checked])
    except ValueError:
        raise ValueError(
            f"expected shapes that fit together, got {format_shapes(**operands)}"
        ) from None
    return checked


def _kept(layer: Any, name: str) -> Any:
    """Return what `forward` left in an attribute."""
    value = getattr(layer, name)
    if value is None:
        raise RuntimeError(
            f"{type(layer).__name__}.backward: expected a call of forward before it, got none"
        )
    return value


def _parameter(a: ArrayLike, name: str, ndim: int, dtype: np.dtype[Any] | None = None) -> Array:
    """Return an array of parameters, itself where it already is one, so that it stays shared."""
    a = as_real(a, name)
    if a.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, got shape {a.shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        return a.astype(dtype or compute_dtype(a), copy=False)

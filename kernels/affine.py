"""Affine: ``out = x W + b``."""

import numpy as np
from numba.extending import overload, register_jitable
from numpy.typing import ArrayLike

from kernels._cache import njit
from kernels.edge import (
    Array,
    compiled_ready,
    compiled_widened,
    describe,
    floats,
    ready,
    require_arrays,
    widened,
)
from kernels.product import AS_IS, SQUARE, TRANSPOSED, product
from kernels.tile import panel_address


def affine_forward(x: ArrayLike, W: ArrayLike, b: ArrayLike) -> Array:
    """Multiply a batch by a matrix and add a row: ``out = x W + b``.

    Parameters
    ----------
    x : array_like, shape (N, D)
        Batch of N inputs. uint8 and float32 beside a wider `W` are widened as they are read.
    W : array_like, shape (D, M)
        Weights; their dtype, float32 or float64, is that of the result. Integers are converted to
        float64.
    b : array_like, shape (M,)
        Bias.

    Returns
    -------
    out : ndarray, shape (N, M)

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked.
    ValueError
        If the shapes do not fit together.

    Notes
    -----
    A fully connected layer as in D. Rumelhart, G. Hinton and R. Williams, "Learning
    representations by back-propagating errors", Nature 323 (1986).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import affine_forward
    >>> affine_forward(np.array([[1.0, 2.0]]), np.eye(2), np.array([3.0, 4.0]))
    array([[4., 6.]])
    """
    W = floats(W, "W")
    dtype = W.dtype
    x, b = widened(x, dtype, "x"), ready(b, dtype, "b")
    if not (b.ndim == 1 and W.shape[1:] == b.shape and x.shape[1:] == W.shape[:1]):
        raise ValueError(
            f"affine_forward: expected x (N, D), W (D, M) and b (M,), got {describe(x=x, W=W, b=b)}"
        )
    out = np.empty((x.shape[0], W.shape[1]), dtype)
    product(engine(x.dtype, dtype), x, AS_IS, W, AS_IS, b, out)
    return out


def affine_backward(dout: ArrayLike, x: ArrayLike, W: ArrayLike) -> tuple[Array, Array, Array]:
    """Gradients of an affine layer: ``dx = dout W^T, dW = x^T dout, db = sum of dout's rows``.

    Parameters
    ----------
    dout : array_like, shape (N, M)
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, D)
        Input of the forward pass.
    W : array_like, shape (D, M)
        Weights of the forward pass; their dtype, float32 or float64, is that of the results.

    Returns
    -------
    dx : ndarray, shape (N, D)
    dW : ndarray, shape (D, M)
    db : ndarray, shape (M,)

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked.
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    affine_gradient : the same without `dx`.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import affine_backward
    >>> dout, x, W = np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[5.0, 6.0]])
    >>> affine_backward(dout, x, W)
    (array([[17.]]), array([[3., 6.]]), array([1., 2.]))
    """
    dout, x, W = _backward_operands("affine_backward", dout, x, W)
    dx = np.empty(x.shape, W.dtype)
    return dx, *_run_backward(dout, x, W, dx)


def affine_gradient(dout: ArrayLike, x: ArrayLike, W: ArrayLike) -> tuple[Array, Array]:
    """Gradients of an affine layer's parameters: `affine_backward` without ``dx``.

    For the first layer of a network, whose input's gradient nobody reads.

    Parameters
    ----------
    dout : array_like, shape (N, M)
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, D)
        Input of the forward pass.
    W : array_like, shape (D, M)
        Weights of the forward pass; their dtype, float32 or float64, is that of the results.

    Returns
    -------
    dW : ndarray, shape (D, M)
    db : ndarray, shape (M,)

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked.
    ValueError
        If the shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import affine_gradient
    >>> affine_gradient(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[5.0, 6.0]]))
    (array([[3., 6.]]), array([1., 2.]))
    """
    dout, x, W = _backward_operands("affine_gradient", dout, x, W)
    return _run_backward(dout, x, W, np.empty((0, 0), W.dtype))


def _backward_operands(
    name: str, dout: ArrayLike, x: ArrayLike, W: ArrayLike
) -> tuple[Array, Array, Array]:
    W = floats(W, "W")
    dout, x = ready(dout, W.dtype, "dout"), widened(x, W.dtype, "x")
    if not (dout.ndim == x.ndim == W.ndim == 2 and _fit_backward(dout, x, W)):
        raise ValueError(
            f"{name}: expected dout (N, M), x (N, D) and W (D, M), got "
            + describe(dout=dout, x=x, W=W)
        )
    return dout, x, W


def _run_backward(dout: Array, x: Array, W: Array, dx: Array) -> tuple[Array, Array]:
    dtype = W.dtype
    dW, db = np.empty(W.shape, dtype), np.empty(W.shape[1], dtype)
    _backward(engine(x.dtype, dtype), engine(dtype, dtype), dout, x, W, dx, dW, db)
    return dW, db


_engines: dict[tuple[np.dtype[np.generic], np.dtype[np.generic]], int] = {}


def engine(a: np.dtype[np.generic], c: np.dtype[np.generic]) -> int:
    """Return the address of the micro-kernel for two element types, compiling it at first use."""
    try:
        return _engines[a, c]
    except KeyError:
        return _engines.setdefault((a, c), panel_address(np.empty(0, a), np.empty(0, c)))


@register_jitable
def _fit_forward(x, W, b):
    return x.shape[1] == W.shape[0] and W.shape[1] == b.shape[0]


@register_jitable
def _fit_backward(dout, x, W):
    return dout.shape == (x.shape[0], W.shape[1]) and x.shape[1] == W.shape[0]


@njit(nogil=True)
def _backward(x_engine, engine, dout, x, W, dx, dW, db):
    """Fill ``dW`` and ``db``, and ``dx`` where it has elements."""
    db[:] = 0
    product(x_engine, x, TRANSPOSED, dout, AS_IS, db, dW)  # while db still holds zeros
    _column_sums(dout, db)
    n, d = dx.shape
    if not dx.size:
        return
    if n * (d + W.shape[1]) < W.size:  # cheaper to transpose `dout` and the result than `W`
        transposed = np.empty((d, n), dx.dtype)
        product(engine, W, AS_IS, dout, TRANSPOSED, np.zeros(n, dx.dtype), transposed)
        _transpose(transposed, dx)
    else:
        product(engine, dout, AS_IS, W, TRANSPOSED, np.zeros(d, dx.dtype), dx)


@njit(nogil=True)
def _transpose(a, out):
    n, m = a.shape
    for i0 in range(0, n, SQUARE):
        height = min(SQUARE, n - i0)
        for j0 in range(0, m, SQUARE):
            for j in range(min(SQUARE, m - j0)):
                row, column = out[j0 + j, i0 : i0 + height], a[i0 : i0 + height, j0 + j]
                for i in range(height):
                    row[i] = column[i]


@njit(nogil=True)
def _column_sums(a, sums):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            sums[j] += a[i, j]


@overload(affine_forward)
def _compiled_affine_forward(x, W, b):
    require_arrays("affine_forward", 2, x=x, W=W)
    require_arrays("affine_forward", 1, b=b)

    def forward(x, W, b):
        if not _fit_forward(x, W, b):
            raise ValueError("affine_forward: expected x (N, D), W (D, M) and b (M,), got others")
        weights = compiled_ready(W, W)
        batch, bias = compiled_widened(x, weights), compiled_ready(b, weights)
        out = np.empty((x.shape[0], W.shape[1]), weights.dtype)
        product(panel_address(batch, out), batch, AS_IS, weights, AS_IS, bias, out)
        return out

    return forward


@overload(affine_backward)
def _compiled_affine_backward(dout, x, W):
    require_arrays("affine_backward", 2, dout=dout, x=x, W=W)

    def backward(dout, x, W):
        dx = np.empty(x.shape, compiled_ready(W, W).dtype)
        dW, db = _compiled_backward(dout, x, W, dx)
        return dx, dW, db

    return backward


@overload(affine_gradient)
def _compiled_affine_gradient(dout, x, W):
    require_arrays("affine_gradient", 2, dout=dout, x=x, W=W)

    def gradient(dout, x, W):
        return _compiled_backward(dout, x, W, np.empty((0, 0), compiled_ready(W, W).dtype))

    return gradient


@register_jitable
def _compiled_backward(dout, x, W, dx):
    if not _fit_backward(dout, x, W):
        raise ValueError("expected dout (N, M), x (N, D) and W (D, M), got others")
    weights = compiled_ready(W, W)
    upper, batch = compiled_ready(dout, weights), compiled_widened(x, weights)
    dW, db = np.empty(W.shape, weights.dtype), np.empty(W.shape[1], weights.dtype)
    engines = panel_address(batch, dW), panel_address(upper, dW)
    _backward(*engines, upper, batch, weights, dx, dW, db)
    return dW, db

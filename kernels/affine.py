"""Affine layer: ``out = x W + b``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kernels._addresses import address_of
from kernels._arrays import (
    Array,
    as_float,
    as_kernel_array,
    as_widenable,
    format_shapes,
    jit_as_kernel_array,
    jit_as_widenable,
    require_arrays,
)
from kernels._compiler import inner, njit, overload, register_jitable
from kernels._gemm import (
    BACKWARD,
    DENSE,
    FORWARD,
    NO_TRANSPOSE,
    TRANSPOSE,
    get_product_addresses,
    jit_backward_addresses,
    jit_forward_addresses,
)
from kernels._gemm_threads import gemm
from kernels._transpose import transpose_at


def affine_forward(x: ArrayLike, W: ArrayLike, b: ArrayLike) -> Array:
    """Multiply a batch by a weight matrix and add a bias: ``out = x W + b``.

    Parameters
    ----------
    x : array_like, shape (N, D)
        Batch of N inputs. uint8 and float32 are widened to the dtype of `W` as they are read.
    W : array_like, shape (D, M)
        Weights. Their dtype, float32 or float64, is the dtype of the result. Integers are
        converted to float64.
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
        If the shapes are incompatible.

    Notes
    -----
    The fully connected layer of D. Rumelhart, G. Hinton and R. Williams, "Learning
    representations by back-propagating errors", Nature 323 (1986).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import affine_forward
    >>> affine_forward(np.array([[1.0, 2.0]]), np.eye(2), np.array([3.0, 4.0]))
    array([[4., 6.]])
    """
    W = as_float(W, "W")
    dtype = W.dtype
    x, b = as_widenable(x, dtype, "x"), as_kernel_array(b, dtype, "b")
    if not (b.ndim == 1 and W.shape[1:] == b.shape and x.shape[1:] == W.shape[:1]):
        raise ValueError(
            "affine_forward: expected x (N, D), W (D, M) and b (M,), got "
            + format_shapes(x=x, W=W, b=b)
        )
    out = np.empty((x.shape[0], W.shape[1]), dtype)
    kinds = x.dtype, dtype, FORWARD
    if gemm(_code_for(kinds), x, NO_TRANSPOSE, W, NO_TRANSPOSE, b, out):
        _code[kinds] = get_product_addresses(*kinds)
    return out


def affine_backward(dout: ArrayLike, x: ArrayLike, W: ArrayLike) -> tuple[Array, Array, Array]:
    """Compute the gradients of an affine layer.

    ``dx = dout W^T, dW = x^T dout, db = sum of dout's rows``

    Parameters
    ----------
    dout : array_like, shape (N, M)
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, D)
        Input of the forward pass.
    W : array_like, shape (D, M)
        Weights of the forward pass. Their dtype, float32 or float64, is the dtype of the results.

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
        If the shapes are incompatible.

    See Also
    --------
    affine_backward_params : Compute `dW` and `db` only.

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


def affine_backward_params(dout: ArrayLike, x: ArrayLike, W: ArrayLike) -> tuple[Array, Array]:
    """Compute the gradients of an affine layer's parameters: `affine_backward` without ``dx``.

    The first layer of a network needs no gradient of its input.

    Parameters
    ----------
    dout : array_like, shape (N, M)
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, D)
        Input of the forward pass.
    W : array_like, shape (D, M)
        Weights of the forward pass. Their dtype, float32 or float64, is the dtype of the results.

    Returns
    -------
    dW : ndarray, shape (D, M)
    db : ndarray, shape (M,)

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked.
    ValueError
        If the shapes are incompatible.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import affine_backward_params
    >>> affine_backward_params(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[5.0, 6.0]]))
    (array([[3., 6.]]), array([1., 2.]))
    """
    dout, x, W = _backward_operands("affine_backward_params", dout, x, W)
    return _run_backward(dout, x, W, np.empty((0, 0), W.dtype))


def _backward_operands(
    name: str, dout: ArrayLike, x: ArrayLike, W: ArrayLike
) -> tuple[Array, Array, Array]:
    W = as_float(W, "W")
    dout, x = as_kernel_array(dout, W.dtype, "dout"), as_widenable(x, W.dtype, "x")
    if not (dout.ndim == x.ndim == W.ndim == 2 and _fit_backward(dout, x, W)):
        raise ValueError(
            f"{name}: expected dout (N, M), x (N, D) and W (D, M), got "
            + format_shapes(dout=dout, x=x, W=W)
        )
    return dout, x, W


def _run_backward(dout: Array, x: Array, W: Array, dx: Array) -> tuple[Array, Array]:
    dtype = W.dtype
    dW, db = np.empty(W.shape, dtype), np.empty(W.shape[1], dtype)
    kinds = x.dtype, dtype, BACKWARD
    if _backward(_code_for(kinds), _code_for((dtype, dtype, DENSE)), dout, x, W, dx, dW, db):
        _code[kinds] = get_product_addresses(*kinds)
    return dW, db


_Kinds = tuple[np.dtype[Any], np.dtype[Any], tuple[int, ...]]
_code: dict[_Kinds, tuple[int, ...]] = {}


def _code_for(kinds: _Kinds) -> tuple[int, ...]:
    """Return the addresses of a product's kernels.

    The kernels that skip zeros are compiled at the first batch with many zeros.
    """
    try:
        return _code[kinds]
    except KeyError:
        return _code.setdefault(kinds, get_product_addresses(*kinds[:2], DENSE))


@register_jitable
def _fit_forward(x, W, b):
    return x.shape[1] == W.shape[0] and W.shape[1] == b.shape[0]


@register_jitable
def _fit_backward(dout, x, W):
    return dout.shape == (x.shape[0], W.shape[1]) and x.shape[1] == W.shape[0]


@njit(nogil=True)
def _backward(mixed, plain, dout, x, W, dx, dW, db):
    """Fill ``dW`` and ``db``, and ``dx`` unless it is empty.

    Return the result of `gemm` for ``dW``.
    """
    db[:] = 0
    missing = gemm(mixed, x, TRANSPOSE, dout, NO_TRANSPOSE, db, dW)  # with `db` as a zero bias
    column_sums(dout, db)
    n, d = dx.shape
    if not dx.size:
        return missing
    if n * (d + W.shape[1]) < W.size:  # transposing `dout` and the result is cheaper than `W`
        transposed = np.empty((d, n), dx.dtype)
        gemm(
            plain,
            W,
            NO_TRANSPOSE,
            dout,
            TRANSPOSE,
            np.zeros(n, dx.dtype),
            transposed,
        )
        transpose_at(address_of(transposed, 0), n, d, n, address_of(dx, 0), d, dx)
    else:
        gemm(plain, dout, NO_TRANSPOSE, W, TRANSPOSE, np.zeros(d, dx.dtype), dx)
    return missing


@inner
def column_sums(a, sums):
    """Add the rows of `a` to `sums`, in their order."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            sums[j] += a[i, j]


@overload(affine_forward)
def _jit_affine_forward(x, W, b):
    require_arrays("affine_forward", 2, x=x, W=W)
    require_arrays("affine_forward", 1, b=b)

    def forward(x, W, b):
        if not _fit_forward(x, W, b):
            raise ValueError(
                "affine_forward: expected x (N, D), W (D, M) and b (M,), got shapes that do not fit"
            )
        weights = jit_as_kernel_array(W, W)
        batch, bias = jit_as_widenable(x, weights), jit_as_kernel_array(b, weights)
        out = np.empty((x.shape[0], W.shape[1]), weights.dtype)
        gemm(
            jit_forward_addresses(batch, out), batch, NO_TRANSPOSE, weights, NO_TRANSPOSE, bias, out
        )
        return out

    return forward


@overload(affine_backward)
def _jit_affine_backward(dout, x, W):
    require_arrays("affine_backward", 2, dout=dout, x=x, W=W)

    def backward(dout, x, W):
        dx = np.empty(x.shape, jit_as_kernel_array(W, W).dtype)
        dW, db = _jit_backward(dout, x, W, dx)
        return dx, dW, db

    return backward


@overload(affine_backward_params)
def _jit_affine_backward_params(dout, x, W):
    require_arrays("affine_backward_params", 2, dout=dout, x=x, W=W)

    def gradient(dout, x, W):
        return _jit_backward(dout, x, W, np.empty((0, 0), jit_as_kernel_array(W, W).dtype))

    return gradient


@register_jitable
def _jit_backward(dout, x, W, dx):
    if not _fit_backward(dout, x, W):
        raise ValueError("expected dout (N, M), x (N, D) and W (D, M), got shapes that do not fit")
    weights = jit_as_kernel_array(W, W)
    upper, batch = jit_as_kernel_array(dout, weights), jit_as_widenable(x, weights)
    dW, db = np.empty(W.shape, weights.dtype), np.empty(W.shape[1], weights.dtype)
    addresses = jit_backward_addresses(batch, dW), jit_backward_addresses(upper, dW)
    _backward(*addresses, upper, batch, weights, dx, dW, db)
    return dW, db

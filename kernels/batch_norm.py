"""Batch normalisation: ``out = gamma (x - mean) / sqrt(var + 1e-6) + beta``, feature by feature.

A C-contiguous `x` is a matrix of N rows. A feature has one column if `x` is (N, D); a channel has
H W adjacent columns if `x` is (N, C, H, W). Loops run along the columns of a block of features with
one sum per column, and the sums of a feature's columns are added at the end. This fills vector
registers for any shape and fixes the order of every sum. All sums, and the values computed from
them, are float64. Channels-last images are handled by `kernels._batch_norm_images`.
"""

from __future__ import annotations

import numpy as np
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._arrays import (
    FLOAT64,
    Array,
    as_float,
    as_kernel_array,
    as_real,
    format_shapes,
    jit_as_kernel_array,
    require_arrays,
)
from kernels._batch_norm_images import (
    as_batch,
    backward_images,
    forward_images,
    images_of,
    pixels_of,
)
from kernels._columns import (
    gradient,
    normalise,
    repeat_groups,
    sum_columns,
    sum_groups,
    sum_products,
    sum_squares,
)
from kernels._compiler import by_address, inner, overload, register_jitable
from kernels._function_pointers import get_function_address, run_chunks
from kernels._threads import MIN_PARALLEL_SIZE

EPSILON = 1e-6
"""Constant added to the variance; the book writes 10e-7."""


def batch_norm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike
) -> tuple[Array, Array, Array]:
    """Normalise a batch by its own mean and variance, as in training.

    ``out = gamma (x - mean) / sqrt(var + 1e-6) + beta``

    Parameters
    ----------
    x : array_like, shape (N, D) or (N, C, ...)
        Batch, with at least one example.
    gamma : array_like, shape (D,), (C,), or the number of elements in an example
        Scale. With C elements, `x` is normalised per channel, over the batch and all positions.
        With one element for each element of an example, `x` is normalised per element.
    beta : array_like, shape of `gamma`
        Shift.

    Returns
    -------
    out : ndarray, shape of `x`
        Normalised batch, in the dtype of `gamma`.
    mean, var : ndarray of float64, shape of `gamma`
        Mean and biased variance of the batch, for `batch_norm_backward` and running averages.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or is masked.
    ValueError
        If the shapes are incompatible, or the batch is empty.

    Notes
    -----
    S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import batch_norm_forward
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> out, mean, var = batch_norm_forward(x, np.array([1.0, 2.0]), np.array([0.0, 5.0]))
    >>> np.round(out, 3)
    array([[-1.,  3.],
           [ 1.,  7.]])
    >>> mean, var
    (array([ 2., 20.]), array([  1., 100.]))
    """
    gamma = as_float(gamma, "gamma")
    beta = as_kernel_array(beta, gamma.dtype, "beta")
    x, channels_last = as_batch(x, "x", gamma)
    _check_shapes("batch_norm_forward", x, gamma=gamma, beta=beta)
    if x.size == 0:
        raise ValueError(f"batch_norm_forward: expected at least one example, got x {x.shape}")
    mean, var = np.empty(gamma.size), np.empty(gamma.size)
    return _normalise_batch(x, channels_last, gamma, beta, mean, var, False), mean, var


def batch_norm_inference(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, mean: ArrayLike, var: ArrayLike
) -> Array:
    """Normalise a batch by a given mean and variance, as in inference.

    ``out = gamma (x - mean) / sqrt(var + 1e-6) + beta``

    Parameters
    ----------
    x : array_like, shape (N, D) or (N, C, ...)
        Batch, which may be empty.
    gamma, beta : array_like
        Scale and shift, as in `batch_norm_forward`.
    mean, var : array_like, shape of `gamma`
        Running averages from training.

    Returns
    -------
    out : ndarray, shape of `x`
        Normalised batch, in the dtype of `gamma`.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_forward`, except that an empty batch is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import batch_norm_inference
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> np.round(batch_norm_inference(np.array([[3.0], [5.0]]), one, zero, one, 4 * one), 3)
    array([[1.],
           [2.]])
    """
    gamma = as_float(gamma, "gamma")
    beta = as_kernel_array(beta, gamma.dtype, "beta")
    mean, var = as_kernel_array(mean, FLOAT64, "mean"), as_kernel_array(var, FLOAT64, "var")
    x, channels_last = as_batch(x, "x", gamma)
    _check_shapes("batch_norm_inference", x, gamma=gamma, beta=beta, mean=mean, var=var)
    return _normalise_batch(x, channels_last, gamma, beta, mean, var, True)


def batch_norm_backward(
    dout: ArrayLike, x: ArrayLike, gamma: ArrayLike, mean: ArrayLike, var: ArrayLike
) -> tuple[Array, Array, Array]:
    """Compute the gradients of `batch_norm_forward`.

    With ``xn = (x - mean) / std``, ``std = sqrt(var + 1e-6)`` and sums over the n elements of a
    feature:
    ``dbeta = sum dout; dgamma = sum dout xn; dx = gamma / std (dout - dbeta / n - xn dgamma / n)``.

    Parameters
    ----------
    dout : array_like, shape of `x`
        Gradient of the loss with respect to the output.
    x : array_like, shape (N, D) or (N, C, ...)
        Input of the forward pass.
    gamma : array_like
        Scale, as in the forward pass.
    mean, var : array_like, shape of `gamma`
        Mean and variance returned by the forward pass.

    Returns
    -------
    dx : ndarray, shape of `x`
    dgamma, dbeta : ndarray, shape of `gamma`
        All results have the dtype of `gamma`.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import batch_norm_backward, batch_norm_forward
    >>> x, gamma = np.array([[1.0], [3.0]]), np.ones(1)
    >>> _, mean, var = batch_norm_forward(x, gamma, np.zeros(1))
    >>> dx, dgamma, dbeta = batch_norm_backward(np.array([[1.0], [2.0]]), x, gamma, mean, var)
    >>> np.round(dgamma, 3), dbeta
    (array([1.]), array([3.]))
    """
    gamma = as_float(gamma, "gamma")
    x, channels_last = as_batch(x, "x", gamma)
    dout = as_real(dout, "dout")
    mean, var = as_kernel_array(mean, FLOAT64, "mean"), as_kernel_array(var, FLOAT64, "var")
    _check_shapes("batch_norm_backward", x, gamma=gamma, mean=mean, var=var)
    if dout.shape != x.shape:
        raise ValueError(
            f"batch_norm_backward: expected equal shapes, got {format_shapes(dout=dout, x=x)}"
        )
    if x.size == 0:
        raise ValueError(f"batch_norm_backward: expected at least one example, got x {x.shape}")
    if channels_last:
        d = as_kernel_array(pixels_of(dout), gamma.dtype, "dout").reshape(len(x), -1)
        dx, dgamma, dbeta = backward_images(
            d, pixels_of(x).reshape(d.shape), gamma, mean, var, EPSILON
        )
        return images_of(dx, x.shape), dgamma, dbeta
    d = as_kernel_array(dout, gamma.dtype, "dout").reshape(len(x), -1)
    dx, dgamma, dbeta = np.empty(d.shape, d.dtype), np.empty_like(gamma), np.empty_like(gamma)
    _backward(d, x.reshape(d.shape), gamma, mean, var, dx, dgamma, dbeta)
    return dx.reshape(x.shape), dgamma, dbeta


def _normalise_batch(
    x: Array, channels_last: bool, gamma: Array, beta: Array, mean: Array, var: Array, given: bool
) -> Array:
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    if channels_last:
        pixels = pixels_of(x).reshape(len(x), -1)
        out = forward_images(pixels, gamma, beta, mean, var, given, EPSILON)
        return images_of(out, x.shape)
    rows = x.reshape(len(x), -1)
    out = np.empty(rows.shape, x.dtype)
    _forward(rows, gamma, beta, mean, var, np.bool_(given), out)
    return out.reshape(x.shape)


def _check_shapes(function: str, x: Array, **vectors: Array) -> None:
    gamma = vectors["gamma"]
    if (
        x.ndim < 2
        or any(a.shape != gamma.shape for a in vectors.values())
        or gamma.shape not in ((x.shape[1],), (int(np.prod(x.shape[1:])),))
    ):
        raise ValueError(
            f"{function}: expected x (N, D) or (N, C, ...) and {', '.join(vectors)} (D,), (C,) or "
            f"of the elements in an example, got {format_shapes(x=x, **vectors)}"
        )


@register_jitable
def _features_at_once(x, features):
    """Return the number of features in a chunk, which depends on the shape alone."""
    # A chunk has enough columns for long loops, and stays in the L2 cache (512 KB of float32)
    # between passes.
    columns = min(max(131_072 // max(x.shape[0], 1), 64), 1024)
    blocks = min(max(x.shape[1] // columns, 1), features)
    return (features + blocks - 1) // blocks


@inner
def _statistics(x, first, span, mean, var):
    """Compute mean and variance of adjacent features of `span` columns, from column `first` on."""
    count = x.shape[0] * span
    sums = np.zeros(mean.size * span)
    sum_columns(x, first, sums)
    sum_groups(sums, mean)
    for c in range(mean.size):
        mean[c] /= count
    squares = np.zeros(sums.size)
    sum_squares(x, first, repeat_groups(mean, sums.size), squares)
    sum_groups(squares, var)
    for c in range(var.size):
        var[c] /= count


@by_address(error_model="numpy")
def _forward_features(args, f, g):
    x, gamma, beta, mean, var, given, out = args
    span = x.shape[1] // gamma.size
    first, last = f * span, g * span
    if not given:
        _statistics(x, first, span, mean[f:g], var[f:g])
    means, shifts = repeat_groups(mean[f:g], last - first), repeat_groups(beta[f:g], last - first)
    scale = np.empty(g - f)
    for c in range(g - f):  # loops: array expressions take several times as long to compile
        scale[c] = gamma[f + c] / np.sqrt(var[f + c] + EPSILON)
    normalise(x, first, means, repeat_groups(scale, last - first), shifts, out)


@by_address(error_model="numpy")
def _backward_features(args, f, g):
    dout, x, gamma, mean, var, dx, dgamma, dbeta = args
    span = x.shape[1] // gamma.size
    first, last, count = f * span, g * span, x.shape[0] * span
    means = repeat_groups(mean[f:g], last - first)
    sums, products = np.zeros(last - first), np.zeros(last - first)
    sum_products(dout, x, first, means, sums, products)
    shift, slope, scale = np.empty(g - f), np.empty(g - f), np.empty(g - f)
    sum_groups(sums, shift)
    sum_groups(products, slope)
    for c in range(g - f):
        std = np.sqrt(var[f + c] + EPSILON)
        dbeta[f + c], dgamma[f + c] = shift[c], slope[c] / std
        scale[c] = gamma[f + c] / std
        shift[c] /= count
        slope[c] /= std * std * count
    scales = repeat_groups(scale, last - first)
    shifts, slopes = repeat_groups(shift, last - first), repeat_groups(slope, last - first)
    gradient(dout, x, first, means, scales, shifts, slopes, dx)


@register_jitable
def _forward(x, gamma, beta, mean, var, given, out):
    args = x, gamma, beta, mean, var, given, out
    function = get_function_address(_forward_features, args, x.dtype)
    size = _features_at_once(x, gamma.size)
    run_chunks(function, args, gamma.size, size, x.size >= MIN_PARALLEL_SIZE)


@register_jitable
def _backward(dout, x, gamma, mean, var, dx, dgamma, dbeta):
    args = dout, x, gamma, mean, var, dx, dgamma, dbeta
    function = get_function_address(_backward_features, args, x.dtype)
    size = _features_at_once(x, gamma.size)
    run_chunks(function, args, gamma.size, size, x.size >= MIN_PARALLEL_SIZE)


@register_jitable
def _jit_check(x, gamma, vector):
    elements = x.size // x.shape[0] if x.shape[0] else 0
    if gamma.shape[0] != x.shape[1] and gamma.shape[0] != elements:
        raise ValueError("batch_norm: expected gamma (C,) or of an example, got another size")
    if vector.shape != gamma.shape:
        raise ValueError("batch_norm: expected vectors in the shape of gamma, got another shape")


def _require(function, x, **vectors):
    require_arrays(function, x=x)
    if x.ndim < 2:
        raise TypingError(f"{function}: expected x (N, D) or (N, C, ...), got {x}")
    require_arrays(function, 1, **vectors)


@overload(batch_norm_forward)
def _jit_batch_norm_forward(x, gamma, beta):
    _require("batch_norm_forward", x, gamma=gamma, beta=beta)

    def forward(x, gamma, beta):
        _jit_check(x, gamma, beta)
        if x.size == 0:
            raise ValueError("batch_norm_forward: expected at least one example, got an empty x")
        g = jit_as_kernel_array(gamma, gamma)
        a, b = jit_as_kernel_array(x, g), jit_as_kernel_array(beta, g)
        out, mean, var = np.empty(a.shape, g.dtype), np.empty(g.size), np.empty(g.size)
        flat = (a.shape[0], a.size // a.shape[0])
        _forward(a.reshape(flat), g, b, mean, var, np.False_, out.reshape(flat))
        return out, mean, var

    return forward


@overload(batch_norm_inference)
def _jit_batch_norm_inference(x, gamma, beta, mean, var):
    _require("batch_norm_inference", x, gamma=gamma, beta=beta, mean=mean, var=var)

    def inference(x, gamma, beta, mean, var):
        _jit_check(x, gamma, beta)
        _jit_check(x, gamma, mean)
        _jit_check(x, gamma, var)
        g = jit_as_kernel_array(gamma, gamma)
        a, b = jit_as_kernel_array(x, g), jit_as_kernel_array(beta, g)
        m, v = jit_as_kernel_array(mean, _LIKE), jit_as_kernel_array(var, _LIKE)
        out = np.empty(a.shape, g.dtype)
        if a.size:
            flat = (a.shape[0], a.size // a.shape[0])
            _forward(a.reshape(flat), g, b, m, v, np.True_, out.reshape(flat))
        return out

    return inference


@overload(batch_norm_backward)
def _jit_batch_norm_backward(dout, x, gamma, mean, var):
    _require("batch_norm_backward", x, gamma=gamma, mean=mean, var=var)
    require_arrays("batch_norm_backward", x.ndim, dout=dout)

    def backward(dout, x, gamma, mean, var):
        _jit_check(x, gamma, mean)
        _jit_check(x, gamma, var)
        if x.size == 0 or dout.shape != x.shape:
            raise ValueError(
                "batch_norm_backward: expected x not empty and dout in its shape, got another shape"
            )
        g = jit_as_kernel_array(gamma, gamma)
        d, a = jit_as_kernel_array(dout, g), jit_as_kernel_array(x, g)
        m, v = jit_as_kernel_array(mean, _LIKE), jit_as_kernel_array(var, _LIKE)
        dx, dgamma, dbeta = np.empty(a.shape, g.dtype), np.empty_like(g), np.empty_like(g)
        flat = (a.shape[0], a.size // a.shape[0])
        _backward(d.reshape(flat), a.reshape(flat), g, m, v, dx.reshape(flat), dgamma, dbeta)
        return dx, dgamma, dbeta

    return backward


_LIKE = np.empty(0)  # has the dtype of mean and var

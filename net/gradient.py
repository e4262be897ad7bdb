"""Gradients by finite differences, to verify back-propagation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 1e-4


def numerical_gradient(f: Callable[[NDArray[Any]], Any], x: NDArray[Any]) -> NDArray[Any]:
    """Compute a gradient by central differences.

    The formula is ``grad_i = (f(x + h e_i) - f(x - h e_i)) / 2h`` with ``h = 1e-4``.

    Parameters
    ----------
    f : callable
        Function that takes `x` and returns a number. `f` may ignore its argument and read the
        array elsewhere, like ``lambda W: self.loss(x, t)`` in the lecture, because `x` is changed
        in place during the calls.
    x : ndarray of float32 or float64, any shape and layout
        Point at which to compute the gradient. Its values are restored on return and on error.

    Returns
    -------
    grad : ndarray, shape and dtype of `x`

    Raises
    ------
    TypeError
        If `x` is not an array of float32 or float64, or `f` does not return a real number.
    ValueError
        If `x` is read-only.

    Notes
    -----
    The truncation error is of order ``h**2`` and the rounding error of order ``eps / h``: use
    float64.

    Examples
    --------
    >>> import numpy as np
    >>> from net import numerical_gradient
    >>> numerical_gradient(lambda x: np.sum(x**2), np.array([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    masked = isinstance(x, np.ma.MaskedArray)
    if not isinstance(x, np.ndarray) or masked or x.dtype not in (np.float32, np.float64):
        raise TypeError(
            "numerical_gradient: expected x as an array of float32 or float64, got "
            f"{type(x).__name__} of {getattr(x, 'dtype', 'no dtype')}; "
            "convert with np.asarray(x, dtype=float)"
        )
    if not callable(f):
        raise TypeError(f"numerical_gradient: expected f as a function, got {f!r}")
    if not x.flags.writeable:
        raise ValueError(
            "numerical_gradient: expected a writable x, got a read-only array; pass a copy"
        )
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        value = x[i]
        try:
            x[i] = value + STEP
            above = _number(f(x))
            x[i] = value - STEP
            below = _number(f(x))
        finally:
            x[i] = value
        grad[i] = (above - below) / (2 * STEP)
    return grad


def _number(value: Any) -> Any:
    """Return `value`; raise TypeError if it is not a real number."""
    masked = isinstance(value, np.ma.MaskedArray)
    if masked or np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(
            "numerical_gradient: expected a function that returns a real number, got "
            f"{type(value).__name__} of shape {np.shape(value)}"
        )
    return value


def numerical_gradients(
    loss: Callable[[], float],
    params: Mapping[str, NDArray[Any]],
    buffers: MutableMapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """Compute the gradient of a loss for each parameter by central differences.

    Parameters
    ----------
    loss : callable
        Function of no arguments that reads the parameters.
    params : mapping of str to ndarray
        Changed in place during the calls, and restored.
    buffers : mapping of str to ndarray
        Arrays that `loss` changes, such as running means; restored, unless they are None.

    Returns
    -------
    dict of str to ndarray
    """
    kept = {key: np.copy(value) for key, value in buffers.items() if value is not None}
    try:
        return {key: numerical_gradient(lambda _: loss(), p) for key, p in params.items()}
    finally:
        buffers.update(kept)

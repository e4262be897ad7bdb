"""Numerical gradient of the two-layer ReLU network, by central differences for each parameter.

Shifting one parameter changes the output of one unit only, so only values that depend on that unit
are recomputed. For a weight of the first layer, these are the logits of the examples whose input is
not zero; they change by a multiple of the unit's row of the second layer. The losses above and
below are evaluated and subtracted, as in the definition.
"""

from collections.abc import Sequence

import numpy as np
from numba import prange

from kernels._arrays import Array
from kernels._compiler import inner, njit
from kernels._exp import exp
from kernels._targets import check_targets
from kernels.affine import affine_forward
from kernels.softmax import softmax


def two_layer_numerical_gradient(
    x: Array, t: Array, parameters: Sequence[Array], step: float
) -> tuple[Array, Array, Array, Array]:
    """Compute central differences of the mean cross-entropy of ``relu(x W1 + b1) W2 + b2``.

    All computations are in float64, for any dtype of the parameters.

    Parameters
    ----------
    x : ndarray, shape (N, D)
        Batch, with at least one example.
    t : ndarray, shape (N,) or (N, C)
        Class indices or target distributions.
    parameters : sequence of ndarray
        ``W1`` (D, H), ``b1`` (H,), ``W2`` (H, C), ``b2`` (C,).
    step : float
        Shift of a parameter in each direction.

    Returns
    -------
    dW1, db1, dW2, db2 : ndarray of float64
        ``(loss(p + step) - loss(p - step)) / (2 step)`` for each parameter ``p``.

    Raises
    ------
    TypeError, ValueError
        If the shape or dtype of `x` or `t` is invalid, or the batch is empty.
    """
    # float64 from here on: no kernels for other dtypes have to be compiled.
    x, W1, b1, W2, b2 = (np.ascontiguousarray(a, np.float64) for a in (x, *parameters))
    before = affine_forward(x, W1, b1)
    hidden = np.maximum(before, 0)
    logits = affine_forward(hidden, W2, b2)
    if logits.shape[0] == 0:
        raise ValueError(f"x: expected at least one example, got shape {x.shape}")
    labels, targets = check_targets(t, logits.shape, logits.dtype)
    if labels.size:
        targets = np.zeros(logits.shape)
        targets[np.arange(labels.size), labels] = 1
    # The bias is the weight of a constant input of 1. The non-zero inputs are in CSR format.
    inputs = np.hstack((x, np.ones((x.shape[0], 1))))
    indptr = np.concatenate(([0], np.cumsum(np.count_nonzero(inputs, axis=1))))
    indices, data = np.nonzero(inputs)[1], inputs[inputs != 0]
    first, second = (
        np.zeros((W1.shape[1], W1.shape[0] + 1)),
        np.empty((W2.shape[0] + 1, W2.shape[1])),
    )
    y = softmax(logits)
    _first_layer(indptr, indices, data, before, W2, logits, y, targets, step, first)
    units = np.hstack((hidden, np.ones((x.shape[0], 1))))
    _second_layer(units, logits, y, targets, step, second)
    return first.T[:-1].copy(), first.T[-1].copy(), second[:-1], second[-1]


SERIES_LIMIT = 2.0**-8
"""Largest shift of a logit for which `_expm1_series` and `_log1p_series` are used."""


@inner
def _expm1_series(z):
    """Return ``exp(z) - 1`` for a small `z`, to rounding."""
    return z * (1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6 * (1 + z / 7))))))


@inner
def _log1p_series(y):
    """Return ``log(1 + y)`` for a small `y`, to rounding."""
    return y * (1 - y * (1 / 2 - y * (1 / 3 - y * (1 / 4 - y * (1 / 5 - y * (1 / 6 - y / 7))))))


@inner
def _loss(logits, shift, direction, targets):
    """Return the cross-entropy of one example whose logits are shifted along a direction."""
    classes = logits.size
    m = logits[0] + shift * direction[0]
    for c in range(1, classes):
        z = logits[c] + shift * direction[c]
        m = z if z > m else m
    total, dot, weight = 0.0, 0.0, 0.0
    for c in range(classes):
        z = logits[c] + shift * direction[c] - m
        total += exp(z)
        if targets[c] != 0:
            dot += targets[c] * z
            weight += targets[c]
    return weight * np.log(total) - dot


@njit(parallel=True, nogil=True)
def _first_layer(indptr, indices, data, before, W2, logits, y, targets, step, out):
    n, classes = logits.shape
    longest = np.max(indptr[1:] - indptr[:-1])
    for u in prange(W2.shape[0]):
        above, below = np.empty(longest), np.empty(longest)
        up, down = np.empty(longest), np.empty(longest)
        direction = W2[u]
        for r in range(n):
            count = indptr[r + 1] - indptr[r]
            _activation_deltas(data[indptr[r] : indptr[r + 1]], before[r, u], step, above, below)
            dot, weight, reach = 0.0, 0.0, 0.0
            for c in range(classes):
                dot += targets[r, c] * direction[c] if targets[r, c] != 0 else 0.0
                weight += targets[r, c]
                reach = max(reach, abs(direction[c]))
            for k in range(count):
                up[k] = down[k] = 0
            far = 0.0
            for k in range(count):
                far = max(far, abs(above[k]), abs(below[k]))
            if far == 0:  # the unit is inactive with and without the shift
                continue
            if far * reach <= SERIES_LIMIT:
                # The loss relative to the unshifted loss: log sum y exp(shift * direction).
                for c in range(classes):
                    for k in range(count):
                        up[k] += y[r, c] * _expm1_series(above[k] * direction[c])
                        down[k] += y[r, c] * _expm1_series(below[k] * direction[c])
                for k in range(count):
                    up[k] = weight * (_log1p_series(up[k]) - _log1p_series(down[k]))
                    up[k] -= (above[k] - below[k]) * dot
            else:
                for k in range(count):
                    up[k] = _loss(logits[r], above[k], direction, targets[r])
                    up[k] -= _loss(logits[r], below[k], direction, targets[r])
            for k in range(count):
                out[u, indices[indptr[r] + k]] += up[k] / (2 * step * n)


@inner
def _activation_deltas(values, z, step, above, below):
    """Compute how a step of each input's weight changes a hidden unit's activation.

    Return the number of inputs.
    """
    now = z if z > 0 else 0.0
    for k in range(values.size):
        move = step * values[k]
        above[k] = (z + move if z + move > 0 else 0.0) - now
        below[k] = (z - move if z - move > 0 else 0.0) - now


@njit(parallel=True, nogil=True)
def _second_layer(units, logits, y, targets, step, out):
    n, classes = y.shape
    for c in prange(classes):
        direction = np.zeros(classes)
        direction[c] = 1
        for u in range(units.shape[1]):
            difference = 0.0
            for r in range(n):
                shift = step * units[r, u]
                if abs(shift) > 1:  # `expm1` may overflow, the relative loss lose all digits
                    difference += _loss(logits[r], shift, direction, targets[r])
                    difference -= _loss(logits[r], -shift, direction, targets[r])
                    continue
                weight = 0.0
                for k in range(classes):
                    weight += targets[r, k]
                above = np.log1p(y[r, c] * np.expm1(shift))
                below = np.log1p(y[r, c] * np.expm1(-shift))
                difference += weight * (above - below) - 2 * shift * targets[r, c]
            out[u, c] = difference / (2 * step * n)

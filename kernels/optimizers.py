"""In-place parameter updates of optimizers, each in one pass over memory.

For each rule, this module has the formula for a block of parameters, which the compiled training
loops also use, and the public update. Their results are bit-identical.

On x86, updates treat denormal numbers (below 1.2e-38 in float32) as 0; see `kernels._denormals`.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numpy.typing import ArrayLike

from kernels._arrays import Array
from kernels._compiler import inner, njit, overload
from kernels._in_place import as_iteration, as_scalars, jit_flat, require_in_place
from kernels._updates import descend, jit_update, rule_address, update_arrays

__all__ = ["adagrad_update", "adam_update", "momentum_update", "nesterov_update", "rmsprop_update",
    "sgd_update"]  # fmt: skip


@inner
def _sgd(p, g, none, nothing, options, t):
    lr = p.dtype.type(options[0])
    for i in range(p.size):
        p[i] = descend(p[i], g[i], lr)


@njit(nogil=True)
def _sgd_address(p):
    return rule_address(_sgd, p)


def sgd_update(p: Array, g: ArrayLike, lr: float) -> None:
    """Update parameters by stochastic gradient descent, in place: ``p -= lr g``.

    Parameters
    ----------
    p : ndarray of float32 or float64, any shape
        Parameters, changed in place.
    g : array_like, shape of `p`
        Gradient of the loss with respect to `p`; converted to the dtype of `p`.
    lr : float
        Learning rate.

    Raises
    ------
    TypeError
        If `p` is not an array of float32 or float64, or `g` or `lr` is not real.
    ValueError
        If `p` is read-only or the shapes differ; no array is changed then.

    Notes
    -----
    H. Robbins and S. Monro, "A Stochastic Approximation Method", Ann. Math. Statist. 22 (1951).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import sgd_update
    >>> p = np.array([1.0, 2.0])
    >>> sgd_update(p, np.array([10.0, -10.0]), lr=0.1)
    >>> p
    array([0., 3.])
    """
    update_arrays(_sgd_address, 1, as_scalars(lr=lr), g, p=p)


@overload(sgd_update)
def _jit_sgd(p, g, lr):
    require_in_place("sgd_update", g, {"lr": lr}, p=p)
    return lambda p, g, lr: jit_update(_sgd_address(jit_flat(p, p)), 1, (lr,), g, p)


@inner
def _momentum(p, g, v, none, options, t):
    lr, momentum = p.dtype.type(options[0]), p.dtype.type(options[1])
    for i in range(p.size):
        v[i] = momentum * v[i] - lr * g[i]
        p[i] += v[i]


@njit(nogil=True)
def _momentum_address(p):
    return rule_address(_momentum, p)


def momentum_update(p: Array, g: ArrayLike, v: Array, lr: float, momentum: float) -> None:
    """Update parameters with momentum, in place: ``v = momentum v - lr g; p += v``.

    Parameters
    ----------
    p, g
        As for `sgd_update`.
    v : ndarray, dtype and shape of `p`
        Velocity, initially zero; changed in place.
    lr, momentum : float
        Learning rate, and factor of the velocity.

    Raises
    ------
    TypeError, ValueError
        As for `sgd_update`; ValueError also if arrays share memory.

    Notes
    -----
    B. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
    Computational Mathematics and Mathematical Physics 4 (1964).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import momentum_update
    >>> p, v = np.array([1.0]), np.array([2.0])
    >>> momentum_update(p, np.array([10.0]), v, lr=0.1, momentum=0.5)
    >>> p, v
    (array([1.]), array([0.]))
    """
    update_arrays(_momentum_address, 1, as_scalars(lr=lr, momentum=momentum), g, p=p, v=v)


@overload(momentum_update)
def _jit_momentum(p, g, v, lr, momentum):
    require_in_place("momentum_update", g, {"lr": lr, "momentum": momentum}, p=p, v=v)
    return lambda p, g, v, lr, momentum: jit_update(
        _momentum_address(jit_flat(p, p)), 1, (lr, momentum), g, p, v
    )


@inner
def _nesterov(p, g, v, none, options, t):
    lr, momentum = p.dtype.type(options[0]), p.dtype.type(options[1])
    squared = p.dtype.type(options[1] * options[1])
    step = p.dtype.type((1 + options[1]) * options[0])
    for i in range(p.size):
        p[i] += squared * v[i] - step * g[i]
        v[i] = momentum * v[i] - lr * g[i]


@njit(nogil=True)
def _nesterov_address(p):
    return rule_address(_nesterov, p)


def nesterov_update(p: Array, g: ArrayLike, v: Array, lr: float, momentum: float) -> None:
    """Update parameters with Nesterov's momentum, in place.

    ``p += momentum^2 v - (1 + momentum) lr g; v = momentum v - lr g``, with the old `v` in both
    formulas.

    Parameters
    ----------
    p, g
        As for `sgd_update`.
    v : ndarray, dtype and shape of `p`
        Velocity, initially zero; changed in place.
    lr, momentum : float
        Learning rate, and factor of the velocity.

    Raises
    ------
    TypeError, ValueError
        As for `sgd_update`; ValueError also if arrays share memory.

    Notes
    -----
    Y. Bengio, N. Boulanger-Lewandowski and R. Pascanu, "Advances in optimizing recurrent
    networks", ICASSP 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import nesterov_update
    >>> p, v = np.array([1.0]), np.array([2.0])
    >>> nesterov_update(p, np.array([2.0]), v, lr=0.5, momentum=0.5)
    >>> p, v
    (array([0.]), array([0.]))
    """
    update_arrays(_nesterov_address, 1, as_scalars(lr=lr, momentum=momentum), g, p=p, v=v)


@overload(nesterov_update)
def _jit_nesterov(p, g, v, lr, momentum):
    require_in_place("nesterov_update", g, {"lr": lr, "momentum": momentum}, p=p, v=v)
    return lambda p, g, v, lr, momentum: jit_update(
        _nesterov_address(jit_flat(p, p)), 1, (lr, momentum), g, p, v
    )


@inner(error_model="numpy")
def _adagrad(p, g, h, none, options, t):
    lr, epsilon = p.dtype.type(options[0]), p.dtype.type(options[1])
    for i in range(p.size):
        h[i] += g[i] * g[i]
        p[i] -= lr * g[i] / (np.sqrt(h[i]) + epsilon)


@njit(nogil=True)
def _adagrad_address(p):
    return rule_address(_adagrad, p)


def adagrad_update(p: Array, g: ArrayLike, h: Array, lr: float, epsilon: float = 1e-7) -> None:
    """Update parameters by AdaGrad, in place: ``h += g^2; p -= lr g / (sqrt(h) + epsilon)``.

    Parameters
    ----------
    p, g
        As for `sgd_update`.
    h : ndarray, dtype and shape of `p`
        Sum of the squared gradients, initially zero; changed in place.
    lr : float
        Learning rate.
    epsilon : float, default 1e-7
        Added to the root to avoid division by zero.

    Raises
    ------
    TypeError, ValueError
        As for `sgd_update`; ValueError also if arrays share memory.

    Notes
    -----
    J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", Journal of Machine Learning Research 12 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import adagrad_update
    >>> p, h = np.array([1.0]), np.array([9.0])
    >>> adagrad_update(p, np.array([4.0]), h, lr=0.5, epsilon=0.0)
    >>> p, h
    (array([0.6]), array([25.]))
    """
    update_arrays(_adagrad_address, 1, as_scalars(lr=lr, epsilon=epsilon), g, p=p, h=h)


@overload(adagrad_update)
def _jit_adagrad(p, g, h, lr, epsilon=1e-7):
    require_in_place("adagrad_update", g, {"lr": lr, "epsilon": epsilon}, p=p, h=h)
    return lambda p, g, h, lr, epsilon=1e-7: jit_update(
        _adagrad_address(jit_flat(p, p)), 1, (lr, epsilon), g, p, h
    )


@inner(error_model="numpy")
def _rmsprop(p, g, h, none, options, t):
    lr, decay = p.dtype.type(options[0]), p.dtype.type(options[1])
    rest, epsilon = p.dtype.type(1 - options[1]), p.dtype.type(options[2])
    for i in range(p.size):
        h[i] = decay * h[i] + rest * (g[i] * g[i])
        p[i] -= lr * g[i] / (np.sqrt(h[i]) + epsilon)


@njit(nogil=True)
def _rmsprop_address(p):
    return rule_address(_rmsprop, p)


def rmsprop_update(
    p: Array, g: ArrayLike, h: Array, lr: float, decay_rate: float, epsilon: float = 1e-7
) -> None:
    """Update parameters by RMSprop, in place.

    ``h = decay_rate h + (1 - decay_rate) g^2; p -= lr g / (sqrt(h) + epsilon)``.

    Parameters
    ----------
    p, g
        As for `sgd_update`.
    h : ndarray, dtype and shape of `p`
        Moving average of the squared gradients, initially zero; changed in place.
    lr, decay_rate : float
        Learning rate, and factor of the moving average.
    epsilon : float, default 1e-7
        Added to the root to avoid division by zero.

    Raises
    ------
    TypeError, ValueError
        As for `sgd_update`; ValueError also if arrays share memory.

    Notes
    -----
    T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", Neural Networks for Machine Learning (2012).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import rmsprop_update
    >>> p, h = np.array([1.0]), np.array([2.0])
    >>> rmsprop_update(p, np.array([4.0]), h, lr=0.75, decay_rate=0.5, epsilon=0.0)
    >>> p, h
    (array([0.]), array([9.]))
    """
    options = as_scalars(lr=lr, decay_rate=decay_rate, epsilon=epsilon)
    update_arrays(_rmsprop_address, 1, options, g, p=p, h=h)


@overload(rmsprop_update)
def _jit_rmsprop(p, g, h, lr, decay_rate, epsilon=1e-7):
    numbers = {"lr": lr, "decay_rate": decay_rate, "epsilon": epsilon}
    require_in_place("rmsprop_update", g, numbers, p=p, h=h)
    return lambda p, g, h, lr, decay_rate, epsilon=1e-7: jit_update(
        _rmsprop_address(jit_flat(p, p)), 1, (lr, decay_rate, epsilon), g, p, h
    )


@inner(error_model="numpy")
def _adam(p, g, m, v, options, t):
    rate, beta1, beta2 = options[0], options[1], options[2]
    # float: an integer power is computed by multiplications, which round unlike NumPy.
    steps = np.float64(t)
    lr = p.dtype.type(rate * (np.sqrt(1 - beta2**steps) / (1 - beta1**steps)))
    rest1, rest2 = p.dtype.type(1 - beta1), p.dtype.type(1 - beta2)
    epsilon = p.dtype.type(options[3])
    for i in range(p.size):
        m[i] += rest1 * (g[i] - m[i])
        v[i] += rest2 * (g[i] * g[i] - v[i])
        p[i] -= lr * m[i] / (np.sqrt(v[i]) + epsilon)


@njit(nogil=True)
def _adam_address(p):
    return rule_address(_adam, p)


def adam_update(
    p: Array,
    g: ArrayLike,
    m: Array,
    v: Array,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float = 1e-7,
) -> None:
    """Update parameters by Adam, in place.

    ``m += (1 - beta1) (g - m); v += (1 - beta2) (g^2 - v); p -= lr_t m / (sqrt(v) + epsilon)``
    with ``lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t)``.

    Parameters
    ----------
    p, g
        As for `sgd_update`.
    m, v : ndarray, dtype and shape of `p`
        First and second moments of the gradient, initially zero; changed in place.
    t : int
        Number of the update, from 1.
    lr : float
        Learning rate.
    beta1, beta2 : float
        Factors of the moving averages `m` and `v`.
    epsilon : float, default 1e-7
        Added to the root to avoid division by zero.

    Raises
    ------
    TypeError, ValueError
        As for `sgd_update`; ValueError also if arrays share memory.

    Notes
    -----
    D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. This is the
    form given in section 2, with ``lr_t`` in place of bias-corrected moments.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels import adam_update
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam_update(p, np.array([4.0]), m, v, t=1, lr=0.5, beta1=0.5, beta2=0.75, epsilon=0.0)
    >>> p, m, v
    (array([0.5]), array([2.]), array([4.]))
    """
    options = as_scalars(lr=lr, beta1=beta1, beta2=beta2, epsilon=epsilon)
    update_arrays(_adam_address, as_iteration(t), options, g, p=p, m=m, v=v)


@overload(adam_update)
def _jit_adam(p, g, m, v, t, lr, beta1, beta2, epsilon=1e-7):
    numbers = {"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    require_in_place("adam_update", g, numbers, p=p, m=m, v=v)
    if not isinstance(t, types.Integer):
        raise TypingError(f"adam_update: expected t as an integer from 1, got {t}")
    return lambda p, g, m, v, t, lr, beta1, beta2, epsilon=1e-7: jit_update(
        _adam_address(jit_flat(p, p)), t, (lr, beta1, beta2, epsilon), g, p, m, v
    )


RULES = {"sgd": _sgd_address, "momentum": _momentum_address, "nesterov": _nesterov_address,
    "adagrad": _adagrad_address, "rmsprop": _rmsprop_address, "adam": _adam_address}  # fmt: skip
"""Functions that return the address of a rule for the dtype of an array, by the rule's name."""

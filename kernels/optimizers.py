"""In-place parameter updates of optimizers, each in one pass over memory.

The update rules are in `kernels._update_rules`. The public updates in this module and the compiled
training loops call the same rules, so their results are bit-identical.

On x86, updates treat denormal numbers (below 1.2e-38 in float32) as 0; see `kernels._denormals`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable
from numpy.typing import ArrayLike

from kernels._arrays import Array, jit_as_kernel_array
from kernels._cache import njit
from kernels._in_place import (
    as_iteration,
    as_scalars,
    check_in_place,
    jit_flat,
    jit_write_back,
    overlap,
    require_in_place,
)
from kernels._threads import thread_count
from kernels._update_rules import (
    ADAGRAD,
    ADAM,
    MOMENTUM,
    NESTEROV,
    NUM_COEFFICIENTS,
    RMSPROP,
    SGD,
    get_rule_address,
    jit_adagrad_address,
    jit_adam_address,
    jit_momentum_address,
    jit_nesterov_address,
    jit_rmsprop_address,
    jit_sgd_address,
    rule_coefficients,
    update_block,
)

BLOCK = 16_384  # elements that a thread updates at a time, for any number of threads

MIN_PARALLEL_UPDATE = 131_072
"""Number of elements below which one thread is faster."""


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
    update_arrays(SGD, 1, as_scalars(lr=lr), g, p=p)


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
    update_arrays(MOMENTUM, 1, as_scalars(lr=lr, momentum=momentum), g, p=p, v=v)


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
    update_arrays(NESTEROV, 1, as_scalars(lr=lr, momentum=momentum), g, p=p, v=v)


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
    update_arrays(ADAGRAD, 1, as_scalars(lr=lr, epsilon=epsilon), g, p=p, h=h)


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
    update_arrays(RMSPROP, 1, options, g, p=p, h=h)


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
    update_arrays(ADAM, as_iteration(t), options, g, p=p, m=m, v=v)


def update_arrays(rule: Any, t: int, options: Array, g: ArrayLike, **arrays: Array) -> None:
    """Check parameters and optimizer states, and update them in place.

    The names of `arrays` appear in error messages. `options` and `t` are as for
    `rule_coefficients`.
    """
    g, ready = check_in_place(g, **arrays)
    update_ready(rule, t, options, g, ready)
    for a, result in zip(arrays.values(), ready, strict=True):
        if result is not a:
            a[...] = result


def update_ready(rule: Any, t: int, options: Array, g: Array, arrays: list[Array]) -> None:
    """Update arrays returned by `check_in_place`."""
    flat = [a.reshape(-1) for a in arrays]
    none = flat[0][:0]
    p, s0, s1, *_ = (*flat, none, none)
    update = get_rule_address(int(rule), p.dtype)
    if not _run(rule, update, p, g.reshape(-1), s0, s1, options, t):
        raise ValueError("expected separate arrays, got parameters and states that overlap")


@njit(nogil=True)
def _run(rule, update, p, g, s0, s1, options, t):
    """Update flat arrays; return False and change nothing if parameters or states overlap."""
    if overlap(p, s0) or overlap(p, s1) or overlap(s0, s1):
        return False
    if overlap(g, p) or overlap(g, s0) or overlap(g, s1):
        g = g.copy()
    coefficients = np.empty(NUM_COEFFICIENTS)
    rule_coefficients(rule, options, t, coefficients)
    if p.size < MIN_PARALLEL_UPDATE or thread_count() == 1:
        update_block(update, p, g, s0, s1, coefficients)
    else:
        _update_blocks(update, p, g, s0, s1, coefficients)
    return True


@njit(parallel=True, nogil=True)
def _update_blocks(update, p, g, s0, s1, coefficients):
    for k in prange((p.size + BLOCK - 1) // BLOCK):
        a, b = np.int64(k) * BLOCK, (np.int64(k) + 1) * BLOCK
        update_block(update, p[a:b], g[a:b], s0[a:b], s1[a:b], coefficients)


@register_jitable
def _jit_update(rule, update, t, options, g, p, s0=None, s1=None):
    if g.shape != p.shape:
        raise ValueError("expected equal shapes, got p and g of different shapes")
    if t < 1:
        raise ValueError("t: expected an integer from 1, got a smaller number")
    a, b, c = jit_flat(p, p), jit_flat(s0, p), jit_flat(s1, p)
    d = jit_as_kernel_array(g, p).reshape(-1)
    if not _run(rule, update, a, d, b, c, np.array(options, np.float64), np.int64(t)):
        raise ValueError("expected separate arrays, got parameters and states that overlap")
    jit_write_back(p, a)
    jit_write_back(s0, b)
    jit_write_back(s1, c)


@overload(sgd_update)
def _jit_sgd(p, g, lr):
    require_in_place("sgd_update", g, {"lr": lr}, p=p)
    return lambda p, g, lr: _jit_update(SGD, jit_sgd_address(jit_flat(p, p)), 1, (lr,), g, p)


@overload(momentum_update)
def _jit_momentum(p, g, v, lr, momentum):
    require_in_place("momentum_update", g, {"lr": lr, "momentum": momentum}, p=p, v=v)
    return lambda p, g, v, lr, momentum: _jit_update(
        MOMENTUM, jit_momentum_address(jit_flat(p, p)), 1, (lr, momentum), g, p, v
    )


@overload(nesterov_update)
def _jit_nesterov(p, g, v, lr, momentum):
    require_in_place("nesterov_update", g, {"lr": lr, "momentum": momentum}, p=p, v=v)
    return lambda p, g, v, lr, momentum: _jit_update(
        NESTEROV, jit_nesterov_address(jit_flat(p, p)), 1, (lr, momentum), g, p, v
    )


@overload(adagrad_update)
def _jit_adagrad(p, g, h, lr, epsilon=1e-7):
    require_in_place("adagrad_update", g, {"lr": lr, "epsilon": epsilon}, p=p, h=h)
    return lambda p, g, h, lr, epsilon=1e-7: _jit_update(
        ADAGRAD, jit_adagrad_address(jit_flat(p, p)), 1, (lr, epsilon), g, p, h
    )


@overload(rmsprop_update)
def _jit_rmsprop(p, g, h, lr, decay_rate, epsilon=1e-7):
    numbers = {"lr": lr, "decay_rate": decay_rate, "epsilon": epsilon}
    require_in_place("rmsprop_update", g, numbers, p=p, h=h)
    return lambda p, g, h, lr, decay_rate, epsilon=1e-7: _jit_update(
        RMSPROP, jit_rmsprop_address(jit_flat(p, p)), 1, (lr, decay_rate, epsilon), g, p, h
    )


@overload(adam_update)
def _jit_adam(p, g, m, v, t, lr, beta1, beta2, epsilon=1e-7):
    numbers = {"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    require_in_place("adam_update", g, numbers, p=p, m=m, v=v)
    if not isinstance(t, types.Integer):
        raise TypingError(f"adam_update: expected t as an integer from 1, got {t}")
    return lambda p, g, m, v, t, lr, beta1, beta2, epsilon=1e-7: _jit_update(
        ADAM, jit_adam_address(jit_flat(p, p)), t, (lr, beta1, beta2, epsilon), g, p, m, v
    )

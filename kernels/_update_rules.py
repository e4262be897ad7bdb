"""Update rules of the optimizers, for one contiguous block of parameters.

Rules are called by address. A rule is compiled when it is first used, and only once for all of its
callers.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import config, types
from numba.extending import intrinsic

from kernels._addresses import address_of, matrix_at
from kernels._cache import inner, njit
from kernels._denormals import flush_denormals, restore_denormals
from kernels._function_pointers import call_address, emit_function
from kernels._plain_code import plain_code, plain_code_address

# NumPy integers: for Python literals, Numba would compile the callees once per value.
SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM = (np.int64(code) for code in range(6))

NUM_COEFFICIENTS = 4  # the size of the array that `rule_coefficients` fills


@njit(nogil=True, error_model="numpy")
def rule_coefficients(rule, options, t, out):
    """Fill `out` with the coefficients that `update_block` needs in iteration `t`.

    `options` is a float64 array of the rule's options: the learning rate, the others in the order
    of the public update function, and epsilon last. `t` counts from 1. `out` is a float64 array of
    `NUM_COEFFICIENTS` elements.
    """
    for i in range(options.size):
        out[i] = options[i]
    if rule == NESTEROV:
        out[2] = options[1] * options[1]
        out[3] = (1 + options[1]) * options[0]
    elif rule == RMSPROP:
        out[2], out[3] = 1 - options[1], options[2]
    elif rule == ADAM:
        # float: an integer power is computed by multiplications, which round unlike NumPy.
        steps = np.float64(t)
        out[0] *= np.sqrt(1 - options[2] ** steps) / (1 - options[1] ** steps)
        out[1], out[2] = 1 - options[1], 1 - options[2]


# Each rule updates one contiguous block. Arguments named `none` or `nothing` are empty arrays.


@inner
def _sgd(p, g, none, nothing, c):
    lr = p.dtype.type(c[0])
    for i in range(p.size):
        p[i] -= lr * g[i]


@inner
def _momentum(p, g, v, none, c):
    lr, momentum = p.dtype.type(c[0]), p.dtype.type(c[1])
    for i in range(p.size):
        v[i] = momentum * v[i] - lr * g[i]
        p[i] += v[i]


@inner
def _nesterov(p, g, v, none, c):
    lr, momentum = p.dtype.type(c[0]), p.dtype.type(c[1])
    squared, step = p.dtype.type(c[2]), p.dtype.type(c[3])
    for i in range(p.size):
        p[i] += squared * v[i] - step * g[i]
        v[i] = momentum * v[i] - lr * g[i]


@inner(error_model="numpy")
def _adagrad(p, g, h, none, c):
    lr, epsilon = p.dtype.type(c[0]), p.dtype.type(c[1])
    for i in range(p.size):
        h[i] += g[i] * g[i]
        p[i] -= lr * g[i] / (np.sqrt(h[i]) + epsilon)


@inner(error_model="numpy")
def _rmsprop(p, g, h, none, c):
    lr, decay = p.dtype.type(c[0]), p.dtype.type(c[1])
    rest, epsilon = p.dtype.type(c[2]), p.dtype.type(c[3])
    for i in range(p.size):
        h[i] = decay * h[i] + rest * (g[i] * g[i])
        p[i] -= lr * g[i] / (np.sqrt(h[i]) + epsilon)


@inner(error_model="numpy")
def _adam(p, g, m, v, c):
    lr, rest1 = p.dtype.type(c[0]), p.dtype.type(c[1])
    rest2, epsilon = p.dtype.type(c[2]), p.dtype.type(c[3])
    for i in range(p.size):
        m[i] += rest1 * (g[i] - m[i])
        v[i] += rest2 * (g[i] * g[i] - v[i])
        p[i] -= lr * m[i] / (np.sqrt(v[i]) + epsilon)


def _by_addresses(rule):
    def update(like, like_float64, p, g, s0, s1, n, c):
        one, few = np.int64(1), np.int64(NUM_COEFFICIENTS)
        rule(
            matrix_at(p, one, n, like)[0],
            matrix_at(g, one, n, like)[0],
            matrix_at(s0, one, n, like)[0],
            matrix_at(s1, one, n, like)[0],
            matrix_at(c, one, few, like_float64)[0],
        )

    return update


@intrinsic
def _emit_rule(context, rule, p):
    def emit(context, builder, signature, args):
        kinds, update = [p.dtype, types.float64], _by_addresses(rule.dispatcher)
        return emit_function(update, rule.dispatcher.__name__, context, builder, kinds, 6)

    return types.intp(rule, p), emit


def _plain_rule_address(rule, p):
    return plain_code_address(rule, p.dtype)


if config.DISABLE_JIT:
    _emit_rule = _plain_rule_address


@njit(nogil=True)
def jit_sgd_address(p):
    return _emit_rule(_sgd, p)


@njit(nogil=True)
def jit_momentum_address(p):
    return _emit_rule(_momentum, p)


@njit(nogil=True)
def jit_nesterov_address(p):
    return _emit_rule(_nesterov, p)


@njit(nogil=True)
def jit_adagrad_address(p):
    return _emit_rule(_adagrad, p)


@njit(nogil=True)
def jit_rmsprop_address(p):
    return _emit_rule(_rmsprop, p)


@njit(nogil=True)
def jit_adam_address(p):
    return _emit_rule(_adam, p)


_ADDRESSES = (jit_sgd_address, jit_momentum_address, jit_nesterov_address, jit_adagrad_address,
    jit_rmsprop_address, jit_adam_address)  # fmt: skip


@lru_cache
def get_rule_address(rule: int, dtype: np.dtype[Any]) -> int:
    """Return the address of a rule for `update_block`, compiling the rule at first use."""
    address: int = _ADDRESSES[rule](np.empty(0, dtype))
    return address


@njit(nogil=True)
def _update_block(address, p, g, s0, s1, coefficients):
    mode = flush_denormals()
    call_address(address, address_of(p, 0), address_of(g, 0), address_of(s0, 0), address_of(s1, 0),
        p.size, address_of(coefficients, 0))  # fmt: skip
    restore_denormals(mode)


def _plain_update_block(address, p, g, s0, s1, coefficients):
    plain_code(address)[0](p, g, s0, s1, coefficients)


update_block = _plain_update_block if config.DISABLE_JIT else _update_block
"""Update one contiguous block of parameters and of the rule's states, on one thread.

`address` is from `get_rule_address`. The arrays are one-dimensional, contiguous and of one dtype,
except `coefficients`, which is float64. A state is as long as the parameters, or empty if the rule
does not use it.
"""

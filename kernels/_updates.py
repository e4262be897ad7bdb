"""In-place updates of parameters by a rule, in one pass over memory.

A rule updates one contiguous block of parameters. It is called by address: compiled when it is
first used, and only once for all of its callers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import config, prange, types
from numba.extending import intrinsic
from numpy.typing import ArrayLike

from kernels._addresses import address_of, matrix_at
from kernels._arrays import Array, jit_as_kernel_array
from kernels._compiler import inner, njit, register_jitable
from kernels._denormals import flush_denormals, restore_denormals
from kernels._function_pointers import call_address, emit_function
from kernels._in_place import check_in_place, jit_flat, jit_write_back, overlap
from kernels._plain_code import plain_code, plain_code_address
from kernels._threads import thread_count

BLOCK = 16_384  # elements that a thread updates at a time, for any number of threads

MIN_PARALLEL_UPDATE = 131_072
"""Number of elements below which one thread is faster."""


@inner
def descend(p, g, lr):
    """Return a parameter after a step of gradient descent."""
    return p - lr * g


def _by_addresses(rule):
    def update(like, like_float64, p, g, s0, s1, n, options, count, t):
        one = np.int64(1)
        rule(
            matrix_at(p, one, n, like)[0],
            matrix_at(g, one, n, like)[0],
            matrix_at(s0, one, n, like)[0],
            matrix_at(s1, one, n, like)[0],
            matrix_at(options, one, count, like_float64)[0],
            t,
        )

    return update


@intrinsic
def _emit_rule(context, rule, p):
    def emit(context, builder, signature, args):
        kinds, update = [p.dtype, types.float64], _by_addresses(rule.dispatcher)
        return emit_function(update, rule.dispatcher.__name__, context, builder, kinds, 8)

    return types.intp(rule, p), emit


def _plain_rule_address(rule, p):
    return plain_code_address(rule, p.dtype)


rule_address = _plain_rule_address if config.DISABLE_JIT else _emit_rule
"""Return the address of a rule for the dtype of an array, in compiled code.

``rule_address(rule, p)``. The rule is a function ``rule(p, g, s0, s1, options, t)`` decorated with
`kernels._compiler.inner`. It takes the parameters, their gradient, two states, the rule's options
as a float64 array, and the number of the update, from 1. An argument for a state that the rule does
not have may be any array.
"""


@lru_cache
def get_rule_address(function: Any, dtype: np.dtype[Any]) -> int:
    """Return the address of a rule for a dtype; `function` is one of `kernels.optimizers.RULES`."""
    address: int = function(np.empty(0, dtype))
    return address


@inner
def _update_block(address, p, g, s0, s1, options, t):
    mode = flush_denormals()
    call_address(address, address_of(p, 0), address_of(g, 0), address_of(s0, 0), address_of(s1, 0),
        p.size, address_of(options, 0), options.size, t)  # fmt: skip
    restore_denormals(mode)


def _plain_update_block(address, p, g, s0, s1, options, t):
    plain_code(address)[0](p, g, s0, s1, options, t)


update_block = _plain_update_block if config.DISABLE_JIT else _update_block
"""Update one contiguous block of parameters and of the rule's states, on one thread.

`address` is that of a rule. The arrays are one-dimensional, contiguous and of one dtype, except
`options`, which is float64. `t` counts the updates from 1.
"""


def update_arrays(function: Any, t: int, options: Array, g: ArrayLike, **arrays: Array) -> None:
    """Check parameters and optimizer states, and update them in place.

    `function` is as for `get_rule_address`, `t` and `options` as for the rule: a contiguous float64
    array, which is not checked. The names of `arrays` appear in error messages.
    """
    g, ready = check_in_place(g, **arrays)
    update_ready(function, t, options, g, ready)
    for a, result in zip(arrays.values(), ready, strict=True):
        if result is not a:
            a[...] = result


def update_ready(function: Any, t: int, options: Array, g: Array, arrays: list[Array]) -> None:
    """Update arrays returned by `check_in_place`."""
    flat = [a.reshape(-1) for a in arrays]
    none = flat[0][:0]
    p, s0, s1, *_ = (*flat, none, none)
    if not _run(get_rule_address(function, p.dtype), p, g.reshape(-1), s0, s1, options, t):
        raise ValueError("expected separate arrays, got parameters and states that overlap")


@njit(nogil=True)
def _run(address, p, g, s0, s1, options, t):
    """Update flat arrays; return False and change nothing if parameters or states overlap."""
    if overlap(p, s0) or overlap(p, s1) or overlap(s0, s1):
        return False
    if overlap(g, p) or overlap(g, s0) or overlap(g, s1):
        g = g.copy()
    if p.size < MIN_PARALLEL_UPDATE or thread_count() == 1:
        update_block(address, p, g, s0, s1, options, t)
    else:
        _update_blocks(address, p, g, s0, s1, options, t)
    return True


@inner(parallel=True)
def _update_blocks(address, p, g, s0, s1, options, t):
    for k in prange((p.size + BLOCK - 1) // BLOCK):
        a, b = np.int64(k) * BLOCK, (np.int64(k) + 1) * BLOCK
        update_block(address, p[a:b], g[a:b], s0[a:b], s1[a:b], options, t)


@register_jitable
def jit_update(address, t, options, g, p, s0=None, s1=None):
    """Update arrays by the rule at an address, in compiled code."""
    if g.shape != p.shape:
        raise ValueError("expected equal shapes, got p and g of different shapes")
    if t < 1:
        raise ValueError("t: expected an integer from 1, got a smaller number")
    a, b, c = jit_flat(p, p), jit_flat(s0, p), jit_flat(s1, p)
    d = jit_as_kernel_array(g, p).reshape(-1)
    if not _run(address, a, d, b, c, np.array(options, np.float64), np.int64(t)):
        raise ValueError("expected separate arrays, got parameters and states that overlap")
    jit_write_back(p, a)
    jit_write_back(s0, b)
    jit_write_back(s1, c)

"""Outputs and losses of a batch from its logits, by functions that are called by address.

Each function is compiled once for all its callers, and only if it is used.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import config, types
from numba.extending import intrinsic

from kernels._addresses import address_of, matrix_at
from kernels._compiler import inner, njit
from kernels._function_pointers import call_address, emit_function
from kernels._plain_code import plain_code, plain_code_address
from kernels.sigmoid import cross_entropy_part
from kernels.softmax import softmax_part


def _by_addresses(part):
    def compute(like, like_int64, like_float64, x, y, targets, labels, losses, n, t_rows, count, c):
        one = np.int64(1)
        part(
            matrix_at(x, n, c, like),
            matrix_at(y, n, c, like),
            matrix_at(targets, t_rows, c, like),
            matrix_at(labels, one, count, like_int64)[0],
            matrix_at(losses, one, n, like_float64)[0],
        )

    return compute


@intrinsic
def _emit_losses(context, part, y):
    def emit(context, builder, signature, args):
        kinds, compute = [y.dtype, types.int64, types.float64], _by_addresses(part.dispatcher)
        return emit_function(compute, part.dispatcher.__name__, context, builder, kinds, 9)

    return types.intp(part, y), emit


def _plain_losses_address(part, y):
    return plain_code_address(part, y.dtype)


if config.DISABLE_JIT:
    _emit_losses = _plain_losses_address


@njit(nogil=True)
def _softmax_address(y):
    return _emit_losses(softmax_part, y)


@njit(nogil=True)
def _logistic_address(y):
    return _emit_losses(cross_entropy_part, y)


@lru_cache
def get_losses_address(dtype: np.dtype[Any], logistic: bool = False) -> int:
    """Return the address, for `fill_losses`, of softmax or of independent sigmoids."""
    address: int = (_logistic_address if logistic else _softmax_address)(np.empty(0, dtype))
    return address


@inner
def _fill_losses(address, x, y, targets, labels, losses):
    call_address(address, address_of(x, 0), address_of(y, 0), address_of(targets, 0),
        address_of(labels, 0), address_of(losses, 0), x.shape[0], targets.shape[0], labels.size,
        x.shape[1])  # fmt: skip


def _plain_fill_losses(address, x, y, targets, labels, losses):
    plain_code(address)[0](x, y, targets, labels, losses)


fill_losses = _plain_fill_losses if config.DISABLE_JIT else _fill_losses
"""Compute the outputs `y` and the losses of examples from their logits `x`.

`address` is from `get_losses_address`. Either `targets`, shape (n, C), or `labels`, shape (n,), is
empty. All arrays are contiguous, and `losses` is float64.
"""

"""``kernels._function_pointers``: borrowed arrays, and chunks that receive them."""

import sys

import numpy as np
import pytest
from numba import config

from kernels._compiler import inner, njit
from kernels._function_pointers import borrow, get_function_address, keep


@njit
def sum_of_borrowed(n, rounds):
    """Borrow newly allocated memory, and allocate again to reuse memory that is freed too early."""
    memory = np.full(n, 1.0), np.full(n, 2.0)
    a, b = borrow(memory)
    result = 0.0
    for i in range(rounds):
        other = np.full(n, -1.0)
        result += a[i:].sum() + b[: n - i].sum() + other[0] + 1
    keep(memory)
    return result


def test_borrowed_memory_is_kept():
    assert sum_of_borrowed(1000, 100) == sum(3.0 * (1000 - i) for i in range(100))


@njit
def first_of_borrowed(x):
    return borrow(x)[1:][0]


def test_a_callers_array_is_as_it_was():
    x = np.arange(3.0)
    first_of_borrowed(x)
    count = sys.getrefcount(x)
    assert [first_of_borrowed(x) for _ in range(100)] == [1.0] * 100
    assert sys.getrefcount(x) == count


@pytest.mark.skipif(config.DISABLE_JIT, reason="needs compiled functions")
def test_a_function_without_machine_code_has_no_address():
    @inner
    def nothing(args, start, stop):
        pass

    with pytest.raises(TypeError, match=r"expected .*by_address.*, got"):
        get_function_address(nothing, (np.zeros(1),))

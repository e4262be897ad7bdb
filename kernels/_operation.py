"""Make the parallel driver of an elementwise operation from its serial loop.

A driver is one of the templates below with the loop put in by its name. It is no closure: Numba
identifies cached code by a function's file, name and line, bytecode and captured values. Closures
that one factory makes share the first three, and a captured kernel is pickled with an id that
differs in every process, so that its cached code would never be found. Each driver here is a
function of its own instead, with its operation's file and a name that no other function has.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numba import prange

from kernels._cache import njit
from kernels._threads import MIN_PARALLEL_SIZE, chunk_bounds, thread_count


def parallel(loop: Callable[..., None], cost: int = 1) -> Any:
    """Return a function that runs a loop over flat arrays on all threads.

    The arrays are cut into one chunk for each thread, so the loop must treat every element alike.

    Parameters
    ----------
    loop : callable
        Compiled by `kernels._cache.njit`, takes two or three flat arrays of one size, inputs and
        outputs, and returns nothing.
    cost : int, default 1
        How many times as long as a copy an element takes: the arrays from which threads pay are
        smaller by this factor.

    Returns
    -------
    callable
        Compiled, with the parameters of `loop`.
    """
    python_loop: Any = getattr(loop, "py_func", loop)  # the same where compilation is off
    code = python_loop.__code__
    template: Any = {2: _on_two, 3: _on_three}[code.co_argcount]
    name = f"{python_loop.__qualname__}.parallel_{cost}"  # all that makes a difference
    own = template.__code__.replace(
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        co_name=name.rpartition(".")[2],
        co_qualname=name,
    )
    names = {
        **template.__globals__,
        "__name__": python_loop.__module__,
        "loop": loop,
        "least": np.int64(MIN_PARALLEL_SIZE // cost),
    }
    driver = FunctionType(own, names, name)
    driver.__qualname__ = name
    return njit(driver, parallel=True, nogil=True)


def loop(*arrays):
    """What `parallel` puts in place of this name in the templates."""
    raise AssertionError


least = np.int64(0)  # put in by `parallel`, too


def _on_two(x, y):
    n, count = x.size, thread_count() if x.size >= least else 1
    if count == 1:
        loop(x, y)
    else:
        for p in prange(count):
            a, b = chunk_bounds(n, p, count)
            loop(x[a:b], y[a:b])


def _on_three(x, y, z):
    n, count = x.size, thread_count() if x.size >= least else 1
    if count == 1:
        loop(x, y, z)
    else:
        for p in prange(count):
            a, b = chunk_bounds(n, p, count)
            loop(x[a:b], y[a:b], z[a:b])

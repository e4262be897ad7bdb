"""Parallel drivers of elementwise operations, made from their serial loops.

A driver is a copy of one of the templates below in which the global name ``loop`` is the serial
loop. A closure cannot be used. Numba identifies cached code by the file, name and line, bytecode
and captured values of a function. Closures from one factory share the first three, and a captured
kernel is pickled with an id that differs in every process, so that cached code would never be
found. Each driver is therefore a separate function, with the file of its operation and a unique
name.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numba import prange

from kernels._compiler import njit
from kernels._threads import MIN_PARALLEL_SIZE, chunk_bounds, thread_count


def parallel(loop: Callable[..., None], cost: int = 1) -> Any:
    """Return a function that runs a loop over flat arrays on all threads.

    The arrays are split into one chunk per thread. The loop must be elementwise, so that the result
    does not depend on the chunks.

    Parameters
    ----------
    loop : callable
        Function compiled by `kernels._compiler.njit` that takes two or three flat arrays of equal
        size, inputs and outputs, and returns None.
    cost : int, default 1
        Time per element, relative to a copy. The minimum size for several threads is
        `MIN_PARALLEL_SIZE` divided by this factor.

    Returns
    -------
    callable
        Compiled function with the parameters of `loop`.
    """
    python_loop: Any = getattr(loop, "py_func", loop)  # `loop` itself if compilation is disabled
    code = python_loop.__code__
    template: Any = {2: _on_two, 3: _on_three}[code.co_argcount]
    name = f"{python_loop.__qualname__}.parallel_{cost}"  # everything that distinguishes drivers
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
    """Stand for the serial loop in the templates; `parallel` replaces this global name."""
    raise AssertionError


least = np.int64(0)  # the smallest size for several threads; replaced by `parallel`


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

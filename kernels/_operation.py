"""Parallel drivers of elementwise operations, made from their serial loops.

A driver is a copy of one of the templates below in which the global names stand for one serial
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

from kernels._compiler import inner, njit
from kernels._function_pointers import get_function_address, jit_run_chunks
from kernels._threads import MIN_PARALLEL_SIZE, thread_count


def parallel(loop: Callable[..., None], cost: int = 1) -> Any:
    """Return a function that runs a loop over flat arrays on all threads.

    The arrays are split into one chunk per thread. The loop must be elementwise, so that the result
    does not depend on the chunks.

    Parameters
    ----------
    loop : callable
        Function decorated with `kernels._compiler.inner` that takes two or three flat arrays of
        equal size, inputs and outputs, and returns None.
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
    on_chunk, on_arrays = _TEMPLATES[code.co_argcount]
    name = f"{python_loop.__qualname__}.parallel_{cost}"  # everything that distinguishes drivers
    own = on_arrays.__code__.replace(
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        co_name=name.rpartition(".")[2],
        co_qualname=name,
    )
    names = {
        **globals(),
        "__name__": python_loop.__module__,
        "loop": loop,
        "least": np.int64(MIN_PARALLEL_SIZE // cost),
    }
    names["chunk"] = inner(FunctionType(on_chunk.__code__, names))
    driver = FunctionType(own, names, name)
    driver.__qualname__ = name
    return njit(driver, nogil=True)


def loop(*arrays):
    """Stand for the serial loop in the templates; `parallel` replaces this global name."""
    raise AssertionError


chunk = loop  # replaced by `parallel`, too
least = np.int64(0)  # the smallest size for several threads; replaced by `parallel`


def _chunk_of_two(arrays, a, b):
    x, y = arrays
    loop(x[a:b], y[a:b])


def _chunk_of_three(arrays, a, b):
    x, y, z = arrays
    loop(x[a:b], y[a:b], z[a:b])


def _on_two(x, y):
    n, count = x.size, thread_count() if x.size >= least else 1
    address = get_function_address(chunk, (x, y))
    jit_run_chunks(address, (x, y), n, max(1, (n + count - 1) // count), count > 1)


def _on_three(x, y, z):
    n, count = x.size, thread_count() if x.size >= least else 1
    address = get_function_address(chunk, (x, y, z))
    jit_run_chunks(address, (x, y, z), n, max(1, (n + count - 1) // count), count > 1)


_TEMPLATES: dict[int, tuple[Any, Any]] = {
    2: (_chunk_of_two, _on_two),
    3: (_chunk_of_three, _on_three),
}

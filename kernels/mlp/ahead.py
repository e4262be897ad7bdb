"""Compilation of the training kernels in two processes.

Numba compiles on one thread. The loop of :mod:`kernels.mlp._iterations` takes about half of the
compile time, and calls all other kernels by address. So a second process compiles the loop into the
cache on disk while this process compiles the other kernels.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numba
import numpy as np

from kernels._arrays import FLOAT64, INT64, UINT8, Array
from kernels._cache import has_to_compile
from kernels._gemm import SKIP_ROWS, get_product_addresses
from kernels._threads import Team
from kernels._updates import get_rule_address
from kernels.mlp._iterations import Workspace, train_iterations
from kernels.mlp._losses import get_losses_address
from kernels.mlp._pass import count_correct
from kernels.mlp.encoding import encode, has_many_zeros
from kernels.mlp.trainer import MLPTrainer
from kernels.optimizers import RULES


def compile_training(
    dtype: np.dtype[Any], rule: str, data: Array, units: int, encodes: bool
) -> None:
    """Compile the kernels that train a network with softmax, or load them from the cache.

    With two threads or more, a second process compiles the training loop, unless the loop is in the
    cache. If the second process fails, the first training compiles the loop.

    Parameters
    ----------
    dtype : dtype
        Dtype of the parameters.
    rule : str
        Optimizer, a key of `kernels.optimizers.RULES`.
    data : ndarray, shape (N, D)
        Examples like those of the training set.
    units : int
        Number of outputs of the first layer.
    encodes : bool
        Whether the training set will be encoded; see `encode`.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels.mlp.ahead import compile_training
    >>> data = np.zeros((1, 784), np.float32)
    >>> compile_training(np.dtype(np.float32), "sgd", data, 50, encodes=False)
    """
    code = f"from kernels.mlp import ahead; ahead.compile_loop(ahead.np.dtype('{dtype}'))"
    with another_process(code, train_iterations, loop_types(dtype)), Team(1) as team:
        skips = has_many_zeros(data, dtype, units)
        examples = (encode(data, team) if encodes and skips else None) or data
        W, b = np.zeros((data.shape[1], units), dtype), np.zeros(units, dtype)
        trainer = MLPTrainer([W], [b], [], 1, examples, team, rule, [], [])
        if trainer.sparse:
            get_product_addresses(trainer.data.dtype, dtype, SKIP_ROWS)  # for evaluation
        count_correct.compile(evaluation_types(dtype))
        get_losses_address(dtype)
        get_rule_address(RULES[rule], dtype)


def loop_types(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the Numba types of the arguments of `train_iterations`."""
    vector, matrix, cube = (np.empty((0,) * ndim, dtype) for ndim in (1, 2, 3))
    f1, f2 = (np.empty((0,) * ndim, FLOAT64) for ndim in (1, 2))
    i1, i2 = (np.empty((0,) * ndim, INT64) for ndim in (1, 2))
    u2, one = np.empty((0, 0), UINT8), np.int64(1)
    words, bounds = np.empty((0, 0), np.uint64), np.empty(0, INT64)
    work = Workspace(matrix, bounds, words, words, u2, cube, matrix, f1, matrix, f1, i1)
    arguments = (
        *(i2, vector, work, u2, i2, i2, cube, f2, one, np.True_, np.True_),
        *(one, f1, one, f1, f2, f1, one, one, i1),
    )
    return tuple(map(numba.typeof, arguments))


def evaluation_types(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the Numba types of the arguments of `count_correct`."""
    i1, i2, one = np.empty(0, INT64), np.empty((0, 0), INT64), np.int64(1)
    f2, u2, outputs = (np.empty((0, 0), kind) for kind in (FLOAT64, UINT8, dtype))
    arguments = (i2, np.empty(0, dtype), u2, one, i1, f2, outputs, one, one, i1)
    return tuple(map(numba.typeof, arguments))


def compile_loop(dtype: np.dtype[Any]) -> None:
    """Compile the training loop into the cache on disk."""
    train_iterations.compile(loop_types(dtype))


@contextmanager
def another_process(code: str, kernel: Any, types: tuple[Any, ...]) -> Iterator[None]:
    """Run code that compiles kernels in another process, while the block runs in this process.

    The process is started only if Numba may use several threads and `kernel` has to be compiled.

    Parameters
    ----------
    code : str
        Python code that the other process runs.
    kernel : dispatcher
        A kernel that one of the two processes compiles. If the cache on disk holds `kernel`, the
        other kernels are taken to be there too.
    types : tuple
        Numba types of the arguments of `kernel`.
    """
    process, helps = None, bool(sys.executable) and numba.get_num_threads() > 1
    if helps and has_to_compile(kernel, types):
        with suppress(OSError):  # the system may refuse to start a process
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    try:
        yield
        if process is not None:
            process.wait()
    finally:
        if process is not None:
            process.kill()
            process.wait()

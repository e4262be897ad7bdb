"""The kernels' operations in NumPy, PyTorch and JAX, in the quickest form that each has.

The others' elementwise operations are their own: PyTorch's ReLU makes no mask, its cross-entropy
gives no probabilities.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np

import kernels
from benchmarks import _peers

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]

PASSES = ["affine_forward", "affine_backward"]
HIDDEN = [(100, 50), (10000, 50), (1000, 1000)]
LOGITS = [(100, 10), (10000, 10), (100000, 10)]
ELEMENTWISE = {
    "relu_forward": HIDDEN,
    "relu_backward": HIDDEN,
    "sigmoid_forward": HIDDEN,
    "sigmoid_backward": HIDDEN,
    "softmax_cross_entropy_forward": LOGITS,
    "softmax_cross_entropy_backward": LOGITS,
}


@dataclass(frozen=True)
class Library:
    """One contestant.

    Attributes
    ----------
    name : str
    convert : callable
        Makes its own kind of array of NumPy's.
    limit : callable
        A context in which it uses that many threads.
    operations : dict of str to callable
        By the kernel's name, a function that takes the kernel's arguments and returns what is to be
        timed: no more than the call, in the quickest form that the library has.
    one_thread : frozenset of str
        Operations that it always does on one thread.
    all_threads : bool
        Whether it always uses all threads.
    """

    name: str
    convert: Callable[[Array], Any]
    limit: Callable[[int], AbstractContextManager[Any]]
    operations: dict[str, Callable[..., Call]]
    one_thread: frozenset[str] = frozenset()
    all_threads: bool = False

    def settings(self, operation: str, threads: Sequence[int]) -> Sequence[int]:
        """Return which numbers of threads there are to measure."""
        if operation not in self.operations:
            return []
        if self.all_threads:
            return [n for n in threads if n == all_threads()]
        return [n for n in threads if n == 1] if operation in self.one_thread else threads


def all_threads() -> int:
    """Return how many threads there are to use."""
    return int(numba.config.NUMBA_NUM_THREADS)


def _ours() -> Library:
    @contextmanager
    def limit(threads: int) -> Iterator[None]:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        yield
        numba.set_num_threads(before)

    return Library(
        "ours",
        lambda a: a,
        limit,
        {name: partial(partial, getattr(kernels, name)) for name in [*PASSES, *ELEMENTWISE]},
    )


def _numpy() -> Library:
    limitable = bool(_peers.installed(["threadpoolctl"]))
    if limitable:
        from threadpoolctl import ThreadpoolController

        controller = ThreadpoolController()

    def limit(threads: int) -> AbstractContextManager[Any]:
        return controller.limit(limits=threads, user_api="blas") if limitable else nullcontext()

    def cross_entropy(x: Array, t: Array) -> Call:
        rows = np.arange(len(x))

        def call() -> tuple[Any, Array]:
            shifted = x - x.max(axis=1, keepdims=True)
            y = np.exp(shifted)
            total = y.sum(axis=1, keepdims=True)
            y /= total
            return (np.log(total).sum() - shifted[rows, t].sum()) / len(x), y

        return call

    def cross_entropy_gradient(y: Array, t: Array) -> Call:
        rows = np.arange(len(y))

        def call() -> Array:
            dx = y.copy()
            dx[rows, t] -= 1
            dx /= len(y)
            return dx

        return call

    operations: dict[str, Callable[..., Call]] = {
        "affine_forward": lambda x, W, b: lambda: x @ W + b,
        "affine_backward": lambda dout, x, W: lambda: (dout @ W.T, x.T @ dout, dout.sum(0)),
        "relu_forward": lambda x: lambda: (np.maximum(x, 0), x <= 0),
        "relu_backward": lambda dout, mask: lambda: np.multiply(dout, ~mask),
        "sigmoid_forward": lambda x: lambda: 1 / (1 + np.exp(-x)),
        "sigmoid_backward": lambda dout, out: lambda: dout * (1 - out) * out,
        "softmax_cross_entropy_forward": cross_entropy,
        "softmax_cross_entropy_backward": cross_entropy_gradient,
    }
    return Library(
        "numpy",
        lambda a: a,
        limit,
        operations,
        one_thread=frozenset(ELEMENTWISE),
        all_threads=not limitable,
    )


def _torch() -> Library:
    import torch

    aten = torch.ops.aten

    @contextmanager
    def limit(threads: int) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.inference_mode():
            yield
        torch.set_num_threads(before)

    def cross_entropy_gradient(y: Any, t: Any) -> Call:
        # What its autograd calls. It keeps the logarithm of the probabilities.
        log_y, one, count = y.log(), y.new_ones(()), y.new_full((), len(y))

        def call() -> Any:
            upper = aten.nll_loss_backward(one, log_y, t, None, 1, -100, count)
            return aten._log_softmax_backward_data(upper, log_y, 1, log_y.dtype)

        return call

    operations: dict[str, Callable[..., Call]] = {
        "affine_forward": lambda x, W, b: partial(torch.addmm, b, x, W),
        "affine_backward": lambda dout, x, W: (
            lambda: (torch.mm(dout, W.T), torch.mm(x.T, dout), dout.sum(0))
        ),
        "relu_forward": lambda x: partial(torch.relu, x),
        # Its mask is the output.
        "relu_backward": lambda dout, mask: partial(
            aten.threshold_backward, dout, (~mask).to(dout.dtype), 0
        ),
        "sigmoid_forward": lambda x: partial(torch.sigmoid, x),
        "sigmoid_backward": lambda dout, out: partial(aten.sigmoid_backward, dout, out),
        "softmax_cross_entropy_forward": lambda x, t: partial(
            torch.nn.functional.cross_entropy, x, t
        ),
        "softmax_cross_entropy_backward": cross_entropy_gradient,
    }
    return Library("torch", torch.from_numpy, limit, operations)


def _jax() -> Library:
    import jax

    jax.config.update("jax_enable_x64", True)

    @jax.jit
    def forward(x: Any, W: Any, b: Any) -> Any:
        return x @ W + b

    @jax.jit
    def backward(dout: Any, x: Any, W: Any) -> Any:
        return dout @ W.T, x.T @ dout, dout.sum(0)

    def waiting(function: Callable[..., Any]) -> Callable[..., Call]:
        return lambda *arrays: lambda: jax.block_until_ready(function(*arrays))

    operations = {"affine_forward": waiting(forward), "affine_backward": waiting(backward)}
    return Library(
        "jax", jax.numpy.asarray, lambda threads: nullcontext(), operations, all_threads=True
    )


MAKERS = {"ours": _ours, "numpy": _numpy, "torch": _torch, "jax": _jax}
"""What makes each library, by what one imports."""


def libraries() -> list[Library]:
    """Return ours and those that are installed."""
    found = [MAKERS[name]() for name in _peers.installed(["torch", "jax"])]
    return [_ours(), _numpy(), *found]  # NumPy's looks at the thread pools that are there


def arguments(operation: str, shape: tuple[int, ...], dtype: str) -> list[Array]:
    """Return random arguments for a kernel.

    Parameters
    ----------
    operation : str
    shape : tuple of int
        ``(N, D, M)`` of an affine layer, or the array's.
    dtype : {"float32", "float64"}

    Returns
    -------
    list of ndarray
    """
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Array:
        return rng.random(shape, np.dtype(dtype)) - np.dtype(dtype).type(0.5)

    if operation in PASSES:
        n, d, m = shape
        if operation == "affine_forward":
            return [random(n, d), random(d, m), random(m)]
        return [random(n, m), random(n, d), random(d, m)]
    x = random(*shape)
    if operation == "relu_backward":
        return [random(*shape), x <= 0]
    if operation == "sigmoid_backward":
        return [random(*shape), x + x.dtype.type(0.5)]
    if operation.startswith("softmax"):
        t = rng.integers(0, shape[1], shape[0])
        return [kernels.softmax(x), t] if operation.endswith("backward") else [x, t]
    return [x]

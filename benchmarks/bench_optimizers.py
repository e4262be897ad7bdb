"""Updates of parameters, and Adam beside NumPy and PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import kernels
from benchmarks.bench_base import DTYPES, HIDDEN, PIXELS, THREADS, Timed, normal, set_threads
from benchmarks.bench_peers import BesidePeers

FIRST_LAYER = PIXELS * HIDDEN
CONVOLUTIONAL = 437_610
"""Parameters of the course's SimpleConvNet."""

STATES: dict[str, tuple[int, dict[str, float]]] = {
    "sgd": (0, {"lr": 1e-6}),
    "momentum": (1, {"lr": 1e-6, "momentum": 0.9}),
    "nesterov": (1, {"lr": 1e-6, "momentum": 0.9}),
    "adagrad": (1, {"lr": 1e-6}),
    "rmsprop": (1, {"lr": 1e-6, "decay_rate": 0.99}),
    "adam": (2, {"t": 1, "lr": 1e-6, "beta1": 0.9, "beta2": 0.999}),
}
"""The number of states of each rule, and its options."""


def arrays(size: int, states: int, dtype: str) -> list[np.ndarray]:
    """Return parameters, a gradient and states, which the updates change."""
    changed = [np.zeros(size, dtype) for _ in range(states)]
    return [normal(size, dtype=dtype).copy(), normal(size, dtype=dtype), *changed]


class Update(Timed):
    """One update of all parameters."""

    params = (list(STATES), [FIRST_LAYER, CONVOLUTIONAL], DTYPES, THREADS)
    param_names = ("rule", "size", "dtype", "threads")

    def make(self, rule: str, size: int, dtype: str, threads: str) -> Callable[[], Any]:
        set_threads(threads)
        states, options = STATES[rule]
        update = getattr(kernels, f"{rule}_update")
        return partial(update, *arrays(size, states, dtype), **options)


def numpy_adam(dtype: str) -> Callable[[], Any]:
    """Return an update by the course's formulas."""
    p, g, m, v = arrays(CONVOLUTIONAL, 2, dtype)

    def update() -> None:
        nonlocal m, v
        m += (1 - 0.9) * (g - m)
        v += (1 - 0.999) * (g**2 - v)
        p[...] -= 1e-6 * m / (np.sqrt(v) + 1e-7)

    return update


def torch_adam(dtype: str) -> Callable[[], Any]:
    """Return PyTorch's fused update."""
    import torch

    p, g, *_ = map(torch.from_numpy, arrays(CONVOLUTIONAL, 0, dtype))
    parameter = torch.nn.Parameter(p)
    parameter.grad = g
    update: Callable[[], Any] = torch.optim.Adam([parameter], lr=1e-6, fused=True).step
    return update


class Adam(BesidePeers):
    """Adam of the course's convolutional network in each library."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        if library == "ours":
            states, options = STATES["adam"]
            changed = arrays(CONVOLUTIONAL, states, dtype)
            return partial(kernels.adam_update, *changed, **options)
        if library == "jax":
            raise NotImplementedError("JAX has no update in place")
        return {"numpy": numpy_adam, "torch": torch_adam}[library](dtype)

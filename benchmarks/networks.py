"""Training of other networks and optimizers than the lecture's, beside PyTorch, JAX and NumPy.

``python -m benchmarks.networks`` times iterations of batch, gradient, update and second loss, on
MNIST in float32, and prints microseconds an iteration and how many times as long each peer takes.
All are timed in turn in one process; PyTorch on its best number of threads. Libraries that are not
installed are left out.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks import _peers


class Case(NamedTuple):
    """A network, its optimizer and its data."""

    name: str
    hidden: tuple[int, ...] = (50,)
    activation: str = "relu"
    optimizer: str = "SGD"
    batch: int = 100
    dense: bool = False


CASES = (
    Case("lecture's network"),
    Case("sigmoid", activation="sigmoid"),
    Case("Momentum", optimizer="Momentum"),
    Case("Adam", optimizer="Adam"),
    Case("784-100-100-10", hidden=(100, 100)),
    Case("784-100-100-10, Adam", hidden=(100, 100), optimizer="Adam"),
    Case("512 hidden units", hidden=(512,)),
    Case("batch 1", batch=1),
    Case("batch 1000", batch=1000),
    Case("data without zeros", dense=True),
)
RATES = {"SGD": 0.1, "Momentum": 0.01, "Adam": 0.001}
Run = Callable[[int], None]


def weights(case: Case) -> list[Any]:
    """Return ``W1 b1 W2 b2 ...`` to begin with."""
    rng = np.random.default_rng(0)
    sizes = (784, *case.hidden, 10)
    arrays = []
    for n, m in pairwise(sizes):
        W = rng.standard_normal((n, m)) * np.sqrt(2 / n)
        arrays += [W.astype(np.float32), np.zeros(m, np.float32)]
    return arrays


def ours(case: Case, x: Any, t: Any) -> Run:
    """Train by the iterations of `net.train`, without what it does before the first."""
    import net
    from kernels._threads import Team
    from net.distributed import SingleProcess
    from net.training_run import TrainingRun

    kind = "relu" if case.activation == "relu" else "sigmoid"
    network = net.MultiLayerNet(784, case.hidden, 10, kind, dtype="float32", rng=0)
    network.params = dict(zip(network.params, weights(case), strict=True))
    optimizer = getattr(net, case.optimizer)(lr=RATES[case.optimizer])
    rng = np.random.default_rng(1)
    training = TrainingRun(network, [(x, t)], optimizer, case.batch, rng, SingleProcess())
    training.begin()
    training.start(Team())
    return lambda count: training.advance(training.done + count)


def by_numpy(case: Case, x: Any, t: Any) -> Run:
    """Train by the layers' formulas in NumPy."""
    params, rng = weights(case), np.random.default_rng(1)
    states = [[np.zeros_like(p) for p in params] for _ in range(2)]
    done = 0

    def forward(x: Any) -> list[Any]:
        outs = [x]
        for i in range(0, len(params), 2):
            out = outs[-1] @ params[i] + params[i + 1]
            if i + 2 < len(params):
                out = np.maximum(out, 0) if case.activation == "relu" else 1 / (1 + np.exp(-out))
            outs.append(out)
        return outs

    def softmax(z: Any) -> Any:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def update(i: int, p: Any, g: Any) -> None:
        rate, (a, b) = RATES[case.optimizer], (states[0][i], states[1][i])
        if case.optimizer == "SGD":
            p -= rate * g
        elif case.optimizer == "Momentum":
            a[...] = 0.9 * a - rate * g
            p += a
        else:
            a += 0.1 * (g - a)
            b += 0.001 * (g * g - b)
            p -= rate * np.sqrt(1 - 0.999**done) / (1 - 0.9**done) * a / (np.sqrt(b) + 1e-7)

    def run(count: int) -> None:
        nonlocal done
        for _ in range(count):
            done += 1
            rows = rng.choice(len(x), case.batch)
            xb, tb = x[rows], t[rows]
            outs = forward(xb)
            d = softmax(outs[-1])
            d[np.arange(case.batch), tb] -= 1
            d /= np.float32(case.batch)
            for i in range(len(params) - 2, -1, -2):
                a = outs[i // 2]
                gW, gb = a.T @ d, d.sum(axis=0)
                if i:
                    d = d @ params[i].T
                    d = d * (a > 0) if case.activation == "relu" else d * a * (1 - a)
                update(i, params[i], gW)
                update(i + 1, params[i + 1], gb)
            y = softmax(forward(xb)[-1])
            -np.log(y[np.arange(case.batch), tb]).mean()

    return run


def by_torch(threads: int) -> Callable[[Case, Any, Any], Run]:
    """Train by PyTorch, eager, on so many threads."""

    def make(case: Case, x: Any, t: Any) -> Run:
        import torch

        parts: list[Any] = []
        for i, (W, b) in enumerate(zip(*[iter(weights(case))] * 2, strict=True)):
            if i:
                parts.append(torch.nn.ReLU() if case.activation == "relu" else torch.nn.Sigmoid())
            linear = torch.nn.Linear(*W.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(W.T.copy()))
                linear.bias.copy_(torch.from_numpy(b))
            parts.append(linear)
        network = torch.nn.Sequential(*parts)
        rate = RATES[case.optimizer]
        if case.optimizer == "Adam":
            optimizer: Any = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
        else:
            momentum = 0.9 if case.optimizer == "Momentum" else 0.0
            optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum)
        data, labels = torch.from_numpy(x), torch.from_numpy(t.astype(np.int64))
        cross_entropy = torch.nn.functional.cross_entropy

        def run(count: int) -> None:
            torch.set_num_threads(threads)
            for _ in range(count):
                rows = torch.randint(len(data), (case.batch,))
                xb, tb = data[rows], labels[rows]
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(network(xb), tb).backward()
                optimizer.step()
                with torch.no_grad():
                    cross_entropy(network(xb), tb).item()

        return run

    return make


def by_jax(case: Case, x: Any, t: Any) -> Run:
    """Train by JAX, 100 iterations a compiled scan."""
    import jax
    import jax.numpy as jnp

    data, labels = jnp.asarray(x), jnp.asarray(t.astype(np.int32))
    rate = RATES[case.optimizer]

    def loss(params: Any, xb: Any, tb: Any) -> Any:
        out = xb
        for i in range(0, len(params), 2):
            out = out @ params[i] + params[i + 1]
            if i + 2 < len(params):
                out = jnp.maximum(out, 0) if case.activation == "relu" else jax.nn.sigmoid(out)
        return -jnp.take_along_axis(jax.nn.log_softmax(out), tb[:, None], 1).mean()

    def step(carry: Any, key: Any) -> Any:
        params, first, second, i = carry
        rows = jax.random.randint(key, (case.batch,), 0, len(data))
        xb, tb = data[rows], labels[rows]
        grads = jax.grad(loss)(params, xb, tb)
        i = i + 1
        if case.optimizer == "SGD":
            params = [p - rate * g for p, g in zip(params, grads, strict=True)]
        elif case.optimizer == "Momentum":
            first = [0.9 * v - rate * g for v, g in zip(first, grads, strict=True)]
            params = [p + v for p, v in zip(params, first, strict=True)]
        else:
            first = [m + 0.1 * (g - m) for m, g in zip(first, grads, strict=True)]
            second = [v + 0.001 * (g * g - v) for v, g in zip(second, grads, strict=True)]
            scale = rate * jnp.sqrt(1 - 0.999**i) / (1 - 0.9**i)
            params = [
                p - scale * m / (jnp.sqrt(v) + 1e-7)
                for p, m, v in zip(params, first, second, strict=True)
            ]
        return (params, first, second, i), loss(params, xb, tb)

    scan = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))
    params = [jnp.asarray(p) for p in weights(case)]
    zeros = [jnp.zeros_like(p) for p in params]
    state: Any = (params, zeros, zeros, jnp.zeros(()))
    key = jax.random.PRNGKey(0)

    def run(count: int) -> None:
        nonlocal state, key
        for _ in range(max(1, count // 100)):
            key, own = jax.random.split(key)
            state, losses = scan(state, jax.random.split(own, 100))
        np.asarray(losses)

    return run


def makers() -> dict[str, Callable[[Case, Any, Any], Run]]:
    """Return who is timed: this project first, then peers that are installed."""
    found: dict[str, Callable[[Case, Any, Any], Run]] = {"njitnet": ours, "numpy": by_numpy}
    if find_spec("torch"):
        found |= {"torch": by_torch(1), "torch, 2 threads": by_torch(2)}
    if find_spec("jax"):
        found["jax"] = by_jax
    return found


def main() -> None:
    """Print a row for each case."""
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from net import load_mnist

    (images, t), _ = load_mnist()
    noise = np.random.default_rng(0).random(images.shape, np.float32) + np.float32(0.01)
    rows = []
    for case in CASES:
        x = noise if case.dense else images
        runs = {name: make(case, x, t) for name, make in makers().items()}
        count = 100 if case.batch >= 1000 or case.hidden == (512,) else 300
        best = dict.fromkeys(runs, float("inf"))
        for run in runs.values():
            run(count)
        for _ in range(options.rounds):
            for name, run in runs.items():
                _peers.settle()
                begin = perf_counter()
                run(count)
                best[name] = min(best[name], (perf_counter() - begin) / count)
        torch = [seconds for name, seconds in best.items() if name.startswith("torch")]
        peers = {"numpy": best["numpy"], "torch": min(torch, default=None), "jax": best.get("jax")}
        own = best["njitnet"]
        cells = ["-" if s is None else f"{1e6 * s:.0f} ({s / own:.1f})" for s in peers.values()]
        rows.append([case.name, f"{1e6 * own:.0f}", *cells])
        print(*rows[-1], sep="\t", flush=True)
    head = ["", "`net.train`, us", "NumPy (ratio)", "PyTorch (ratio)", "JAX scan (ratio)"]
    print("\n" + _peers.markdown(head, rows))


if __name__ == "__main__":
    main()

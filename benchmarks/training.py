"""A table of training on MNIST beside other libraries: ``python -m benchmarks.training``.

The job is the lecture's: 784-50-10, batches of 100 drawn with replacement, learning rate 0.1, the
loss of each batch before and after the update, the accuracies on both sets once an epoch.

Every contestant runs in a process of its own, so that no thread pool disturbs another one, and all
take turns, round after round. Ours does the whole job. The others do fewer iterations; these and
the evaluations are timed apart, and each is scaled to the whole job. The best round counts.

What is not the same in the others: scikit-learn draws without replacement and has only the one loss
before the update; NumPy and PyTorch get the images in the dtype in which they compute, which is
quicker for them and takes more memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from tqdm import tqdm

from benchmarks import _peers

# NumPy and all others are imported by the processes that use them: see `_peers`.

ROOT = Path(__file__).parents[1]
PIXELS, CLASSES, IMAGES, RATE = 784, 10, 60_000, 0.1
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes
    ----------
    who : str
        A key of `CONTESTANTS`.
    dtype : {"float32", "float64"}
    threads : int
    iterations : int
        How many it does.
    of : int
        How many the whole job has.
    hidden, batch : int
    data : {"mnist", "random"}
        The second has no zeros.
    """

    who: str
    dtype: str = "float32"
    threads: int = CORES
    iterations: int = 1200
    of: int = 10_000
    hidden: int = 50
    batch: int = 100
    data: str = "mnist"

    def evaluations(self, iterations: int) -> int:
        """Return how often the accuracies are taken in so many iterations: once an epoch."""
        return -(-iterations // self.epoch())

    def epoch(self) -> int:
        """Return the iterations of an epoch."""
        return max(1, IMAGES // self.batch)


@dataclass
class Result:
    """What one process measured.

    Attributes
    ----------
    start : dict of str to float
        Seconds before the first iteration, for ``import``, ``load`` and ``compile``.
    seconds : float
        For the whole job, once that is done.
    memory : float
        Largest size of the process in MB.
    accuracy : float or None
        On the test set in the end, if the job was not cut short.
    note : str
    process : float
        Seconds from the start of the process to its end.
    """

    start: dict[str, float]
    seconds: float
    memory: float
    accuracy: float | None = None
    note: str = ""
    process: float = 0.0


# ------------------------------------------------------------------------------------- contestants
class Loop(Protocol):
    """A training loop in some library."""

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""


def initial_weights(job: Job) -> list[Any]:
    """Return ``W1 b1 W2 b2`` as the lecture begins."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [
        (0.01 * rng.standard_normal((PIXELS, job.hidden))).astype(job.dtype),
        np.zeros(job.hidden, job.dtype),
        (0.01 * rng.standard_normal((job.hidden, CLASSES))).astype(job.dtype),
        np.zeros(CLASSES, job.dtype),
    ]


class NumPyLoop:
    """The lecture's layers, written out in one place."""

    input_gradient = True
    """The lecture takes the gradient of the images too, which nobody reads."""

    def __init__(self, job: Job, data: Any):
        import numpy as np

        self.np, self.job = np, job
        self.x, self.t, self.x_test, self.t_test = (
            a.astype(job.dtype, copy=False) if a.ndim == 2 else np.eye(CLASSES, dtype=job.dtype)[a]
            for a in data
        )
        self.parameters = initial_weights(job)
        self.losses: list[float] = []

    def forward(self, x: Any, t: Any) -> tuple[float, Any, Any, Any]:
        """Return the loss, and what `gradient` needs."""
        np = self.np
        W1, b1, W2, b2 = self.parameters
        h = np.dot(x, W1) + b1
        mask = h <= 0
        a = h.copy()
        a[mask] = 0
        z = np.dot(a, W2) + b2
        z = z - np.max(z, axis=1, keepdims=True)
        e = np.exp(z)
        y = e / np.sum(e, axis=1, keepdims=True)
        rows = np.arange(len(y))
        return -np.sum(np.log(y[rows, t.argmax(axis=1)] + 1e-7)) / len(y), mask, a, y

    def gradient(self, x: Any, t: Any) -> tuple[Any, Any, Any, Any]:
        """Return the gradients of the parameters."""
        np = self.np
        W1, _, W2, _ = self.parameters
        _, mask, a, y = self.forward(x, t)
        dz = (y - t) / len(y)
        dh = np.dot(dz, W2.T)
        dh[mask] = 0
        if self.input_gradient:
            np.dot(dh, W1.T)
        return np.dot(x.T, dh), np.sum(dh, axis=0), np.dot(a.T, dz), np.sum(dz, axis=0)

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        for _ in range(count):
            drawn = self.np.random.choice(len(self.x), self.job.batch)
            x, t = self.x[drawn], self.t[drawn]
            for parameter, gradient in zip(self.parameters, self.gradient(x, t), strict=True):
                parameter -= RATE * gradient
            self.losses.append(self.forward(x, t)[0])

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        np = self.np
        W1, b1, W2, b2 = self.parameters

        def accuracy(x: Any, t: Any) -> float:
            y = np.dot(np.maximum(np.dot(x, W1) + b1, 0), W2) + b2
            return float(np.mean(y.argmax(axis=1) == t.argmax(axis=1)))

        return accuracy(self.x, self.t), accuracy(self.x_test, self.t_test)


class LeanNumPyLoop(NumPyLoop):
    """The same without the gradient of the images."""

    input_gradient = False


class LayersLoop:
    """The lecture's script on our layers."""

    def __init__(self, job: Job, data: Any):
        import numpy as np

        from net import TwoLayerNet

        x, t, x_test, t_test = data
        one_hot = np.eye(CLASSES)
        self.np, self.job = np, job
        self.train, self.test = (x, one_hot[t]), (x_test, one_hot[t_test])
        self.network = TwoLayerNet(PIXELS, job.hidden, CLASSES, dtype=job.dtype, rng=0)
        self.losses: list[float] = []

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        network, (x_train, t_train) = self.network, self.train
        for _ in range(count):
            batch_mask = self.np.random.choice(len(x_train), self.job.batch)
            x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
            grad = network.gradient(x_batch, t_batch)
            for key in ("W1", "b1", "W2", "b2"):
                network.params[key] -= RATE * grad[key]
            self.losses.append(network.loss(x_batch, t_batch))

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        return self.network.accuracy(*self.train), self.network.accuracy(*self.test)


class TorchLoop:
    """PyTorch, eager, on plain tensors: quicker than modules and an optimiser."""

    def __init__(self, job: Job, data: Any):
        import torch

        self.torch, self.job = torch, job
        self.x, self.t, self.x_test, self.t_test = (
            torch.from_numpy(a).to(getattr(torch, job.dtype))
            if a.ndim == 2
            else torch.from_numpy(a)
            for a in data
        )
        self.parameters = [torch.from_numpy(a).requires_grad_() for a in initial_weights(job)]
        self.losses: list[float] = []

    def logits(self, x: Any) -> Any:
        """Return the output of the second layer."""
        W1, b1, W2, b2 = self.parameters
        return self.torch.addmm(b2, self.torch.addmm(b1, x, W1).relu_(), W2)

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        torch, loss = self.torch, self.torch.nn.functional.cross_entropy
        for _ in range(count):
            drawn = torch.randint(len(self.x), (self.job.batch,))
            x, t = self.x.index_select(0, drawn), self.t.index_select(0, drawn)
            gradients = torch.autograd.grad(loss(self.logits(x), t), self.parameters)
            with torch.no_grad():
                torch._foreach_add_(self.parameters, gradients, alpha=-RATE)
                self.losses.append(loss(self.logits(x), t).item())

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        with self.torch.inference_mode():
            train, test = (
                (self.logits(x).argmax(dim=1) == t).double().mean().item()
                for x, t in [(self.x, self.t), (self.x_test, self.t_test)]
            )
        return train, test


class JaxLoop:
    """JAX: a scan over the iterations of an epoch, compiled as a whole."""

    def __init__(self, job: Job, data: Any):
        import jax
        import numpy as np
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", job.dtype == "float64")
        self.jax, self.np, self.job = jax, np, job
        self.train, self.test = (
            (jnp.asarray(x, job.dtype), jnp.asarray(t)) for x, t in [data[:2], data[2:]]
        )
        self.parameters = tuple(map(jnp.asarray, initial_weights(job)))
        self.losses: list[Any] = []

        def logits(parameters: Any, x: Any) -> Any:
            W1, b1, W2, b2 = parameters
            return jax.nn.relu(x @ W1 + b1) @ W2 + b2

        def loss(parameters: Any, x: Any, t: Any) -> Any:
            chosen = jax.nn.log_softmax(logits(parameters, x))
            return -jnp.mean(jnp.take_along_axis(chosen, t[:, None], axis=1))

        @jax.jit
        def epoch(parameters: Any, x_train: Any, t_train: Any, drawn: Any) -> Any:
            def step(parameters: Any, drawn: Any) -> Any:
                x, t = x_train[drawn], t_train[drawn]
                gradients = jax.grad(loss)(parameters, x, t)
                parameters = tuple(p - RATE * g for p, g in zip(parameters, gradients, strict=True))
                return parameters, loss(parameters, x, t)

            return jax.lax.scan(step, parameters, drawn)

        @jax.jit
        def accuracy(parameters: Any, x: Any, t: Any) -> Any:
            return jnp.mean(logits(parameters, x).argmax(axis=1) == t)

        self.epoch, self.accuracy = epoch, accuracy

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        drawn = self.np.random.choice(len(self.train[0]), (count, self.job.batch))
        self.parameters, losses = self.epoch(self.parameters, *self.train, drawn)
        self.losses += self.np.asarray(losses).tolist()

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        train, test = (float(self.accuracy(self.parameters, *s)) for s in (self.train, self.test))
        return train, test


class SklearnLoop:
    """scikit-learn's MLPClassifier, an epoch by each ``partial_fit``."""

    def __init__(self, job: Job, data: Any):
        import numpy as np
        from sklearn.neural_network import MLPClassifier

        self.np, self.job = np, job
        self.x, self.t, self.x_test, self.t_test = (
            a.astype(job.dtype, copy=False) if a.ndim == 2 else a for a in data
        )
        self.model = MLPClassifier(
            (job.hidden,),
            solver="sgd",
            alpha=0,
            batch_size=job.batch,
            learning_rate_init=RATE,
            momentum=0,
            nesterovs_momentum=False,
        )

    def iterate(self, count: int) -> None:
        """Do some iterations of training."""
        n = count * self.job.batch
        self.model.partial_fit(self.x[:n], self.t[:n], classes=self.np.arange(CLASSES))

    def evaluate(self) -> tuple[float, float]:
        """Return the accuracies on the training set and on the test set."""
        return self.model.score(self.x, self.t), self.model.score(self.x_test, self.t_test)


def run_loop(make: Callable[[Job, Any], Loop], job: Job, data: Any, begin: float) -> Result:
    """Train by one of the loops above.

    Parameters
    ----------
    make : callable
    job : Job
    data : tuple of ndarray
    begin : float
        When `data` were there.

    Returns
    -------
    Result
    """
    clock = time.perf_counter
    loop = make(job, data)
    epoch = min(job.epoch(), job.iterations)
    # What compiles does so for an epoch at once; the others only warm up.
    loop.iterate(epoch if job.who == "jax" else min(5, epoch))
    loop.evaluate()
    start, done, parts = clock() - begin, 0, [0.0, 0.0]
    while done < job.iterations:
        count, begin = min(epoch, job.iterations - done), clock()
        loop.iterate(count)
        between = clock()
        _, accuracy = loop.evaluate()
        for i, part in enumerate((between - begin, clock() - between)):
            parts[i] += part
        done += count
    seconds = parts[0] * job.of / done
    seconds += parts[1] * job.evaluations(job.of) / job.evaluations(done)
    whole = done >= job.of
    return Result({"compile": start}, seconds, 0.0, accuracy if whole else None)


def run_train(job: Job, data: Any, begin: float, sparse: bool | None = None) -> Result:
    """Train by `net.train`, the whole job; what it compiles, it does on a throw-away network.

    Parameters
    ----------
    job, data, begin
        As for `run_loop`.
    sparse : bool, optional
        As for `net.train`.

    Returns
    -------
    Result
    """
    from net import TwoLayerNet, train

    def network() -> TwoLayerNet:
        return TwoLayerNet(PIXELS, job.hidden, CLASSES, dtype=job.dtype, rng=0)

    settings: dict[str, Any] = {"batch_size": job.batch, "rng": 1, "sparse": sparse}
    clock = time.perf_counter
    train(network(), *(a[:1000] for a in data), iterations=1, **settings)
    start, trained = clock() - begin, network()
    begin = clock()
    history = train(trained, *data, iterations=job.of, learning_rate=RATE, **settings)
    seconds = clock() - begin
    threads = ", ".join(f"{count} on {n}" for n, count in sorted(history.threads.items()))
    accuracy = trained.accuracy(*data[2:])
    return Result({"compile": start}, seconds, 0.0, accuracy, f"iterations on threads: {threads}")


def run_dense(job: Job, data: Any, begin: float) -> Result:
    """Train by `net.train` with all inputs multiplied, also zeros."""
    return run_train(job, data, begin, sparse=False)


@dataclass(frozen=True)
class Contestant:
    """How a contestant is named and run.

    Attributes
    ----------
    title : str
    module : str
        What it imports.
    run : callable
        Takes a job, the data, and when these were there.
    """

    title: str
    module: str
    run: Callable[[Job, Any, float], Result]


def _by(make: Callable[[Job, Any], Loop]) -> Callable[[Job, Any, float], Result]:
    return lambda job, data, begin: run_loop(make, job, data, begin)


CONTESTANTS = {
    "train": Contestant("net.train", "net.training", run_train),
    "dense": Contestant("net.train, sparse=False", "net.training", run_dense),
    "layers": Contestant("the lecture's script on net", "net.two_layer_net", _by(LayersLoop)),
    "numpy": Contestant("NumPy, the lecture's layers", "numpy", _by(NumPyLoop)),
    "lean": Contestant("NumPy, no gradient of the images", "numpy", _by(LeanNumPyLoop)),
    "torch": Contestant("PyTorch, eager", "torch", _by(TorchLoop)),
    "jax": Contestant("JAX, scan", "jax", _by(JaxLoop)),
    "sklearn": Contestant("scikit-learn", "sklearn", _by(SklearnLoop)),
}


# --------------------------------------------------------------------------------------- processes
def do(job: Job) -> Result:
    """Do a job in this process.

    Parameters
    ----------
    job : Job

    Returns
    -------
    Result
    """
    clock = time.perf_counter
    begin = clock()
    contestant = CONTESTANTS[job.who]
    __import__(contestant.module)
    imported = clock() - begin
    begin = clock()
    data = load(job)
    loaded = clock() - begin
    result = contestant.run(job, data, clock())
    result.start = {"import": imported, "load": loaded} | result.start
    result.memory = peak_memory()
    return result


def load(job: Job) -> tuple[Any, ...]:
    """Return training images and labels, test images and labels."""
    import numpy as np

    if job.data == "mnist":
        from net.mnist import load_mnist

        (x, t), (x_test, t_test) = load_mnist()
        return x, t.astype(np.int64), x_test, t_test.astype(np.int64)
    rng = np.random.default_rng(0)
    return tuple(
        part
        for n in (IMAGES, IMAGES // 6)
        for part in (rng.random((n, PIXELS), np.float32), rng.integers(0, CLASSES, n))
    )


def peak_memory() -> float:
    """Return the largest size that this process has had, in MB; NaN where that is not told."""
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def start(job: Job, cache: str) -> Result:
    """Do a job in a process of its own.

    Parameters
    ----------
    job : Job
    cache : str
        The folder of Numba's compiled code; empty for the usual one.

    Returns
    -------
    Result
    """
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(pools, str(job.threads)) | {"NUMBA_CACHE_DIR": cache}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--job", json.dumps(asdict(job))],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - begin
    return replace(Result(**json.loads(done.stdout.splitlines()[-1])), process=seconds)


@dataclass
class Entry:
    """A job and the results of all rounds."""

    job: Job
    results: list[Result] = field(default_factory=list)

    def best(self) -> Result:
        """Return the result of the quickest round."""
        return min(self.results, key=lambda result: result.seconds)

    def seconds(self) -> float:
        """Return the seconds of the whole job."""
        return self.best().seconds

    def start(self) -> dict[str, float]:
        """Return the seconds before the first iteration, of the round with the fewest."""
        return min((r.start for r in self.results), key=lambda start: sum(start.values()))

    def memory(self) -> float:
        """Return the largest size of the process, in the round in which it compiled least."""
        return min(r.memory for r in self.results)

    def process(self) -> Result:
        """Return the result of the round with the shortest process."""
        return min(self.results, key=lambda result: result.process)

    def spread(self) -> float:
        """Return the median of the rounds by the best one."""
        return median(result.seconds for result in self.results) / self.seconds()


@dataclass
class Tables:
    """All that is measured.

    Attributes
    ----------
    main : list of Entry
        MNIST, 784-50-10, batches of 100.
    cold : dict of str to Result
        By dtype, `net.train` with nothing compiled.
    sizes : list of Entry
        Other sizes and data, ours and NumPy.
    """

    main: list[Entry]
    cold: dict[str, Result]
    sizes: list[Entry]

    def ours(self, dtype: str) -> Entry | None:
        """Return the entry of `net.train` as a user has it."""
        wanted = ("train", dtype)
        return next((e for e in self.main if (e.job.who, e.job.dtype) == wanted), None)


def main_jobs(iterations: int, quick: bool) -> list[Job]:
    """Return the jobs of the main table, in the order in which they take turns.

    Parameters
    ----------
    iterations : int
    quick : bool

    Returns
    -------
    list of Job
    """
    dtypes, counts = ["float32", "float64"], sorted({1, CORES}, reverse=True)
    some = min(iterations, 300 if quick else 1200)
    jobs = []
    for dtype in dtypes:
        whole = Job("train", dtype, iterations=iterations, of=iterations)
        part = Job("numpy", dtype, iterations=some, of=iterations)
        if quick:
            jobs += [whole, *(replace(part, threads=n) for n in counts)]
            if dtype == "float32":
                jobs += [replace(whole, who="layers"), replace(part, who="jax")]
                jobs += [
                    replace(part, who=w, threads=n) for w in ("torch", "sklearn") for n in counts
                ]
            continue
        jobs += [replace(whole, threads=n) for n in counts]
        jobs += [replace(whole, who="dense"), replace(whole, who="layers")]
        for who in ("numpy", "lean", "torch", "sklearn"):
            jobs += [replace(part, who=who, threads=n) for n in counts]
        jobs.append(replace(part, who="jax"))
    return [job for job in jobs if _peers.installed([CONTESTANTS[job.who].module])]


def size_jobs(iterations: int, quick: bool) -> list[Job]:
    """Return the jobs on other sizes and data.

    Parameters
    ----------
    iterations : int
    quick : bool

    Returns
    -------
    list of Job
    """
    base = Job("train", iterations=iterations, of=iterations)
    variants = [
        replace(base, hidden=32),
        replace(base, hidden=100),
        replace(base, hidden=512),
        replace(base, batch=1),
        replace(base, batch=1000),
        replace(base, data="random"),
    ]
    jobs = []
    for job in variants[-1:] if quick else variants:
        work = job.hidden * job.batch / 5000  # of the lecture's size
        some = min(iterations, max(100, int((200 if quick else 600) / work)), 6000)
        others = [replace(job, who="numpy", threads=n, iterations=some) for n in {1, CORES}]
        jobs += [job, *others]
    return jobs


def measure(
    main: Sequence[Job], sizes: Sequence[Job], rounds: int, cache: str | None = None
) -> Tables:
    """Run all jobs.

    Parameters
    ----------
    main, sizes : sequence of Job
        The second are run once only.
    rounds : int
    cache : str, optional
        The folder of Numba's compiled code. By default a new one, and then the jobs of `net.train`
        that come first are run once more before all others, to see what compiling costs.

    Returns
    -------
    Tables
    """
    tables = Tables([Entry(job) for job in main], {}, [Entry(job) for job in sizes])
    first: dict[str, Job] = {}
    if cache is None:
        for job in main:
            if job.who == "train":
                first.setdefault(job.dtype, job)
    total = len(first) + rounds * len(main) + len(sizes)
    with (
        tempfile.TemporaryDirectory() as empty,
        tqdm(total=total, unit="job", disable=None) as bar,
    ):

        def run(job: Job) -> Result:
            # One for each dtype, so that the second one too begins with nothing.
            folder = os.path.join(empty, job.dtype) if cache is None else cache
            result = start(job, folder)
            bar.update()
            return result

        tables.cold |= {dtype: run(job) for dtype, job in first.items()}
        for entries in [*[tables.main] * rounds, tables.sizes]:
            for entry in entries:
                entry.results.append(run(entry.job))
    return tables


# ------------------------------------------------------------------------------------------- tables
def as_text(tables: Tables) -> str:
    """Return the tables for a terminal.

    Parameters
    ----------
    tables : Tables

    Returns
    -------
    str
    """
    ours = {dtype: tables.ours(dtype) for dtype in ("float32", "float64")}
    header = ["", "dtype", "threads", "measured", "seconds", "us/iteration"]
    header += ["to train f32", "to train f64", "accuracy", "import", "load", "compile"]
    header += ["peak MB", "spread"]
    lines = []
    for entry in tables.main:
        job, best = entry.job, entry.best()
        lines.append(
            [
                CONTESTANTS[job.who].title,
                job.dtype,
                job.threads,
                job.iterations,
                *_times(best.seconds, job),
                *(f"{best.seconds / o.seconds():.2f}" if o else "-" for o in ours.values()),
                "-" if best.accuracy is None else f"{best.accuracy:.4f}",
                *map(_peers.number, entry.start().values()),
                f"{entry.memory():.0f}",
                f"{entry.spread():.2f}",
            ]
        )
    job = tables.main[0].job
    blocks = [
        f"{job.of} iterations of 784-50-10, batches of 100, and {job.evaluations(job.of)} "
        "evaluations. Measured: iterations done, scaled to all. Import, load, compile or warm up: "
        "seconds before the first iteration.",
        _peers.plain(header, lines),
    ]
    blocks += [
        f"{CONTESTANTS[e.job.who].title}, {e.job.dtype}, {e.job.threads} threads allowed: "
        f"{e.best().note}"
        for e in tables.main
        if e.best().note and e.job.threads > 1
    ]
    header = ["whole process, seconds", "dtype", "import", "load", "compile", "train", "whole"]
    lines = []
    for dtype, cold in tables.cold.items():
        warm = ours[dtype]
        both = [("empty cache", cold), *([("warm cache", warm.process())] if warm else [])]
        for title, result in both:
            parts = [*result.start.values(), result.seconds, result.process]
            lines.append([title, dtype, *map(_peers.number, parts)])
    blocks.append(_peers.plain(header, lines))
    header = ["other sizes, float32", "batch", "data", "train s", "us/iteration"]
    header += ["NumPy s", "us/iteration", "ratio"]
    lines = []
    for job, mine, other in size_pairs(tables):
        times = [*_times(mine, job), *_times(other, job), _peers.number(other / mine)]
        lines.append([f"hidden {job.hidden}", job.batch, job.data, *times])
    blocks.append(_peers.plain(header, lines))
    return "\n\n".join(blocks)


def _times(seconds: float, job: Job) -> list[str]:
    """Return the seconds of a whole job, and the microseconds of an iteration."""
    return [_peers.number(seconds), _peers.number(seconds / job.of * 1e6)]


def size_pairs(tables: Tables) -> list[tuple[Job, float, float]]:
    """Return for each size the job, our seconds, and NumPy's on its best number of threads."""
    seconds: dict[tuple[int, int, str], dict[str, list[float]]] = {}
    jobs = {}
    for entry in tables.sizes:
        key = entry.job.hidden, entry.job.batch, entry.job.data
        jobs[key] = entry.job
        seconds.setdefault(key, {}).setdefault(entry.job.who, []).append(entry.seconds())
    return [
        (job, *(min(seconds[key][who]) for who in ("train", "numpy"))) for key, job in jobs.items()
    ]


def as_markdown(tables: Tables) -> str:
    """Return the short table for the README.

    Parameters
    ----------
    tables : Tables

    Returns
    -------
    str
    """
    ours = {dtype: tables.ours(dtype) for dtype in ("float32", "float64")}
    best: dict[tuple[str, str], Entry] = {}
    for entry in tables.main:
        key = entry.job.who, entry.job.dtype
        if key[0] == "dense":
            continue  # slower here by intent: only in the text
        # Ours is on the default; the others are on their best number of threads.
        if key not in best or (key[0] != "train" and entry.seconds() < best[key].seconds()):
            best[key] = entry
    lines = []
    for (who, dtype), entry in best.items():
        result, mine = entry.best(), ours[dtype]
        title = CONTESTANTS[who].title
        lines.append(
            [
                "`net.train`" if who == "train" else title,
                dtype,
                *_times(result.seconds, entry.job),
                f"{result.seconds / mine.seconds():.1f}" if mine else "-",
                _peers.number(sum(entry.start().values())),
                f"{entry.memory():.0f}",
            ]
        )
    header = ["", "dtype", "seconds", "µs an iteration", "ratio to `net.train`"]
    header += ["start, s", "peak memory, MB"]
    job = tables.main[0].job
    text = [
        _peers.markdown(header, lines),
        f"{job.of:,} iterations and {job.evaluations(job.of)} evaluations of both accuracies. Ours "
        "does them all; the others did fewer, scaled to the whole job, each on its best number of "
        "threads. Start is what comes before the first iteration: imports, data, compiling or "
        "loading what is compiled.",
    ]
    text += [
        f"`net.train` in {dtype}: test accuracy {mine.best().accuracy:.4f}; the whole process "
        f"{mine.process().process:.1f} s, from an empty cache {cold.process:.1f} s, of which "
        f"{cold.start['compile']:.1f} s compile."
        for dtype, cold in tables.cold.items()
        if (mine := ours[dtype])
    ]
    sizes = [f"{_differs(job)} {other / mine:.1f}" for job, mine, other in size_pairs(tables)]
    if sizes:
        text.append(f"Ratio to NumPy for other sizes in float32: {', '.join(sizes)}.")
    text.append(f"By `python -m benchmarks.training` on {_peers.machine()}.")
    return "\n\n".join(text)


def _differs(job: Job) -> str:
    """Name what a job has other than the lecture's."""
    names = {"hidden": f"{job.hidden} hidden units", "batch": f"batch {job.batch}"}
    names["data"] = "data without zeros"
    return ", ".join(name for key, name in names.items() if getattr(job, key) != getattr(Job, key))


# ------------------------------------------------------------------------------------- command line
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    summary = str(__doc__).partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=summary)
    parser.add_argument("--readme", action="store_true", help="put a short table into README.md")
    parser.add_argument("--quick", action="store_true", help="fewer contestants, one round")
    parser.add_argument("--iterations", type=int, default=10_000, help="of the whole job")
    parser.add_argument("--rounds", type=int, help="default: 3, or 1 if quick")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in ("iterations", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"argument --{name}: expected 1 or more, got {value}")
    if options.job:
        print(json.dumps(asdict(do(Job(**json.loads(options.job))))))
        return
    neighbours = _peers.Neighbours()
    tables = measure(
        main_jobs(options.iterations, options.quick),
        size_jobs(options.iterations, options.quick),
        options.rounds or (1 if options.quick else 3),
    )
    print(_peers.machine())
    print(f"The best of each one's rounds; spread: their median by the best. {neighbours.report()}")
    print()
    print(as_text(tables))
    if options.readme:
        _peers.fill("training", as_markdown(tables))


if __name__ == "__main__":
    main()

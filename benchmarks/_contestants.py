"""Who takes part in the training table, and how each does a job in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._jobs import CLASSES, IMAGES, PIXELS, RATE, Job, Result
from benchmarks._loops import (
    JaxLoop,
    LayersLoop,
    LeanNumPyLoop,
    Loop,
    NumPyLoop,
    SklearnLoop,
    TorchLoop,
)

# NumPy and all others are imported by the processes that use them: see `_peers`.

ROOT = Path(__file__).parents[1]


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


def run_train(job: Job, data: Any, begin: float) -> Result:
    """Train by `net.train`, the whole job; what it compiles, it does on a throw-away network.

    Parameters
    ----------
    job, data, begin
        As for `run_loop`.

    Returns
    -------
    Result
    """
    from net import TwoLayerNet, train

    def network() -> TwoLayerNet:
        return TwoLayerNet(PIXELS, job.hidden, CLASSES, dtype=job.dtype, rng=0)

    settings: dict[str, Any] = {"batch_size": job.batch, "rng": 1}
    clock = time.perf_counter
    train(network(), *(a[:1000] for a in data), iterations=1, **settings)
    start, trained = clock() - begin, network()
    begin = clock()
    history = train(trained, *data, iterations=job.of, learning_rate=RATE, **settings)
    seconds = clock() - begin
    threads = ", ".join(f"{count} on {n}" for n, count in sorted(history.threads.items()))
    accuracy = trained.accuracy(*data[2:])
    return Result({"compile": start}, seconds, 0.0, accuracy, f"iterations on threads: {threads}")


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
    "layers": Contestant("the lecture's script on net", "net.two_layer_net", _by(LayersLoop)),
    "numpy": Contestant("NumPy, the lecture's layers", "numpy", _by(NumPyLoop)),
    "lean": Contestant("NumPy, no gradient of the images", "numpy", _by(LeanNumPyLoop)),
    "torch": Contestant("PyTorch, eager", "torch", _by(TorchLoop)),
    "jax": Contestant("JAX, scan", "jax", _by(JaxLoop)),
    "sklearn": Contestant("scikit-learn", "sklearn", _by(SklearnLoop)),
}


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

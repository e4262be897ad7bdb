"""The headline jobs beside NumPy, PyTorch and JAX, in one process and on one thread.

The ratios are ours by theirs, measured in turn: they do not move with the speed of the machine, and
lower is better. A library that is not installed is skipped. asv's environments have NumPy; to add
another one: ``.asv/env/*/bin/pip install torch``.
"""

from abc import abstractmethod
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks import _libraries, _loops, _peers
from benchmarks._jobs import Job
from benchmarks.bench_base import (
    CLASSES,
    DTYPES,
    HIDDEN,
    PIXELS,
    Timed,
    images,
    labels,
    set_threads,
)
from net import TwoLayerNet, train

PEERS = ["numpy", "torch", "jax"]
SHAPE = (100, PIXELS, HIDDEN)
EPOCH, EPOCHS = 60, 2
"""Iterations of 100 images each in an epoch of 6,000 images."""
LOOPS = {
    "ours": _loops.LayersLoop,
    "numpy": _loops.NumPyLoop,
    "torch": _loops.TorchLoop,
    "jax": _loops.JaxLoop,
}


class BesidePeers(Timed):
    """A job that each library does."""

    params = (["ours", *PEERS], DTYPES)
    param_names = ("library", "dtype")
    rounds = 1
    repeat = (2, 10, 0.5)

    @abstractmethod
    def job(self, library: str, dtype: str) -> Callable[[], Any]: ...

    def make(self, library: str, dtype: str) -> Callable[[], Any]:
        if library != "ours" and not _peers.installed([library]):
            raise NotImplementedError(f"{library} is not installed")
        if library == "torch":
            import torch

            torch.set_num_threads(1)
        set_threads("1")
        threadpool_limits(1, user_api="blas")
        return self.job(library, dtype)

    def track_ratio(self, library: str, dtype: str) -> float:
        """Return our time by theirs."""
        ours = self.job("ours", dtype)
        for _ in range(2):
            ours()
        ratios = []
        for _ in range(15 if self.number > 1 else 5):
            times = []
            for call in (ours, self.call):
                begin = perf_counter()
                for _ in range(self.number):
                    call()
                times.append(perf_counter() - begin)
            ratios.append(times[0] / times[1])
        return median(ratios)

    track_ratio.params = (PEERS, DTYPES)
    track_ratio.unit = "x"


class AffineForward(BesidePeers):
    """``x W + b`` of a batch in the first layer."""

    operation = "affine_forward"

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        peer = _libraries.MAKERS[library]()
        arrays = _libraries.arguments(self.operation, SHAPE, dtype)
        return peer.operations[self.operation](*map(peer.convert, arrays))


class AffineBackward(AffineForward):
    """Its gradients."""

    operation = "affine_backward"


class LectureLoop(BesidePeers):
    """The lecture's loop on our layers, and the same training in the other libraries."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        data = images(EPOCH * 100, "float32"), labels(EPOCH * 100), images(1, "float32"), labels(1)
        loop = LOOPS[library](Job(library, dtype, threads=1), data)

        def call() -> None:
            for _ in range(EPOCHS):
                loop.iterate(EPOCH)
                loop.evaluate()

        return call


class Train(LectureLoop):
    """As many iterations and evaluations of `train`, beside the same of the others."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        if library != "ours":
            return super().job(library, dtype)
        network = TwoLayerNet(PIXELS, HIDDEN, CLASSES, dtype=dtype, rng=0)
        x, t = images(EPOCH * 100, "float32"), labels(EPOCH * 100)
        return lambda: train(network, x, t, iterations=EPOCH * EPOCHS, rng=1)

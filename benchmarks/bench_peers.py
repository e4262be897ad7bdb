"""The headline jobs beside NumPy, PyTorch and JAX, in one process and on one thread.

The ratios are our time by theirs, measured in turn: they do not move with the speed of the machine,
and lower is better, as asv takes it. asv's environments have NumPy; to measure another one:
``.asv/env/*/bin/pip install torch``.
"""

from abc import abstractmethod
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, ClassVar

from benchmarks import _jobs
from benchmarks._asv import DTYPES, Timed
from benchmarks._operations import CONVOLUTIONAL, operation_calls
from benchmarks._report import installed
from benchmarks._timing import set_threads

PEERS = [name for name in ("numpy", "torch", "jax") if installed(name)]
EAGER = [name for name in PEERS if name != "jax"]


class BesidePeers(Timed):
    """A job that each library does."""

    peers = PEERS
    params: tuple[list[str], ...] = (["njitnet", *PEERS], DTYPES)
    param_names = ("library", "dtype")
    rounds = 1
    repeat = (2, 10, 0.5)
    timeout = 300

    def __init_subclass__(cls) -> None:
        def track_ratio(self: BesidePeers, library: str, dtype: str) -> float:
            return self.ratio(dtype)

        cls.params = (["njitnet", *cls.peers], DTYPES)
        cls.track_ratio = track_ratio
        track_ratio.params = (cls.peers, DTYPES)
        track_ratio.unit = "of the peer's time"

    @abstractmethod
    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        """Return the job as some libraries do it, by their names."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        """Return what to time, in PyTorch's first variant."""
        for call in self.calls(dtype, (library,)).values():
            return call
        # What asv takes for a row to skip.
        raise NotImplementedError(f"{library} does not have this job")

    def make(self, library: str, dtype: str) -> Callable[[], Any]:
        for name in {"njitnet", "numpy", library}:
            set_threads(name, 1)
        return self.job(library, dtype)

    def ratio(self, dtype: str) -> float:
        """Return our time by theirs, the median of several turns."""
        ours = self.job("njitnet", dtype)
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


class AffineForward(BesidePeers):
    """``x W + b`` of a batch in the first layer."""

    operation, shape = "affine_forward", (100, 784, 50)

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        return operation_calls(self.operation, self.shape, dtype, libraries)


class AffineBackward(AffineForward):
    """Its gradients."""

    operation = "affine_backward"


class AdamUpdate(AffineForward):
    """An update of SimpleConvNet's parameters."""

    operation, shape = "adam_update", (CONVOLUTIONAL,)
    peers = EAGER


class LectureLoop(BesidePeers):
    """The lecture's own loop with its evaluations, on small data."""

    peers = PEERS[:1]

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        return _jobs.LectureLoop(dtype, "synthetic").calls(libraries)


class Train(BesidePeers):
    """`net.train` with its evaluation, beside as many iterations of the others."""

    case: ClassVar[dict[str, Any]] = {"name": "784-50-10, SGD"}

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        case = _jobs.Case(**self.case, dtype=dtype, data="synthetic")
        if libraries != ("njitnet",):
            return case.calls(libraries)
        from net import train

        network, data = case.network(), _jobs.load("synthetic")[:2]
        options = {"iterations": case.per, "rng": 1}
        if case.optimizer != "SGD":
            options["optimizer"] = case.own_optimizer()
        return {"njitnet": lambda: train(network, *data, **options)}


class TrainSigmoid(Train):
    """The lecture's network with Sigmoid."""

    case: ClassVar[dict[str, Any]] = {"name": "Sigmoid", "activation": "sigmoid"}


class TrainAdam(Train):
    """The lecture's network with Adam."""

    case: ClassVar[dict[str, Any]] = {"name": "Adam", "optimizer": "Adam"}


class TrainDeepAdam(Train):
    """784-100-100-10 with Adam."""

    case: ClassVar[dict[str, Any]] = {
        "name": "deep, Adam",
        "hidden": _jobs.DEEP,
        "optimizer": "Adam",
    }


class SimpleConvNet(BesidePeers):
    """Gradient and Adam of the course's small convolutional network."""

    peers = EAGER

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        return _jobs.ConvNet(type(self).__name__, dtype).calls(libraries)


class DeepConvNet(SimpleConvNet):
    """Gradient and Adam of the deep one."""

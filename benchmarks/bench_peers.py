"""The main jobs compared with NumPy, PyTorch and JAX, in one process and on one thread.

A ratio is the time of njitnet divided by that of a library, measured alternately. It does not
depend on the speed of the machine, and lower is better, as asv assumes. asv's environments have
NumPy; to measure another library: ``.asv/env/*/bin/pip install torch``.
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
    """Benchmark of a job in several libraries."""

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
        """Return the calls of the job by library."""

    def job(self, library: str, dtype: str) -> Callable[[], Any]:
        """Return the call to time; of PyTorch, the first variant."""
        for call in self.calls(dtype, (library,)).values():
            return call
        # asv skips the row: this is how a benchmark says that it does not apply.
        raise NotImplementedError(f"{library} does not have this job")

    def make(self, library: str, dtype: str) -> Callable[[], Any]:
        for name in {"njitnet", "numpy", library}:
            set_threads(name, 1)
        return self.job(library, dtype)

    def ratio(self, dtype: str) -> float:
        """Return the median ratio of njitnet's time to the library's, over several rounds."""
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
    """``x W + b`` of a batch in the lecture's first layer."""

    operation, shape = "affine_forward", (100, 784, 50)

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        return operation_calls(self.operation, self.shape, dtype, libraries)


class AffineBackward(AffineForward):
    """Gradients of the lecture's first layer."""

    operation = "affine_backward"


class AdamUpdate(AffineForward):
    """Adam update of SimpleConvNet's parameters."""

    operation, shape = "adam_update", (CONVOLUTIONAL,)
    peers = EAGER


class LectureLoop(BesidePeers):
    """The lecture's training loop with its evaluations, on small data."""

    peers = PEERS[:1]

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        return _jobs.LectureLoop(dtype, "synthetic").calls(libraries)


class Train(BesidePeers):
    """`net.train` with start-up and evaluation, beside the same iterations in other libraries."""

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
    """Training of the lecture's network with Sigmoid."""

    case: ClassVar[dict[str, Any]] = {"name": "Sigmoid", "activation": "sigmoid"}


class TrainAdam(Train):
    """Training of the lecture's network with Adam."""

    case: ClassVar[dict[str, Any]] = {"name": "Adam", "optimizer": "Adam"}


class TrainDeepAdam(Train):
    """Training of a 784-100-100-10 network with Adam."""

    case: ClassVar[dict[str, Any]] = {
        "name": "deep, Adam",
        "hidden": _jobs.DEEP,
        "optimizer": "Adam",
    }


class SimpleConvNet(BesidePeers):
    """Gradient and Adam update of the course's SimpleConvNet."""

    peers = EAGER

    def calls(self, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
        return _jobs.ConvNet(type(self).__name__, dtype).calls(libraries)


class DeepConvNet(SimpleConvNet):
    """Gradient and Adam update of the course's DeepConvNet."""

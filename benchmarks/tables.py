"""Comparison with NumPy, PyTorch and JAX, in tables: ``python -m benchmarks.tables NAME ...``.

The libraries are timed in interleaved rounds in one process, NumPy and PyTorch on one thread and on
all. The best sample of each library counts, on its best number of threads: other load on the
machine makes samples slower, never faster. Libraries that are not installed are left out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks import _jobs, _limits, _report, scaling
from benchmarks._operations import CONVOLUTIONAL, OPERATIONS, bytes_moved, operation_calls
from benchmarks._report import CORES, ROOT, number
from benchmarks._timing import Row, measure

DOCS = ROOT / "docs" / "performance.md"
DTYPES = ("float32", "float64")
PEERS = ("numpy", "torch", "jax")
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


class Options(NamedTuple):
    """Amount of work: `quick` limits the rows and rounds; `rounds` overrides the default."""

    quick: bool = False
    rounds: int | None = None

    def of(self, rounds: int) -> int:
        """Return the number of rounds, given a table's default."""
        return self.rounds or (2 if self.quick else rounds)

    def some(self, rows: Iterable[Any]) -> Iterable[Any]:
        """Return the rows to measure."""
        rows = list(rows)
        return tqdm(rows[:2] if self.quick else rows, unit="row", disable=None)


class Table(NamedTuple):
    """Header, rows, and an explanatory note of a table."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str


def share(value: float, limit: float) -> str:
    """Return a value as a percentage of a limit."""
    return f"{value / limit:.0%}"


def compared(row: Row, peers: Sequence[str] = PEERS) -> list[str]:
    """Return the time of each library divided by that of njitnet."""
    return [number(row.ratio(peer)) for peer in peers]


def best_other(row: Row) -> tuple[str, str]:
    """Return the fastest other library, and its time divided by that of njitnet."""
    peer = row.peers()[0]
    return TITLES[peer], f"**{row.ratio(peer):.2f}**"


# -------------------------------------------------------------------------------------- the kernels
Shape = tuple[int, ...]
AFFINE: list[Shape] = [
    (100, 784, 50),
    (1, 784, 50),
    (100, 50, 10),
    (1000, 784, 50),
    (10000, 784, 50),
    (60000, 784, 50),
    (100, 784, 1024),
    (256, 1024, 1024),
    (1024, 1024, 1024),
]
HIDDEN: list[Shape] = [(100, 50), (10000, 50), (1000, 1000)]
LOGITS: list[Shape] = [(100, 10), (10000, 10), (100000, 10)]
ELEMENTWISE: dict[str, list[Shape]] = {
    "adam_update": [(CONVOLUTIONAL,)],
    "relu_forward": HIDDEN,
    "relu_backward": HIDDEN,
    "sigmoid_forward": HIDDEN,
    "sigmoid_backward": HIDDEN,
    "softmax_cross_entropy_forward": LOGITS,
    "softmax_cross_entropy_backward": LOGITS,
    "batch_norm_forward": [(100, 30, 24, 24)],
}
CONVOLUTIONS: list[Shape] = [
    (100, 1, 28, 28, 30, 5),
    (100, 16, 28, 28, 16, 3),
    (100, 1, 28, 28, 16, 3),
    (100, 3, 32, 32, 32, 3),
    (100, 16, 14, 14, 32, 3),
    (100, 32, 14, 14, 32, 3),
    (100, 32, 8, 8, 64, 3),
    (100, 64, 8, 8, 64, 3),
]
POOLED: list[Shape] = [(100, 30, 24, 24), (100, 16, 28, 28), (100, 32, 14, 14), (100, 64, 8, 8)]


def kernel(operation: str, shape: Shape, dtype: str, rounds: int) -> Row:
    """Time a kernel and the same operation in other libraries."""
    # The table of the networks has the course's convolution in NumPy.
    convolves = operation.startswith("convolution")
    peers = ("torch", "jax") if convolves else PEERS
    calls = operation_calls(operation, shape, dtype, ("njitnet", *peers))
    numpy = (1, CORES) if OPERATIONS[operation].flops else (1,)
    return measure(calls, rounds, duration=0.01, njitnet=(1, CORES), numpy=numpy)


def speed(row: Row, operation: str, shape: Shape, dtype: str) -> list[str]:
    """Return njitnet's GFLOP/s and the share of the peak, on its best number of threads."""
    flops = OPERATIONS[operation].flops
    assert flops
    here = flops(*shape) / (row.best("njitnet") or np.inf)
    limit = _limits.peak_flops(dtype, row.threads("njitnet"))
    return [number(here / 1e9), share(here, limit)]


def affine(options: Options) -> Table:
    """Measure the products of the affine layer, forward and backward."""
    rows = []
    for shape in options.some(AFFINE):
        for operation in ("affine_forward", "affine_backward"):
            cells: list[object] = [f"{operation[7:]} {', '.join(map(str, shape))}"]
            for dtype in DTYPES:
                row = kernel(operation, shape, dtype, options.of(6))
                cells += [*speed(row, operation, shape, dtype), *best_other(row)]
            rows.append(cells)
    header = ["N, D, M"]
    for dtype in DTYPES:
        header += [f"{dtype}, GFLOP/s", "of peak", "best other", "ratio"]
    return Table(
        header,
        rows,
        "`x W + b` with x (N, D) and W (D, M), and its three gradients. Each library uses its "
        "best number of threads. The peak is that of a loop of multiply-adds in registers.",
    )


def elementwise(options: Options) -> Table:
    """Measure operations that are limited by memory bandwidth."""
    rows = []
    for operation, shapes in options.some(ELEMENTWISE.items()):
        for shape in shapes:
            for dtype in DTYPES:
                row = kernel(operation, shape, dtype, options.of(6))
                seconds = row.best("njitnet") or np.inf
                rate = bytes_moved(operation, shape, dtype) / seconds
                limit = _limits.copy_speed(row.threads("njitnet"))
                cells = [number(1e6 * seconds), number(rate / 1e9), share(rate, limit)]
                name = f"{operation} {', '.join(map(str, shape))}"
                rows.append([name, dtype, *cells, *compared(row, PEERS[:2])])
    return Table(
        ["kernel, shape", "dtype", "µs", "GB/s", "of copying", "NumPy", "PyTorch"],
        rows,
        "GB/s: bytes read and written per second. Of copying: divided by the bandwidth of large "
        "copies in memory (data in a cache exceed 100%). NumPy, PyTorch: their time divided by "
        "that of njitnet. PyTorch's ReLU returns no mask, and its cross-entropy no probabilities.",
    )


def convolution(options: Options) -> Table:
    """Measure single convolution and pooling layers."""
    rows = []
    jobs = [(o, s) for s in CONVOLUTIONS for o in ("convolution_forward", "convolution_backward")]
    for operation, shape in options.some([*jobs, *(("max_pool_forward", s) for s in POOLED)]):
        _, c, h, w, *filters = shape
        row = kernel(operation, shape, "float32", options.of(6))
        name = f"{operation.rpartition('_')[2]} {c} x {h} x {w}"
        if filters:
            name += f", {filters[0]} filters {filters[1]} x {filters[1]}"
            cells = speed(row, operation, shape, "float32")
        else:
            name, cells = f"maximum pooling {c} x {h} x {w}", ["-", "-"]
        seconds = number(1e3 * (row.best("njitnet") or np.inf))
        rows.append([name, seconds, *cells, *compared(row, ("torch", "jax"))])
    return Table(
        ["100 images, float32", "ms", "GFLOP/s", "of peak", "PyTorch", "JAX"],
        rows,
        "PyTorch, JAX: their time divided by that of njitnet, for PyTorch with the better of its "
        "two memory formats. Backward: all gradients; with one channel, without the gradient of "
        "the images.",
    )


# ----------------------------------------------------------------------------------------- training
def loop(options: Options) -> Table:
    """Measure training loops written by the user, and evaluation."""
    jobs = [
        *(lambda d=d: _jobs.LectureLoop(d) for d in DTYPES),
        *(lambda h=h: _jobs.Layers(h) for h in ((50,), _jobs.DEEP)),
        *(lambda d=d: _jobs.Evaluation(d) for d in DTYPES),
    ]
    rows = []
    for make in options.some(jobs):
        job = make()
        row = measure(job.calls(("njitnet", "script", "numpy")), options.of(12), job.per)
        ours, script = row.best("njitnet") or np.inf, row.best("script")
        numpy, limit = row.best("numpy") or np.inf, "-"
        if script:
            limit = f"the script's own lines: {numpy / script:.1f}"
        elif hasattr(job, "bytes"):
            limit = f"reading the images: {numpy / (job.bytes / _limits.read_speed(CORES)):.1f}"
        on = row.threads("numpy")
        rows.append([job.name, number(1e6 * ours), number(1e6 * numpy), on,
                     f"**{numpy / ours:.2f}**", limit])  # fmt: skip
    return Table(
        ["", "µs", "NumPy, µs", "its threads", "ratio", "limit of the ratio"],
        rows,
        "Time of an iteration, or of one evaluation. The lecture's loop includes its evaluation of "
        "both sets once per epoch; the layers are not evaluated. NumPy is the lecture's network. "
        "The limit is the ratio if the network took no time, or if the evaluation only read the "
        "images from memory.",
    )


def train(options: Options) -> Table:
    """Measure `net.train`."""
    rows = []
    for case in options.some(_jobs.CASES):
        job = _jobs.Case(**case)
        row = measure(job.calls(), options.of(10), job.per)
        ours = row.best("njitnet") or np.inf
        limit = _limits.peak_flops(job.dtype, CORES)
        rows.append([job.name, number(1e6 * ours), *compared(row), share(job.flops / ours, limit)])
    return Table(
        ["MNIST, float32", "`net.train`, µs an iteration", "NumPy", "PyTorch", "JAX", "of peak"],
        rows,
        "An iteration draws a batch of 100 unless stated otherwise, computes its gradient, updates "
        "the parameters, and computes the loss with the new parameters. NumPy (by layers), PyTorch "
        "(eager, with fused Adam) and JAX (one compiled scan of the same number of iterations): "
        "their time divided by that of njitnet. Of peak: share of the multiply-adds of all cores, "
        "without those on zero pixels. `net.train` reads the data as one-byte codes, as in runs of "
        "10 epochs or more; not the data without zeros.",
    )


def networks(options: Options) -> Table:
    """Measure the course's convolutional networks."""
    jobs = [
        lambda: _jobs.ConvNet("SimpleConvNet"),
        lambda: _jobs.ConvNetEvaluation("SimpleConvNet"),
        lambda: _jobs.ConvNet("SimpleConvNet", "float64"),
        lambda: _jobs.ConvNet("DeepConvNet"),
        lambda: _jobs.ConvNetEvaluation("DeepConvNet"),
        lambda: _jobs.ConvNet("DeepConvNet", "float64"),
    ]
    rows = []
    for make in options.some(jobs):
        job = make()
        # Long samples: caches and threads are in the same state as in the middle of a run.
        row = measure(job.calls(), options.of(6), duration=0.2)
        ours = row.best("njitnet") or np.inf
        torch = [(min(s), name, n) for (name, n), s in row.seconds.items() if name[:5] == "torch"]
        _, name, n = min(torch, default=(0, "torch, -", 0))
        limit = share(job.flops / ours, _limits.peak_flops(job.dtype, CORES))
        rows.append([job.name, number(1e3 * ours), limit, *compared(row, PEERS[:2]),
                     f"{name.partition(', ')[2]}, {n} threads"])  # fmt: skip
    return Table(
        ["batch 100", "ms", "of peak", "NumPy", "PyTorch", "its best setting"],
        rows,
        "NumPy (im2col, as in the course) and PyTorch (best of contiguous or channels-last "
        "images, plain or fused Adam, one thread or all): their time divided by that of njitnet. "
        "Of peak: share of the multiply-adds of the textbook formulas, of which the gradients "
        "here skip those that pooling left out.",
    )


# ------------------------------------------------------------------------ a neighbour, and starting
@contextmanager
def busy_core() -> Any:
    """Keep a core busy with another process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class OwnRelu:
    """User-defined layer, which disables the fast paths."""

    def forward(self, x: Any) -> Any:
        self.mask = x <= 0
        return np.where(self.mask, x.dtype.type(0), x)

    def backward(self, dout: Any) -> Any:
        return np.where(self.mask, dout.dtype.type(0), dout)


def users_jobs() -> dict[str, Callable[[], Any]]:
    """Return typical training loops of users, by name."""
    from net import MultiLayerNet, Trainer

    x, t, *test = (a[:6000] for a in _jobs.load("mnist"))
    lecture, layers = _jobs.LectureLoop("float32", "synthetic"), _jobs.Layers((50,))
    own = _jobs.two_layer_net("float32")
    own.layers["Relu1"] = OwnRelu()
    deep = MultiLayerNet(784, _jobs.DEEP, 10, dtype="float32", rng=0)
    trainer = {"epochs": 4, "optimizer": "Adam", "optimizer_param": {}, "verbose": False}
    plain = _jobs.two_layer_net("float32")

    def trained(network: Any) -> Callable[[], Any]:
        from net import train

        return lambda: train(network, x, t, iterations=600, rng=1)

    return {
        "the lecture's loop": lecture.njitnet(),
        "layers 784-50-10": layers.njitnet(),
        "Trainer, 784-100-100-10, Adam": lambda: Trainer(deep, x, t, *test, **trainer).train(),
        "train, a layer of one's own": trained(own),
        "train, 784-50-10": trained(plain),
    }


def busy(options: Options) -> Table:
    """Compare all threads with one thread, on an idle machine and with one core kept busy."""
    calls, rounds = users_jobs(), options.of(15)

    def measured() -> dict[str, list[float]]:
        found = {}
        for name, call in tqdm(calls.items(), unit="row", disable=None):
            row = measure({"njitnet": call}, rounds, njitnet=(1, CORES))
            found[name] = [median(row.seconds["njitnet", n]) for n in (CORES, 1)]
        return found

    idle = measured()
    with busy_core():
        beside = measured()
    rows = [
        [name, *(number(1e3 * s) for s in idle[name]), f"{idle[name][0] / idle[name][1]:.2f}",
         *(number(1e3 * s) for s in beside[name]), f"**{beside[name][0] / beside[name][1]:.2f}**"]
        for name in calls
    ]  # fmt: skip
    return Table(
        ["float32, ms", "default", "one thread", "ratio", "busy: default", "one thread", "ratio"],
        rows,
        "Medians of some hundred iterations, with the default number of threads and with one "
        "thread, on an idle machine and with a core kept busy by another process.",
    )


def start(options: Options) -> Table:
    """Measure whole processes, with an empty and with a warm cache."""
    gradient = "import numpy as np, net; net.{}.gradient(np.ones({}), np.zeros(100, int))"
    lecture = ["-c", gradient.format("TwoLayerNet(784, 50, 10)", "(100, 784)")]
    simple = ["-c", gradient.format("SimpleConvNet()", "(100, 1, 28, 28)")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "net", "--no-plot", "--output", folder]
        length = "100" if options.quick else "10000"
        jobs = {
            "`import net`": (["-c", "import net"], False),
            "the first `gradient`": (lecture, True),
            "the first `gradient` of SimpleConvNet": (simple, True),
            "`njitnet --iterations 1`": ([*command, "--iterations", "1"], True),
            "`njitnet`, float32": ([*command, "--iterations", length], False),
            "`njitnet --dtype float64`": (
                [*command, "--iterations", length, "--dtype", "float64"],
                False,
            ),
        }

        def seconds(arguments: list[str], cache: str) -> float:
            environment = os.environ | {"NUMBA_CACHE_DIR": cache}
            begin = perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment,
                           capture_output=True, check=True)  # fmt: skip
            return perf_counter() - begin

        for name, (arguments, cold) in tqdm(jobs.items(), unit="row", disable=None):
            empty = "-"
            if cold:
                with tempfile.TemporaryDirectory() as cache:
                    empty = number(seconds(arguments, cache))
            warm = os.path.join(folder, "cache")
            taken = [seconds(arguments, warm) for _ in range(1 + options.of(3))]
            rows.append([name, empty, number(min(taken[1:]))])
    return Table(
        ["whole process, seconds", "empty cache", "compiled before"],
        rows,
        "Includes the interpreter, imports, data and compilation. `njitnet` trains for 10,000 "
        "iterations with 17 evaluations, and saves the network.",
    )


# ------------------------------------------------------------------------------------- command line
TABLES: dict[str, Callable[[Options], Table]] = {
    "affine": affine,
    "elementwise": elementwise,
    "loop": loop,
    "train": train,
    "networks": networks,
    "convolution": convolution,
    "busy": busy,
    "start": start,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    summary = str(__doc__).partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=summary)
    names = [*TABLES, "scaling"]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(names)}; default: all"
    )
    parser.add_argument("--docs", action="store_true", help="write into docs/")
    parser.add_argument("--quick", action="store_true", help="a few rows, to see that it runs")
    parser.add_argument("--rounds", type=int, help="by default each table's own number")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"argument --rounds: expected 1 or more, got {options.rounds}")
    for name in options.names:
        if name not in names:
            parser.error(f"argument NAME: expected one of {', '.join(names)}, got {name}")
    print(_report.machine())
    for name in options.names or names:
        begin, neighbours = perf_counter(), _report.Neighbours()
        if name == "scaling":
            scaling.main(options.quick, options.docs)
        else:
            table = TABLES[name](Options(options.quick, options.rounds))
            print(f"\n{name}\n{_report.plain(table.header, table.rows)}\n{table.note}")
            if options.docs:
                source = f"By `python -m benchmarks.tables {name}` on {_report.machine()}."
                text = [_report.markdown(table.header, table.rows), table.note, source]
                _report.fill(name, "\n\n".join(text), DOCS)
        print(f"{perf_counter() - begin:.0f} s. {neighbours.report()}", flush=True)


if __name__ == "__main__":
    main()

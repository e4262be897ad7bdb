"""A table of the kernels beside NumPy, PyTorch and JAX: ``python -m benchmarks.affine``.

All take turns in one process, round after round, on one thread and on all. A library's block of
calls begins when no thread of the one before is still spinning, and with calls that do not count.
Those of PyTorch and JAX that are not installed are left out. The best block of all rounds counts:
what else runs on the machine makes blocks slower, never faster.

The others' elementwise operations are their own: PyTorch's ReLU makes no mask, its cross-entropy
gives no probabilities.

The peak that a processor's multiply-add units can reach is measured beside it, by a loop of nothing
else in vector registers, and so is the speed of a large copy in memory.
"""

import argparse
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from tqdm import tqdm

import kernels
from benchmarks import _peers
from kernels.tile import VECTOR_BYTES, element_type

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]

SHAPES = [
    (1, 784, 50),
    (100, 784, 50),
    (100, 50, 10),
    (1000, 784, 50),
    (10000, 784, 50),
    (60000, 784, 50),
    (100, 784, 1024),
    (256, 1024, 1024),
    (1024, 1024, 1024),
]
QUICK_SHAPES = [(1, 784, 50), (100, 784, 50), (100, 50, 10), (1000, 784, 50), (256, 1024, 1024)]
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
DTYPES = ["float32", "float64"]


# ------------------------------------------------------------------------------------- contestants
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


def libraries() -> list[Library]:
    """Return ours and those that are installed."""
    peers = {"torch": _torch, "jax": _jax}
    found = [make() for name, make in peers.items() if _peers.installed([name])]
    return [_ours(), _numpy(), *found]  # NumPy's looks at the thread pools that are there


# --------------------------------------------------------------------------------------- the limits
CHAINS = 12


@intrinsic
def _chains(context: Any, count: Any, factor: Any, term: Any) -> Any:
    # `CHAINS` vectors that are each multiplied and added to `count` times, in registers: so many
    # that the units never wait for a result, so few that no processor has to put one in memory.
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(element_type(factor), 8 * VECTOR_BYTES // factor.bitwidth)
        name = f"llvm.fmuladd.v{vector.count}f{factor.bitwidth}"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )
        lanes = [ir.Constant(ir.IntType(32), i) for i in range(vector.count)]
        operands = []
        for arg in args[1:]:
            filled: Any = ir.Constant(vector, ir.Undefined)
            for lane in lanes:
                filled = builder.insert_element(filled, arg, lane)
            operands.append(filled)
        ones = ir.Constant(vector, [1.0] * vector.count)
        sums = [cgutils.alloca_once_value(builder, ones) for _ in range(CHAINS)]
        with cgutils.for_range(builder, args[0]):
            for s in sums:
                builder.store(builder.call(fma, [builder.load(s), *operands]), s)
        total = builder.load(sums[0])
        for s in sums[1:]:
            total = builder.fadd(total, builder.load(s))
        result = builder.extract_element(total, lanes[0])
        for lane in lanes[1:]:
            result = builder.fadd(result, builder.extract_element(total, lane))
        return result

    return factor(types.intp, factor, factor), emit


@numba.njit(nogil=True)
def fma_chains(count: int, factor: Any, term: Any) -> Any:
    """Multiply and add `count` times in each of `CHAINS` vectors, and return the sum of all."""
    return _chains(count, factor, term)


def on_threads(threads: int, work: Callable[[int], Any]) -> float:
    """Return the seconds from when all threads begin to when the last is done."""
    together = threading.Barrier(threads)
    times: list[tuple[float, float]] = []

    def run(i: int) -> None:
        together.wait()
        begin = perf_counter()
        work(i)
        times.append((begin, perf_counter()))

    crew = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    begins, ends = zip(*times, strict=True)
    return max(ends) - min(begins)


def peak_flops(dtype: str, threads: int, duration: float = 0.01) -> float:
    """Return the multiplications and additions a second that the processor can do.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    threads : int
    duration : float, default 0.01
        About how many seconds to measure.

    Returns
    -------
    float
    """
    half = np.dtype(dtype).type(0.5)
    fma_chains(1, half, half)
    once = 2 * CHAINS * VECTOR_BYTES // half.itemsize
    count = int(duration * 100e9 / once)  # as if 100 GFLOP/s, to begin with
    count = max(1, int(count * duration / on_threads(1, lambda i: fma_chains(count, half, half))))
    return max(
        threads * once * count / on_threads(threads, lambda i: fma_chains(count, half, half))
        for _ in range(10)
    )


def copy_speed(threads: int, megabytes: int = 64) -> float:
    """Return the bytes a second, read and written, of copies too large for any cache.

    Parameters
    ----------
    threads : int
    megabytes : int, default 64
        What each thread reads.

    Returns
    -------
    float
    """
    size = megabytes << 17
    pairs = [(np.ones(size), np.ones(size)) for _ in range(threads)]
    seconds = min(
        on_threads(threads, lambda i: np.copyto(pairs[i][0], pairs[i][1])) for _ in range(3)
    )
    return threads * 16 * size / seconds


# ---------------------------------------------------------------------------------------- measuring
@dataclass
class Row:
    """One operation on one shape, and how long each contestant took in each round.

    Attributes
    ----------
    operation, dtype : str
    shape : tuple of int
    seconds : dict of (str, int) to list of float
        By library and number of threads, a call's seconds in each round.
    """

    operation: str
    dtype: str
    shape: tuple[int, ...]
    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def best(self, name: str, threads: int | None = None) -> float | None:
        """Return the seconds of a library's best round, on so many threads or the best number."""
        found = [
            second
            for (library, n), seconds in self.seconds.items()
            if library == name and threads in (None, n)
            for second in seconds
        ]
        return min(found, default=None)

    def winner(self) -> tuple[str, float]:
        """Return the quickest of the others, and its seconds."""
        names = {name for name, _ in self.seconds} - {"ours"}
        return min(((name, self.best(name) or 0.0) for name in names), key=lambda pair: pair[1])

    def ratio(self) -> float:
        """Return how many times ours is as quick as the quickest of the others."""
        return self.winner()[1] / (self.best("ours") or np.inf)

    def our_threads(self) -> int:
        """Return on how many threads ours is quickest."""
        counts = [n for name, n in self.seconds if name == "ours"]
        return min(counts, key=lambda n: self.best("ours", n) or 0.0)

    def spread(self) -> float:
        """Return the median of our rounds by the best one, on the best number of threads."""
        seconds = self.seconds["ours", self.our_threads()]
        return float(np.median(seconds)) / min(seconds)

    def work(self) -> float:
        """Return the floating-point operations of a matrix product, or the bytes of the rest."""
        if self.operation in PASSES:
            n, d, m = self.shape
            return (2.0 if self.operation == "affine_forward" else 4.0) * n * d * m
        arrays = arguments(self.operation, self.shape, self.dtype)
        result = getattr(kernels, self.operation)(*arrays)
        results = result if isinstance(result, tuple) else (result,)
        return float(sum(np.asarray(a).nbytes for a in (*arrays, *results)))


@dataclass
class Limits:
    """What the processor and the memory can do at most.

    Attributes
    ----------
    flops : dict of (str, int) to float
        Floating-point operations a second, by dtype and number of threads.
    copy : dict of int to float
        Bytes a second by number of threads.
    """

    flops: dict[tuple[str, int], float] = field(default_factory=dict)
    copy: dict[int, float] = field(default_factory=dict)

    def measure(self, dtypes: Sequence[str], threads: Sequence[int]) -> None:
        """Measure again, and keep the best."""
        for n in threads:
            for dtype in dtypes:
                self.flops[dtype, n] = max(self.flops.get((dtype, n), 0), peak_flops(dtype, n))
            self.copy[n] = max(self.copy.get(n, 0), copy_speed(n))


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


def take_turns(
    rows: Sequence[Row], contestants: Sequence[Library], threads: Sequence[int], duration: float
) -> None:
    """Measure all rows once, the contestants in turn.

    Parameters
    ----------
    rows : sequence of Row
        They get the figures.
    contestants : sequence of Library
    threads : sequence of int
    duration : float
        Seconds for a block of calls, if a call takes less.
    """
    for row in rows:
        arrays = arguments(row.operation, row.shape, row.dtype)
        for n in threads:
            for library in contestants:
                if n not in library.settings(row.operation, threads):
                    continue
                with library.limit(n):
                    converted = [library.convert(a) for a in arrays]
                    call = library.operations[row.operation](*converted)
                    _peers.settle()
                    took = _peers.seconds_a_call(call, duration)
                row.seconds.setdefault((library.name, n), []).append(took)


def measure(
    rows: Sequence[Row], threads: Sequence[int], rounds: int, duration: float
) -> tuple[list[Library], Limits]:
    """Measure all rows, round after round.

    A round goes through all rows, so that the rounds of one row lie apart and what else runs for a
    while does not spoil all of them.

    Parameters
    ----------
    rows : sequence of Row
        They get the figures.
    threads : sequence of int
    rounds : int
    duration : float
        Seconds for a block of calls.

    Returns
    -------
    contestants : list of Library
    limits : Limits
    """
    contestants, limits = libraries(), Limits()
    dtypes = sorted({row.dtype for row in rows})
    with tqdm(total=rounds * len(rows), unit="row", disable=None) as bar:
        for _ in range(rounds):
            _peers.settle()
            limits.measure(dtypes, threads)
            for row in rows:
                take_turns([row], contestants, threads, duration)
                bar.update()
    return contestants, limits


# ------------------------------------------------------------------------------------------- tables
def _figures(
    row: Row, columns: Sequence[tuple[str, int]], figure: Callable[[float], float]
) -> list[str]:
    """Return a cell for each library and number of threads."""
    seconds = [row.best(*column) for column in columns]
    return [_peers.number(None if s is None else figure(s)) for s in seconds]


def _columns(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return libraries and numbers of threads in the order in which they were measured."""
    names: list[tuple[str, int]] = []
    for row in rows:
        names += [column for column in row.seconds if column not in names]
    order = list(dict.fromkeys(name for name, _ in names))
    return sorted(names, key=lambda column: (order.index(column[0]), column[1]))


def as_text(rows: Sequence[Row], limits: Limits) -> str:
    """Return the tables of all rows, for a terminal.

    Parameters
    ----------
    rows : sequence of Row
    limits : Limits

    Returns
    -------
    str
    """
    blocks = []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        title = row.operation if row.operation in PASSES else "elementwise"
        groups.setdefault((title, row.dtype), []).append(row)
    for (title, dtype), group in groups.items():
        columns = _columns(group)
        threads = sorted({n for name, n in columns if name == "ours"})
        names = [f"{name} {n}" for name, n in columns]
        if title in PASSES:
            blocks.append(
                f"{title}, {dtype}, GFLOP/s. Peak: "
                + ", ".join(_on(n, limits.flops[dtype, n] / 1e9, "GFLOP/s") for n in threads)
            )
            header = ["(N, D, M)", *names, *(f"of peak {n}" for n in threads)]
        else:
            blocks.append(
                f"{title}, {dtype}, microseconds, and what ours reads and writes. Copy in memory: "
                + ", ".join(_on(n, limits.copy[n] / 1e9, "GB/s") for n in threads)
            )
            header = ["", *names, *(f"GB/s {n}" for n in threads)]
        lines = []
        for row in group:
            ours, work = [row.best("ours", n) or np.inf for n in threads], row.work()
            if title in PASSES:
                line = [str(row.shape), *_figures(row, columns, lambda s, w=work: w / s / 1e9)]
                line += [
                    f"{work / s / limits.flops[dtype, n]:.0%}"
                    for n, s in zip(threads, ours, strict=True)
                ]
            else:
                line = [f"{row.operation} {row.shape}", *_figures(row, columns, lambda s: s * 1e6)]
                line += [_peers.number(work / s / 1e9) for s in ours]
            lines.append([*line, f"{row.ratio():.2f}", row.winner()[0], f"{row.spread():.2f}"])
        blocks.append(_peers.plain([*header, "ratio", "to", "spread"], lines))
    return "\n\n".join(blocks)


def _on(threads: int, figure: float, unit: str) -> str:
    """Name a figure and the number of threads."""
    return f"{_peers.number(figure)} {unit} on {threads} thread{'s' * (threads > 1)}"


def as_markdown(rows: Sequence[Row], limits: Limits) -> str:
    """Return the short table for the README.

    Parameters
    ----------
    rows : sequence of Row
    limits : Limits

    Returns
    -------
    str
    """
    forward = [row for row in rows if row.operation == "affine_forward"]
    backward = [row.ratio() for row in rows if row.operation == "affine_backward"]
    dtypes = list(dict.fromkeys(row.dtype for row in forward))
    header = ["N, D, M"]
    for dtype in dtypes:
        header += [dtype, "best other", "ratio", "of peak"]
    lines: dict[tuple[int, ...], list[str]] = {}
    for row in forward:
        (name, other), ours, n = row.winner(), row.best("ours") or np.inf, row.our_threads()
        lines.setdefault(row.shape, [", ".join(map(str, row.shape))]).extend(
            [
                _peers.number(row.work() / ours / 1e9),
                f"{_peers.number(row.work() / other / 1e9)} {name}",
                f"**{row.ratio():.2f}**",
                f"{row.work() / ours / limits.flops[row.dtype, n]:.0%}",
            ]
        )
    text = [_peers.markdown(header, lines.values())]
    text.append(
        "GFLOP/s of `x W + b` with x (N, D) and W (D, M), each library on its best number of "
        "threads; the peak is that of a loop of nothing but multiply-adds in registers, on as many "
        "threads as ours."
    )
    if backward:
        text[-1] += (
            f" The gradients in the same run: ratio {min(backward):.2f} to {max(backward):.2f}."
        )
    text.append(f"By `python -m benchmarks.affine` on {_peers.machine()}.")
    return "\n\n".join(text)


# ------------------------------------------------------------------------------------- command line
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.affine", description=_summary())
    parser.add_argument("--readme", action="store_true", help="put a short table into README.md")
    parser.add_argument("--quick", action="store_true", help="fewer shapes and rounds")
    parser.add_argument("--rounds", type=int, help="default: 4, or 2 if quick")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument(
        "--threads", nargs="+", type=int, default=sorted({1, all_threads()}), help="default: 1, all"
    )
    parser.add_argument(
        "--shape",
        nargs=3,
        type=int,
        action="append",
        metavar=("N", "D", "M"),
        help="only the affine kernels, and on this shape",
    )
    options = parser.parse_args(arguments)
    for n in options.threads:
        if not 1 <= n <= all_threads():
            parser.error(f"argument --threads: expected 1 to {all_threads()}, got {n}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"argument --rounds: expected 1 or more, got {options.rounds}")
    shapes, rounds, duration = (QUICK_SHAPES, 2, 0.01) if options.quick else (SHAPES, 4, 0.04)
    work = {name: [tuple(shape) for shape in options.shape or shapes] for name in PASSES}
    if not options.shape:
        work |= {name: s[:1] if options.quick else s for name, s in ELEMENTWISE.items()}
    rows = [
        Row(name, dtype, shape)
        for name, shapes in work.items()
        for dtype in options.dtype
        for shape in shapes
    ]
    rounds = options.rounds or rounds
    neighbours = _peers.Neighbours()
    _, limits = measure(rows, options.threads, rounds, duration)
    print(_peers.machine())
    print(
        f"Behind each library's name, its number of threads. The best of {rounds} rounds; ratio: "
        "of ours to the best other one, each on its best number of threads; spread: the median of "
        f"our rounds by the best. {neighbours.report()}"
    )
    print()
    print(as_text(rows, limits))
    if options.readme:
        _peers.fill("affine", as_markdown(rows, limits))


def _summary() -> str:
    return str(__doc__).partition("\n")[0]


if __name__ == "__main__":
    main()

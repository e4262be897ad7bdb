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
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import _peers
from benchmarks._affine_rows import Row, measure
from benchmarks._libraries import ELEMENTWISE, PASSES, all_threads
from benchmarks._limits import Limits

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
DTYPES = ["float32", "float64"]


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
    """Return the short table for docs/performance.md.

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
    parser.add_argument("--docs", action="store_true", help="fill in docs/performance.md")
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
    if options.docs:
        _peers.fill("affine", as_markdown(rows, limits))


def _summary() -> str:
    return str(__doc__).partition("\n")[0]


if __name__ == "__main__":
    main()

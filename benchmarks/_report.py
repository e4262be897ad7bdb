"""Tables as text and in the documentation, and what is said beside them."""

import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DISTRIBUTIONS = {"numba": "numba", "numpy": "numpy", "torch": "torch", "jax": "jax"}
"""The libraries in the tables, by what one imports."""


def installed(*names: str) -> bool:
    """Return whether all of some modules can be imported, without importing them."""
    return all(find_spec(name) for name in names)


def machine() -> str:
    """Return a line on processor, system and versions."""
    from kernels._vectors import VECTOR_BYTES  # where asv measures old commits it is not there

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
        processor = found[1].strip() if found else processor
    versions = [f"{d} {version(d)}" for name, d in DISTRIBUTIONS.items() if installed(name)]
    return (
        f"{processor}, {8 * VECTOR_BYTES}-bit vectors, {CORES} core{'s' * (CORES > 1)}, "
        f"{platform.system()}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


class Neighbours:
    """The share of the processor that other processes take: all that is used, less our own."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), self._others()

    def report(self) -> str:
        """Return a sentence on the time since the start; empty where the system does not tell."""
        begin, before = self._begin
        now = self._others()
        if before is None or now is None:
            return ""
        cores = max(0.0, (now - before) / (time.perf_counter() - begin))
        warning = ", too much to trust figures on several threads" if cores > 0.05 else ""
        return f"Other processes took {cores:.0%} of a core meanwhile{warning}."

    @staticmethod
    def _others() -> float | None:
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        user, nice, system, _, _, irq, softirq, steal, *_ = (
            int(ticks) for ticks in stat.read_text().partition("\n")[0].split()[1:]
        )
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - sum(os.times()[:4])


def plain(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in plain text, the first column to the left and the others to the right."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the same table in Markdown."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [header, rule, *rows])


def number(value: float | None) -> str:
    """Return a number with three significant digits, or a dash for none."""
    if value is None or value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def fill(name: str, text: str, path: Path) -> None:
    """Put text between ``<!-- table:name -->`` and the next ``<!-- end -->`` of a file.

    Raises ValueError if the file has no such place; it is not changed then.
    """
    before = path.read_text(encoding="utf-8")
    begin, end = f"<!-- table:{name} -->", "<!-- end -->"
    pattern = f"({re.escape(begin)}\n).*?({re.escape(end)})"
    after, count = re.subn(
        pattern, lambda found: f"{found[1]}{text.strip()}\n{found[2]}", before, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{path}: expected {begin} ... {end} once, found it {count} times")
    path.write_text(after, encoding="utf-8")

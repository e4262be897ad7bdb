"""Output of tables as text and in the documentation, with facts about the machine."""

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
"""Distributions of the libraries in the tables, by import name."""


def installed(*names: str) -> bool:
    """Return whether all the named modules can be imported, without importing them."""
    return all(find_spec(name) for name in names)


def machine() -> str:
    """Return a line that describes the processor, the system and the versions."""
    from kernels._vectors import VECTOR_BYTES  # missing in old commits, which asv measures

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
    """Processor time of other processes: that of the whole system minus that of this process."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), self._others()

    def report(self) -> str:
        """Return a sentence on the use since the start; empty if the system does not report it."""
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
    """Return a table in plain text, the first column left-aligned, the others right-aligned."""
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
    """Return a table in Markdown, with the alignment of `plain`."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [header, rule, *rows])


def number(value: float | None) -> str:
    """Return a number with three significant digits, or a dash for None and NaN."""
    if value is None or value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def fill(name: str, text: str, path: Path) -> None:
    """Replace the text between ``<!-- table:name -->`` and the next ``<!-- end -->`` of a file.

    Raises ValueError, and leaves the file unchanged, unless it has exactly one such place.
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

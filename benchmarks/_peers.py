"""What the two table programs share: taking turns, and putting tables into text and docs.

Nothing here imports NumPy, Numba or another library by itself. The process that starts the others
for the training table stays small by that: on Linux a child's peak memory counts from its parent's.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

DISTRIBUTIONS = {
    "numba": "numba",
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax",
    "sklearn": "scikit-learn",
}
"""The libraries in the tables, by what one imports."""


def installed(names: Iterable[str] = DISTRIBUTIONS) -> list[str]:
    """Return which of some libraries are installed, without importing them.

    Parameters
    ----------
    names : iterable of str, optional
        What one imports; by default all in the tables.

    Returns
    -------
    list of str
    """
    return [name for name in names if find_spec(name)]


def machine() -> str:
    """Return one line on processor, system and versions, for beside a table.

    Returns
    -------
    str
    """
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
        processor = found[1].strip() if found else processor
    cores = os.cpu_count() or 1
    versions = [f"{DISTRIBUTIONS[name]} {version(DISTRIBUTIONS[name])}" for name in installed()]
    return (
        f"{processor}, {cores} core{'s' * (cores > 1)}, {platform.system()}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


# ------------------------------------------------------------------------------------------ turns
def settle(pause: float = 0.01, longest: float = 0.5) -> float:
    """Wait until no thread of this process runs any more.

    Threads that have nothing to do go on spinning for a while in case more work comes: OpenMP's for
    some milliseconds, OpenBLAS's for 130. On two cores an affine layer that takes our two threads
    45 us took them 137 right after a product on OpenBLAS's two, and 45 again after this wait.

    Parameters
    ----------
    pause : float, default 0.01
        Seconds between two looks at the clock of the process's own processor time.
    longest : float, default 0.5
        Seconds after which the wait is given up.

    Returns
    -------
    float
        The seconds waited.
    """
    begin, used, quiet = time.perf_counter(), time.process_time(), 0
    # Twice, since on a busy machine a thread may spin and not get a core for a while.
    while quiet < 2 and time.perf_counter() - begin < longest:
        time.sleep(pause)
        before, used = used, time.process_time()
        quiet = quiet + 1 if used - before < pause / 10 else 0
    return time.perf_counter() - begin


def seconds_a_call(call: Callable[[], Any], duration: float) -> float:
    """Return how long a call takes, as the median of a few samples after some calls to warm up.

    Parameters
    ----------
    call : callable
    duration : float
        Seconds that all samples together may take, if one call takes less.

    Returns
    -------
    float
    """
    clock = time.perf_counter
    call()  # this one may compile
    begin, calls = clock(), 0
    while not calls or clock() - begin < duration / 4:
        call()
        calls += 1
    one = (clock() - begin) / calls
    samples = max(1, min(5, int(duration / one)))
    number = max(1, int(duration / samples / one))
    taken = []
    for _ in range(samples):
        begin = clock()
        for _ in range(number):
            call()
        taken.append((clock() - begin) / number)
    return median(taken)


class Neighbours:
    """How much of the processor other processes take: all that is used less our own."""

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


# ------------------------------------------------------------------------------------------- text
def plain(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in plain text, the first column to the left and the others to the right.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence

    Returns
    -------
    str
    """
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
    """Return the same table in Markdown.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence

    Returns
    -------
    str
    """
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [header, rule, *rows])


def number(value: float | None) -> str:
    """Return a number with three digits that count, or a dash for none.

    Parameters
    ----------
    value : float or None

    Returns
    -------
    str
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def fill(name: str, text: str, path: Path | None = None) -> None:
    """Put text between ``<!-- table:name -->`` and the next ``<!-- end -->`` of a file.

    Parameters
    ----------
    name : str
    text : str
    path : Path, optional
        By default the page on performance.

    Raises
    ------
    ValueError
        If the file has no such place; it is not changed then.
    """
    path = path or PAGE
    before = path.read_text(encoding="utf-8")
    begin, end = f"<!-- table:{name} -->", "<!-- end -->"
    pattern = f"({re.escape(begin)}\n).*?({re.escape(end)})"
    after, count = re.subn(
        pattern, lambda found: f"{found[1]}{text.strip()}\n{found[2]}", before, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{path}: expected {begin} ... {end} once, found it {count} times")
    path.write_text(after, encoding="utf-8")

"""Plot of the speedup over NumPy of each commit: ``python -m benchmarks.tracking.history``.

njitnet and NumPy are measured alternately in one process, so the curves do not depend on the speed
of the machine.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asv.commands.compare import unroll_result
from asv.results import iter_results_for_machine

from benchmarks.tracking.check import ROOT
from benchmarks.tracking.pages import SHIPPED, collect, configuration

PICTURE = ROOT / "docs" / "images" / "history.png"
JOBS = {
    "DeepConvNet": "DeepConvNet, gradient and Adam",
    "SimpleConvNet": "SimpleConvNet, gradient and Adam",
    "TrainDeepAdam": "train, 784-100-100-10, Adam",
    "Train": "train, the lecture's network",
    "LectureLoop": "the lecture's own loop",
    "AffineForward": "affine layer, forward",
    "AffineBackward": "affine layer, gradients",
}
"""Classes of `bench_peers` whose ratios are plotted, with their labels."""


def speedups(results: Path, machine: str, dtype: str = "float32") -> dict[str, dict[str, float]]:
    """Return NumPy's time divided by njitnet's, by commit, the oldest first, and by job.

    Jobs and commits without measurements are left out.
    """
    wanted = {f"bench_peers.{name}.track_ratio('numpy', '{dtype}')": name for name in JOBS}
    found: dict[str, dict[str, float]] = {}
    for result in sorted(iter_results_for_machine(str(results), machine), key=lambda r: r.date):
        here = found.setdefault(result.commit_hash, {})
        for key in result.get_all_result_keys():
            params = result.get_result_params(key)
            for row, value in unroll_result(key, params, result.get_result_value(key, params)):
                if row in wanted and value is not None and value == value:  # not skipped
                    here[wanted[row]] = 1 / value
    return {commit: of for commit, of in found.items() if of}


def keep(results: Path, folder: Path) -> None:
    """Copy results into a folder; benchmarks that only the folder has keep their description."""
    path = folder / "benchmarks.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    shutil.copytree(results, folder, dirs_exist_ok=True)
    path.write_text(json.dumps(known | json.loads(path.read_text(encoding="utf-8"))), "utf-8")


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Return ascending positions, moved up so that each is at least `apart` above the previous."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + apart) if moved else place)
    return moved


def draw(found: dict[str, dict[str, float]], path: Path) -> None:
    """Plot the speedups; raise ValueError if there are fewer than two commits."""
    if len(found) < 2:
        raise ValueError(f"expected results of two or more commits, found {len(found)}")
    import numpy as np
    from matplotlib import pyplot as plt

    places = {commit: place for place, commit in enumerate(found)}
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    lines = []
    for name, label in JOBS.items():
        points = [(places[commit], of[name]) for commit, of in found.items() if name in of]
        if points:
            (line,) = axes.plot(*zip(*points, strict=True), marker="o", markersize=4)
            lines.append((points[-1][1], f"{label}: {points[-1][1]:.1f}", line.get_color()))
    values = [value for of in found.values() for value in of.values()]
    low, high = min(0.9, *values), max(values)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.1, high * 1.2)
    ticks = [t for t in (0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if low / 1.1 <= t <= high * 1.2]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axhline(1, color="gray", linestyle="--", linewidth=1)
    axes.text(-0.25, 0.97, "NumPy", va="top", color="gray")
    lines.sort()
    # Height of a label, on the logarithmic axis.
    apart = 0.055 * np.log(1.32 * high / low)
    heights = spread([float(np.log(value)) for value, *_ in lines], float(apart))
    end = len(places) - 1
    for height, (_, text, color) in zip(heights, lines, strict=True):
        axes.text(1.01, np.exp(height), text, color=color, va="center",
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_xticks(range(len(places)), [commit[:7] for commit in places], rotation=45, ha="right")
    axes.set_xlim(-0.3, end + 0.3)
    axes.set_title("Times as fast as NumPy, one thread, float32: higher is better", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plot the results of a machine."""
    prog = "python -m benchmarks.tracking.history"
    parser = argparse.ArgumentParser(prog=prog, description=str(__doc__).partition("\n")[0])
    parser.add_argument("machine", help="the name that its results have")
    parser.add_argument("--keep", action="store_true", help=f"copy the results into {SHIPPED}")
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        sources = [SHIPPED, ROOT / configuration().results_dir]
        if not collect(options.machine, results, sources):
            names = sorted({p.parent.name for s in sources for p in s.glob("*/machine.json")})
            parser.error(f"argument machine: expected {' or '.join(names)}, got {options.machine}")
        found = speedups(results, options.machine)
        draw(found, options.output)
        if options.keep:
            keep(results, SHIPPED)
    print(f"{options.output}: {len(found)} commits")


if __name__ == "__main__":
    main()

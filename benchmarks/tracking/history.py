"""Draw our time by NumPy's over the commits: ``python -m benchmarks.tracking.history MACHINE``.

Both were measured in turn in one process, so the curves do not move with the speed of the machine.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asv.commands.compare import unroll_result
from asv.config import Config
from asv.results import iter_results_for_machine

from benchmarks.tracking.check import ROOT

PICTURE = ROOT / "docs" / "images" / "history.png"
JOBS = {
    "bench_peers.Train": "train",
    "bench_peers.LectureLoop": "the lecture's loop",
    "bench_peers.AffineForward": "affine, forward",
    "bench_peers.AffineBackward": "affine, gradients",
}
"""The benchmarks whose ratios are drawn."""


def ratios(results: Path, machine: str, dtype: str = "float32") -> dict[str, dict[str, float]]:
    """Return the ratios to NumPy.

    Parameters
    ----------
    results : Path
        The folder that asv keeps them in.
    machine : str
    dtype : {"float32", "float64"}

    Returns
    -------
    dict of str to dict of str to float
        By commit, the oldest first, and by benchmark. What was not measured is left out.
    """
    wanted = {f"{name}.track_ratio('numpy', '{dtype}')": name for name in JOBS}
    found: dict[str, dict[str, float]] = {}
    for result in sorted(iter_results_for_machine(str(results), machine), key=lambda r: r.date):
        ratios = found.setdefault(result.commit_hash, {})
        for key in result.get_all_result_keys():
            params = result.get_result_params(key)
            for row, value in unroll_result(key, params, result.get_result_value(key, params)):
                if row in wanted and value is not None and value == value:  # not skipped
                    ratios[wanted[row]] = value
    return {commit: of for commit, of in found.items() if of}


def draw(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw them.

    Parameters
    ----------
    found : dict
        From `ratios`.
    path : Path

    Raises
    ------
    ValueError
        If there are less than two commits.
    """
    if len(found) < 2:
        raise ValueError(f"expected results of two or more commits, found {len(found)}")
    from matplotlib import pyplot as plt

    places = {commit: place for place, commit in enumerate(found)}
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, label in JOBS.items():
        points = [(places[commit], of[name]) for commit, of in found.items() if name in of]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
    axes.axhline(1, color="gray", linestyle="--", linewidth=1)
    axes.annotate("NumPy", (0, 1), xytext=(0, 3), textcoords="offset points", color="gray")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 5) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xticks(range(len(places)), [commit[:7] for commit in places], rotation=45, ha="right")
    axes.set_xlabel("commit")
    axes.set_ylabel("time by NumPy's, one thread, float32")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the results of a machine.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    summary = str(__doc__).partition("\n")[0]
    prog = "python -m benchmarks.tracking.history"
    parser = argparse.ArgumentParser(prog=prog, description=summary)
    parser.add_argument("machine", help="the name that its results have")
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    results = ROOT / Config.load(str(ROOT / "asv.conf.json")).results_dir
    if not (results / options.machine).is_dir():
        names = sorted(path.parent.name for path in results.glob("*/machine.json"))
        parser.error(f"argument machine: expected one of {', '.join(names)}, got {options.machine}")
    found = ratios(results, options.machine)
    draw(found, options.output)
    print(f"{options.output}: {len(found)} commits")


if __name__ == "__main__":
    main()

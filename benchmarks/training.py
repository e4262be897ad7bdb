"""A table of training on MNIST beside other libraries: ``python -m benchmarks.training``.

The job is the lecture's: 784-50-10, batches of 100 drawn with replacement, learning rate 0.1, the
loss of each batch before and after the update, the accuracies on both sets once an epoch.

Every contestant runs in a process of its own, so that no thread pool disturbs another one, and all
take turns, round after round. Ours does the whole job. The others do fewer iterations; these and
the evaluations are timed apart, and each is scaled to the whole job. The best round counts.

What is not the same in the others: scikit-learn draws without replacement and has only the one loss
before the update; NumPy and PyTorch get the images in the dtype in which they compute, which is
quicker for them and takes more memory.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks import _peers
from benchmarks._contestants import CONTESTANTS, do
from benchmarks._jobs import Entry, Job, Tables
from benchmarks._training_runs import main_jobs, measure, size_jobs


# ------------------------------------------------------------------------------------------- tables
def as_text(tables: Tables) -> str:
    """Return the tables for a terminal.

    Parameters
    ----------
    tables : Tables

    Returns
    -------
    str
    """
    ours = {dtype: tables.ours(dtype) for dtype in ("float32", "float64")}
    header = ["", "dtype", "threads", "measured", "seconds", "us/iteration"]
    header += ["to train f32", "to train f64", "accuracy", "import", "load", "compile"]
    header += ["peak MB", "spread"]
    lines = []
    for entry in tables.main:
        job, best = entry.job, entry.best()
        lines.append(
            [
                CONTESTANTS[job.who].title,
                job.dtype,
                job.threads,
                job.iterations,
                *_times(best.seconds, job),
                *(f"{best.seconds / o.seconds():.2f}" if o else "-" for o in ours.values()),
                "-" if best.accuracy is None else f"{best.accuracy:.4f}",
                *map(_peers.number, entry.start().values()),
                f"{entry.memory():.0f}",
                f"{entry.spread():.2f}",
            ]
        )
    job = tables.main[0].job
    blocks = [
        f"{job.of} iterations of 784-50-10, batches of 100, and {job.evaluations(job.of)} "
        "evaluations. Measured: iterations done, scaled to all. Import, load, compile or warm up: "
        "seconds before the first iteration.",
        _peers.plain(header, lines),
    ]
    blocks += [
        f"{CONTESTANTS[e.job.who].title}, {e.job.dtype}, {e.job.threads} threads allowed: "
        f"{e.best().note}"
        for e in tables.main
        if e.best().note and e.job.threads > 1
    ]
    header = ["whole process, seconds", "dtype", "import", "load", "compile", "train", "whole"]
    lines = []
    for dtype, cold in tables.cold.items():
        warm = ours[dtype]
        both = [("empty cache", cold), *([("warm cache", warm.process())] if warm else [])]
        for title, result in both:
            parts = [*result.start.values(), result.seconds, result.process]
            lines.append([title, dtype, *map(_peers.number, parts)])
    blocks.append(_peers.plain(header, lines))
    header = ["other sizes, float32", "batch", "data", "train s", "us/iteration"]
    header += ["NumPy s", "us/iteration", "ratio"]
    lines = []
    for job, mine, other in size_pairs(tables):
        times = [*_times(mine, job), *_times(other, job), _peers.number(other / mine)]
        lines.append([f"hidden {job.hidden}", job.batch, job.data, *times])
    blocks.append(_peers.plain(header, lines))
    return "\n\n".join(blocks)


def _times(seconds: float, job: Job) -> list[str]:
    """Return the seconds of a whole job, and the microseconds of an iteration."""
    return [_peers.number(seconds), _peers.number(seconds / job.of * 1e6)]


def size_pairs(tables: Tables) -> list[tuple[Job, float, float]]:
    """Return for each size the job, our seconds, and NumPy's on its best number of threads."""
    seconds: dict[tuple[int, int, str], dict[str, list[float]]] = {}
    jobs = {}
    for entry in tables.sizes:
        key = entry.job.hidden, entry.job.batch, entry.job.data
        jobs[key] = entry.job
        seconds.setdefault(key, {}).setdefault(entry.job.who, []).append(entry.seconds())
    return [
        (job, *(min(seconds[key][who]) for who in ("train", "numpy"))) for key, job in jobs.items()
    ]


def as_markdown(tables: Tables) -> str:
    """Return the short table for docs/performance.md.

    Parameters
    ----------
    tables : Tables

    Returns
    -------
    str
    """
    ours = {dtype: tables.ours(dtype) for dtype in ("float32", "float64")}
    best: dict[tuple[str, str], Entry] = {}
    for entry in tables.main:
        key = entry.job.who, entry.job.dtype
        # Ours is on the default; the others are on their best number of threads.
        if key not in best or (key[0] != "train" and entry.seconds() < best[key].seconds()):
            best[key] = entry
    lines = []
    for (who, dtype), entry in best.items():
        result, mine = entry.best(), ours[dtype]
        title = CONTESTANTS[who].title
        lines.append(
            [
                "`net.train`" if who == "train" else title,
                dtype,
                *_times(result.seconds, entry.job),
                f"{result.seconds / mine.seconds():.1f}" if mine else "-",
                _peers.number(sum(entry.start().values())),
                f"{entry.memory():.0f}",
            ]
        )
    header = ["", "dtype", "seconds", "µs an iteration", "ratio to `net.train`"]
    header += ["start, s", "peak memory, MB"]
    job = tables.main[0].job
    text = [
        _peers.markdown(header, lines),
        f"{job.of:,} iterations and {job.evaluations(job.of)} evaluations of both accuracies. "
        "njitnet runs all of them; the other timings are extrapolated from fewer, each on its best "
        "number of threads. Start is what comes before the first iteration: imports, data, "
        "compiling or loading what is compiled.",
    ]
    text += [
        f"`net.train` in {dtype}: test accuracy {mine.best().accuracy:.4f}; the whole process "
        f"{mine.process().process:.1f} s, from an empty cache {cold.process:.1f} s, of which "
        f"{cold.start['compile']:.1f} s compile."
        for dtype, cold in tables.cold.items()
        if (mine := ours[dtype])
    ]
    sizes = [f"{_differs(job)} {other / mine:.1f}" for job, mine, other in size_pairs(tables)]
    if sizes:
        text.append(f"Ratio to NumPy for other sizes in float32: {', '.join(sizes)}.")
    text.append(f"By `python -m benchmarks.training` on {_peers.machine()}.")
    return "\n\n".join(text)


def _differs(job: Job) -> str:
    """Name what a job has other than the lecture's."""
    names = {"hidden": f"{job.hidden} hidden units", "batch": f"batch {job.batch}"}
    names["data"] = "data without zeros"
    return ", ".join(name for key, name in names.items() if getattr(job, key) != getattr(Job, key))


# ------------------------------------------------------------------------------------- command line
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    summary = str(__doc__).partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=summary)
    parser.add_argument("--docs", action="store_true", help="fill in docs/performance.md")
    parser.add_argument("--quick", action="store_true", help="fewer contestants, one round")
    parser.add_argument("--iterations", type=int, default=10_000, help="of the whole job")
    parser.add_argument("--rounds", type=int, help="default: 3, or 1 if quick")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in ("iterations", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"argument --{name}: expected 1 or more, got {value}")
    if options.job:
        print(json.dumps(asdict(do(Job(**json.loads(options.job))))))
        return
    neighbours = _peers.Neighbours()
    tables = measure(
        main_jobs(options.iterations, options.quick),
        size_jobs(options.iterations, options.quick),
        options.rounds or (1 if options.quick else 3),
    )
    print(_peers.machine())
    print(f"The best of each one's rounds; spread: their median by the best. {neighbours.report()}")
    print()
    print(as_text(tables))
    if options.docs:
        _peers.fill("training", as_markdown(tables))


if __name__ == "__main__":
    main()

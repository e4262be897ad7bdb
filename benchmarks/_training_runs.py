"""Which jobs the training table has, and how they take turns."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace

from tqdm import tqdm

from benchmarks import _peers
from benchmarks._contestants import CONTESTANTS, start
from benchmarks._jobs import CORES, Entry, Job, Result, Tables


def main_jobs(iterations: int, quick: bool) -> list[Job]:
    """Return the jobs of the main table, in the order in which they take turns.

    Parameters
    ----------
    iterations : int
    quick : bool

    Returns
    -------
    list of Job
    """
    dtypes, counts = ["float32", "float64"], sorted({1, CORES}, reverse=True)
    some = min(iterations, 300 if quick else 1200)
    jobs = []
    for dtype in dtypes:
        whole = Job("train", dtype, iterations=iterations, of=iterations)
        part = Job("numpy", dtype, iterations=some, of=iterations)
        if quick:
            jobs += [whole, *(replace(part, threads=n) for n in counts)]
            if dtype == "float32":
                jobs += [replace(whole, who="layers"), replace(part, who="jax")]
                jobs += [
                    replace(part, who=w, threads=n) for w in ("torch", "sklearn") for n in counts
                ]
            continue
        jobs += [replace(whole, threads=n) for n in counts]
        jobs.append(replace(whole, who="layers"))
        for who in ("numpy", "lean", "torch", "sklearn"):
            jobs += [replace(part, who=who, threads=n) for n in counts]
        jobs.append(replace(part, who="jax"))
    return [job for job in jobs if _peers.installed([CONTESTANTS[job.who].module])]


def size_jobs(iterations: int, quick: bool) -> list[Job]:
    """Return the jobs on other sizes and data.

    Parameters
    ----------
    iterations : int
    quick : bool

    Returns
    -------
    list of Job
    """
    base = Job("train", iterations=iterations, of=iterations)
    variants = [
        replace(base, hidden=32),
        replace(base, hidden=100),
        replace(base, hidden=512),
        replace(base, batch=1),
        replace(base, batch=1000),
        replace(base, data="random"),
    ]
    jobs = []
    for job in variants[-1:] if quick else variants:
        work = job.hidden * job.batch / 5000  # of the lecture's size
        some = min(iterations, max(100, int((200 if quick else 600) / work)), 6000)
        others = [replace(job, who="numpy", threads=n, iterations=some) for n in {1, CORES}]
        jobs += [job, *others]
    return jobs


def measure(
    main: Sequence[Job], sizes: Sequence[Job], rounds: int, cache: str | None = None
) -> Tables:
    """Run all jobs.

    Parameters
    ----------
    main, sizes : sequence of Job
        The second are run once only.
    rounds : int
    cache : str, optional
        The folder of Numba's compiled code. By default a new one, and then the jobs of `net.train`
        that come first are run once more before all others, to see what compiling costs.

    Returns
    -------
    Tables
    """
    tables = Tables([Entry(job) for job in main], {}, [Entry(job) for job in sizes])
    first: dict[str, Job] = {}
    if cache is None:
        for job in main:
            if job.who == "train":
                first.setdefault(job.dtype, job)
    total = len(first) + rounds * len(main) + len(sizes)
    with (
        tempfile.TemporaryDirectory() as empty,
        tqdm(total=total, unit="job", disable=None) as bar,
    ):

        def run(job: Job) -> Result:
            # One for each dtype, so that the second one too begins with nothing.
            folder = os.path.join(empty, job.dtype) if cache is None else cache
            result = start(job, folder)
            bar.update()
            return result

        tables.cold |= {dtype: run(job) for dtype, job in first.items()}
        for entries in [*[tables.main] * rounds, tables.sizes]:
            for entry in entries:
                entry.results.append(run(entry.job))
    return tables

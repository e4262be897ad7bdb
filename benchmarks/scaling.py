"""Scaling of distributed training, measured here and predicted for more ranks: table ``scaling``.

The script starts mpiexec, for one rank and for `RANKS` ranks, a power of two, each on one thread.
Strong scaling divides one batch among the ranks. In weak scaling each rank has the batch of a
single rank. The efficiency is the time of one rank divided by that of n ranks, and in strong
scaling also by n.

The model of an iteration on n ranks:

* Computation: ``overhead + share * per_example``, a line fitted to the times of one rank for
  batches of several sizes. The share is the number of examples of the busiest rank, since all ranks
  wait for it: the examples of a batch are drawn at random, so their number per rank varies.
* Allreduce of the gradient: the faster of recursive doubling, ``log2 n (latency + bytes (1 /
  bandwidth + add))``, and Rabenseifner's algorithm, ``2 log2 n latency + (n - 1) / n bytes (2 /
  bandwidth + add)``, where ``add`` is the time to add a byte. R. Thakur, R. Rabenseifner and
  W. Gropp, "Optimization of Collective Communication Operations in MPICH", International Journal of
  High Performance Computing Applications 19 (2005).

Latency and bandwidth of this machine are fitted to the measured times of Allreduce.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shutil import which
from statistics import median
from typing import Any, NamedTuple

from benchmarks import _report
from benchmarks._report import CORES, ROOT, number

DOCS = ROOT / "docs" / "scaling.md"
RANKS = max(2, 2 ** (CORES.bit_length() - 1))
BATCHES = {
    "784-50-10": (100, 6400),
    "784-1024-10": (100, 6400),
    "SimpleConvNet": (100, 400),
    "DeepConvNet": (100, 400),
}
"""Batch sizes over all ranks, by network."""
ONLY_PREDICTED = "784-8192-10"
FAR = (8, 64, 1024)  # ranks


class Network(NamedTuple):
    """Interconnect of the ranks: latency in seconds, bandwidth in bytes per second."""

    name: str
    latency: float
    bandwidth: float


NETWORKS = (
    Network("1 Gb/s Ethernet", 50e-6, 0.125e9),
    Network("25 Gb/s Ethernet", 15e-6, 3.1e9),
    Network("200 Gb/s InfiniBand", 1.5e-6, 25e9),
)
"""Typical latency and bandwidth of these interconnects, as seen by a program."""


# ---------------------------------------------------------------------------------------- measuring
class Job(NamedTuple):
    """Training of a network; `batch` is the batch size over all ranks."""

    network: str
    batch: int


def make(name: str) -> Any:
    """Return a network by its name."""
    import net

    options = {"dtype": "float32", "rng": 0}
    if name.startswith("784"):
        return net.TwoLayerNet(784, int(name.split("-")[1]), 10, **options)
    return getattr(net, name)(**options)


def work(jobs: Sequence[Job], sizes: Sequence[int], duration: float, alone: bool) -> dict[str, Any]:
    """Measure on all ranks of this MPI run, for about `duration` seconds per job.

    Returns the seconds of an iteration of each job, the seconds of Allreduce by bytes, the seconds
    to add a byte, and the version of the MPI library. With `alone` the jobs run without MPI.
    """
    import numpy as np
    from mpi4py import MPI

    from kernels._threads import Team
    from net import SGD, load_mnist
    from net.processes import processes
    from net.training_run import TrainingRun

    comm = MPI.COMM_WORLD
    (x, t), _ = load_mnist(part=None if alone else (comm.rank, comm.size))

    def iteration(job: Job) -> float:
        data = x if job.network.startswith("784") else x.reshape(-1, 1, 28, 28)
        rng = np.random.default_rng(0)
        with processes(None if alone else comm) as group, Team() as team:
            run = TrainingRun(make(job.network), [(data, t)], SGD(0.01), job.batch, rng, group)
            run.begin()
            run.start(team, 0)
            run.advance(1)
            seconds, count = [], 1
            while len(seconds) < 5:
                comm.Barrier()
                begin = time.perf_counter()
                run.advance(run.done + count)
                taken = comm.bcast((time.perf_counter() - begin) / count)
                if count * taken > duration / 10 or count >= 1000:
                    seconds.append(taken)
                else:
                    count = max(2 * count, int(duration / 5 / taken))
        return min(seconds)

    def allreduce(size: int) -> float:
        message = np.zeros(max(1, size // 4), np.float32)
        samples = []
        for _ in range(30):
            comm.Barrier()
            begin = time.perf_counter()
            comm.Iallreduce(MPI.IN_PLACE, message).Wait()
            samples.append(time.perf_counter() - begin)
        return median(samples)

    a, b = np.zeros((2, 2**20), np.float32)
    adding = []
    for _ in range(30):
        begin = time.perf_counter()
        np.add(a, b, out=a)
        adding.append(time.perf_counter() - begin)
    return {
        "jobs": [[job, iteration(job)] for job in jobs],
        "allreduce": [[size, allreduce(size)] for size in sizes],
        "add": median(adding) / a.nbytes,
        "library": MPI.Get_library_version().split("\n")[0].split("\t")[0].split()[-1],
    }


def measure(
    ranks: int, jobs: Sequence[Job], sizes: Sequence[int], duration: float, threads: int = 0
) -> dict[str, Any]:
    """Run `work` on `ranks` ranks; with `threads`, train without MPI on that many threads."""
    mpiexec = which(
        "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if mpiexec is None:
        raise FileNotFoundError("mpiexec: expected an MPI; pip install 'njitnet[mpi]'")
    text = json.dumps([jobs, sizes, duration, threads > 0])
    done = subprocess.run(
        [mpiexec, "-n", str(ranks), sys.executable, "-m", "benchmarks.scaling", text],
        cwd=ROOT,
        env={**os.environ, "NUMBA_NUM_THREADS": str(max(1, threads))},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    seen["jobs"] = {Job(*job): seconds for job, seconds in seen["jobs"]}
    return seen


# ---------------------------------------------------------------------------------------- the model
def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit the line ``a + b x`` to points by relative error, with `a` and `b` not negative."""
    # Minimise the sum of squares of (a + b x) / y - 1.
    n = [1 / y for _, y in points]
    m = [x / y for x, y in points]
    nn, nm, mm = (
        sum(p * q for p, q in zip(*pair, strict=True)) for pair in ((n, n), (n, m), (m, m))
    )
    determinant = nn * mm - nm * nm
    a = (sum(n) * mm - sum(m) * nm) / determinant if determinant else -1.0
    b = (sum(m) * nn - sum(n) * nm) / determinant if determinant else -1.0
    if a < 0:
        return 0.0, sum(m) / mm
    return (sum(n) / nn, 0.0) if b < 0 else (a, b)


def allreduce(ranks: int, size: float, network: Network, add: float) -> float:
    """Return the predicted seconds of Allreduce of `size` bytes, by the formulas of the module."""
    rounds, byte = math.ceil(math.log2(ranks)), 1 / network.bandwidth
    doubling = rounds * (network.latency + size * (byte + add))
    rabenseifner = 2 * rounds * network.latency + (ranks - 1) / ranks * size * (2 * byte + add)
    return min(doubling, rabenseifner)


def busiest(batch: int, ranks: int) -> float:
    """Return the expected number of examples of the busiest rank, by simulation."""
    import numpy as np

    drawn = np.random.default_rng(0).multinomial(batch, [1 / ranks] * ranks, 1000)
    return float(drawn.max(axis=1).mean())


@dataclass
class Model:
    """Model of the time of an iteration.

    Attributes
    ----------
    compute : dict of str to (float, float)
        For each network, the overhead of an iteration and the time per example, in seconds.
    parameters : dict of str to int
        Number of parameters of each network.
    here : Network
        Fitted latency and bandwidth between the ranks of this machine.
    add : float
        Seconds to add a byte.
    """

    compute: dict[str, tuple[float, float]]
    parameters: dict[str, int]
    here: Network
    add: float

    def seconds(self, job: Job, ranks: int, network: Network) -> float:
        """Return the predicted seconds of an iteration."""
        overhead, example = self.compute[job.network]
        return overhead + example * busiest(job.batch, ranks) + self.message(job, ranks, network)

    def message(self, job: Job, ranks: int, network: Network) -> float:
        """Return the predicted seconds of the Allreduce of an iteration."""
        add = 0.0 if network is self.here else self.add  # the fitted bandwidth includes it
        size = 4 * self.parameters[job.network]
        return allreduce(ranks, size, network, add) if ranks > 1 else 0.0

    def efficiency(self, job: Job, ranks: int, network: Network, weak: bool) -> float:
        """Return the predicted efficiency; in weak scaling, each rank has the batch of `job`."""
        one = self.seconds(job, 1, network)
        if weak:
            return one / self.seconds(Job(job.network, job.batch * ranks), ranks, network)
        return one / self.seconds(job, ranks, network) / ranks


# ---------------------------------------------------------------------------------------- all of it
class Results(NamedTuple):
    """Seconds by job of one rank, of all ranks, and of `train` by number of threads; the model."""

    one: dict[Job, float]
    all: dict[Job, float]
    train: dict[int, dict[Job, float]]
    jobs: Sequence[Job]
    model: Model
    library: str


def run(batches: dict[str, tuple[int, ...]], far: str, duration: float) -> Results:
    """Run the measurements, and fit the model."""
    jobs = [Job(name, batch) for name, each in batches.items() for batch in each]
    weak = [Job(name, batch * RANKS) for name, batch in jobs]
    fitted = [Job(name, max(1, batch // 4)) for name, batch in jobs]
    fitted += [Job(far, 25), Job(far, 100)]
    sizes = [4 * 4**k for k in range(13)]
    one = measure(1, list(dict.fromkeys([*jobs, *fitted])), [], duration)
    all_ranks = measure(RANKS, list(dict.fromkeys([*jobs, *weak])), sizes, duration)
    train = {t: measure(1, jobs, [], duration, t)["jobs"] for t in sorted({1, CORES})}
    names = [*batches, far]
    compute = {
        name: line([(job.batch, s) for job, s in one["jobs"].items() if job.network == name])
        for name in names
    }
    parameters = {name: sum(p.size for p in make(name).params.values()) for name in names}
    latency, byte = line(all_ranks["allreduce"])
    here = Network("this machine", latency, 1 / byte if byte else math.inf)
    model = Model(compute, parameters, here, one["add"])
    return Results(one["jobs"], all_ranks["jobs"], train, jobs, model, one["library"])


def strong(results: Results, job: Job) -> float:
    """Return the measured strong-scaling efficiency."""
    return results.one[job] / results.all[job] / RANKS


def weak(results: Results, job: Job) -> float:
    """Return the measured weak-scaling efficiency."""
    return results.one[job] / results.all[Job(job.network, job.batch * RANKS)]


def tables(results: Results) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the title, the header and the rows of each table."""
    model, threads = results.model, sorted(results.train)
    near = [
        [job.network, str(job.batch)]
        + [number(1e3 * results.train[t][job]) for t in threads]
        + [number(1e3 * results.one[job]), number(1e3 * results.all[job])]
        + [
            f"{results.one[job] / results.train[1][job]:.2f}",
            f"{results.train[1][job] / results.all[job] / RANKS:.0%}",
            f"{strong(results, job):.0%}",
            f"{model.efficiency(job, RANKS, model.here, False):.0%}",
            f"{weak(results, job):.0%}",
            f"{model.efficiency(job, RANKS, model.here, True):.0%}",
        ]
        for job in results.jobs
    ]
    last = {job.network: job.batch for job in results.jobs}
    most = max(last.values())
    far = [
        [name, network.name]
        + [
            f"{model.efficiency(Job(name, last.get(name, most)), n, network, is_weak):.0%}"
            for is_weak in (False, True)
            for n in FAR
        ]
        for name in model.compute
        for network in NETWORKS
    ]
    return [
        (
            "Milliseconds per iteration of one process without `comm` and of ranks, on one thread "
            "unless stated otherwise; the time of one rank divided by that of `train`; the "
            f"efficiency of {RANKS} ranks relative to `train`, and relative to one rank, measured "
            "and predicted",
            [
                *("network", "batch", *(f"`train`, {t} thread{'s' * (t > 1)}" for t in threads)),
                *("1 rank", f"{RANKS} ranks", "1 rank / `train`", "`train` / ranks"),
                *("strong", "predicted", "weak", "predicted"),
            ],
            near,
        ),
        (
            "Predicted efficiency by number of ranks: strong scaling with the larger batch, weak "
            "scaling with that batch per rank",
            ["network", "between ranks"]
            + [f"{kind}, {n}" for kind in ("strong", "weak") for n in FAR],
            far,
        ),
    ]


def facts(results: Results) -> str:
    """Return sentences on the parameters of the model."""
    model = results.model
    computing = "; ".join(
        f"{name} {1e3 * a:.3g} ms and {1e6 * b:.3g} µs an example"
        for name, (a, b) in model.compute.items()
    )
    networks = "; ".join(
        f"{each.name} {1e6 * each.latency:.3g} µs and {each.bandwidth / 1e9:.3g} GB/s"
        for each in (model.here, *NETWORKS)
    )
    return (
        f"Parameters of the model. One rank: {computing}. Latency and bandwidth: {networks}. "
        f"Addition of a gigabyte: {1e9 * model.add:.2g} s."
    )


def draw(results: Results, path: Path) -> None:
    """Plot the predicted efficiencies over the number of ranks, and the measured ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    model, last = results.model, {job.network: job for job in results.jobs}
    figure, grid = plt.subplots(
        2, len(last), figsize=(11, 5.5), sharex=True, sharey=True, layout="constrained"
    )
    many = [2**k for k in range(11)]
    for axes, is_weak in zip(grid, (False, True), strict=True):
        axes[0].set_ylabel(f"efficiency, {'weak' if is_weak else 'strong'}")
        for axis, job in zip(axes, last.values(), strict=True):
            for network, style in zip((*NETWORKS, model.here), (":", "--", "-", "-."), strict=True):
                curve = [model.efficiency(job, n, network, is_weak) for n in many]
                axis.plot(many, curve, style, label=network.name)
            measured = weak(results, job) if is_weak else strong(results, job)
            axis.plot(RANKS, measured, "ko", label="measured")
            axis.set_title(f"{job.network}, {job.batch}{' a rank' if is_weak else ' in all'}",
                           fontsize="medium")  # fmt: skip
            axis.set_xscale("log", base=2)
            axis.grid(alpha=0.3)
            axis.set_xlabel("ranks" if is_weak else "")
    grid[0][0].set_ylim(0)  # all axes share it, and with it the largest efficiency measured
    grid[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(quick: bool, docs: bool) -> None:
    """Measure and print the tables; with `docs`, write them to ``docs/scaling.md``, with a plot."""
    if quick:
        results = run({"784-8-10": (20, 60), "SimpleConvNet": (4, 8)}, "784-16-10", 0.02)
    else:
        results = run(BATCHES, ONLY_PREDICTED, 1.0)
    for title, header, rows in tables(results):
        print(title, _report.plain(header, rows), sep="\n", end="\n\n")
    print(facts(results))
    if docs:
        source = (
            f"By `python -m benchmarks.tables scaling --docs` on {_report.machine()}, "
            f"mpi4py {version('mpi4py')}, MPICH {results.library}."
        )
        parts = [f"{title}:\n\n{_report.markdown(*table)}" for title, *table in tables(results)]
        _report.fill("scaling", "\n\n".join([*parts, facts(results), source]), DOCS)
        draw(results, DOCS.parent / "images" / "scaling.png")


if __name__ == "__main__":  # run on each rank by `measure`
    _jobs, *_rest = json.loads(sys.argv[1])
    _seen = work([Job(*job) for job in _jobs], *_rest)
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(_seen))

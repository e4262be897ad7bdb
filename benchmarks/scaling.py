"""How training on ranks scales, measured here and predicted: ``python -m benchmarks.scaling``.

It starts mpiexec itself, for 1, 2, 4 ... ranks up to the number of cores, each on one thread.
Strong scaling shares one batch among the ranks; in weak scaling each rank has as many examples as
one rank alone. The efficiency is the time of one rank over that of n, in strong scaling divided by
n.

The model of an iteration on n ranks:

* computing: ``overhead + share * per_example``, a line through what one rank needs for batches of
  several sizes. The share is that of the busiest rank, since all wait for it: the examples of a
  batch are drawn at random, and so are their numbers in the parts.
* Allreduce of the gradient: of recursive doubling, ``log2 n (latency + bytes (1 / bandwidth +
  add))``, and Rabenseifner's algorithm, ``2 log2 n latency + (n - 1) / n bytes (2 / bandwidth +
  add)``, the quicker one; ``add`` is the time to add a byte. R. Thakur, R. Rabenseifner and
  W. Gropp, "Optimization of Collective Communication Operations in MPICH", International Journal of
  High Performance Computing Applications 19 (2005).

Latency and bandwidth of this machine are fitted to Allreduce as measured between two ranks.
"""

import argparse
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

from benchmarks import _peers

# NumPy, Numba and MPI are imported by the processes that use them.

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "scaling.md"
PIXELS, CLASSES, DTYPE = 784, 10, "float32"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
HIDDEN, BATCHES = (50, 1024), (100, 6400)
ONLY_PREDICTED = 8192  # hidden units
FAR = (8, 64, 1024)  # ranks


class Network(NamedTuple):
    """What connects the ranks: latency in seconds, bandwidth in bytes a second."""

    name: str
    latency: float
    bandwidth: float


NETWORKS = (
    Network("1 Gb/s Ethernet", 50e-6, 0.125e9),
    Network("25 Gb/s Ethernet", 15e-6, 3.1e9),
    Network("200 Gb/s InfiniBand", 1.5e-6, 25e9),
)
"""Round figures of what is sold under these names, as a program sees them."""


# ---------------------------------------------------------------------------------------- measuring
class Job(NamedTuple):
    """Iterations of one size; the batch is that of all ranks together."""

    hidden: int
    batch: int


def work(jobs: Sequence[Job], sizes: Sequence[int], duration: float, alone: bool) -> dict[str, Any]:
    """Measure on the ranks that this process is one of.

    Parameters
    ----------
    jobs : sequence of Job
    sizes : sequence of int
        Bytes of the messages of which Allreduce is timed.
    duration : float
        Seconds for each.
    alone : bool
        Whether to measure `net.train` as it works without MPI.

    Returns
    -------
    dict
        Seconds of an iteration of each job, of Allreduce of each size, and to add a byte.
    """
    import numpy as np
    from mpi4py import MPI

    from kernels._threads import Team
    from net import SGD, TwoLayerNet, load_mnist
    from net.processes import processes
    from net.training_run import TrainingRun

    comm = MPI.COMM_WORLD
    data, _ = load_mnist(part=None if alone else (comm.rank, comm.size))

    def iteration(job: Job) -> float:
        network = TwoLayerNet(PIXELS, job.hidden, CLASSES, dtype=DTYPE, rng=0)
        rng = np.random.default_rng(0)
        with processes(None if alone else comm) as group, Team() as team:
            run = TrainingRun(network, [data], SGD(0.01), job.batch, rng, group)
            run.begin()
            run.start(team)
            seconds, count = [], 2
            while len(seconds) < 5:
                comm.Barrier()
                begin = time.perf_counter()
                run.advance(run.done + count)
                taken = comm.bcast((time.perf_counter() - begin) / count)
                if count * taken > duration / 10 or count >= 1000:
                    seconds.append(taken)
                else:
                    count = max(2 * count, int(duration / 5 / taken))
        return median(seconds)

    def allreduce(size: int) -> float:
        message = np.zeros(max(1, size // 4), np.float32)

        def call() -> None:
            comm.Iallreduce(MPI.IN_PLACE, message).Wait()

        call()
        begin = time.perf_counter()
        call()
        count = comm.bcast(max(3, int(duration / 5 / (time.perf_counter() - begin))))
        samples = []
        for _ in range(5):
            comm.Barrier()
            begin = time.perf_counter()
            for _ in range(count // 5 + 1):
                call()
            samples.append((time.perf_counter() - begin) / (count // 5 + 1))
        return median(samples)

    a, b = np.zeros((2, 2**20), np.float32)
    return {
        "jobs": [[job, iteration(job)] for job in jobs],
        "allreduce": [[size, allreduce(size)] for size in sizes],
        "add": _peers.seconds_a_call(lambda: np.add(a, b, out=a), duration / 5) / a.nbytes,
        "library": MPI.Get_library_version().split("\n")[0].split("\t"),
    }


def measure(
    ranks: int, jobs: Sequence[Job], sizes: Sequence[int], duration: float, threads: int = 0
) -> dict[str, Any]:
    """Start ranks that do `work`; or one process of so many threads that trains without MPI."""
    mpiexec = which(
        "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if mpiexec is None:
        raise FileNotFoundError("mpiexec: expected an MPI; pip install 'njitnet[mpi]'")
    text = json.dumps([jobs, sizes, duration, threads > 0])
    done = subprocess.run(
        [mpiexec, "-n", str(ranks), sys.executable, "-m", "benchmarks.scaling", "--work", text],
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
    """Return the line ``a + b x`` nearest to points by relative error, neither a nor b negative.

    Parameters
    ----------
    points : sequence of (x, y)

    Returns
    -------
    a, b : float
    """
    # Least squares of (a + b x) / y - 1.
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
    """Return the seconds that Allreduce of so many bytes takes: the formulas are at the top.

    Parameters
    ----------
    ranks : int
    size : float
    network : Network
    add : float
        Seconds to add a byte.

    Returns
    -------
    float
    """
    rounds, byte = math.ceil(math.log2(ranks)), 1 / network.bandwidth
    doubling = rounds * (network.latency + size * (byte + add))
    rabenseifner = 2 * rounds * network.latency + (ranks - 1) / ranks * size * (2 * byte + add)
    return min(doubling, rabenseifner)


def busiest(batch: int, ranks: int) -> float:
    """Return the mean over many batches of the most examples that one rank has.

    Parameters
    ----------
    batch, ranks : int

    Returns
    -------
    float
    """
    import numpy as np

    drawn = np.random.default_rng(0).multinomial(batch, [1 / ranks] * ranks, 1000)
    return float(drawn.max(axis=1).mean())


@dataclass
class Model:
    """What one rank needs, and what lies between two here.

    Attributes
    ----------
    compute : dict of int to (float, float)
        For each number of hidden units: seconds of an iteration, and of an example in it.
    here : Network
    add : float
        Seconds to add a byte.
    """

    compute: dict[int, tuple[float, float]]
    here: Network
    add: float

    def seconds(self, job: Job, ranks: int, network: Network) -> float:
        """Return how long an iteration takes."""
        overhead, example = self.compute[job.hidden]
        return overhead + example * busiest(job.batch, ranks) + self.message(job, ranks, network)

    def message(self, job: Job, ranks: int, network: Network) -> float:
        """Return how long the Allreduce of an iteration takes."""
        parameters = (PIXELS + 1) * job.hidden + (job.hidden + 1) * CLASSES
        add = 0.0 if network is self.here else self.add  # here, it is in the bandwidth
        return allreduce(ranks, 4 * parameters, network, add) if ranks > 1 else 0.0

    def efficiency(self, job: Job, ranks: int, network: Network, weak: bool) -> float:
        """Return that of so many ranks; in weak scaling, each with the batch of `job`."""
        one = self.seconds(job, 1, network)
        if weak:
            return one / self.seconds(Job(job.hidden, job.batch * ranks), ranks, network)
        return one / self.seconds(job, ranks, network) / ranks


# ---------------------------------------------------------------------------------------- all of it
@dataclass
class Results:
    """What was measured, and the model made of it."""

    ranks: dict[int, dict[Job, float]]
    train: dict[int, dict[Job, float]]  # `net.train` by number of threads
    hidden: Sequence[int]
    batches: Sequence[int]
    model: Model
    library: str

    def points(self) -> list[tuple[Job, int, bool, float, float, float]]:
        """Return job, ranks, whether weak, seconds, measured and predicted efficiency."""
        points = []
        for weak in (False, True):
            for hidden in self.hidden:
                for batch in self.batches:
                    job = Job(hidden, batch)
                    for n in sorted(self.ranks.keys() - {1}):
                        done = Job(hidden, batch * n) if weak else job
                        seconds = self.ranks[n][done]
                        efficiency = self.ranks[1][job] / seconds / (1 if weak else n)
                        expected = self.model.efficiency(job, n, self.model.here, weak)
                        points.append((job, n, weak, seconds, efficiency, expected))
        return points


def run(hidden: Sequence[int], batches: Sequence[int], far: int, duration: float) -> Results:
    """Measure everything, in turns.

    Parameters
    ----------
    hidden, batches : sequence of int
        What is measured on every number of ranks.
    far : int
        Hidden units for which only the model is made.
    duration : float
        Seconds for each measurement.

    Returns
    -------
    Results
    """
    numbers = sorted({2**k for k in range(CORES.bit_length()) if 2**k <= CORES} | {2})
    jobs = [Job(h, b) for h in hidden for b in batches]
    smaller = sorted({batches[0] // 2, *batches, *(b // 4 for b in batches)})
    single = [*(Job(h, b) for h in hidden for b in smaller), Job(far, 25), Job(far, batches[0])]
    one = measure(1, single, [], duration)
    sizes = [4 * 4**k for k in range(13)]
    ranks, link, library = {1: one["jobs"]}, one, one["library"]
    for n in numbers[1:]:
        weak = [Job(job.hidden, job.batch * n) for job in jobs]
        seen = measure(n, list(dict.fromkeys([*jobs, *weak])), sizes if n == 2 else [], duration)
        ranks[n], link = seen["jobs"], seen if n == 2 else link
    train = {t: measure(1, jobs, [], duration, threads=t)["jobs"] for t in sorted({1, CORES})}
    latency, byte = line(link["allreduce"])
    compute = {
        h: line([(job.batch, s) for job, s in one["jobs"].items() if job.hidden == h])
        for h in (*hidden, far)
    }
    here = Network("this machine", latency, 1 / byte)
    model = Model(compute, here, one["add"])
    return Results(ranks, train, hidden, batches, model, " ".join(library[0].split()[-1:]))


def tables(results: Results) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, header and rows of each table."""
    model, number = results.model, _peers.number
    most = max(results.train)
    near = [
        [
            f"{'weak' if weak else 'strong'}",
            str(job.hidden),
            f"{job.batch}{' a rank' if weak else ''}",
            str(n),
            number(1e3 * results.ranks[1][job]),
            number(1e3 * seconds),
            f"{efficiency:.0%}",
            f"{expected:.0%}",
        ]
        for job, n, weak, seconds, efficiency, expected in results.points()
    ]
    alone = [
        [str(job.hidden), str(job.batch), number(1e3 * results.ranks[1][job])]
        + [number(1e3 * results.train[t][job]) for t in sorted(results.train)]
        + [number(1e3 * results.ranks[max(results.ranks)][job])]
        for job in results.train[most]
    ]
    last = results.batches[-1]
    far = [
        [str(h), network.name]
        + [f"{model.efficiency(Job(h, last), n, network, False):.0%}" for n in FAR]
        + [f"{model.efficiency(Job(h, last), n, network, True):.0%}" for n in FAR]
        for h in model.compute
        for network in NETWORKS
    ]
    return [
        (
            "Measured on this machine and predicted for it, milliseconds an iteration",
            ["scaling", "hidden", "batch", "ranks", "1 rank", "n ranks", "efficiency", "predicted"],
            near,
        ),
        (
            "The same iteration by `train` without `comm`, milliseconds",
            ["hidden", "batch", "1 rank"]
            + [f"`train`, {t} thread{'s' * (t > 1)}" for t in sorted(results.train)]
            + [f"{max(results.ranks)} ranks"],
            alone,
        ),
        (
            f"Predicted efficiency, strong for batch {last} and weak for {last} a rank, by ranks",
            ["hidden", "network"] + [f"{kind}, {n}" for kind in ("strong", "weak") for n in FAR],
            far,
        ),
    ]


def facts(results: Results) -> str:
    """Return what the model was made of, in sentences."""
    model = results.model
    computing = "; ".join(
        f"{h} hidden units {1e3 * a:.3g} ms and {1e6 * b:.3g} µs an example"
        for h, (a, b) in model.compute.items()
    )
    networks = "; ".join(
        f"{each.name} {1e6 * each.latency:.3g} µs and {each.bandwidth / 1e9:.3g} GB/s"
        for each in (model.here, *NETWORKS)
    )
    return (
        f"The model's figures. One rank: {computing}. Latency and bandwidth: {networks}. "
        f"To add a gigabyte: {1e9 * model.add:.2g} s."
    )


def draw(results: Results, path: Path) -> None:
    """Draw the predicted efficiencies over the number of ranks, and the measured points."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    model, last = results.model, results.batches[-1]
    many = [2**k for k in range(11)]
    figure, axes = plt.subplots(
        2, len(model.compute), figsize=(10, 6), sharex=True, sharey=True, layout="constrained"
    )
    for row, weak in zip(axes, (False, True), strict=True):
        for axis, hidden in zip(row, model.compute, strict=True):
            job = Job(hidden, last)
            for network, style in zip((*NETWORKS, model.here), (":", "--", "-", "-."), strict=True):
                axis.plot(
                    many,
                    [model.efficiency(job, n, network, weak) for n in many],
                    style,
                    label=network.name,
                )
            measured = [
                (n, efficiency)
                for each, n, is_weak, _, efficiency, _ in results.points()
                if each == job and is_weak == weak
            ]
            if measured:
                axis.plot(*zip(*measured, strict=True), "ko", label="measured")
            axis.set_title(f"{hidden} hidden, {last}{' a rank' if weak else ' in all'}")
            axis.set_xscale("log", base=2)
            axis.set_ylim(0, 1.1)
            axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("ranks")
    axes[0][0].set_ylabel("efficiency, strong")
    axes[1][0].set_ylabel("efficiency, weak")
    axes[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="Strong and weak scaling on as many ranks as cores, and a model of more.",
    )
    parser.add_argument("--quick", action="store_true", help="small work, to see that it runs")
    parser.add_argument("--docs", action="store_true", help="fill in docs/scaling.md, and draw")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        jobs, sizes, duration, alone = options.work
        seen = work([Job(*job) for job in jobs], sizes, duration, alone)
        from mpi4py import MPI

        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(seen))
        return
    neighbours = _peers.Neighbours()
    if options.quick:
        results = run((8, 16), (20, 60), 32, 0.02)
    else:
        results = run(HIDDEN, BATCHES, ONLY_PREDICTED, 2.0)
    for title, header, rows in tables(results):
        print(title, _peers.plain(header, rows), sep="\n", end="\n\n")
    print(facts(results), neighbours.report())
    if options.docs:
        source = (
            f"By `python -m benchmarks.scaling --docs` on {_peers.machine()}, "
            f"mpi4py {version('mpi4py')}, MPICH {results.library}."
        )
        parts = [f"{title}:\n\n{_peers.markdown(*table)}" for title, *table in tables(results)]
        _peers.fill("scaling", "\n\n".join([*parts, facts(results), source]), DOCS)
        draw(results, DOCS.parent / "images" / "scaling.png")


if __name__ == "__main__":
    main()

"""From which share of non-zero inputs on is it faster to multiply all of them?

``python -m benchmarks.density`` times training on random data of several densities, by its
non-zeros and by all inputs in turn, and prints where the two meet: `kernels.fused.DENSE_FROM`.
"""

from argparse import ArgumentParser
from statistics import median
from time import perf_counter

import numpy as np

from kernels.fused import DENSE_FROM
from net import TwoLayerNet, train

DENSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
SHAPES = ((784, 32, 10), (784, 50, 10), (784, 512, 10), (100, 50, 10))
EXAMPLES, BATCH, ITERATIONS = 2000, 100, 300


def seconds(x: np.ndarray, t: np.ndarray, sizes: tuple[int, int, int], sparse: bool) -> float:
    """Time the iterations of a short run, less what a run without any takes.

    Parameters
    ----------
    x, t : ndarray
        The training set.
    sizes : (int, int, int)
        Of the network.
    sparse : bool
        By its non-zeros.

    Returns
    -------
    float
        Seconds for an iteration.
    """
    taken = []
    for iterations in (1, 1 + ITERATIONS):  # the first is evaluated, too
        network = TwoLayerNet(*sizes, dtype=x.dtype, rng=0)
        begin = perf_counter()
        train(network, x, t, iterations=iterations, batch_size=BATCH, rng=0, sparse=sparse)
        taken.append(perf_counter() - begin)
    return (taken[1] - taken[0]) / ITERATIONS


def ratio(sizes: tuple[int, int, int], dtype: str, density: float, rounds: int) -> float:
    """Return how many times as long all inputs take as the non-zeros, the two timed in turn.

    Parameters
    ----------
    sizes : (int, int, int)
    dtype : str
    density : float
    rounds : int

    Returns
    -------
    float
    """
    rng = np.random.default_rng(0)
    x = rng.random((EXAMPLES, sizes[0])) * (rng.random((EXAMPLES, sizes[0])) < density)
    x, t = x.astype(dtype), rng.integers(0, sizes[2], EXAMPLES)
    turns = [
        seconds(x, t, sizes, sparse=False) / seconds(x, t, sizes, sparse=True)
        for _ in range(rounds + 1)
    ]
    return median(turns[1:])  # the first loads kernels


def main() -> None:
    """Print a row for each shape and dtype."""
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"all inputs against the non-zeros: times as long; chosen now: dense from {DENSE_FROM}")
    print("network        dtype  " + "".join(f"{density:7.1f}" for density in DENSITIES))
    for sizes in SHAPES:
        for dtype in ("float32", "float64"):
            row = [ratio(sizes, dtype, density, rounds) for density in DENSITIES]
            name = "-".join(map(str, sizes))
            print(f"{name:14} {dtype}" + "".join(f"{r:7.2f}" for r in row), flush=True)


if __name__ == "__main__":
    main()

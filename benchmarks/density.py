"""Measurement of the density below which skipping the zeros makes a matrix product faster.

``python -m benchmarks.density`` times ``x W + b`` and ``x^T dout`` on random data of several
densities, on one thread, alternating between all elements and the nonzero elements alone. It marks
the densities at which `kernels._bitmap.skip_threshold` skips the zeros.
"""

from argparse import ArgumentParser
from statistics import median
from time import perf_counter

import numpy as np

from kernels._bitmap import skip_threshold
from kernels._compiler import njit
from kernels._gemm import gemm_block, get_product_addresses

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
SHAPES = ((100, 784, 32), (100, 784, 50), (100, 784, 100), (100, 784, 512), (1000, 784, 50))
REPEATS = 20

multiply = njit(gemm_block.py_func, cache=False)  # for calls from Python


def ratio(
    shape: tuple[int, int, int], dtype: np.dtype, density: float, transpose: bool, rounds: int
) -> float:
    """Return the time of the dense product divided by that of the product that skips zeros.

    Parameters
    ----------
    shape : (int, int, int)
        Rows and columns of x, columns of the result.
    dtype : dtype
    density : float
        Fraction of nonzero elements.
    transpose : bool
        Whether to compute ``x^T dout`` instead of ``x W + b``.
    rounds : int
        Number of times that the two products are timed alternately.

    Returns
    -------
    float
        Median over the rounds.
    """
    n, d, m = shape
    rng = np.random.default_rng(0)
    x = (rng.random((n, d)) * (rng.random((n, d)) < density)).astype(dtype)
    other = rng.random((n if transpose else d, m)).astype(dtype)
    rows = d if transpose else n
    out, zeros = np.empty((rows, m), dtype), np.zeros(m, dtype)
    addresses, begin = get_product_addresses(x.dtype, other.dtype), np.int64(0)
    op = np.bool_(transpose), np.False_

    def seconds(skip: np.bool_) -> float:
        start = perf_counter()
        for _ in range(REPEATS):
            multiply(addresses, x, op[0], other, op[1], zeros, out, begin, rows, begin, m, skip)
        return perf_counter() - start

    seconds(np.True_)
    return median(seconds(np.False_) / seconds(np.True_) for _ in range(rounds))


def main() -> None:
    """Print a row for each product, shape and dtype."""
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print("time of all elements / time of the non-zeros; * where the zeros are skipped")
    print("product   N, D, M          dtype  " + "".join(f"{d:8.2f}" for d in DENSITIES))
    for transpose in (False, True):
        for shape in SHAPES:
            for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
                limit = skip_threshold(np.int64(shape[2]), np.int64(dtype.itemsize))
                row = [(d, ratio(shape, dtype, d, transpose, rounds)) for d in DENSITIES]
                cells = "".join(f"{r:7.2f}{'*' if d < limit else ' '}" for d, r in row)
                name = "x^T dout" if transpose else "x W + b"
                print(f"{name:9} {', '.join(map(str, shape)):16} {dtype}{cells}", flush=True)


if __name__ == "__main__":
    main()

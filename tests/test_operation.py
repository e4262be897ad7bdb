"""``kernels._operation``: drivers made by one function are distinct in memory and on disk."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config, get_num_threads
from numba.core.caching import FunctionCache

from kernels import _operation, relu, sigmoid
from kernels._compiler import njit
from kernels._threads import MIN_PARALLEL_SIZE

ROOT = Path(__file__).parents[1]

DRIVERS = {
    "relu forward": relu._forward,
    "relu backward": relu._backward,
    "sigmoid forward": sigmoid._forward,
    "sigmoid backward": sigmoid._backward,
}

# Loops with the same arguments, types and bytecode, which differ in one constant or name.
MODULE = """
import sys
import numpy as np
from kernels._compiler import njit
from kernels._operation import parallel

@njit(nogil=True)
def _twice(x, out):
    for i in range(x.size):
        out[i] = 2 * x[i]

@njit(nogil=True)
def _thrice(x, out):
    for i in range(x.size):
        out[i] = 3 * x[i]

first, second = parallel(_twice), parallel(_thrice)
other = parallel(_thrice, cost=8)
if __name__ == "__main__":
    functions = {"first": first, "second": second, "other": other}
    answers = []
    for name in sys.argv[1].split(","):
        for size in (10, 100_000):
            x, out = np.ones(size), np.empty(size)
            functions[name](x, out)
            assert (out == out[0]).all()
        hits = sum(functions[name].stats.cache_hits.values())
        answers.append(f"{out[0]:.0f}{'h' if hits else 'm'}")
    print(" ".join(answers))
"""


def run(folder, order):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(folder / "loops.py"), order],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder / "kept")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_each_has_its_own_code_on_disk(tmp_path):
    """Compiled in one order, loaded in a new process in another one, or alone."""
    (tmp_path / "loops.py").write_text(MODULE, encoding="utf-8")
    assert run(tmp_path, "first,second") == ["2m", "3m"]
    assert run(tmp_path, "other") == ["3m"]  # another threshold gives another function
    assert run(tmp_path, "second,first,other") == ["3h", "2h", "3h"]
    assert run(tmp_path, "second") == ["3h"]
    assert run(tmp_path, "first") == ["2h"]


@pytest.mark.skipif(config.DISABLE_JIT, reason="needs compiled functions")
def test_names_and_files():
    """Numba's cache keys of any two drivers differ."""
    keys = set()
    for driver in DRIVERS.values():
        cache = driver._cache
        assert isinstance(cache, FunctionCache)
        assert driver.py_func.__closure__ is None
        keys.add((cache._cache_path, cache._impl.filename_base))
        assert Path(driver.py_func.__code__.co_filename).stem in ("relu", "sigmoid")
    assert len(keys) == len(DRIVERS)


@pytest.mark.small
@pytest.mark.parametrize("size", [0, 1, 7, MIN_PARALLEL_SIZE - 1, MIN_PARALLEL_SIZE + 3])
def test_every_element_once(size):
    @njit(cache=False)
    def loop(x, y, z):
        for i in range(x.size):
            y[i] += x[i]
            z[i] += x.size

    driver = _operation.parallel(loop)
    x, y, z = np.arange(size), np.zeros(size), np.zeros(size)
    driver(x, y, z)
    np.testing.assert_array_equal(y, x)
    parts = get_num_threads() if size >= MIN_PARALLEL_SIZE and not config.DISABLE_JIT else 1
    assert set(z) <= {-(-size // parts), size - (parts - 1) * -(-size // parts)}

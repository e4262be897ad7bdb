"""Threads, forks and parallel loops of a user's own: right, and neither dead nor hanging.

Each runs in a process of its own (`scenarios.py`), under each threading layer that Numba has here.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# NumPy's BLAS, against which results are held, stops its threads at a fork: a product that is
# under way in another thread is then wrong, or waits for ever.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4", "PYTHONPATH": str(ROOT)}
pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and process groups")


def run(folder, layer, *command, limit=280, **environment):
    """Run Python to its end, or to a time limit; return its status and what it printed."""
    output = folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ
            | ENVIRONMENT
            | libraries()
            | {"NUMBA_THREADING_LAYER": layer}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        status = "out of time"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children of its own, too
        process.wait()
    return status, output.read_text()


@cache
def libraries():
    """Where the distribution tbb has its library: not where the system looks for one."""
    try:
        files = metadata.files("tbb") or []
    except metadata.PackageNotFoundError:
        return {}
    folders = {str(Path(f.locate()).resolve().parent) for f in files if "libtbb.so" in f.name}
    return {"LD_LIBRARY_PATH": os.pathsep.join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])}


@cache
def loads(layer, folder):
    """Whether Numba has a threading layer here."""
    return run(folder, layer, "-c", "import numba; numba.get_num_threads()")[0] == 0


@pytest.fixture(params=["omp", "workqueue", "tbb"])
def layer(request, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if not loads(request.param, folder):
        pytest.skip(f"Numba cannot load the threading layer {request.param} here")
    return request.param


def expect_right(layer, scenario, folder):
    status, output = run(folder, layer, "tests/scenarios.py", scenario, layer)
    assert status == 0, output
    assert "right" in output.splitlines(), output


@pytest.mark.parametrize("scenario", ["threads", "prange", "forks"])
def test_under_each_layer(layer, scenario, tmp_path):
    expect_right(layer, scenario, tmp_path)


def test_processes_that_start_afresh(tmp_path):
    expect_right("omp", "starts", tmp_path)

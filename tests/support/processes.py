"""Run Python in a separate process, with a time limit."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # the packages, and `support`

# NumPy's BLAS, the reference for results, stops its threads at a fork: a product that is
# being computed in another thread is then wrong, or never returns.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4", "PYTHONPATH": PYTHONPATH}


def run(folder, *command, limit=280, **environment):
    """Run Python with some arguments; return its exit status and its output."""
    output = folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | libraries() | environment,
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
            os.killpg(process.pid, signal.SIGKILL)  # including its children
        process.wait()
    return status, output.read_text()


@cache
def libraries():
    """Return the path of the library of the distribution tbb, which the loader does not search."""
    try:
        files = metadata.files("tbb") or []
    except metadata.PackageNotFoundError:
        return {}
    folders = {str(Path(f.locate()).resolve().parent) for f in files if "libtbb.so" in f.name}
    return {"LD_LIBRARY_PATH": os.pathsep.join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])}

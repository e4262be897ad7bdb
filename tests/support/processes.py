"""Run Python in a process of its own, to its end or to a time limit."""

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

# NumPy's BLAS, against which results are held, stops its threads at a fork: a product that is
# under way in another thread is then wrong, or waits for ever.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4", "PYTHONPATH": PYTHONPATH}


def run(folder, *command, limit=280, **environment):
    """Return the exit status of Python with some arguments, and what it printed."""
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

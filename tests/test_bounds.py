"""No kernel reads or writes outside of its arrays; each test runs in a separate process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import PYTHONPATH

TESTS = Path(__file__).parent

pytestmark = pytest.mark.timeout(300)


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )


@pytest.mark.exhaustive
def test_odd_arguments_with_bounds_checked(tmp_path):
    """Run the generated cases again, with bounds checking of every index in compiled code."""
    # One thread, because a parallel loop loses an exception.
    environment = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_NUM_THREADS": "1"}
    done = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("test_input.py", "test_input_net.py"),
        **environment,
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 300
    assert any(tmp_path.rglob("*.nbi"))  # it compiled its own code


def guarded(code):
    imports = "import ctypes, numpy as np; from support.guard_pages import guarded, release"
    return run("-c", f"{imports}; {code}")


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by POSIX's mprotect")
def test_kernels_beside_forbidden_memory():
    done = run("-m", "support.guard_pages")
    assert done.stdout == "all in bounds\n", done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by POSIX's mprotect")
def test_the_guards_see_a_step_outside():
    look = "ctypes.string_at(a.ctypes.data {}, 1)"
    for end, place in ((True, "+ 24"), (False, "- 1")):
        done = guarded(f"a = guarded(np.ones(3), {end}); {look.format(place)}")
        assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS), done.stderr
    done = guarded("a = guarded(np.ones(3)); ctypes.memset(a.ctypes.data - 1, 0, 1); release()")
    assert "AssertionError" in done.stderr

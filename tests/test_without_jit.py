"""The tests of the kernels once more, in a process of another kind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def run_kernel_tests(*selection, **environment):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection),
            *(str(TESTS / f"test_{name}.py") for name in ("affine", "activations", "softmax")),
        ],
        cwd=TESTS.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert " skipped" not in run.stdout


@pytest.mark.timeout(240)
def test_kernels_without_jit():
    """As plain Python: where a debugger steps, and indices are checked."""
    run_kernel_tests("-m", "small", NUMBA_DISABLE_JIT="1")


@pytest.mark.timeout(240)
def test_bits_on_more_threads_than_cores():
    run_kernel_tests("-k", "bits_do_not_depend", NUMBA_NUM_THREADS="7", OMP_WAIT_POLICY="passive")

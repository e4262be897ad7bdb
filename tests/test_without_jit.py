"""The kernels in other processes: without compilation, with more threads, with an empty cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

pytestmark = pytest.mark.slow


KERNELS = (
    *("affine", "activations", "softmax", "operation", "optimizers_kernels"),
    *("regularisation_kernels", "convolution", "pooling", "windows", "microkernel"),
)


def run_tests(*selection, names=KERNELS, **environment):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection),
            *(str(TESTS / f"test_{name}.py") for name in names),
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


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_kernels_without_jit():
    """The kernels run as plain Python, for debuggers and checked indices."""
    run_tests("-m", "small", NUMBA_DISABLE_JIT="1")


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_odd_arguments_without_jit():
    """Except for NumPy's warnings, the behaviour is the same as in compiled code."""
    options = ("-m", "small", "-W", "ignore::RuntimeWarning", "-k", "not plain_arguments")
    run_tests(*options, names=("input", "input_net"), NUMBA_DISABLE_JIT="1")


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_bits_on_more_threads_than_cores():
    run_tests("-k", "bits_do_not_depend", NUMBA_NUM_THREADS="7", OMP_WAIT_POLICY="passive")


FIRST_CALLS = {
    "affine_forward": "from kernels.affine import *; affine_forward(x, x.T, x[:, 0])",
    "affine_backward": "from kernels.affine import *; affine_backward(x, x, np.eye(500))",
    "relu_forward": "from kernels.relu import *; relu_forward(x)",
    "relu_backward": "from kernels.relu import *; relu_backward(x, x > 0)",
    "sigmoid_forward": "from kernels.sigmoid import *; sigmoid_forward(x)",
    "sigmoid_backward": "from kernels.sigmoid import *; sigmoid_backward(x, x)",
    "dropout": "from kernels.dropout import *; dropout_forward(x, x > 0)",
    "batch_norm": "from kernels.batch_norm import *; batch_norm_forward(x, x[0], x[0])",
    "adam": "from kernels import *; adam_update(x, x, 0 * x, 0 * x, 1, 0.1, 0.9, 0.999)",
    "softmax": "from kernels.softmax import *; softmax(x)",
    "loss": "from kernels.softmax import *; softmax_cross_entropy_forward(x, x)",
    "loss_backward": "from kernels.softmax import *; softmax_cross_entropy_backward(x, x)",
    "convolution_forward": (
        "from kernels.convolution import *; "
        "convolution_forward(x[None, None], x[:3, None, None], 0)"
    ),
    "convolution_backward": (
        "from kernels.convolution import *; "
        "convolution_backward(x[None, None], x[None, None], x[None, None, :1, :1])"
    ),
    "max_pool_forward": ("from kernels.pooling import *; max_pool_forward(x[None, None], 2, 2, 2)"),
    "njit": (
        "import numba; from kernels.relu import relu_forward; "
        "numba.njit(lambda x: relu_forward(x)[0])(x)"
    ),
}


QUICK = ("relu_forward", "njit")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, marks=() if name in QUICK else pytest.mark.exhaustive, id=name)
        for name, call in FIRST_CALLS.items()
    ],
)
def test_any_kernel_may_be_the_first(call, tmp_path):
    """Each kernel runs first in a new process, with an empty cache and then with a full one."""
    for compiled_before in (False, True):
        assert any(tmp_path.iterdir()) == compiled_before
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import numpy as np; x = np.eye(500); " + call],
            cwd=TESTS.parent,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-2000:]

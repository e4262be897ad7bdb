"""``kernels.mlp.ahead``: training compiled by two processes."""

import subprocess
import sys

import numba
import numpy as np
import pytest

from kernels._threads import Team
from kernels.mlp import MLPTrainer, ahead
from kernels.mlp._iterations import train_iterations
from kernels.mlp._pass import count_correct

DATA = (np.arange(20 * 96) % 5 == 0).astype(np.float32).reshape(20, 96)


def train(dtype, data):
    W, b, t = np.zeros((96, 64), dtype), np.zeros(64, dtype), np.zeros(20, np.int64)
    with Team(1) as team:
        trainer = MLPTrainer([W], [b], [], 20, data, team, "sgd", [0.1], [])
        losses = trainer.train(np.arange(20)[None], t[None], None, 1)
        return losses[0], trainer.accuracy(data, t)


@pytest.fixture
def sleeper(monkeypatch):
    """Replace the other process by one that sleeps; return the list of started processes."""
    start, started = subprocess.Popen, []

    def popen(command, **options):
        started.append(start([command[0], "-c", "import time; time.sleep(60)"], **options))
        return started[-1]

    monkeypatch.setattr(ahead, "has_to_compile", lambda *args: True)
    monkeypatch.setattr(ahead.numba, "get_num_threads", lambda: 2)
    monkeypatch.setattr(ahead.subprocess, "Popen", popen)
    return started


@pytest.mark.parametrize("encodes", [False, True])
def test_types_are_those_of_training(dtype, encodes):
    ahead.compile_training(np.dtype(dtype), "sgd", DATA, 64, encodes)
    train(dtype, (DATA * 255).astype(np.uint8) if encodes else DATA)
    for kernel, types in (
        (train_iterations, ahead.loop_types(dtype)),
        (count_correct, ahead.evaluation_types(dtype)),
    ):
        vector = numba.typeof(np.empty(0, dtype))
        assert [s for s in kernel.signatures if vector in s[:2]] == [types]


@pytest.fixture
def run_compiling(tmp_path, monkeypatch):
    """Return a function that runs a program on two threads without cached code."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")

    def run(program):
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, cwd="tests", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_another_process_compiles_the_loop(run_compiling):
    program = (
        "import test_ahead as t\n"
        "from kernels._cache import has_to_compile\n"
        "loop = t.train_iterations, t.ahead.loop_types(t.np.float32)\n"
        "assert has_to_compile(*loop)\n"
        "t.ahead.compile_training(t.np.dtype('f4'), 'sgd', t.DATA, 64, False)\n"
        "assert not has_to_compile(*loop)\n"
        "print(t.train(t.np.float32, t.DATA))\n"
        "stats = t.train_iterations.stats\n"
        "assert not stats.cache_misses and stats.cache_hits\n"
    )
    assert run_compiling(program) == f"{train(np.float32, DATA)}\n"


@pytest.mark.slow
def test_each_function_of_the_loop_is_compiled_once(run_compiling):
    """A flag that is a literal would compile another specialisation of each function it reaches."""
    program = (
        "import numpy as np\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "from kernels.mlp import _iterations, _parts, _stack, ahead\n"
        "ahead.compile_loop(np.dtype(np.float32))\n"
        "kernels = {f for m in (_iterations, _parts, _stack) for f in vars(m).values()\n"
        "           if isinstance(f, Dispatcher) and f.nopython_signatures}\n"
        "for f in kernels:\n"
        "    if 'Literal' in str(f.nopython_signatures):\n"
        "        print(f.py_func.__name__, f.nopython_signatures)\n"
        "assert len(kernels) > 15\n"
    )
    assert run_compiling(program) == ""


@pytest.mark.slow
def test_another_process_compiles_the_dense_layers(run_compiling):
    program = (
        "import numpy as np\n"
        "from kernels.affine import _backward\n"
        "from kernels.softmax import _backward as _softmax_backward, _softmax\n"
        "from net import Adam, SimpleConvNet\n"
        "from net.cli.ahead import compile_convolutions\n"
        "network = SimpleConvNet((1, 12, 12), dtype='float32', rng=0)\n"
        "x, t = np.ones((20, 1, 12, 12), np.float32), np.zeros(20, np.int64)\n"
        "compile_convolutions(network, x, Adam())\n"
        "Adam().update(network.params, network.gradient(x, t))\n"
        "for kernel in (_softmax, _softmax_backward, _backward):\n"
        "    assert not kernel.stats.cache_misses and kernel.stats.cache_hits\n"
    )
    assert run_compiling(program) == ""


def test_an_error_ends_the_other_process(sleeper, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ahead, "MLPTrainer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ahead.compile_training(np.dtype(np.float32), "sgd", DATA, 64, False)
    assert sleeper[0].poll() is not None


@pytest.mark.parametrize("executable", ["", None, "no such program"])
def test_without_another_process(sleeper, monkeypatch, executable):
    monkeypatch.setattr(ahead.sys, "executable", executable)
    ahead.compile_training(np.dtype(np.float32), "sgd", DATA, 64, False)
    assert not sleeper

"""Training on several processes with mpiexec: the same history, and the same errors on all."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.exhaustive import exhaustive
from support.processes import PYTHONPATH

from net import TwoLayerNet

ROOT = Path(__file__).parents[1]
HERE = str(Path(sys.executable).parent)
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([HERE, os.environ["PATH"]]))

# Not imported, because that would initialise MPI in this process.
if find_spec("mpi4py") is None:
    pytest.skip("needs mpi4py: pip install 'njitnet[mpi]'", allow_module_level=True)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec: pip install 'njitnet[mpi]'"),
]


def environment(threads):
    variables = {**os.environ, "PYTHONPATH": PYTHONPATH}
    variables.pop("NUMBA_NUM_THREADS", None)
    return {**variables, "NUMBA_NUM_THREADS": threads} if threads else variables


def mpiexec(ranks, *arguments, limit=280, threads="1", cwd=ROOT):
    """Run Python on some ranks, with one thread each or with the default number."""
    return subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, arguments)],
        cwd=cwd, env=environment(threads), capture_output=True, text=True, check=False,
        timeout=limit, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def mpi_program(ranks, *arguments, **options):
    """Run a function of `support.mpi_program`; return its output."""
    done = mpiexec(ranks, "-m", "support.mpi_program", *arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("ranks", [exhaustive(1), exhaustive(2), 3, exhaustive(4)])
def test_the_same_as_one_process(ranks):
    for name, seen in mpi_program(ranks, "same").items():
        assert seen.pop("difference") < (1e-4 if name == "float32" else 1e-9), name
        assert all(seen.values()), (name, seen)


# ---------------------------------------------------------------------------------------- failures
@pytest.fixture(scope="module", params=[exhaustive(2), 3])
def errors(request, tmp_path_factory):
    return mpi_program(request.param, "errors", tmp_path_factory.mktemp("errors"))


@pytest.mark.parametrize(
    ("name", "others", "its_own", "where"),
    [
        ("layer", "ValueError: rank {}: in a layer", "ValueError: in a layer", -1),
        ("own error", "RuntimeError: rank {}: KeyError('mine')", "KeyError: 'mine'", -1),
        ("exit", "RuntimeError: rank {}: SystemExit(3)", "SystemExit: 3", -1),
        ("ctrl-c", "KeyboardInterrupt: rank {}: ", "KeyboardInterrupt: ", -1),
        ("everywhere", "OSError: all", "OSError: all", -1),
        (
            "callback",
            "RuntimeError: rank 0: ZeroDivisionError('in the callback')",
            "ZeroDivisionError: in the callback",
            0,
        ),
        (
            "argument",
            "TypeError: rank {}: learning_rate: expected a number, got 'fast'",
            "TypeError: learning_rate: expected a number, got 'fast'",
            -1,
        ),
    ],
)
def test_one_error_ends_all(errors, name, others, its_own, where):
    raised = [error for error, *_ in errors[name]]
    last = len(raised) - 1
    assert raised.pop(where) == its_own
    assert set(raised) == {others.format(last)}


@pytest.mark.parametrize("name", ["layer", "own error", "exit", "ctrl-c", "everywhere"])
def test_it_ends_all_in_the_same_iteration(errors, name):
    """It is the eleventh iteration; a rank without examples in some batches counts fewer."""
    assert all(9 <= gradients <= 11 for *_, gradients in errors[name])


@pytest.mark.parametrize("name", ["no folder", "no checkpoint", "labels"])
def test_input_that_fails_on_one_rank(errors, name):
    raised = [error for error, *_ in errors[name]]
    kind = raised[0].partition(":")[0]
    assert kind == ("ValueError" if name == "labels" else "FileNotFoundError")
    assert sum(bool(re.match(r"\w+: rank \d: ", error)) for error in raised) == len(raised) - 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("njitnet", r"njitnet: .* got .* on ranks? 0.*; 0\.0\.0 on rank {}"),
        ("batch_size", "batch_size: .* got 17 on ranks? 0.*; 18 on rank {}"),
        ("rng", r"rng: .* Generator \(PCG64\) on .*; RandomState on rank {}"),
        ("x_train", r"x_train: .* got \(..., 20\) of float64 on .*; .* of float32 on rank {}"),
        ("t_train", "t_train: .* got class indices on .*; targets for 5 classes on rank {}"),
        ("pixels", r"x_test: .* got \(..., 20\) of .* on .*; \(..., 19\) of .* on rank {}"),
        ("sets", r"sets: .* got \['train', 'test'\] on .*; \['train'\] on rank {}"),
        ("W1", r"W1: .* got \(20, 13\) of float64 on .*; .* float32 on rank {}"),
        ("layers", "structure: .*Relu.* on .*;.*Fails.* on rank {}"),
        ("optimizer", r"optimizer: .* got SGD\(lr=0.1\) on .*; Adam\(.*\) on rank {}"),
        ("iterations", "iterations: .* got 40 on .*; 41 on rank {}"),
    ],
)
def test_disagreement_is_told_on_all(errors, name, message):
    raised = {error for error, *_ in errors[name]}
    assert len(raised) == 1
    last = len(errors[name]) - 1
    assert re.match("ValueError: " + message.format(last), raised.pop())


def test_comm_that_is_none(errors):
    assert {error for error, *_ in errors["comm"]} == {
        "TypeError: comm: expected a communicator of mpi4py, got 'world'"
    }


def test_no_examples(errors):
    assert {error for error, *_ in errors["no examples"]} == {
        "ValueError: x_train: expected an example on at least one rank, got none"
    }


def test_the_whole_data_set_on_every_rank(errors):
    (raised,) = {error for error, *_ in errors["whole set"]}
    assert raised.startswith("ValueError: x_train: expected a shard of the data on each rank, got")
    assert "load_mnist(part=(comm.rank, comm.size))" in raised


def test_ctrl_c_stops_all_in_the_same_iteration(errors):
    """History and weights of the iterations before are kept."""
    first, *others = errors["ctrl-c"]
    assert all(digest == first[2] for _, _, digest, *_ in others)
    assert all(handler for *_, handler, _ in errors["ctrl-c"])
    assert first[1] == 10


def test_callback_of_rank_0_stops_all(errors):
    raised, done, weights, *_ = errors["stop"][0]
    assert (raised, done) == (None, 7)
    assert all(seen == [None, None, weights, True, None] for seen in errors["stop"][1:])


def test_ctrl_c_at_any_time(errors):
    for seen in errors["any time"]:
        raised = [error for error, *_ in seen]
        last = len(raised) - 1
        assert raised == [f"KeyboardInterrupt: rank {last}: "] * last + ["KeyboardInterrupt: "]
        assert all(weights == seen[0][2] for _, _, weights, *_ in seen)


def test_a_failure_leaves_nothing_behind(errors):
    assert errors["nothing"] == errors["nothing again"]
    assert all(raised is None for raised, *_ in errors["nothing"])


@pytest.mark.parametrize("how", ["raised", "killed"])
def test_the_job_ends_and_leaves_a_checkpoint(tmp_path, how):
    file = tmp_path / "state.npz"
    done = mpiexec(2, "-m", "support.mpi_program", "uncaught", file, how)  # before the time limit
    assert done.returncode != 0
    if how == "raised":
        said = [Path(f"{file}.{rank}").read_text() for rank in (0, 1)]
        assert "\nValueError: rank 1: uncaught\n" in said[0]
        assert "\nValueError: uncaught\n" in said[1]
    TwoLayerNet.load(file)
    measured, *_ = mpi_program(3, "checkpointed", file, 110, "resume")
    assert len(measured[0]) == 110


def test_an_error_of_mpi_aborts(tmp_path):
    done = mpiexec(2, "-m", "support.mpi_program", "torn")
    assert done.returncode != 0
    assert "MPI.Exception" in done.stderr or "mpi4py.MPI.Exception" in done.stderr


# ---------------------------------------------------------------------------------------- resume
def test_resume_on_another_number_of_ranks(tmp_path):
    file = tmp_path / "state.npz"
    mpi_program(3, "checkpointed", file, 20)
    mpi_program(2, "checkpointed", file, 40, "resume")
    mpi_program(1, "checkpointed", file, 60, "resume", "alone")
    seen, evaluated, weights = mpi_program(4, "checkpointed", file, 80, "resume")
    whole = mpi_program(1, "checkpointed", tmp_path / "whole.npz", 80, "alone")
    np.testing.assert_allclose(seen[0], whole[0][0], rtol=1e-9)
    assert seen[1:] == whole[0][1:]
    assert evaluated == whole[1]
    np.testing.assert_allclose(weights, whole[2], rtol=1e-9)


def test_resume_with_a_custom_layer(tmp_path):
    """Batches go on where they were, though layers may draw numbers of their own."""
    file = tmp_path / "state.npz"
    mpi_program(2, "custom", file, 7)
    resumed = mpi_program(2, "custom", file, 12, "resume")
    whole = mpi_program(1, "custom", tmp_path / "whole.npz", 12, "alone")
    np.testing.assert_allclose(resumed[0], whole[0], rtol=1e-9)


# ---------------------------------------------------------------------------------------- behaviour
def test_ranks_share_the_cores():
    seen, cores = mpi_program(2, "threads", threads=None)
    for before, used, after in seen:
        assert before == after == cores
        assert used == [[max(1, cores // 2), 3]]
    seen, _ = mpi_program(2, "threads", threads=str(cores))
    assert all(used == [[cores, 3]] for _, used, _ in seen), "as chosen by the user"


def test_one_rank_speaks():
    done = mpiexec(2, "-m", "support.mpi_program", "progress")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("\n")) == {"called on 0", ""}
    lines = re.findall(r"^iteration (\d+): loss", done.stderr, re.MULTILINE)
    assert len(lines) == len(set(lines)) > 3


def test_nothing_of_mpi_without_comm():
    program = (
        "import sys, numpy as np; from net import TwoLayerNet, train;"
        "train(TwoLayerNet(2, 2, 2, rng=0), np.eye(2), [0, 1], iterations=1);"
        "assert not any(name.startswith('mpi4py') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=280)


# ---------------------------------------------------------------------------------------- command
def command(ranks, folder, *options, **others):
    return mpiexec(ranks, "-m", "net", *options, "--output", folder / "runs", "--no-plot", **others)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return three classes; only the last examples have the third, so most parts lack it."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(7)
    for which, count in (("train", 150), ("t10k", 41)):
        labels = (3 * np.arange(count) // count).astype(np.uint8)
        images = rng.integers(0, 90, (count, 4, 4)) + 40 * labels[:, None, None]
        for name, values in (("images", images), ("labels", labels)):
            header = struct.pack(f">{1 + values.ndim}I", 2048 + values.ndim, *values.shape)
            file = folder / f"{which}-{name}-idx{values.ndim}-ubyte"
            file.write_bytes(header + values.astype(np.uint8).tobytes())
    return folder


def test_command(tmp_path, data):
    """All ranks together print the output of one process."""
    options = ["--data", data, "--seed", 3, "--iterations", 40, "--batch-size", 15, "--dtype"]
    together = command(3, tmp_path, "--mpi", *options, "float64")
    assert together.returncode == 0, together.stderr
    trained = TwoLayerNet.load(tmp_path / "runs" / "network.npz")
    alone = command(1, tmp_path, *options, "float64")
    lines = [line for line in together.stdout.splitlines() if not re.search(r" s$|^iter", line)]
    assert "ranks          3" in lines
    lines.remove("ranks          3")
    others = [line for line in alone.stdout.splitlines() if not re.search(r" s$|^iter", line)]
    assert [line for line in lines if "thread" not in line] == [
        line for line in others if "thread" not in line
    ]
    assert len(lines) == 4 + 3
    for key, value in TwoLayerNet.load(tmp_path / "runs" / "network.npz").params.items():
        np.testing.assert_allclose(trained.params[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nonsense"], "njitnet: error: unrecognized arguments: --nonsense; see --help"),
        (
            ["--batch-size", "151"],
            r"njitnet: error: argument --batch-size: expected at most 150, .*",
        ),
        (["--data", "nowhere"], "njitnet: error: nowhere: expected a folder .*"),
        (["--resume", "--checkpoint", "none.npz"], "njitnet: error: none.npz: No such file .*"),
    ],
)
def test_command_says_an_error_once(tmp_path, data, options, message):
    done = command(2, tmp_path, "--mpi", "--data", data, *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(message + "\n", done.stderr)


def test_command_shows_its_version_once(tmp_path):
    done = command(2, tmp_path, "--mpi", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"njitnet.*\n", done.stdout)


def test_ctrl_c_keeps_what_was_trained(tmp_path, data):
    process = subprocess.Popen(
        [
            *(MPIEXEC, "-n", "2", sys.executable, "-m", "net", "--mpi", "--data", data),
            *("--iterations", str(10**7), "--batch-size", "15", "--output", tmp_path / "runs"),
        ],
        cwd=ROOT, env=environment("1"), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(3):  # it trains
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
    assert process.returncode == 130, out + err
    assert re.search(r"^njitnet: interrupted after \d+ of 10000000 iterations$", err, re.MULTILINE)
    assert err.count("njitnet:") == 1
    assert "test accuracy" in out
    TwoLayerNet.load(tmp_path / "runs" / "network.npz")


FAULT = """
import os, signal, sys, threading, time
from pathlib import Path

file, how, *options = sys.argv[1:]
rank = os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]


def strike():
    while not Path(file).exists():
        time.sleep(0.02)
    if how == "moved":
        Path(file).parent.rename(Path(file).parent.with_name("elsewhere"))
    else:
        os.kill(os.getpid(), getattr(signal, how))


if rank == ("0" if how == "moved" else "1"):
    threading.Thread(target=strike, daemon=True).start()
from net.__main__ import main
sys.exit(main(options))
"""


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("SIGTERM", 143, r"njitnet: interrupted after \d+ of 10000000 iterations"),
        ("SIGKILL", 9, ""),
        ("moved", 2, r"njitnet: error: .*state.npz: No such file or directory.*"),
    ],
)
def test_command_ends_on_all_ranks_by_a_fault_on_one(tmp_path, data, how, status, message):
    """The interrupted command leaves a checkpoint, which another run resumes."""
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "state.npz"
    options = "--mpi", "--data", data, "--batch-size", 15, "--output", file.parent
    done = mpiexec(3, "-c", FAULT, file, how, *options, "--iterations", 10**7, "--checkpoint", file)
    assert done.returncode == status, done.stdout + done.stderr
    assert re.search(f"^{message}$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    if how == "moved":
        file = tmp_path / "elsewhere" / "state.npz"
    options = "--data", data, "--batch-size", 15, "--checkpoint", file, "--resume"
    with np.load(file) as arrays:
        done = len(arrays["train_loss_list"])
    again = command(1, tmp_path, *options, "--iterations", done + 5)
    assert again.returncode == 0, again.stderr


def test_command_without_mpi4py(tmp_path):
    program = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from net.__main__ import main; sys.exit(main(['--mpi']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.match(r"njitnet: error: argument --mpi: expected mpi4py .* pip install", done.stderr)


def test_the_example_of_the_documentation(tmp_path):
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "train.py").write_text(code.replace("200", "20"), encoding="utf-8")
    done = mpiexec(2, "-m", "mpi4py", tmp_path / "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 1
    assert TwoLayerNet.load(tmp_path / "network.npz").params["b2"].dtype == "float32"

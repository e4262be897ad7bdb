"""Invalid or hostile networks and checkpoints raise an error that names the file."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.argument_strategies import outcome

from net import SGD, History, TwoLayerNet, archive, checkpoint, train
from net.random_state import get_state

SIZES = (3, 2, 2)
GENERATORS = {
    "RandomState": np.random.RandomState,
    "PCG64": np.random.default_rng,
    "Philox": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
}
X, T = np.eye(3), np.array([0, 1, 0])
OPTIONS = {"iterations": 6, "batch_size": 2}


@pytest.fixture(params=GENERATORS.values(), ids=GENERATORS)
def generator(request):
    return request.param


@pytest.fixture
def file(tmp_path):
    """Return the file of a checkpoint after four iterations."""
    path = tmp_path / "state.npz"
    run(path, np.random.RandomState(0), iterations=4)
    return path


def run(path, rng, **options):
    network = TwoLayerNet(*SIZES, rng=0)
    train(network, X, T, **{**OPTIONS, **options}, rng=rng, checkpoint=path)
    return network


def resume(path, rng=None):
    """Return the error of a resumed run, and check that nothing changed."""
    network, rng = TwoLayerNet(*SIZES, rng=0), rng or np.random.RandomState(0)
    before, state = network.params["W1"].copy(), str(get_state(rng))
    with pytest.raises(ValueError, match=r"state\.npz.*expected") as caught:
        train(network, X, T, **OPTIONS, rng=rng, checkpoint=path, resume=True)
    np.testing.assert_array_equal(network.params["W1"], before)
    assert str(get_state(rng)) == state
    return str(caught.value)


def contents(path):
    with zipfile.ZipFile(path) as whole:
        return {name: whole.read(name) for name in whole.namelist()}


def rewrite(path, **changes):
    """Rewrite a file with other contents for some of its arrays, and valid checksums."""
    parts = contents(path) | {f"{name}.npy": value for name, value in changes.items()}
    with zipfile.ZipFile(path, "w") as whole:
        for name, value in parts.items():
            whole.writestr(name, value)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)  # hostile files have pickled objects
    return stream.getvalue()


def header(text, data=b""):
    """Return an array in the .npy format with a custom header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def dictionary(descr="'<f8'", shape="(3, 2)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


SIX = bytes(48)
HEADERS = {
    "endless statement": header("{'descr': '<f8', ", SIX),  # found by fuzzing
    "indentation": header("  {\n 1\n  2}", SIX),
    "nested": header("(" * 9000, SIX),
    "nested lists": header("[" * 400 + "]" * 400, SIX),
    "long": header(dictionary() + " " * 20_000, SIX),
    "no dictionary": header("[1, 2]", SIX),
    "calls": header("__import__('os').getcwd()", SIX),
    "shape of words": header(dictionary(shape="('a', 'b')"), SIX),
    "negative shape": header(dictionary(shape="(-3, -2)"), SIX),
    "shape too large": header(dictionary(shape="(3, 2000000000000)"), SIX),
    "shape beyond integers": header(dictionary(shape="(3, 10000000000000000000000)"), SIX),
    "many dimensions": header(dictionary(shape=str((1,) * 70)), bytes(8)),
    "objects": header(dictionary(descr="'|O'"), SIX),
    "records": header(dictionary(descr="[('a', '<f8')]"), SIX),
    "no dtype": header(dictionary(descr="'what'"), SIX),
    "huge text": header(dictionary(descr="'<U500000000'", shape="()"), SIX),
    "short": header(dictionary(), SIX[:-1]),
    "cut off": header(dictionary())[:20],
    "another magic number": b"\x92" + header(dictionary(), SIX)[1:],
    "another version": b"\x93NUMPY\x09\x00" + header(dictionary(), SIX)[8:],
    "empty": b"",
    "pickle": pickle.dumps(np.ones((3, 2))),
    "pickled objects": npy(np.full((3, 2), None, object)),
    "read-only big-endian": npy(np.ones((3, 2), ">f8")),
    "complex": npy(np.ones((3, 2), complex)),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_spoilt_arrays(file, content):
    rewrite(file, W1=content)
    with pytest.raises(ValueError, match=r"state\.npz.*expected.*got"):
        TwoLayerNet.load(file)
    resume(file)


# ---------------------------------------------------------------- archives
def test_members_that_share_their_bytes(file):
    """A small file with overlapping arrays would unpack to a large one."""
    data = npy(np.zeros(50_000))
    first = io.BytesIO()
    with zipfile.ZipFile(first, "w") as whole:
        whole.writestr("a.npy", data)
        entry = whole.infolist()[0]
        for i in range(200):
            again = zipfile.ZipInfo("a.npy")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "create_system"):
                setattr(again, name, getattr(entry, name))
            again.filename = again.orig_filename = f"{i}.npy"
            whole.filelist.append(again)
        whole._didModify = True
    file.write_bytes(first.getvalue())
    assert len(first.getvalue()) < 2 * len(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="longer than the file"):
            archive.read(file)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()


def test_compressed_arrays(file):
    for size, problem in ((2, "compressed"), (10**6, "longer than the file")):
        np.savez_compressed(file, **{name: np.zeros(size) for name in ("W1", "b1", "W2", "b2")})
        with pytest.raises(ValueError, match=rf"state\.npz.*{problem}"):
            TwoLayerNet.load(file)


def test_every_cut_and_every_wrong_byte(file):
    """Each raises an error or does not change the arrays: a checksum does not cover all bytes."""
    TwoLayerNet(*SIZES, rng=0).save(file)
    whole, right = file.read_bytes(), archive.read(file)
    for place in range(0, len(whole), 3):
        wrong = bytearray(whole)
        wrong[place] ^= 0xFF
        for content in (whole[:place], bytes(wrong)):
            file.write_bytes(content)
            found = outcome(archive.read, file)
            if isinstance(found, ValueError):
                assert "state.npz" in str(found)
            else:
                for name in found.keys() & right.keys():
                    np.testing.assert_array_equal(found[name], right[name])


def test_what_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        TwoLayerNet.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        TwoLayerNet.load(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"File name too long|name"):
        TwoLayerNet.load("x" * 5000)


# ---------------------------------------------------------------- the state of a run
def state(path):
    return json.loads(str(archive.read(path)["state"][()]))


def set_state(path, value):
    text = value if isinstance(value, str) else json.dumps(value)
    rewrite(path, state=npy(np.array(text)))


STATES = {
    "no JSON": "{",
    "nested": "[" * 100_000,
    "a list": "[]",
    "a number": "1",
    "no settings": '{"random": {}}',
    "empty": "{}",
    "a very long number": "9" * 5000,
}


@pytest.mark.parametrize("text", STATES.values(), ids=STATES)
def test_spoilt_state(file, text):
    set_state(file, text)
    resume(file)


@pytest.mark.parametrize("place", [-1, -(2**31), 10**8, 625, None, "1", [1], 2**80])
def test_a_random_state_that_reads_foreign_memory(tmp_path, generator, place):
    """NumPy accepts any position in the buffer and reads there, which ends the process."""
    file = tmp_path / "state.npz"
    run(file, generator(0), iterations=4)
    changed = state(file)
    random = changed["random"]["batches"]
    if "pos" in random["state"]:
        random["state"]["pos"] = place
    elif "buffer_pos" in random:
        random["buffer_pos"] = place
    else:
        random["state"]["inc"] = {"no": "number"}
    set_state(file, changed)
    resume(file, generator(0))


@pytest.mark.parametrize("change", ["key", "bit_generator", "state"])
def test_another_random_state(file, change):
    changed = state(file)
    if change == "key":
        changed["random"]["batches"]["state"]["key"] = [1, 2]
    else:
        changed["random"]["batches"][change] = "PCG64"
    set_state(file, changed)
    resume(file)


LISTS = {
    "train_loss_list": [np.ones((4, 1)), np.array(1.0), np.array(["a"] * 4), np.ones(4, int)],
    "train_acc_list": [np.ones(9), np.ones((2, 1)), np.array(0.5), np.array(["a"] * 2)],
    "test_acc_list": [np.ones(1), np.ones((2, 1)), np.array(0.5)],
    "evaluated_at": [np.ones(2), np.arange(3), np.array([0, 4]), np.array([-1, 0]), np.array(0)],
}


@pytest.mark.parametrize("name", LISTS)
def test_spoilt_history(file, name):
    for value in LISTS[name]:
        rewrite(file, **{name: npy(value)})
        resume(file)


def test_the_command_says_it_in_one_line(file, tmp_path):
    # In a separate process, which ends with its compiling thread: Numba's compiler and
    # pytest.warns both change the warning filters, which all threads share.
    rewrite(file, train_loss_list=npy(np.array(1.0)))
    done = subprocess.run(
        [sys.executable, "-m", "net", "--resume", "--checkpoint", file, "--output", tmp_path],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("njitnet: error: ")
    assert "state.npz: expected a checkpoint" in line


def test_a_whole_file_is_read(tmp_path, generator):
    file = tmp_path / "state.npz"
    run(file, generator(0), iterations=4)
    network, history = TwoLayerNet(*SIZES, rng=0), History()
    settings, rngs = state(file)["settings"], {"batches": generator(1)}
    assert settings | {"examples": 3, "batch_size": 2, "optimizer": "SGD"} == settings
    assert checkpoint.restore(file, network, SGD(), history, rngs, settings) == 4
    assert checkpoint.read_history(file) == {
        name: value for name, value in vars(history).items() if isinstance(value, list)
    }
    assert os.path.getsize(file) > 1000

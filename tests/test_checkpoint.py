"""Checkpoints are complete, whatever ends the run or fills the disk."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from support.processes import run

from net import TwoLayerNet, archive, train

resource = pytest.importorskip("resource", reason="needs POSIX")

X, T = np.random.default_rng(0).random((20, 30)), np.arange(20) % 3


@contextmanager
def largest_file(size):
    """Limit the size of files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def user(name):
    """Drop the rights of root, for whom permissions do not apply."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(name)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def killed(tmp_path, times):
    """Kill a run repeatedly and resume it: see `support.kill_and_resume`."""
    folder = tmp_path / "run"
    folder.mkdir()
    status, output = run(tmp_path, "-m", "support.kill_and_resume", folder, times)
    assert status == 0, output
    return output


def test_killed_ten_times(tmp_path):
    assert "10 kills" in killed(tmp_path, 10)


@pytest.mark.exhaustive
def test_killed_a_hundred_times(tmp_path):
    output = killed(tmp_path, 100)
    assert int(re.search(r"(\d+) of them in a write", output)[1]) > 0, output


def interrupted(path, network):
    """Train until a checkpoint cannot be written; return the error and the history until then."""
    histories = []

    def callback(done, history):
        histories[:] = [history]

    with pytest.raises(OSError, match=re.escape(str(path))) as caught:
        train(
            network,
            X,
            T,
            iterations=10**6,
            batch_size=10,
            rng=0,
            checkpoint=path,
            callback=callback,
        )
    return caught.value, histories[0]


def expect_kept(path, network, error, history):
    """Check that the checkpoint is complete, and that network and history can be resumed."""
    done = len(history.train_loss_list)
    assert f"the file is unchanged; the network in memory is trained for {done}" in str(error)
    assert os.listdir(path.parent) == [path.name]
    again = TwoLayerNet(30, 10, 3, rng=0)
    before = train(
        again, X, T, iterations=done - 2, batch_size=10, rng=0, checkpoint=path, resume=True
    )
    assert before.train_loss_list == history.train_loss_list[:-2]
    train(again, X, T, iterations=done, batch_size=10, rng=0, checkpoint=path, resume=True)
    for key, value in network.params.items():
        np.testing.assert_array_equal(value, again.params[key])


def test_a_disk_that_fills_up(tmp_path):
    path, network = tmp_path / "state", TwoLayerNet(30, 10, 3, rng=0)
    with largest_file(16_000):
        error, history = interrupted(path, network)
    expect_kept(path, network, error, history)


NO_MEMORY = """
import resource, sys
import numpy as np
from net import Adam, TwoLayerNet, train

rng = np.random.default_rng(0)
x, t = rng.random((50, 784)), rng.integers(0, 10, 50)


def run(iterations, **how):
    network = TwoLayerNet(784, 2000, 10, rng=0)
    options = {"batch_size": 10, "optimizer": Adam(), "rng": 1, "progress": False}
    return network.params, train(network, x, t, iterations=iterations, **options, **how)


def no_more(done, history):
    line = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
    used = 1024 * int(line.split()[1])
    resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))


before = resource.getrlimit(resource.RLIMIT_AS)
run(3, checkpoint=sys.argv[1])
try:
    run(9, checkpoint=sys.argv[1], resume=True, callback=no_more)
except MemoryError as error:
    print("told:", error)
resource.setrlimit(resource.RLIMIT_AS, before)
params, _ = run(9, checkpoint=sys.argv[1], resume=True)
expected, _ = run(9)
for key, value in expected.items():
    np.testing.assert_array_equal(params[key], value)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_no_memory_left(tmp_path):
    """A MemoryError leaves a checkpoint; the resumed run is bitwise identical."""
    status, output = run(tmp_path, "-c", NO_MEMORY, tmp_path / "state")
    assert status == 0, output
    assert "told: Unable to allocate" in output
    assert sorted(os.listdir(tmp_path)) == ["output", "state"]  # of `run`, and the checkpoint


def test_a_full_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        path, network = folder / "state", TwoLayerNet(30, 10, 3, rng=0)
        error, history = interrupted(path, network)
        assert "No space left on device" in str(error)
        moved = tmp_path / "output" / "state"  # on a disk that is not full
        moved.parent.mkdir()
        shutil.move(path, moved)
        expect_kept(moved, network, error, history)
        assert os.listdir(folder) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_that_may_not_be_written_in(tmp_path):
    path, network = tmp_path / "state", TwoLayerNet(30, 10, 3, rng=0)
    train(network, X, T, iterations=4, batch_size=10, rng=0, checkpoint=path)
    kept = path.read_bytes()
    tmp_path.chmod(0o500)
    with (
        user(65534),
        pytest.raises(PermissionError, match="Permission denied; the file is unchanged") as caught,
    ):
        network.save(path)
    assert caught.value.filename == str(path)
    tmp_path.chmod(0o700)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("path", ["pipe", "folder", "missing/state", "file/state"])
def test_what_cannot_be_a_checkpoint(path, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / path
    with pytest.raises(OSError, match=re.escape(str(path))):
        archive.write(path, {"a": np.ones(3)})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_links_and_permissions_are_kept(tmp_path):
    mask = os.umask(0o027)
    try:
        archive.write(tmp_path / "new", {"a": np.ones(3)})
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
        (tmp_path / "new").chmod(0o604)
        (tmp_path / "link").symlink_to("new")
        archive.write(tmp_path / "link", {"a": np.zeros(3)})
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o604
        np.testing.assert_array_equal(archive.read(tmp_path / "new")["a"], np.zeros(3))
    finally:
        os.umask(mask)


def test_what_a_killed_run_left_does_no_harm(tmp_path):
    (tmp_path / ".state.part").write_bytes(b"x" * 99_999)
    archive.write(tmp_path / "state", {"a": np.ones(3)})
    assert os.listdir(tmp_path) == ["state"]
    assert (tmp_path / "state").stat().st_size < 1000


WRITERS = """
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from net import archive

path, size, first = sys.argv[1], 1000, 4 * int(sys.argv[2])

def write(i):
    for _ in range(60):
        archive.write(path, {"a": np.full(size, i)})
        a = archive.read(path)["a"]
        assert a.size == size and (a == a[0]).all()

with ThreadPoolExecutor(4) as pool:
    list(pool.map(write, range(first, first + 4)))
"""


def test_many_write_the_same_file(tmp_path):
    """Save from four processes with four threads each, like runs started in the same folder.

    Threads switch between any two system calls, and processes write at the same time: a file
    that one has found, another may have renamed or removed.
    """
    path = tmp_path / "run" / "state"
    path.parent.mkdir()
    archive.write(path, {"a": np.zeros(1000)})
    folders = [tmp_path / str(i) for i in range(4)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(4) as pool:
        ended = pool.map(lambda folder: run(folder, "-c", WRITERS, path, folder.name), folders)
    assert list(ended) == [(0, "")] * 4
    assert os.listdir(path.parent) == ["state"]

"""Kill a training run repeatedly: ``python -m tests.support.kill_and_resume FOLDER COUNT``.

Each time, a child resumes from the checkpoint, writes it every other iteration, and is killed at a
random moment. The checkpoint must load each time, and a run resumed from the last one must be
bitwise identical to an uninterrupted run.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from net import TwoLayerNet, archive, train

rng = np.random.default_rng(0)
x = rng.random((20, 30))
t = rng.integers(0, 3, 20)


def run(**how):
    network = TwoLayerNet(30, 100, 3, rng=1)
    return network, train(network, x, t, x, t, batch_size=10, rng=2, **how)


def killed(checkpoint, delay):
    """Resume the run in a child process that is killed after `delay` seconds."""
    pid = os.fork()
    if not pid:
        try:
            run(iterations=10**9, checkpoint=checkpoint, resume=checkpoint.exists())
        finally:
            os._exit(1)  # an error: nothing but the signal should end it
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def killed_in_a_progress_bar():
    """Kill a child while it holds the lock of tqdm, which processes share; this is rare."""
    lock = tqdm.get_lock()
    pid = os.fork()
    if not pid:
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def main(folder, count):
    checkpoint = Path(folder, "state.npz")
    run(iterations=10)  # loads the compiled code for all children
    killed_in_a_progress_bar()
    delays = random.Random(0)
    writes = 0
    for _ in range(count):
        killed(checkpoint, delays.uniform(0, 0.1))
        if checkpoint.exists():
            TwoLayerNet.load(checkpoint)
        others = set(os.listdir(folder)) - {"state.npz"}
        assert len(others) <= 1, others
        writes += len(others)
    assert checkpoint.exists()

    done = len(archive.read(checkpoint)["train_loss_list"])
    resumed, history = run(iterations=done + 10, checkpoint=checkpoint, resume=True)
    whole, expected = run(iterations=done + 10)
    assert history == expected
    for key, value in whole.params.items():
        assert value.tobytes() == resumed.params[key].tobytes()
    assert os.listdir(folder) == ["state.npz"]
    print(f"{count} kills, {writes} of them in a write; right after {done} iterations")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

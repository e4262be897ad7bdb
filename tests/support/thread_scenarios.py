"""Programs that `test_threads` runs in separate processes.

``python -m support.thread_scenarios NAME LAYER``, with `tests` on Python's path.
Each program prints what it starts, and ends with status 0 and the line "right" if all results are.
"""

import hashlib
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import product

import naive
import numba
import numpy as np
from support import user_kernels

import kernels
from net import Affine, Relu, Sigmoid, SoftmaxWithLoss, TwoLayerNet, train

THREADS = 8


def digest(*arrays):
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def work(seed):
    """Use kernels, layers and `train`, all large enough for several threads; return a digest."""
    rng = np.random.default_rng(seed)
    dtype = np.float64 if seed % 2 else np.float32
    x = rng.standard_normal((400, 100)).astype(dtype)
    W, b = rng.standard_normal((100, 40)).astype(dtype), rng.standard_normal(40).astype(dtype)
    t = rng.integers(0, 40, 400)

    out, mask = kernels.relu_forward(x)
    found = [kernels.affine_forward(x, W, b), out, mask, kernels.sigmoid_forward(x)]
    found += [kernels.softmax(x), kernels.relu_backward(x, mask)]
    expected = [naive.affine_forward(x, W, b), *naive.relu_forward(x), naive.sigmoid_forward(x)]
    expected += [naive.softmax(x), naive.relu_backward(x, mask)]
    close(found, expected)

    layers, last = [Affine(W, b), Relu(), Sigmoid()], SoftmaxWithLoss()
    out = x
    for layer in layers:
        out = layer.forward(out)
    found.append(last.forward(out, t))
    dout = last.backward()
    for layer in reversed(layers):
        dout = layer.backward(dout)
    found += [dout, layers[0].dW, layers[0].db]

    network = TwoLayerNet(100, 70, 40, dtype=dtype, rng=seed)
    history = train(network, x, t, x, t, iterations=50, batch_size=20, rng=seed)
    assert history.train_loss_list[-1] < history.train_loss_list[0]
    return digest(*found, *network.params.values(), history.train_loss_list)


def in_thread(seed):
    """Run `work` in a thread other than the main thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, seed).result()


def same(found, seeds):
    assert list(found) == [work(seed) for seed in seeds]


# ---------------------------------------------------------------- threads
def threads():
    """Run eight threads at once, from the first call on."""
    barrier = threading.Barrier(THREADS)

    def together(seed):
        barrier.wait()
        return [work(seed) for _ in range(3)]

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(together, range(THREADS)))
    for seed in range(THREADS):
        same(found[seed], [seed] * 3)


def inside_prange():
    """Call kernels from each iteration of a user's parallel loop."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 400, 100))
    W, b = rng.standard_normal((100, 40)), rng.standard_normal(40)
    for _ in range(10):
        rectified, probable = user_kernels.activations(x)
        sums = user_kernels.affine(x, W, b)
    for i in range(len(x)):
        assert digest(rectified[i]) == digest(kernels.relu_forward(x[i])[0])
        assert digest(probable[i]) == digest(kernels.softmax(x[i]))
        assert digest(sums[i]) == digest(kernels.affine_forward(x[i], W, b))


def beside_prange():
    """Call kernels in some threads while another thread is in a user's parallel loop."""
    x = np.random.default_rng(0).standard_normal((6, 400, 100))
    stop = threading.Event()

    def loop():
        results = set()
        while not stop.is_set():
            results.add(digest(*user_kernels.activations(x)))
        return results

    with ThreadPoolExecutor(4) as pool:
        loops = pool.submit(loop)
        found = list(pool.map(work, range(8)))
        stop.set()
        assert loops.result() == {digest(*user_kernels.activations(x))}
    same(found, range(8))


# ---------------------------------------------------------------- processes
def pool(method):
    work(0)
    with multiprocessing.get_context(method).Pool(2) as workers:
        found = workers.map(work, range(4)), workers.map(in_thread, range(4))
    for each in found:
        same(each, range(4))


def executor():
    work(0)
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as workers:
        same(workers.map(work, range(4)), range(4))


def joblib():
    if find_spec("joblib") is None:
        print("no joblib here")
        return
    from joblib import Parallel, delayed

    work(0)
    for backend in ("loky", "multiprocessing", "threading"):
        same(Parallel(2, backend=backend)(delayed(work)(i) for i in range(4)), range(4))


def child(task):
    """Fork, run `task` in the child, and check its exit status."""
    pid = os.fork()
    if not pid:
        try:
            task()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def grandchild():
    """Fork in a child, and in a child that was forked before any kernel had run."""
    child(lambda: [same([in_thread(0)], [0]), child(lambda: same([work(0)], [0]))])
    expected = work(0)
    child(lambda: child(lambda: same([work(0), in_thread(0)], [0, 0])))
    assert work(0) == expected


def fork_in_training():
    """Fork while other threads train, and last in a callback of training; that child continues."""
    expected = work(0)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(work, seed) for seed in range(12)]
        for _ in range(6):
            child(lambda: same([expected], [0]))
        same([each.result() for each in found], range(12))

    x, t = np.random.default_rng(0).random((200, 20)), np.arange(200) % 5
    parent, ended = os.getpid(), []

    def callback(done, history):
        if done == 11:
            ended.append(os.fork())

    network = TwoLayerNet(20, 200, 5, rng=0)
    history = train(network, x, t, iterations=200, batch_size=20, rng=0, callback=callback)
    again = TwoLayerNet(20, 200, 5, rng=0)
    right = history == train(again, x, t, iterations=200, batch_size=20, rng=0)
    if os.getpid() != parent:
        os._exit(0 if right else 1)
    assert right
    assert os.waitstatus_to_exitcode(os.waitpid(ended[0], 0)[1]) == 0


# ---------------------------------------------------------------- bits
class OwnSigmoid(Sigmoid):
    """Sigmoid subclass, which makes the network train layer by layer."""


def bits():
    """Print the results of each method of training, run twice."""
    rng = np.random.default_rng(0)
    images = {
        "sparse": rng.random((200, 300)) * (rng.random((200, 300)) < 0.2),
        "dense": rng.random((200, 300)),
        "layers": rng.random((200, 300)),
    }
    t = np.eye(10)[rng.integers(0, 10, 200)]
    for dtype, way in product(("float32", "float64"), ("sparse", "dense", "layers")):
        for _ in range(2):
            x = images[way]
            network = TwoLayerNet(300, 70, 10, dtype=dtype, rng=1)
            if way == "layers":
                network.layers["Relu1"] = OwnSigmoid()
            sizes = {"iterations": 10 if way == "layers" else 90, "batch_size": 40}
            history = train(network, x, t, x, t, rng=2, **sizes)
            lists = history.train_loss_list, history.train_acc_list, history.test_acc_list
            print(dtype, way, digest(*network.params.values(), *lists), sep="\t")
            assert max(history.threads) == numba.get_num_threads()


SCENARIOS = {
    "bits": [bits],
    "threads": [threads],
    "prange": [inside_prange, beside_prange],
    "forks": [grandchild, partial(pool, "fork"), executor, joblib, fork_in_training],
    "starts": [partial(pool, "spawn"), partial(pool, "forkserver")],
}

if __name__ == "__main__":
    name, layer = sys.argv[1:]
    for scenario in SCENARIOS[name]:
        print(scenario, flush=True)
        scenario()
    assert numba.threading_layer() == layer
    print("right")

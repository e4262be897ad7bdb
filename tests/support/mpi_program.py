"""Program that `test_ranks` runs under mpiexec: ``python -m support.mpi_program NAME [ARGUMENT]``.

Each function runs on every rank. Rank 0 prints the results of all ranks as one line of JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path
from threading import Timer

import numpy as np
from mpi4py import MPI

from net import Adam, Relu, Sigmoid, TwoLayerNet, train

comm = MPI.COMM_WORLD
RANK, RANKS = comm.rank, comm.size
ALL = "all"  # ranks on which something goes wrong


def examples(targets="labels", dtype=np.float64, count=102):
    """Return two sets with sizes that not every number of ranks divides."""
    rng = np.random.default_rng(1)
    sets = []
    for n in (count, 31):
        labels = rng.integers(0, 5, n)
        x = rng.random((n, 20)) + 0.5 * np.eye(5, 20)[labels]
        one_hot = np.eye(5)[labels]
        t = {"labels": labels, "one-hot": one_hot, "soft": 0.9 * one_hot + 0.02}[targets]
        sets += [x.astype(dtype), t]
    return sets


def part(array, cuts=None):
    """Return this rank's part of an array: one of equal parts, or the part between given cuts."""
    cuts = cuts or [len(array) * k // RANKS for k in range(RANKS + 1)]
    return array[cuts[RANK] : cuts[RANK + 1]]


def network(dtype=np.float64, seed=3):
    return TwoLayerNet(20, 13, 5, weight_init_std=0.3, dtype=dtype, rng=seed)


def measured(history):
    return [history.train_loss_list, history.train_acc_list, history.test_acc_list]


def digest(net):
    return [float(np.sum(value * np.arange(value.size).reshape(value.shape))) for value in
            net.params.values()]  # fmt: skip


# ---------------------------------------------------------------------------------------- the same
def same():
    """Return the differences of histories and weights from those of one process."""
    cases = {
        "long": {"iterations": 1000, "count": 103},
        "one-hot": {"targets": "one-hot", "batch_size": 20},
        "soft": {"targets": "soft"},
        "float32": {"dtype": np.float32, "rate": 0.05},
        "fewer in a batch than ranks": {"batch_size": 1},
        "batch larger than the set": {"batch_size": 150},
        "fewer examples than ranks": {"count": 2, "batch_size": 5},
        "unequal parts": {"cuts": [0, *[0, 90, 90][: RANKS - 1], 102]},
        "other layers": {"layer": Sigmoid},
        "global state": {"rng": None},
    }
    seen = {name: compare(**case) for name, case in cases.items()}
    if RANK == 0:
        print(json.dumps(seen))


def compare(
    targets="labels", dtype=np.float64, count=102, cuts=None, layer=None, rng=5, rate=0.1,
    iterations=40, batch_size=17,
):  # fmt: skip
    sets = examples(targets, dtype, count)
    ours = network(dtype, seed=3 + RANK)  # rank 0's counts
    if layer is not None:
        ours.layers["Relu1"] = layer()
    parts = [part(a, cuts if len(a) == count else None) for a in sets]
    options = {"iterations": iterations, "batch_size": batch_size, "learning_rate": rate}
    np.random.seed(7 + RANK)
    history = train(ours, *parts, **options, rng=rng, comm=comm)
    after = np.random.random()
    params = comm.allgather([value.tobytes() for value in ours.params.values()])
    histories = comm.allgather(measured(history))
    if RANK:
        return None
    alone = network(dtype)
    if layer is not None:
        alone.layers["Relu1"] = layer()
    np.random.seed(7)
    expected = train(alone, *sets, **options, rng=rng)
    pairs = [
        (np.array(history.train_loss_list), np.array(expected.train_loss_list)),
        *zip(ours.params.values(), alone.params.values(), strict=True),
    ]
    difference = max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)
    return {
        "difference": difference,
        "accuracies": measured(history)[1:] == measured(expected)[1:],
        "evaluated": history.evaluated_at == expected.evaluated_at,
        "ranks agree": all(each == params[0] for each in params)
        and all(each == histories[0] for each in histories),
        "random state": bool(rng is not None or after == np.random.random()),
    }


# ---------------------------------------------------------------------------------------- failures
class Fails(Relu):
    """ReLU that raises in one iteration on one rank."""

    def __init__(self, error, after, rank):
        super().__init__()
        self.error, self.after, self.rank = error, after, rank
        self.calls = 0

    def backward(self, dout):
        self.calls += 1
        if self.calls > self.after and self.rank in (RANK, ALL):
            if isinstance(self.error, int):
                os.kill(os.getpid(), self.error)
            else:
                raise self.error
        return super().backward(dout)


def attempt(net=None, callback=None, **options):
    """Return each rank's error, number of iterations, weights, and number of gradients."""
    net = net or network()
    seen = []

    def note(done, history):
        seen[:] = [history]
        return callback(done) if callback else None

    given = {"iterations": 40, "batch_size": 17, "rng": 5, **options}
    data = [part(a) for a in examples()]
    for i, name in enumerate(("x_train", "t_train", "x_test", "t_test")):
        data[i] = given.pop(name, data[i])
    try:
        train(net, *data, **{"comm": comm, **given}, callback=note)
        raised = None
    except BaseException as error:
        raised = f"{type(error).__name__}: {error}"
    done = len(seen[0].train_loss_list) if seen else None
    handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    gradients = getattr(net.layers["Relu1"], "calls", None)
    return comm.gather([raised, done, digest(net), handler, gradients])


def failing(error, after=10, rank=RANKS - 1):
    net = network()
    net.layers["Relu1"] = Fails(error, after, rank)
    return net


def only(rank, name, value):
    return {name: value} if rank == RANK else {}


def interrupted(delay):
    """Train, and interrupt the last rank with Ctrl-C after `delay` seconds."""
    if RANK == RANKS - 1:
        Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    return attempt(iterations=10**6)


def errors(folder):
    """Print what all ranks raise after an error on one of them, for one error after another."""
    last = RANKS - 1
    x, t, x_test, _ = (part(a) for a in examples())

    def stop(done):
        raise ZeroDivisionError("in the callback")

    seen = {
        "nothing": attempt(),
        "layer": attempt(failing(ValueError("in a layer"))),
        "own error": attempt(failing(KeyError("mine"))),
        "exit": attempt(failing(SystemExit(3))),
        "ctrl-c": attempt(failing(signal.SIGINT)),
        "any time": [interrupted(0.05 + 0.005 * k) for k in range(10)],
        "everywhere": attempt(failing(OSError("all"), rank=ALL)),
        "callback": attempt(callback=stop),
        "stop": attempt(callback=lambda done: done > 1),
        "no folder": attempt(checkpoint=Path(folder, "none", "state.npz")),
        "no checkpoint": attempt(checkpoint=Path(folder, "none.npz"), resume=True),
        "argument": attempt(**only(last, "learning_rate", "fast")),
        "labels": attempt(**only(last, "t_train", t + 5)),
        "batch_size": attempt(**only(last, "batch_size", 18)),
        "rng": attempt(**only(last, "rng", np.random.RandomState(5))),
        "x_train": attempt(**only(last, "x_train", x.astype(np.float32))),
        "t_train": attempt(**only(last, "t_train", np.eye(5)[t])),
        "sets": attempt(**(only(last, "x_test", None) | only(last, "t_test", None))),
        "pixels": attempt(**only(last, "x_test", x_test[:0, :19]), **only(last, "t_test", t[:0])),
        "W1": attempt(network(np.float32) if last == RANK else network()),
        "layers": attempt(failing(ValueError(), 99) if last == RANK else network()),
        "comm": attempt(comm="world"),
        "no examples": attempt(x_train=x[:0], t_train=t[:0]),
        "whole set": attempt(x_train=examples()[0], t_train=examples()[1]),
        "optimizer": attempt(**only(last, "optimizer", Adam())),
        "iterations": attempt(**only(last, "iterations", 41)),
        "nothing again": attempt(),
    }
    import net

    if last == RANK:
        net.__version__ = "0.0.0"
    seen["njitnet"] = attempt()
    if RANK == 0:
        print(json.dumps(seen))


def uncaught(file, how):
    """Start a run that ends with an error on the last rank, after some evaluations.

    Each rank writes to its own file, because mpiexec mixes lines printed at the same time.
    """
    said = os.open(f"{file}.{RANK}", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, sys.stderr.fileno())
    net = network()
    error = signal.SIGKILL if how == "killed" else ValueError("uncaught")
    failing_relu = Fails(
        error, 100, RANKS - 1
    )  # patched into the layer, whose class is in the checkpoint
    relu = net.layers["Relu1"]
    forward, backward = relu.forward, failing_relu.backward
    relu.forward = lambda x: [forward(x), failing_relu.forward(x)][0]
    relu.backward = backward
    data = [part(a) for a in examples()]
    train(net, *data, iterations=10**6, batch_size=17, rng=5, checkpoint=file, comm=comm)


def torn():
    """Make MPI itself fail on the last rank, so that the error cannot reach the other ranks."""
    from net.process_group import ProcessGroup

    class Broken(ProcessGroup):
        def broadcast_state(self, *_):
            if RANK == RANKS - 1:
                raise MPI.Exception(MPI.ERR_OTHER)
            comm.barrier()

    import net

    net.process_group.ProcessGroup = Broken
    train(network(), *(part(a) for a in examples()), iterations=1, comm=comm)


def checkpointed(file, iterations, *options):
    """Train for `iterations`, on these ranks or on a single process."""
    alone = "alone" in options
    net = network(seed=3 + RANK)
    history = train(
        net,
        *(examples() if alone else map(part, examples())),
        iterations=int(iterations),
        batch_size=17,
        rng=np.random.default_rng(5 + RANK),
        comm=None if alone else comm,
        checkpoint=file,
        resume="resume" in options,
    )
    if RANK == 0:
        print(json.dumps([measured(history), history.evaluated_at, digest(net)]))


class Scale:
    """A custom layer."""

    parameters = ("scale",)

    def __init__(self, scale):
        self.scale = np.asarray(scale)

    def forward(self, x):
        self.x = x
        return self.scale * x

    def backward(self, dout):
        self.dscale = np.sum(dout * self.x, axis=0)
        return self.scale * dout


def custom(file, iterations, *options):
    """Train a network with a custom layer, with batches drawn from np.random."""
    alone = "alone" in options
    net = network(seed=3)
    net.layers["Relu1"] = Scale(np.linspace(0.5, 1.5, net.layers[0].W.shape[1]))
    np.random.seed(5)
    history = train(
        net,
        *(examples() if alone else map(part, examples())),
        iterations=int(iterations),
        batch_size=17,
        comm=None if alone else comm,
        checkpoint=file,
        resume="resume" in options,
    )
    if RANK == 0:
        print(json.dumps(measured(history)))


def threads():
    """Return the number of threads of each rank before, during and after training."""
    import numba

    before = numba.get_num_threads()
    history = train(network(), *(part(a) for a in examples()), iterations=3, comm=comm)
    seen = comm.gather([before, list(history.threads.items()), numba.get_num_threads()])
    if RANK == 0:
        print(json.dumps([seen, len(os.sched_getaffinity(0))]))


def progress():
    train(
        network(), *(part(a) for a in examples()), iterations=40, batch_size=17, rng=5,
        progress=True, comm=comm, callback=lambda done, _: print("called on", RANK, flush=True),
    )  # fmt: skip


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

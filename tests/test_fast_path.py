"""Compiled training and numerical gradients against the layers and plain NumPy."""

import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from kernels._threads import Team
from net import SGD, Relu, Sigmoid, TwoLayerNet, numerical_gradient, train
from net.distributed import SingleProcess
from net.iterations import LayerIterations
from net.thread_tuner import ThreadTuner

MOST = numba.get_num_threads()


def examples(rng, n, size, classes, zeros=0.8, dtype=np.float32):
    x = rng.random((n, size)) * (rng.random((n, size)) >= zeros)
    x = (255 * x).astype(dtype) if dtype == np.uint8 else x.astype(dtype)
    return x, rng.integers(0, classes, n)


def trained(data, hidden, classes, dtype=np.float64, layers=False, **options):
    """Return a network trained by compiled code or by its layers, with its history."""
    network = TwoLayerNet(data[0][0].size, hidden, classes, 0.3, dtype=dtype, rng=1)
    if layers:

        class Own(Relu):
            """Relu subclass, which makes the network take the general path."""

        network.layers["Relu1"] = Own()
        assert network.stack() is None
    options = {"iterations": 60, "batch_size": 20, "rng": 2, "learning_rate": 0.2, **options}
    return network, train(network, *data, *data, **options)


def assert_same_run(first, second, rtol, atol=0.0):
    np.testing.assert_allclose(first[1].train_loss_list, second[1].train_loss_list, rtol, atol)
    for name, value in first[0].params.items():
        scale = np.abs(value).max() + 1e-30
        np.testing.assert_allclose(
            value / scale, second[0].params[name] / scale, 0, max(rtol, atol)
        )
    assert first[1].evaluated_at == second[1].evaluated_at
    np.testing.assert_allclose(first[1].train_acc_list, second[1].train_acc_list, atol=rtol * 1e5)


SIZES = [(7, 5, 3), (30, 50, 10), (20, 1, 2), (13, 100, 4), (3, 33, 17), (6, 64, 1), (5, 8, 70)]


@pytest.mark.parametrize("zeros", [0.8, 0.0])
@pytest.mark.parametrize(("size", "hidden", "classes"), SIZES)
def test_compiled_is_the_layers(rng, size, hidden, classes, zeros):
    data = examples(rng, 40, size, classes, zeros)
    compiled = trained(data, hidden, classes)
    assert sum(compiled[1].threads.values()) == 60
    layered = trained(data, hidden, classes, layers=True)
    assert sum(layered[1].threads.values()) == 60
    assert_same_run(compiled, layered, 1e-9, 1e-12)


@pytest.mark.parametrize("zeros", [0.8, 0.0])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.int32])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-3), (np.float64, 1e-9)])
def test_compiled_types(rng, kind, dtype, rtol, zeros):
    x, t = examples(rng, 40, 9, 3, zeros, dtype=np.uint8 if kind in (np.uint8, np.int32) else kind)
    data = (x.astype(kind), t)
    options = {"learning_rate": 1e-6 if x.dtype == np.uint8 else 0.2}
    compiled = trained(data, 20, 3, dtype, **options)
    assert compiled[0].params["W1"].dtype == dtype
    assert_same_run(compiled, trained(data, 20, 3, dtype, layers=True, **options), rtol)


@pytest.mark.parametrize("zeros", [0.8, 0.0])
@pytest.mark.parametrize("batch_size", [1, 3, 40, 100])
def test_compiled_batches(rng, batch_size, zeros):
    data = examples(rng, 40, 9, 3, zeros)
    compiled = trained(data, 20, 3, batch_size=batch_size)
    assert_same_run(compiled, trained(data, 20, 3, layers=True, batch_size=batch_size), 1e-9, 1e-12)


@pytest.mark.parametrize("zeros", [0.8, 0.0])
@pytest.mark.parametrize("soft", [True, False])
def test_compiled_targets(rng, soft, zeros):
    x, t = examples(rng, 40, 9, 3, zeros)
    t = rng.dirichlet(np.ones(3), 40) if soft else np.eye(3)[t]
    compiled = trained((x, t), 20, 3)
    assert_same_run(compiled, trained((x, t), 20, 3, layers=True), 1e-9, 1e-12)


@pytest.mark.parametrize("zeros", [0.0, 1.0])
def test_all_or_nothing_is_zero(rng, zeros):
    data = examples(rng, 40, 8, 3, zeros=zeros)
    compiled = trained(data, 20, 3)
    assert_same_run(compiled, trained(data, 20, 3, layers=True), 1e-9, 1e-12)


@pytest.mark.parametrize("zeros", [0.8, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_bits_do_not_depend_on_threads(rng, monkeypatch, dtype, zeros):
    data = examples(rng, 64, 300, 10, zeros)
    runs, init = [], Team.__init__
    for threads in (1, 2, 3, 8):
        monkeypatch.setattr(Team, "__init__", lambda self, n=threads: init(self, n))
        monkeypatch.setattr(
            ThreadTuner, "next", lambda self, n=threads: (min(n, max(self.choices)), 7)
        )
        runs.append(trained(data, 100, 10, dtype))
        assert runs[-1][1].threads == {threads: 60}
    for network, history in runs[1:]:
        assert history.train_loss_list == runs[0][1].train_loss_list
        for name, value in network.params.items():
            np.testing.assert_array_equal(value, runs[0][0].params[name])


def test_stretches_do_not_change_bits(rng, monkeypatch):
    data = examples(rng, 64, 30, 10)
    first = trained(data, 50, 10)
    monkeypatch.setattr(ThreadTuner, "next", lambda self: (1, 1))
    second = trained(data, 50, 10)
    assert first[1].train_loss_list == second[1].train_loss_list


def test_accuracy_counts_as_numpy(rng):
    x, t = examples(rng, 1000, 20, 5)
    network, history = trained((x, t), 40, 5, iterations=51)
    assert history.evaluated_at[-1] == 50
    assert history.train_acc_list[-1] == network.accuracy(x, t)
    assert 0.2 < history.train_acc_list[-1] < 1


def test_nan_in_the_data_comes_out(rng):
    x, t = examples(rng, 20, 10, 3)
    x[:, 4] = np.nan
    with pytest.warns(RuntimeWarning, match="stopped being finite at iteration 0 "):
        _, history = trained((x, t), 20, 3, iterations=3)
    assert np.isnan(history.train_loss_list).all()


def test_thread_tuner_takes_the_quickest_and_looks_again():
    tuner = ThreadTuner(4)
    seconds = {1: 2.0, 2: 1.0, 4: 3.0}
    for _ in range(200):
        threads, length = tuner.next()
        tuner.record(threads, length, seconds[threads] * length)
    assert max(tuner.counts, key=tuner.counts.__getitem__) == 2
    assert set(tuner.counts) == {1, 2, 4}
    assert tuner.counts[2] > 0.9 * sum(tuner.counts.values())
    seconds[2] = 5.0
    for _ in range(20):
        threads, length = tuner.next()
        tuner.record(threads, length, seconds[threads] * length)
    assert tuner.next()[0] == 1


def test_thread_tuner_gives_short_iterations_more_of_them():
    for seconds, expected in ((1e-5, 2000), (1e-3, 100)):
        tuner = ThreadTuner(1)
        for _ in range(5):
            threads, length = tuner.next()
            tuner.record(threads, length, seconds * length)
        assert abs(length - expected) <= 1


def test_thread_tuner_forgets_a_slow_start():
    tuner, first = ThreadTuner(2), 10.0
    for _ in range(8):
        threads, length = tuner.next()
        tuner.record(threads, length, first * length if threads == 2 else 2.0 * length)
        first = 1.0
    assert tuner.next()[0] == 2
    assert tuner.counts[1] == 40


@pytest.mark.parametrize(("slow", "expected"), [(0.6, MOST), (3.0, 1)])
def test_layers_evaluate_on_the_faster_number_of_threads(monkeypatch, rng, slow, expected):
    """As beside a busy process, where all threads may take longer than one."""
    x, t = examples(rng, 20, 10, 3)
    network, seen, clock = TwoLayerNet(10, 4, 3, rng=1), [], [0.0]

    def accuracy(x, t):
        seen.append(numba.get_num_threads())
        clock[0] += len(x) * (1 if seen[-1] == 1 else slow)
        return 0.5

    monkeypatch.setattr(network, "accuracy", accuracy)
    monkeypatch.setattr("net.iterations.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    sets = [(x, t), (x[:5], t[:5])]
    tuners = ThreadTuner(MOST), ThreadTuner(MOST, probe_iterations=1)
    layers = LayerIterations(network, SGD(), sets, 20, 5, rng, SingleProcess(), *tuners)
    for _ in range(10):
        for which in (0, 1):
            assert layers.accuracy(which) == 0.5
            assert numba.get_num_threads() == MOST
    assert Counter(seen[-6:]).most_common(1)[0][0] == expected
    assert set(seen) == set(ThreadTuner(MOST).choices)


# ------------------------------------------------------------------------------ numerical gradient
@pytest.mark.parametrize("form", ["index", "one_hot", "soft"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_compiled_numerical_gradient(rng, form, scale):
    x, t = examples(rng, 12, 9, 4)
    t = {"index": t, "one_hot": np.eye(4)[t], "soft": rng.dirichlet(np.ones(4), 12)}[form]
    network = TwoLayerNet(9, 7, 4, scale, rng=1)
    network.params["b1"] += 0.01
    before = {key: value.copy() for key, value in network.params.items()}
    ours = network.numerical_gradient(x, t)
    for key, value in network.params.items():
        np.testing.assert_array_equal(value, before[key])
        expected = numerical_gradient(lambda _: network.loss(x, t), value)
        assert ours[key].flags.c_contiguous
        assert ours[key].shape == value.shape
        np.testing.assert_allclose(ours[key], expected, rtol=1e-8, atol=1e-8 * max(scale, 1))


def test_large_shifts_of_the_numerical_gradient(rng):
    x, t = examples(rng, 6, 5, 3)
    network = TwoLayerNet(5, 4, 3, 1.0, rng=1)
    x = x * 1e4  # a shift of 1e-4 moves the logits by about 1
    ours = network.numerical_gradient(x, t)
    expected = numerical_gradient(lambda _: network.loss(x, t), network.params["W1"])
    np.testing.assert_allclose(ours["W1"], expected, rtol=1e-6, atol=1e-4)


def test_numerical_gradient_of_other_layers(rng):
    x, t = examples(rng, 6, 5, 3)
    network = TwoLayerNet(5, 4, 3, 0.5, rng=1)
    network.layers["Relu1"] = Sigmoid()
    numeric, exact = network.numerical_gradient(x, t), network.gradient(x, t)
    for key in exact:
        np.testing.assert_allclose(numeric[key], exact[key], atol=1e-7)


def test_numerical_gradient_on_mnist(mnist):
    (x, t), _ = mnist
    np.random.seed(0)
    network = TwoLayerNet(784, 50, 10)
    numeric, exact = (f(x[:3], t[:3]) for f in (network.numerical_gradient, network.gradient))
    for key in exact:
        assert np.abs(numeric[key] - exact[key]).mean() < 1e-7


# ------------------------------------------------------------------------------ one compiled call
def test_layers_keep_their_attributes(rng):
    """The attributes are the same as after a forward and a backward pass of the layers."""
    x, t = examples(rng, 30, 300, 4)
    one, other = (TwoLayerNet(300, 9, 4, 0.3, rng=1) for _ in range(2))
    other.layers["Relu1"] = type("Own", (Relu,), {})()
    ours, theirs = one.gradient(x, t), other.gradient(x, t)
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value)
    for name, attributes in {
        "Affine1": ("x", "dW", "db"),
        "Relu1": ("mask",),
        "Affine2": ("x", "dW", "db"),
    }.items():
        for attribute in attributes:
            np.testing.assert_array_equal(
                getattr(one.layers[name], attribute), getattr(other.layers[name], attribute)
            )
    assert one.last_layer.loss == other.last_layer.loss
    np.testing.assert_array_equal(one.last_layer.y, other.last_layer.y)
    assert one.last_layer.t is t
    dout = one.last_layer.backward()
    for layer in reversed(one.layers.values()):
        dout = layer.backward(dout)
    np.testing.assert_array_equal(one.layers["Affine1"].dW, ours["W1"])


def test_a_layer_without_parameters_is_not_trained(rng):
    x, t = examples(rng, 30, 20, 3)
    network = TwoLayerNet(20, 10, 3, rng=1)
    expected = TwoLayerNet(20, 10, 3, rng=1).gradient(x, t)
    first, second = network.layers["Affine1"], network.layers["Affine2"]
    first.parameters = ()
    grads = network.gradient(x, t)
    assert list(grads) == list(network.params) == ["W1", "b1"]
    np.testing.assert_allclose(grads["W1"], expected["W2"], rtol=1e-12)
    before = first.W.copy(), second.W.copy()
    train(network, x, t, iterations=3, batch_size=10, rng=2)
    assert np.array_equal(before[0], first.W)
    assert not np.array_equal(before[1], second.W)


def test_results_are_new_arrays(rng):
    x, t = examples(rng, 30, 40, 4)
    network = TwoLayerNet(40, 9, 4, 0.3, rng=1)
    first = network.gradient(x, t)
    kept = {key: value.copy() for key, value in first.items()}
    network.gradient(x[::-1].copy(), (t + 1) % 4)
    for key, value in kept.items():
        np.testing.assert_array_equal(first[key], value)


def test_a_new_depth_compiles_nothing(rng):
    """After training with the same optimizers, another depth and size compiles nothing."""
    program = (
        "import numpy as np, numba; from numba.core import event\n"
        "from net import MultiLayerNet, TwoLayerNet, Adam, train\n"
        "x, t = np.random.rand(50, 30), np.random.randint(0, 3, 50)\n"
        "def use(network, **options):\n"
        "    network.gradient(x, t); network.loss(x, t); network.accuracy(x, t)\n"
        "    train(network, x, t, x, t, iterations=30, batch_size=10, **options)\n"
        "use(TwoLayerNet(30, 5, 3))\n"
        "use(MultiLayerNet(30, [5], 3, 'sigmoid'), optimizer=Adam())\n"
        "with event.install_recorder('numba:compile') as seen:\n"
        "    use(MultiLayerNet(30, [9, 8, 70, 2], 3, 'sigmoid'), optimizer=Adam())\n"
        "    use(MultiLayerNet(30, [], 3, weight_decay_lambda=0.1))\n"
        "names = {e.data['dispatcher'].py_func.__name__ for _, e in seen.buffer}\n"
        "print(sorted(names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

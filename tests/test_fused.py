"""Fused training, and the compiled numerical gradient, against the layers and plain NumPy."""

import numpy as np
import pytest

from kernels._threads import Team
from kernels.fused import prepare
from kernels.sparse import STEP, panel_units
from net import Relu, Sigmoid, TwoLayerNet, numerical_gradient, train
from net.steps import Pace


def examples(rng, n, size, classes, zeros=0.8, dtype=np.float32):
    x = rng.random((n, size)) * (rng.random((n, size)) >= zeros)
    x = (255 * x).astype(dtype) if dtype == np.uint8 else x.astype(dtype)
    return x, rng.integers(0, classes, n)


def trained(data, hidden, classes, dtype=np.float64, layers=False, **options):
    """A network after some iterations: fused, or by its layers."""
    network = TwoLayerNet(data[0][0].size, hidden, classes, 0.3, dtype=dtype, rng=1)
    if layers:

        class Own(Relu):
            """Not the lecture's layer, so the general path is taken."""

        network.layers["Relu1"] = Own()
        assert not network.is_plain()
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


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(("size", "hidden", "classes"), SIZES)
def test_fused_is_the_layers(rng, size, hidden, classes, sparse):
    data = examples(rng, 40, size, classes)
    fused = trained(data, hidden, classes, sparse=sparse)
    assert sum(fused[1].threads.values()) == 60
    layered = trained(data, hidden, classes, layers=True)
    assert layered[1].threads == {}
    assert_same_run(fused, layered, 1e-9, 1e-12)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.int32])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-3), (np.float64, 1e-9)])
def test_fused_types(rng, kind, dtype, rtol, sparse):
    x, t = examples(rng, 40, 9, 3, dtype=np.uint8 if kind in (np.uint8, np.int32) else kind)
    data = (x.astype(kind), t)
    options = {"learning_rate": 1e-6 if x.dtype == np.uint8 else 0.2}
    fused = trained(data, 20, 3, dtype, sparse=sparse, **options)
    assert fused[0].params["W1"].dtype == dtype
    assert_same_run(fused, trained(data, 20, 3, dtype, layers=True, **options), rtol)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 40, 100])
def test_fused_batches(rng, batch_size, sparse):
    data = examples(rng, 40, 9, 3)
    fused = trained(data, 20, 3, sparse=sparse, batch_size=batch_size)
    assert_same_run(fused, trained(data, 20, 3, layers=True, batch_size=batch_size), 1e-9, 1e-12)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_fused_targets(rng, soft, sparse):
    x, t = examples(rng, 40, 9, 3)
    t = rng.dirichlet(np.ones(3), 40) if soft else np.eye(3)[t]
    fused = trained((x, t), 20, 3, sparse=sparse)
    assert_same_run(fused, trained((x, t), 20, 3, layers=True), 1e-9, 1e-12)


@pytest.mark.parametrize("zeros", [0.0, 1.0])
@pytest.mark.parametrize("sparse", [True, False])
def test_all_or_nothing_is_zero(rng, zeros, sparse):
    data = examples(rng, 40, 8, 3, zeros=zeros)
    fused = trained(data, 20, 3, sparse=sparse)
    assert_same_run(fused, trained(data, 20, 3, layers=True), 1e-9, 1e-12)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_bits_do_not_depend_on_threads(rng, monkeypatch, dtype, sparse):
    data = examples(rng, 64, 30, 10)
    runs, init = [], Team.__init__
    for threads in (1, 2, 3, 8):
        monkeypatch.setattr(Team, "__init__", lambda self, n=threads: init(self, n))
        monkeypatch.setattr(Pace, "next", lambda self, n=threads: (min(n, max(self.choices)), 7))
        runs.append(trained(data, 100, 10, dtype, sparse=sparse))
        assert runs[-1][1].threads == {min(threads, -(-100 // panel_units(np.dtype(dtype)))): 60}
    for network, history in runs[1:]:
        assert history.train_loss_list == runs[0][1].train_loss_list
        for name, value in network.params.items():
            np.testing.assert_array_equal(value, runs[0][0].params[name])


def test_stretches_do_not_change_bits(rng, monkeypatch):
    data = examples(rng, 64, 30, 10)
    first = trained(data, 50, 10)
    monkeypatch.setattr(Pace, "next", lambda self: (1, 1))
    second = trained(data, 50, 10)
    assert first[1].train_loss_list == second[1].train_loss_list


@pytest.mark.parametrize("size", [4094, 4096])
def test_the_longest_row_of_short_offsets(rng, size):
    data = examples(rng, 40, size, 3, zeros=0.95)
    assert_same_run(trained(data, 20, 3, sparse=True), trained(data, 20, 3, layers=True), 1e-9)


@pytest.mark.parametrize(
    ("size", "offsets"), [(11, np.uint16), (4094, np.uint16), (4095, np.uint32)]
)
def test_compacted_rows(rng, size, offsets):
    x, _ = examples(rng, 50, size, 2)
    x[3], x[4] = 0, 1
    x[5, 2] = np.nan
    with Team() as team:
        data = prepare(x, np.dtype(np.float64), team, sparse=True)
    units = panel_units(np.dtype(np.float64))
    assert data.inputs.dtype == offsets
    assert data.starts[-1] == data.inputs.size == data.values.size
    for i, row in enumerate(x):
        here = slice(data.starts[i], data.starts[i + 1])
        assert (here.stop - here.start) % STEP == 0
        again = np.zeros(size + 2)
        again[data.inputs[here] // units] += data.values[here]
        np.testing.assert_array_equal(again[:size], row)
        assert again[size] == 1
        assert again[size + 1] == 0


def test_dense_data_stays_dense(rng):
    with Team() as team:
        few = prepare(examples(rng, 20, 10, 2, zeros=0.9)[0], np.dtype(np.float32), team)
        many = prepare(examples(rng, 20, 10, 2, zeros=0.1)[0], np.dtype(np.float32), team)
    assert few.dense.size == 0 < few.values.size
    assert many.values.size == 0 < many.dense.size


def test_accuracy_counts_as_numpy(rng):
    x, t = examples(rng, 1000, 20, 5)
    network, history = trained((x, t), 40, 5, iterations=51)
    assert history.evaluated_at[-1] == 50
    assert history.train_acc_list[-1] == network.accuracy(x, t)
    assert 0.2 < history.train_acc_list[-1] < 1


def test_nan_in_the_data_comes_out(rng):
    x, t = examples(rng, 20, 10, 3)
    x[:, 4] = np.nan
    for sparse in (True, False):
        with pytest.warns(RuntimeWarning, match="stopped being finite at iteration 0 "):
            _, history = trained((x, t), 20, 3, sparse=sparse, iterations=3)
        assert np.isnan(history.train_loss_list).all()


def test_pace_takes_the_quickest_and_looks_again():
    pace = Pace(4)
    seconds = {1: 2.0, 2: 1.0, 4: 3.0}
    for _ in range(200):
        threads, length = pace.next()
        pace.note(threads, length, seconds[threads] * length)
    assert max(pace.counts, key=pace.counts.__getitem__) == 2
    assert set(pace.counts) == {1, 2, 4}
    assert pace.counts[2] > 0.9 * sum(pace.counts.values())
    seconds[2] = 5.0
    for _ in range(20):
        threads, length = pace.next()
        pace.note(threads, length, seconds[threads] * length)
    assert pace.next()[0] == 1


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

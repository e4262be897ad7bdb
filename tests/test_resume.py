"""A resumed run is bitwise identical to an uninterrupted run."""

import numpy as np
import pytest

import net
from net import MultiLayerNet, MultiLayerNetExtend, TwoLayerNet, archive, train
from net.training_run import next_stop

NETWORKS = {
    "two layers": lambda seed: TwoLayerNet(8, 6, 3, 0.3, rng=seed),
    "float32": lambda seed: TwoLayerNet(8, 6, 3, 0.3, dtype="float32", rng=seed),
    "sigmoid, decay": lambda seed: MultiLayerNet(
        8, [6, 5], 3, "sigmoid", "sigmoid", 0.01, rng=seed
    ),
    "batch norm": lambda seed: MultiLayerNetExtend(8, [6, 5], 3, use_batchnorm=True, rng=seed),
    "dropout": lambda seed: MultiLayerNetExtend(8, [6, 5], 3, use_dropout=True, rng=seed),
}
OPTIMIZERS = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")


@pytest.fixture
def data(rng):
    return rng.random((40, 8)), rng.integers(0, 3, 40)


def run(make, data, iterations, seed=1, optimizer="SGD", rng=None, **options):
    network = make(seed)
    kind = getattr(net, optimizer)
    history = train(
        network, *data, *data, iterations=iterations, batch_size=10,
        optimizer=kind(lr=0.01), rng=rng, **options,
    )  # fmt: skip
    return network, history


def assert_equal_runs(first, second):
    assert first[1] == second[1]
    for kind in ("params", "buffers"):
        for key, value in getattr(first[0], kind).items():
            np.testing.assert_array_equal(value, getattr(second[0], kind)[key])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_to_the_bit(data, tmp_path, name, optimizer):
    make, file = NETWORKS[name], tmp_path / "state.npz"
    for rng in (None, 4):
        np.random.seed(3)
        whole = run(make, data, 33, optimizer=optimizer, rng=rng)
        np.random.seed(3)
        run(make, data, 14, optimizer=optimizer, rng=rng, checkpoint=file)
        np.random.seed(99)  # the state comes from the file
        rest = run(make, data, 33, 2, optimizer, rng, checkpoint=file, resume=True)
        assert_equal_runs(whole, rest)
        file.unlink()


class Counter(net.layers.Layer):
    """Layer with a buffer that is None until the third batch."""

    buffers = ("seen",)

    def __init__(self, ready=3):
        self.seen, self.left = None, ready

    def forward(self, x):
        self.left -= 1
        if self.left <= 0:
            self.seen = np.ones(2) if self.seen is None else self.seen + 1
        return x

    def backward(self, dout):
        return dout


@pytest.mark.parametrize("ready", [3, 1000])
def test_a_buffer_that_was_none(data, tmp_path, ready):
    """None is restored as None, also where the network to resume has an array."""
    x, t, file = *data, tmp_path / "state.npz"

    def make():
        counter = Counter(ready)
        return net.Network({"A": net.Affine(np.ones((8, 3)), np.zeros(3)), "C": counter})

    train(make(), x, t, iterations=5, batch_size=2, rng=1, checkpoint=file)
    network = make()
    network.layers["C"].seen, network.layers["C"].left = np.zeros(2), 1000
    history = train(network, x, t, iterations=6, batch_size=2, rng=1, checkpoint=file, resume=True)
    assert len(history.train_loss_list) == 6
    assert (network.layers["C"].seen is None) == (ready == 1000)


def test_a_missing_buffer_is_refused(data, tmp_path):
    """Buffers of the library's own layers are in every checkpoint."""
    make, file = NETWORKS["batch norm"], tmp_path / "state.npz"
    run(make, data, 3, checkpoint=file)
    arrays = archive.read(file)
    (key, *_) = make(1).buffers
    archive.write(file, {k: value for k, value in arrays.items() if k != key})
    with pytest.raises(ValueError, match=f"expected {key}"):
        run(make, data, 5, checkpoint=file, resume=True)


def test_auto(data, tmp_path):
    """The run starts if there is no file, and resumes if there is one."""
    make, file = NETWORKS["two layers"], tmp_path / "state.npz"
    whole = run(make, data, 30, rng=4)
    for iterations in (7, 7, 18, 30):
        last = run(make, data, iterations, rng=4, checkpoint=file, resume="auto")
        assert len(last[1].train_loss_list) == iterations
    assert_equal_runs(whole, last)


OTHER_RUNS = {
    "network": ({"make": NETWORKS["sigmoid, decay"]}, "expected W2|expected b"),
    "optimizer": ({"optimizer": "Adam"}, "optimizer 'Adam', got one with 'SGD'"),
    "generator": ({"rng": np.random.RandomState(4)}, "expected the state of a generator like"),
    "dtype": ({"make": NETWORKS["float32"]}, r"expected W1 \(8, 6\) of float32"),
}


@pytest.mark.parametrize(("change", "message"), OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_another_run_is_refused(data, tmp_path, change, message):
    file = tmp_path / "state.npz"
    run(NETWORKS["two layers"], data, 8, rng=4, checkpoint=file)
    given = {"make": NETWORKS["two layers"], "rng": 4, **change}
    before = file.read_bytes()
    with pytest.raises(ValueError, match=rf"state\.npz: .*({message})"):
        run(data=data, iterations=20, checkpoint=file, resume=True, **given)
    assert file.read_bytes() == before


def test_other_data_is_refused(data, tmp_path):
    file, make = tmp_path / "state.npz", NETWORKS["two layers"]
    run(make, data, 8, rng=4, checkpoint=file)
    other = data[0] + 1, data[1]
    with pytest.raises(ValueError, match="expected the training examples of the saved run"):
        run(make, other, 20, rng=4, checkpoint=file, resume=True)
    with pytest.raises(ValueError, match="examples 39, got one with 40"):
        run(make, [a[:39] for a in data], 20, rng=4, checkpoint=file, resume=True)


def test_another_activation_is_refused(data, tmp_path):
    file, make = tmp_path / "state.npz", NETWORKS["two layers"]
    run(make, data, 8, rng=4, checkpoint=file)

    def replaced(seed):
        network = make(seed)
        network.layers["Relu1"] = net.Sigmoid()
        return network

    with pytest.raises(ValueError, match="expected a run of this network"):
        run(replaced, data, 20, rng=4, checkpoint=file, resume=True)


def test_spoilt_optimizer_state(data, tmp_path):
    file, make = tmp_path / "state.npz", NETWORKS["two layers"]
    run(make, data, 8, optimizer="Adam", rng=4, checkpoint=file)
    arrays = archive.read(file)
    for key, value in (("optimizer/m/W1", np.ones(3)), ("optimizer/iter", np.array(-1)),
                       ("optimizer/v/b2", None)):  # fmt: skip
        spoilt = {**arrays, key: value}
        archive.write(file, {name: a for name, a in spoilt.items() if a is not None})
        network = make(2)
        before = network.params["W1"].copy()
        with pytest.raises(ValueError, match=r"state\.npz: Adam: expected"):
            train(network, *data, iterations=9, batch_size=10, optimizer=net.Adam(), rng=4,
                  checkpoint=file, resume=True)  # fmt: skip
        np.testing.assert_array_equal(network.params["W1"], before)


def test_an_optimizer_without_state(data, tmp_path):
    class Mine:
        def update(self, params, grads):
            for key, grad in grads.items():
                params[key] -= 0.1 * np.sign(grad)

    network = NETWORKS["two layers"](1)
    train(network, *data, iterations=3, optimizer=Mine(), rng=0)
    with pytest.raises(TypeError, match=r"expected an optimizer with state\(\) and set_state"):
        train(network, *data, iterations=3, optimizer=Mine(), checkpoint=tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_names_as_long_as_a_file_may_have(data, tmp_path):
    file = tmp_path / ("n" * 251 + ".npz")
    run(NETWORKS["two layers"], data, 8, rng=4, checkpoint=file)
    assert file.exists()
    with pytest.raises(OSError, match="File name too long"):
        run(NETWORKS["two layers"], data, 8, rng=4, checkpoint=tmp_path / ("n" * 256))


# ---------------------------------------------------------------- when to stop
@pytest.mark.parametrize("n", [1, 7, 40, 60_000])
@pytest.mark.parametrize("batch_size", [1, 3, 17, 40, 64, 70, 96, 100, 110])
def test_evaluations_are_those_of_the_lectures_condition(n, batch_size):
    """Evaluations are at ``i % iter_per_epoch == 0``, for the first iterations."""
    per_epoch = max(n / batch_size, 1)
    expected = [i for i in range(3000) if i % per_epoch == 0]
    done, found, stops = 0, [], []
    while done < 3000:
        done, evaluate = next_stop(done, 3000, n, batch_size, True)
        stops.append(done)
        if evaluate:
            found.append(done - 1)
    assert found == expected
    assert stops == sorted(set(stops))
    assert max(np.diff([0, *stops])) <= np.ceil(per_epoch)


def test_a_long_run_has_its_stops_at_once():
    assert next_stop(1, 30_000_000, 60_000, 70, False) == (30_000_000, False)
    assert next_stop(1, 30_000_000, 60_000, 70, True) == (858, False)
    assert next_stop(858, 30_000_000, 60_000, 70, True) == (1715, False)

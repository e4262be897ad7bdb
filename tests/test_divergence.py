"""A loss that stops being finite: one warning names the iteration, and nothing is lost."""

import re

import numpy as np
import pytest

from net import MultiLayerNet, Relu, TwoLayerNet, train

SIZE, BATCH, ITERATIONS = 400, 2, 450
ROUTES = {"compiled": False, "layers": True}


class OtherRelu(Relu):
    """Relu subclass, which makes the network train layer by layer."""


@pytest.fixture(params=ROUTES.values(), ids=ROUTES)
def route(request):
    other = request.param

    def make(dtype=np.float64):
        network = TwoLayerNet(6, 5, 3, 0.5, dtype=dtype, rng=0)
        if other:
            network.layers["Relu1"] = OtherRelu()
        return network

    return make, {"iterations": ITERATIONS, "batch_size": BATCH}


@pytest.fixture
def data(rng):
    return rng.random((SIZE, 6)), rng.integers(0, 3, SIZE)


def first_batch_with(row, seed):
    rng = np.random.default_rng(seed)
    return next(i for i in range(ITERATIONS) if row in rng.choice(SIZE, BATCH))


def told(record):
    """Return the iteration named by the only warning."""
    (warning,) = record
    found = re.search(r"stopped being finite at iteration (\d+)", str(warning.message))
    assert warning.filename == __file__
    assert "learning rate below" in str(warning.message)
    return int(found[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_iteration_is_told_once(route, data, bad):
    make, options = route
    x, t = data
    row = 77
    x[row] = bad
    expected = first_batch_with(row, 5)
    assert 2 < expected < ITERATIONS - 2
    with pytest.warns(RuntimeWarning) as record:
        history = train(make(), x, t, **options, rng=5)
    assert told(record) == expected
    assert len(history.train_loss_list) == ITERATIONS
    assert np.isfinite(history.train_loss_list[:expected]).all()
    assert not np.isfinite(history.train_loss_list[expected:]).any()


@pytest.mark.parametrize(("dtype", "rate"), [(np.float32, 1e30), (np.float64, 1e300)])
def test_a_learning_rate_that_explodes(route, data, dtype, rate):
    make, options = route
    with pytest.warns(RuntimeWarning) as record:
        history = train(make(dtype), *data, **options, learning_rate=rate, rng=0)
    bad = np.flatnonzero(~np.isfinite(history.train_loss_list))
    assert told(record) == bad[0]


def test_updates_beyond_the_largest_number(route, data):
    """NumPy would warn of each operation."""
    make, options = route
    x, t = data
    with pytest.warns(RuntimeWarning) as record:
        train(make(), 100 * x, t, **options, learning_rate=1.5e308, rng=0)
    told(record)


def test_a_run_that_goes_well_warns_of_nothing(route, data):
    make, options = route
    train(make(), *data, **options, rng=0)  # a warning would be an error


def test_the_checkpoint_is_kept_as_it_was(route, data, tmp_path):
    make, options = route
    x, t = data
    options["checkpoint"] = tmp_path / "state.npz"
    row = 78  # not one of those whose checksums are in the checkpoint
    whole = x.copy()
    x[row] = np.nan
    assert first_batch_with(row, 5) < SIZE // BATCH  # before the second evaluation
    with pytest.warns(RuntimeWarning, match="checkpoint"):
        train(make(), x, t, **options, rng=5)
    saved = TwoLayerNet.load(options["checkpoint"], layers=[OtherRelu])
    assert all(np.isfinite(a).all() for a in saved.params.values())
    history = train(make(), whole, t, **options, rng=5, resume=True)
    assert len(history.train_loss_list) == ITERATIONS
    assert np.isfinite(history.train_loss_list).all()


def test_it_stops_where_warnings_are_errors(route, data):
    make, options = route
    network = make()
    with pytest.raises(RuntimeWarning, match="stopped being finite"):
        train(network, *data, **options, learning_rate=1e300, rng=0)
    assert abs(network.params["W2"]).max() > 1e200  # the trained parameters are kept


def test_weights_that_become_infinite_in_an_update():
    """No zero is skipped in the loss after it, either: 0 times infinity is NaN."""
    x, t = np.eye(64, 128, dtype=np.float32), np.zeros(64, int)
    network = MultiLayerNet(128, [70], 2, dtype=np.float32, rng=0)
    network.params["W1"][...] = 0.01
    network.params["W2"][:, 0], network.params["W2"][:, 1] = -10, 10
    options = {"iterations": 1, "batch_size": 2, "learning_rate": 1e38, "rng": 0}
    with pytest.warns(RuntimeWarning, match="stopped being finite"):
        history = train(network, x, t, **options)
    assert np.isnan(history.train_loss_list).all()

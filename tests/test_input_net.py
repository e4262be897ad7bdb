"""Arguments of networks, `train` and file readers, tested like those of the kernels."""

import datetime
import math
import warnings
from fractions import Fraction

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.argument_strategies import (
    COMMON,
    arguments,
    cast,
    outcome,
    right,
    right_targets,
    snapshot,
    targets,
)
from support.exhaustive import explore

from net import (
    SGD,
    Adam,
    History,
    MultiLayerNet,
    MultiLayerNetExtend,
    Network,
    Relu,
    Trainer,
    TwoLayerNet,
    load_mnist,
    numerical_gradient,
    train,
)

pytestmark = pytest.mark.slow

D, H, C = 4, 5, 3


class OtherRelu(Relu):
    """Relu subclass, which prevents the compiled path of the network."""


def networks(dtype, other):
    """Return a network and the lecture's network with the same weights."""
    ours, theirs = TwoLayerNet(D, H, C, 0.5, dtype=dtype, rng=1), naive.TwoLayerNet(D, H, C)
    if other:
        ours.layers["Relu1"] = OtherRelu()
    for key, value in ours.params.items():
        theirs.params[key][...] = value
    return ours, theirs


METHODS = ("predict", "loss", "accuracy", "gradient", "numerical_gradient")


@st.composite
def batches(draw):
    shape = draw(st.sampled_from(["ND", "ND", "N1D"]))
    return draw(arguments((shape, "t"), {"t": targets}, {"D": D, "C": C}))


def meant(x, t, dtype):
    """Return a batch and its targets as arrays finite in a dtype, or None if invalid."""
    x = right(x)
    if x is None or x.ndim < 2 or x.shape[0] == 0 or x[0].size != D:
        return None
    t = right_targets(t, (len(x), C), dtype)
    return t is not None and (cast(x, np.float64).reshape(len(x), D), t)


def moderate(arrays):
    return all((np.abs(a) < 100).all() for a in arrays)


@pytest.mark.small
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("other", [False, True], ids=["plain", "other"])
@explore(120)
@given(data=st.data())
def test_network(method, other, data):
    x, t = data.draw(batches())
    dtype = data.draw(st.sampled_from(COMMON))
    ours, theirs = networks(dtype, other)
    args, before = ((x,) if method == "predict" else (x, t)), (snapshot(x), snapshot(t))
    batch = right(x)
    if method == "predict" and batch is not None and batch.ndim > 1:
        t = np.zeros(len(batch), int)
    sets = meant(x, t, np.float64 if method == "accuracy" else dtype)
    found = outcome(getattr(ours, method), *args)
    assert (snapshot(x), snapshot(args[-1])) == (before[0], before[len(args) - 1])
    if method == "predict" and not sets and not isinstance(found, Exception):
        assert found.shape == (0, C)  # an empty batch has logits, but no loss
        assert len(batch) == 0
        return
    assert isinstance(found, Exception) == (not sets), found
    if not sets or not moderate(sets):
        return  # NaN and the like: compared kernel by kernel, and in test_network.py
    with np.errstate(all="ignore"):
        expected = getattr(theirs, method)(*sets[: len(args)])
    rough = {np.float32: 1e-4, np.float64: 1e-10}[dtype] * (100 if "numerical" in method else 1)
    if isinstance(expected, dict):
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=rough)
    elif method == "accuracy":  # ties may resolve differently in float32
        assert found == expected or dtype == np.float32
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=rough)


# ---------------------------------------------------------------- train
@pytest.mark.parametrize("other", [False, True], ids=["fused", "layers"])
@explore(150)
@given(data=st.data())
def test_train(other, data):
    x, t = data.draw(batches())
    test = data.draw(
        st.sampled_from([(None, None), (x, t), (np.ones((2, D)), np.array([0, C - 1]))])
    )
    ours, theirs = networks(np.float64, other)
    weights = ours.params["W1"].copy()
    before = snapshot(x), snapshot(t)
    sets = meant(x, t, np.float64)
    options = {"iterations": 3, "batch_size": 2, "rng": np.random.RandomState(5)}
    if sets and not moderate(sets):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            history = train(ours, x, t, *test, **options)
        assert len(history.train_loss_list) == 3
        assert len(told) == (not np.isfinite(history.train_loss_list).all())
        return
    history = outcome(train, ours, x, t, *test, **options)
    assert (snapshot(x), snapshot(t)) == before
    if not sets:
        assert isinstance(history, Exception)
        np.testing.assert_array_equal(ours.params["W1"], weights)
        return
    choice = np.random.RandomState(5).choice
    losses, _, _ = naive.train(theirs, *sets, *sets, 3, 2, 0.1, choice)
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- plain arguments
NO_NUMBER = [None, "1", b"1", 1j, [1], (1, 2), {1}, {}, abs, np.ones(2), np.ma.masked, math.nan]
NO_NUMBER += [math.inf, -math.inf, np.float64("nan"), datetime.date(2024, 2, 29), object()]
NO_INTEGER = [*NO_NUMBER, 1.5, 2.0, True, np.float32(2), Fraction(1, 2), np.True_, -1, -(10**30)]
NO_FILE = [None, 5, True, b"file", 1.5, ["file"], "with\0in it", object()]
NO_CHOICE = ["yes", 1, 0, None, 1.0, [], np.ones(1)]
NO_SEED = ["seed", 1.5, True, -1, [1], np.random, np.ones(2), object(), math.nan]


def network(*sizes, **options):
    return TwoLayerNet(*(sizes or (D, H, C)), **{"rng": 0, **options})


def training(**options):
    x, t = np.ones((4, D)), np.zeros(4, int)
    return train(network(), **{"x_train": x, "t_train": t, "iterations": 1, "rng": 0, **options})


def trainer(**options):
    x, t = np.ones((4, D)), np.zeros(4, int)
    return Trainer(network(), x, t, x, t, **options)


ARGUMENTS = {
    "input_size": (lambda v: network(v, 1, 1), [*NO_INTEGER, 0]),
    "hidden_size": (lambda v: network(1, v, 1), [*NO_INTEGER, 0]),
    "output_size": (lambda v: network(1, 1, v), [*NO_INTEGER, 0]),
    "weight_init_std": (lambda v: network(weight_init_std=v), [*NO_NUMBER, -1, True, 10**400]),
    "dtype": (
        lambda v: network(dtype=v),
        [
            "f2",
            "i8",
            ">f8",
            "g",
            "O",
            complex,
            "double trouble",
            5,
            [1],
            "f4,f4",
            ("f4", -1),
            object(),
        ],
    ),
    "rng": (lambda v: network(rng=v), NO_SEED),
    "params": (
        lambda v: network().params.update(b1=v),
        [None, "1", 1.0, [1.0], np.ones(H + 1), np.ones((1, H)), np.ones(H, complex), [None] * H],
    ),
    "save": (lambda v: network().save(v), NO_FILE),
    "load": (TwoLayerNet.load, NO_FILE),
    "plot": (History().plot, NO_FILE[1:]),
    "network": (lambda v: train(v, np.ones((4, D)), np.zeros(4, int)), [*NO_NUMBER, TwoLayerNet]),
    "x_test": (lambda v: training(x_test=v, t_test=np.zeros(4, int)), NO_NUMBER),
    "t_test": (lambda v: training(x_test=np.ones((4, D)), t_test=v), NO_NUMBER),
    "iterations": (lambda v: training(iterations=v), NO_INTEGER),
    "batch_size": (lambda v: training(batch_size=v), [*NO_INTEGER, 0]),
    "learning_rate": (lambda v: training(learning_rate=v), [*NO_NUMBER, True, 10**400]),
    "rng of train": (lambda v: training(rng=v), NO_SEED),
    "callback": (lambda v: training(callback=v), [1, "f", [], np.ones(1)]),
    "checkpoint": (lambda v: training(checkpoint=v), NO_FILE[1:]),
    "resume": (lambda v: training(checkpoint=v, resume=True), NO_FILE),
    "resume itself": (
        lambda v: training(checkpoint="state.npz", resume=v),
        ["yes", 1, 0, None, 1.0, [], np.ones(1), "AUTO"],
    ),
    "optimizer": (lambda v: training(optimizer=v), [SGD, "SGD", 1, [], object(), np.ones(1)]),
    "optimizer and learning rate": (
        lambda v: training(optimizer=v, learning_rate=0.2),
        [SGD(), Adam()],
    ),
    "layers": (Network, [1, "layers", [1], [None], {"a": 1}, {1: Relu()}, [abs]]),
    "last layer": (lambda v: Network([Relu()], v), [1, abs, "softmax", Relu]),
    "weight decay": (lambda v: Network([], weight_decay=v), [*NO_NUMBER, -1, True]),
    "hidden_size_list": (
        lambda v: MultiLayerNet(D, v, C, rng=0),
        [None, "12", 5, [0], [1.5], [None], {1: 2}, [[1]], [-1]],
    ),
    "activation": (lambda v: MultiLayerNet(D, [H], C, v, rng=0), [None, "tanh", 1, Relu]),
    "weight_init_std of a deep network": (
        lambda v: MultiLayerNet(D, [H], C, weight_init_std=v, rng=0),
        [*(v for v in NO_NUMBER if not isinstance(v, str)), -1, "glorot", ""],
    ),
    "dropout_ration": (
        lambda v: MultiLayerNetExtend(D, [H], C, use_dropout=True, dropout_ration=v, rng=0),
        [*NO_NUMBER, -0.1, 1.1],
    ),
    "epochs": (lambda v: trainer(epochs=v), NO_INTEGER),
    "mini_batch_size": (lambda v: trainer(mini_batch_size=v), [*NO_INTEGER, 0]),
    "optimizer of a trainer": (lambda v: trainer(optimizer=v), [None, "sgdd", SGD, 1, []]),
    "optimizer_param": (
        lambda v: trainer(optimizer_param=v),
        [None, 1, [0.1], {"rate": 1}, {"lr": "fast"}, {"lr": math.nan}],
    ),
    "samples of a trainer": (
        lambda v: trainer(evaluate_sample_num_per_epoch=v),
        [v for v in NO_INTEGER if v is not None],
    ),
    "x of a gradient": (
        lambda v: numerical_gradient(np.sum, v),
        [*NO_NUMBER[:7], np.ones(2, int), np.ones(2, ">f8"), np.ones(2, "f2"), np.ma.ones(2)],
    ),
    "f of a gradient": (
        lambda v: numerical_gradient(lambda _: v, np.ones(2)),
        [None, "1", 1j, [1.0], np.ones(1), object(), np.ma.masked, {}],
    ),
    "f": (lambda v: numerical_gradient(v, np.ones(2)), [None, 1, "f", [abs]]),
    "normalize": (lambda v: load_mnist(normalize=v), NO_CHOICE),
    "flatten": (lambda v: load_mnist(flatten=v), NO_CHOICE),
    "one_hot_label": (lambda v: load_mnist(one_hot_label=v), NO_CHOICE),
    "path": (lambda v: load_mnist(path=v), NO_FILE[1:]),
}
CASES = [
    pytest.param(call, value, id=f"{name}-{i}")
    for name, (call, values) in ARGUMENTS.items()
    for i, value in enumerate(values)
]


@pytest.mark.small
@pytest.mark.parametrize(("call", "value"), CASES)
def test_plain_arguments(call, value, tmp_path, monkeypatch):
    """Each invalid argument raises an error before anything is computed or written."""
    monkeypatch.chdir(tmp_path)
    assert isinstance(outcome(call, value), Exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", NO_FILE[1:])
def test_a_checkpoint_without_a_name_is_refused_before_the_first_step(value):
    ours = network()
    before = ours.params["W1"].copy()
    x, t = np.random.default_rng(0).random((4, D)), np.arange(4) % C
    outcome(train, ours, x, t, iterations=3, checkpoint=value)
    np.testing.assert_array_equal(ours.params["W1"], before)


# ---------------------------------------------------------------- parameters
def test_parameters_that_cannot_be_changed():
    ours = network()
    ours.params["W1"] = np.broadcast_to(1.0, (D, H))
    error = outcome(train, ours, np.ones((4, D)), np.zeros(4, int), iterations=1)
    assert "assign a copy" in str(error)
    assert ours.accuracy(np.ones((4, D)), np.zeros(4, int)) in (0, 1)  # reads only


@pytest.mark.parametrize("wrong", [(H, C - 1), (H + 1, C), (H - 1, C), (1, C)], ids=str)
def test_parameters_of_another_shape(wrong):
    """All methods and `train` reject parameters assigned to the layer instead of `params`."""
    x, t = np.ones((4, D)), np.zeros(4, int)
    ours = network()
    ours.layers["Affine2"].W = np.ones(wrong)
    for call in (ours.loss, ours.accuracy, ours.gradient, ours.numerical_gradient):
        assert isinstance(outcome(call, x, t), ValueError)
    assert isinstance(outcome(train, ours, x, t, iterations=1), ValueError)


def test_parameters_that_share_memory(rng):
    """If two layers share a matrix, each update affects both, as in the lecture's loop."""
    W = rng.random((3, 3))  # all hidden units are on
    ours, theirs = TwoLayerNet(3, 3, 3, rng=0), naive.TwoLayerNet(3, 3, 3)
    ours.params["W1"], theirs_W = W.copy(), W.copy()
    ours.params["W2"] = ours.params["W1"]
    theirs.params.update({"W1": theirs_W, "W2": theirs_W, "b1": np.zeros(3), "b2": np.zeros(3)})
    for layer, key in (("Affine1", "1"), ("Affine2", "2")):
        theirs.layers[layer].W, theirs.layers[layer].b = theirs_W, theirs.params[f"b{key}"]
    x, t = rng.random((6, 3)), rng.integers(0, 3, 6)
    history = train(ours, x, t, iterations=9, batch_size=2, rng=np.random.RandomState(1))
    choice = np.random.RandomState(1).choice
    losses, _, _ = naive.train(theirs, x, t, x, t, 9, 2, 0.1, choice)
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(rng, bad):
    """They make the loss NaN even if the input is always zero, because 0 times NaN is NaN."""
    ours = network()
    ours.params["W1"][2] = bad
    x, t = rng.random((8, D)), rng.integers(0, C, 8)
    x[:, 2] = 0
    assert math.isnan(ours.loss(x, t))
    with pytest.warns(RuntimeWarning, match="at iteration 0 "):
        history = train(ours, x, t, iterations=2, batch_size=3, rng=0)
    assert np.isnan(history.train_loss_list).all()

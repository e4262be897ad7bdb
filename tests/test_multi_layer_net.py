"""Networks of any depth against the course's in plain NumPy, for every optimizer."""

import naive_networks
import numpy as np
import pytest
from support.exhaustive import exhaustive

import net
from net import MultiLayerNet, MultiLayerNetExtend, Trainer, train

OPTIMIZERS = {"SGD": 0.1, "Momentum": 0.02, "Nesterov": 0.02, "AdaGrad": 0.05, "RMSprop": 0.003,
              "Adam": 0.003}  # fmt: skip
SIZES = [12, 9, 7, 4]


@pytest.fixture
def data(rng):
    t = rng.integers(0, 4, 60)
    return rng.random((60, 12)) * (rng.random((60, 12)) < 0.6) + np.eye(4, 12)[t], t


def make(seed=5, extend=False, **options):
    """Return the network and its reference with the same parameters."""
    activation, decay = options.pop("activation", "relu"), options.pop("decay", 0.0)
    np.random.seed(seed)
    model = naive_networks.Network(SIZES, activation, activation, decay, **options)
    np.random.seed(seed)
    args = SIZES[0], SIZES[1:-1], SIZES[-1], activation, activation, decay
    if not extend:
        return MultiLayerNet(*args), model
    dropout = options.get("dropout")
    ours = MultiLayerNetExtend(
        *args,
        use_dropout=dropout is not None,
        dropout_ration=dropout or 0.5,
        use_batchnorm=options.get("batch_norm", False),
    )
    return ours, model


def assert_same(ours, model, rtol=1e-9):
    assert list(ours.params) == list(model.params)
    for key, value in model.params.items():
        scale = max(np.abs(value).max(), 0.1)  # biases before batch normalisation stay near 0
        np.testing.assert_allclose(ours.params[key], value, rtol, rtol * scale)


@pytest.mark.parametrize("decay", [exhaustive(0.0), 0.01])
@pytest.mark.parametrize("activation", ["relu", exhaustive("sigmoid")])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_thousand_iterations(data, name, activation, decay):
    ours, model = make(activation=activation, decay=decay)
    assert_same(ours, model, 0)
    rate = OPTIMIZERS[name]
    history = train(
        ours, *data, iterations=1000, batch_size=20, rng=np.random.RandomState(1),
        optimizer=getattr(net, name)(lr=rate),
    )  # fmt: skip
    rule, choice = naive_networks.Rule(name, rate), np.random.RandomState(1).choice
    losses, accuracies = naive_networks.train(model, rule, *data, 1000, 20, choice)
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-9)
    np.testing.assert_allclose(history.train_acc_list, accuracies, rtol=1e-12)
    assert_same(ours, model)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.3}, {"batch_norm": True}, {"dropout": 0.2, "batch_norm": True, "decay": 0.01}],
    ids=str,
)
def test_dropout_and_batch_norm(data, options, name):
    """Masks and batches are drawn from the same random state."""
    ours, model = make(extend=True, **options)
    assert_same(ours, model, 0)
    rate = OPTIMIZERS[name]
    np.random.seed(3)
    history = train(
        ours, *data, iterations=1000, batch_size=20, optimizer=getattr(net, name)(lr=rate)
    )
    np.random.seed(3)
    rule = naive_networks.Rule(name, rate)
    losses, accuracies = naive_networks.train(model, rule, *data, 1000, 20, np.random.choice)
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-8)
    np.testing.assert_allclose(history.train_acc_list, accuracies, rtol=1e-12)
    assert_same(ours, model, 1e-8)
    for i in (1, 2) if options.get("batch_norm") else ():
        layer, other = ours.layers[f"BatchNorm{i}"], model.layers[f"BatchNorm{i}"]
        np.testing.assert_allclose(layer.running_mean, other.running_mean, 1e-8, 1e-9)
        np.testing.assert_allclose(layer.running_var, other.running_var, 1e-8, 1e-9)


@pytest.mark.parametrize("evaluated", [None, 17])
def test_trainer(data, evaluated, capsys):
    x, t = data
    ours, model = make()
    np.random.seed(9)
    trainer = Trainer(
        ours, x, t, x[:30], t[:30], epochs=3, mini_batch_size=20, optimizer="AdaGrad",
        optimizer_param={"lr": 0.05}, evaluate_sample_num_per_epoch=evaluated,
    )  # fmt: skip
    trainer.train_step()
    assert (trainer.current_iter, trainer.current_epoch) == (1, 1)
    trainer.train()
    np.random.seed(9)
    rule = naive_networks.Rule("AdaGrad", 0.05)
    losses, _ = naive_networks.train(model, rule, x, t, 9, 20, np.random.choice)
    assert (trainer.current_iter, trainer.current_epoch, trainer.max_iter) == (9, 3, 9)
    np.testing.assert_allclose(trainer.train_loss_list, losses, rtol=1e-9)
    assert len(trainer.train_acc_list) == len(trainer.test_acc_list) == 3
    assert trainer.history.test_acc == model.accuracy(x[:30], t[:30])
    if evaluated:
        assert all(round(a * 17) == pytest.approx(a * 17) for a in trainer.train_acc_list)
    out = capsys.readouterr().out
    assert out.count("train loss:") == 9
    assert out.count("=== epoch:") == 3
    assert f"test acc:{trainer.history.test_acc}" in out.splitlines()[-1]


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("decay", [0, 0.1])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_numerically(data, activation, decay, batch_norm):
    x, t = data[0][:8], data[1][:8]
    network = MultiLayerNetExtend(
        12, [5, 6], 4, activation, 0.5, decay, use_batchnorm=batch_norm, rng=1
    )
    statistics = {key: np.copy(value) for key, value in network.buffers.items()}
    numerical = network.numerical_gradient(x, t)
    for key, value in statistics.items():
        np.testing.assert_array_equal(network.buffers[key], value)
    for key, grad in network.gradient(x, t).items():
        scale = max(np.abs(grad).max(), 1e-3)  # 0 for biases before batch normalisation
        np.testing.assert_allclose(numerical[key] / scale, grad / scale, atol=1e-5)


def test_numerical_gradient_of_dropout_is_refused(data):
    network = MultiLayerNetExtend(12, [5], 4, use_dropout=True, rng=1)
    with pytest.raises(ValueError, match=r"Dropout1: expected layers that draw no random numbers"):
        network.numerical_gradient(*data)
    network.layers["Dropout1"].dropout_ratio = 0.0
    assert network.numerical_gradient(data[0][:4], data[1][:4]).keys() == network.params.keys()


@pytest.mark.parametrize("hidden", [[], [3], [4, 3, 2, 5]])
def test_depths(data, hidden):
    network = MultiLayerNet(12, hidden, 4, rng=0)
    assert list(network.params) == [f"{a}{i + 1}" for i in range(len(hidden) + 1) for a in "Wb"]
    before = network.loss(*data)
    train(network, *data, iterations=50, batch_size=20, rng=0)
    assert network.loss(*data) < before


def test_initial_weights():
    for std, expected in (("relu", 2), ("He", 2), ("sigmoid", 1), ("xavier", 1)):
        W = MultiLayerNet(400, [], 300, weight_init_std=std, rng=0).params["W1"]
        assert W.std() == pytest.approx(np.sqrt(expected / 400), rel=0.02)
    assert MultiLayerNet(400, [], 300, weight_init_std=0.7, rng=0).params["W1"].std() > 0.6


def test_more_training_for_the_same_optimizer(data):
    """An optimizer that is passed again continues with its state."""
    whole, parts = (MultiLayerNet(12, [6], 4, rng=0) for _ in range(2))
    rngs = [np.random.RandomState(2) for _ in range(2)]
    train(whole, *data, iterations=60, batch_size=20, optimizer=net.Adam(), rng=rngs[0])
    adam = net.Adam()
    for _ in range(3):
        train(parts, *data, iterations=20, batch_size=20, optimizer=adam, rng=rngs[1])
    assert adam.iter == 60
    for key, value in whole.params.items():
        np.testing.assert_array_equal(value, parts.params[key])

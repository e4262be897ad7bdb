"""Effects of a callback, a user's class or Ctrl-C during training."""

import gc
import os
import signal
from threading import Timer

import numpy as np
import pytest

import net
from net import Affine, Relu, Sigmoid, TwoLayerNet, train


@pytest.fixture
def data(rng):
    return rng.random((40, 8)), rng.integers(0, 3, 40)


class OtherRelu(Relu):
    """Relu subclass, which makes the network train layer by layer."""


@pytest.fixture(params=[False, True], ids=["compiled", "layers"])
def network(request):
    made = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    if request.param:
        made.layers["Relu1"] = OtherRelu()
    return made


def by_hand(network, data, iterations, change):
    """Run the lecture's loop, which calls `change` after an evaluation."""
    x, t = data
    choice = np.random.RandomState(5).choice
    losses = []
    for i in range(iterations):
        mask = choice(len(x), 10)
        grads = network.gradient(x[mask], t[mask])
        for key, grad in grads.items():
            network.params[key] -= 0.1 * grad
        losses.append(network.loss(x[mask], t[mask]))
        if i % 4 == 0:
            change(i + 1)
    return losses


def rebind(network):
    network.params["W2"] = network.params["W2"] * 1.5


def in_place(network):
    network.params["W1"] *= 1.1


def whole(network):
    network.params = {key: value * 1.01 for key, value in network.params.items()}


def another_layer(network):
    network.layers["Relu1"] = Sigmoid()


@pytest.mark.parametrize("change", [rebind, in_place, whole, another_layer])
def test_what_a_callback_changes_counts(network, data, change):
    twin = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    twin.layers["Relu1"] = OtherRelu()
    losses = by_hand(twin, data, 21, lambda done: done in (5, 13) and change(twin))

    def callback(done, history):
        if done in (5, 13):
            change(network)

    history = train(
        network, *data, iterations=21, batch_size=10, rng=np.random.RandomState(5),
        callback=callback,
    )  # fmt: skip
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-10)
    for key, value in twin.params.items():
        np.testing.assert_allclose(network.params[key], value, rtol=1e-9, atol=1e-12)
    assert history.train_acc == network.accuracy(*data)


@pytest.fixture
def encoded(monkeypatch):
    """Encode data sets of any size, and record each of them."""
    sets, encode = [], net.fast_path.encode
    monkeypatch.setattr("kernels.mlp.encoding.MIN_SIZE", 0)
    monkeypatch.setattr("net.training_run.MIN_PASSES", 0)
    monkeypatch.setattr("net.fast_path.encode", lambda x, team: sets.append(x) or encode(x, team))
    return sets


def images(rng):
    return rng.integers(0, 3, (40, 800)) * (rng.random((40, 800)) < 0.2) / 2


@pytest.mark.parametrize("read_only", [False, True])
def test_data_that_a_callback_changes(rng, encoded, read_only):
    """A data set that may change is read in place; a read-only set is encoded."""
    t, results = rng.integers(0, 3, 40), []
    x = images(rng)
    t.setflags(write=not read_only)
    for network in (TwoLayerNet(800, 50, 3, 0.3, rng=1), TwoLayerNet(800, 50, 3, 0.3, rng=1)):
        if results:
            network.layers["Relu1"] = OtherRelu()  # layer by layer, which reads the data each time
        changing = x.copy()
        changing.setflags(write=not read_only)

        def callback(done, history, changing=changing):
            if not read_only:
                changing[...] = changing[::-1].copy()

        results.append(
            train(network, changing, t, iterations=21, batch_size=10,
                rng=np.random.RandomState(5), callback=callback)
        )  # fmt: skip
    assert len(encoded) == (1 if read_only else 0)
    losses = [history.train_loss_list for history in results]
    np.testing.assert_allclose(*losses, rtol=1e-10)
    assert results[0].train_acc_list == results[1].train_acc_list


@pytest.mark.parametrize("steps", [False, True], ids=["callback", "steps"])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "integers", "Fortran"])
def test_data_that_compiled_training_converts(rng, kind, steps):
    """Labels, and inputs of another dtype or layout, may change too."""
    x, t, results = rng.normal(size=(8, 4)) * 3, rng.integers(0, 3, 8), []
    x = {"integers": x.astype(int), "Fortran": np.asfortranarray(x)}.get(kind, x)
    t = np.eye(3)[t] if kind == "one-hot" else t
    for layer in (Relu, OtherRelu):  # the second layer by layer, which reads the data each time
        network, data, targets = TwoLayerNet(4, 5, 3, 0.3, rng=1), x.copy(order="K"), t.copy()
        network.layers["Relu1"] = layer()

        def change(*_, data=data, targets=targets):
            data[...] = data[::-1].copy()
            targets[...] = np.roll(targets, 3, axis=0)

        np.random.seed(5)
        if steps:
            both = data, targets, data, targets
            trainer = net.Trainer(network, *both, mini_batch_size=4, verbose=False)
            for _ in range(9):
                trainer.train_step()
                change()
            history = trainer.history
        else:
            history = train(network, data, targets, data, targets, iterations=17, batch_size=4,
                callback=change)  # fmt: skip
        results.append((history.train_loss_list, history.train_acc_list))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-10)
    assert results[0][1] == results[1][1]


def test_a_callback_that_replaces_the_layers_of_a_long_run(rng, encoded):
    """Few units are trained without codes, which are for inputs whose zeros are skipped."""
    x, t, losses = images(rng), rng.integers(0, 3, 40), []
    for a in (x, t):
        a.setflags(write=False)
    for layer in (Relu, OtherRelu):
        network = TwoLayerNet(800, 50, 3, 0.3, rng=1)
        network.layers["Relu1"] = layer()
        small = TwoLayerNet(800, 4, 3, 0.3, rng=2)

        def callback(done, history, network=network, small=small):
            for name in ("Affine1", "Affine2"):
                network.layers[name] = small.layers[name]

        history = train(network, x, t, x, t, iterations=13, batch_size=10,
            rng=np.random.RandomState(5), callback=callback)  # fmt: skip
        losses.append(history.train_loss_list)
    assert len(encoded) == 2
    np.testing.assert_allclose(*losses, rtol=1e-10)


@pytest.mark.parametrize("kind", ["one-hot", "two classes", "half", "two"])
def test_targets_in_long_runs(rng, encoded, kind):
    """In a long run one-hot targets are converted to labels, bitwise identical to a short run."""
    x, t = images(rng), np.eye(3)[rng.integers(0, 3, 40)]
    if kind != "one-hot":
        t[5] = {"two classes": (0.25, 0, 0.75), "half": (0.5, 0, 0), "two": (0, 2, 0)}[kind]
    losses = []
    for read_only in (True, False):
        x, t = x.copy(), t.copy()
        t.setflags(write=not read_only)
        x.setflags(write=not read_only)
        network, random = TwoLayerNet(800, 50, 3, 0.3, rng=1), np.random.RandomState(5)
        history = train(network, x, t, iterations=30, batch_size=10, rng=random,
            callback=lambda done, history: None)  # fmt: skip
        losses.append(history.train_loss_list)
    assert len(encoded) == 1
    assert losses[0] == losses[1]


def test_data_that_change_between_two_runs_of_a_trainer(rng, encoded):
    t, losses = rng.integers(0, 3, 40), []
    x = images(rng)
    for layer in (Relu, OtherRelu):
        network, data = TwoLayerNet(800, 50, 3, 0.3, rng=1), x.copy()
        network.layers["Relu1"] = layer()
        np.random.seed(5)
        trainer = net.Trainer(
            network, data, t, data, t, epochs=2, mini_batch_size=10, verbose=False
        )
        for _ in range(4):
            trainer.train_step()
            data[...] = data[::-1].copy()
        losses.append(trainer.train_loss_list)
    assert len(encoded) == 8
    np.testing.assert_allclose(*losses, rtol=1e-10)


def test_a_learning_rate_that_a_callback_lowers(network, data):
    sgd = net.SGD(lr=0.1)

    def callback(done, history):
        sgd.lr = 0.0

    before = {key: value.copy() for key, value in network.params.items()}
    history = train(network, *data, iterations=20, batch_size=10, optimizer=sgd, rng=0,
                    callback=callback)  # fmt: skip
    assert len(history.train_loss_list) == 20
    changed = max(np.abs(network.params[key] - value).max() for key, value in before.items())
    assert 0 < changed < 0.1  # by the first iteration alone


@pytest.mark.parametrize("kind", [Affine, Relu])
def test_a_method_patched_on_a_class(data, monkeypatch, kind):
    """All methods of the network, and `train`, use the patched method."""
    network = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    before, forward = network.loss(*data), kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: 2 * forward(self, x))
    patched = network.loss(*data)
    assert patched != before
    history = train(network, *data, iterations=1, batch_size=40, learning_rate=0.0, rng=0)
    assert abs(history.train_loss_list[0] - before) > abs(patched - before) / 2
    monkeypatch.undo()
    assert network.loss(*data) == before


def test_a_method_patched_on_a_layer(data):
    network = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    calls = []
    layer = network.layers["Relu1"]
    forward = layer.forward
    layer.forward = lambda x: [calls.append(1), forward(x)][1]
    train(network, *data, iterations=3, batch_size=10, rng=0)
    assert len(calls) > 6


def test_a_network_whose_loss_is_its_own(data):
    class Doubled(TwoLayerNet):
        def loss(self, x, t):
            return 2 * super().loss(x, t)

    history = train(Doubled(8, 6, 3, rng=1), *data, iterations=2, batch_size=10, rng=0)
    expected = train(TwoLayerNet(8, 6, 3, rng=1), *data, iterations=2, batch_size=10, rng=0)
    np.testing.assert_allclose(history.train_loss_list, 2 * np.array(expected.train_loss_list))


@pytest.fixture
def no_gc_callbacks():
    """Remove Hypothesis's callback of the garbage collector, which loses KeyboardInterrupt."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("no_gc_callbacks")
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("delay", [0.02 * k for k in range(1, 13)])
def test_ctrl_c_leaves_network_and_history_together(network, data, delay):
    """The network and the history are at the same iteration, whenever Ctrl-C comes."""
    histories = []
    train(network, *data, iterations=30, batch_size=10, rng=5)  # compiles the loop
    start = {key: value.copy() for key, value in network.params.items()}
    timer = Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        train(network, *data, iterations=10**8, batch_size=10, rng=7,
              callback=lambda done, history: histories.append(history))  # fmt: skip
    timer.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Before the first callback, which follows an evaluation, one iteration may be done.
    possible = [len(histories[-1].train_loss_list)] if histories else [0, 1]
    twins = []
    for done in possible:
        twin = TwoLayerNet(8, 6, 3, rng=1)
        if type(network.layers["Relu1"]) is OtherRelu:
            twin.layers["Relu1"] = OtherRelu()
        for key, value in start.items():
            twin.params[key] = value
        if done:
            train(twin, *data, iterations=done, batch_size=10, rng=7)
        twins.append(twin.params)
    assert any(
        all(np.array_equal(network.params[key], value) for key, value in params.items())
        for params in twins
    )


class Clipped:
    """A mixin that clips gradients."""

    def update(self, params, grads):
        super().update(params, {key: np.clip(g, -0.01, 0.01) for key, g in grads.items()})


class ClippedAdam(Clipped, net.Adam):
    pass


class Doubled:
    """A mixin that changes the rule."""

    def update_array(self, p, g, *states):
        super().update_array(p, 2 * g, *states)


class DoubledSGD(Doubled, net.SGD):
    pass


class Schedule(net.SGD):
    """A learning rate that depends on the iteration."""

    @property
    def lr(self):
        return 0.5 / (1 + self.iter)

    @lr.setter
    def lr(self, value):
        pass


def patched():
    optimizer = net.SGD(0.1)
    optimizer.hyperparameters = lambda: np.array([0.1 if optimizer.iter < 3 else 0.5])
    return optimizer


@pytest.mark.parametrize("make", [ClippedAdam, DoubledSGD, Schedule, patched])
def test_a_changed_optimizer_is_obeyed(data, make):
    """In compiled training as in the lecture's loop."""
    x, t = data
    network, optimizer, choice = TwoLayerNet(8, 6, 3, 0.3, rng=1), make(), np.random.RandomState(5)
    losses = []
    for _ in range(12):
        rows = choice.choice(len(x), 10)
        optimizer.update(network.params, network.gradient(x[rows], t[rows]))
        losses.append(network.loss(x[rows], t[rows]))
    ours = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    rng = np.random.RandomState(5)
    history = train(ours, x, t, iterations=12, batch_size=10, optimizer=make(), rng=rng)
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-12)


def test_a_mixin_may_change_the_rule():
    params = {"W": np.array([1.0, 2.0])}
    DoubledSGD(0.5).update(params, {"W": np.array([1.0, -1.0])})
    assert params["W"].tolist() == [0.0, 3.0]


def test_an_optimizer_that_draws_numbers(data):
    class Noisy(net.SGD):
        def update(self, params, grads):
            super().update(
                params, {k: g + np.random.normal(size=g.shape) for k, g in grads.items()}
            )

    x, t = data
    network = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    np.random.seed(3)
    losses, optimizer = [], Noisy(0.1)
    for _ in range(5):
        rows = np.random.choice(len(x), 10)
        optimizer.update(network.params, network.gradient(x[rows], t[rows]))
        losses.append(network.loss(x[rows], t[rows]))
    np.random.seed(3)
    ours = TwoLayerNet(8, 6, 3, 0.3, rng=1)
    history = train(ours, x, t, iterations=5, batch_size=10, optimizer=Noisy(0.1))
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-12)


def test_numerical_gradient_of_a_subclass_with_its_own_loss(data):
    class Penalised(TwoLayerNet):
        def loss(self, x, t):
            return super().loss(x, t) + 0.1 * np.abs(self.params["W1"]).sum()

    x, t = data
    network, plain = Penalised(8, 6, 3, 0.3, rng=1), TwoLayerNet(8, 6, 3, 0.3, rng=1)
    got, without = network.numerical_gradient(x, t)["W1"], plain.numerical_gradient(x, t)["W1"]
    np.testing.assert_allclose(got - without, 0.1 * np.sign(network.params["W1"]), atol=1e-6)


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_that_stops(data, network, answer):
    history = train(network, *data, iterations=100, batch_size=10, callback=lambda *_: answer)
    assert len(history.train_loss_list) == 1

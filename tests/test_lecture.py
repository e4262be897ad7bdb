"""The lecture's training script, and ``train``, against the NumPy reference."""

import naive
import numpy as np
import pytest
from test_network import Doubled, Leaky

from net import History, Sigmoid, TwoLayerNet, train

# The lecture's script, with two imports changed and 300 iterations instead of 10,000.
SCRIPT = """\
# coding: utf-8
import os, sys
print(os.getcwd())
current_dir = os.path.dirname(os.getcwd())
print(current_dir)
os.chdir(current_dir)

import numpy as np
from net import load_mnist
from net import TwoLayerNet

# 데이터 읽기
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)

network = TwoLayerNet(input_size=784, hidden_size=50, output_size=10)

iters_num = 300
train_size = x_train.shape[0]
batch_size = 100
learning_rate = 0.1

train_loss_list = []
train_acc_list = []
test_acc_list = []

iter_per_epoch = max(train_size / batch_size, 1)

for i in range(iters_num):
    batch_mask = np.random.choice(train_size, batch_size)
    x_batch = x_train[batch_mask]
    t_batch = t_train[batch_mask]

    # 기울기 계산
    #grad = network.numerical_gradient(x_batch, t_batch) # 수치 미분 방식
    grad = network.gradient(x_batch, t_batch) # 오차역전파법 방식(훨씬 빠르다)

    # 갱신
    for key in ('W1', 'b1', 'W2', 'b2'):
        network.params[key] -= learning_rate * grad[key]

    loss = network.loss(x_batch, t_batch)
    train_loss_list.append(loss)

    if i % iter_per_epoch == 0:
        train_acc = network.accuracy(x_train, t_train)
        test_acc = network.accuracy(x_test, t_test)
        train_acc_list.append(train_acc)
        test_acc_list.append(test_acc)
        print(train_acc, test_acc)
"""
LISTS = ("train_loss_list", "train_acc_list", "test_acc_list")


def run_script(script, folder, capsys):
    folder.mkdir()
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # the script refers to the parent folder
        np.random.seed(0)
        exec(compile(script, "train_neuralnet.py", "exec"), names)
    return names, capsys.readouterr().out


def test_script_gives_the_numbers_of_numpy(tmp_path, capsys):
    ours, output = run_script(SCRIPT, tmp_path / "ours", capsys)
    reference, expected = run_script(
        SCRIPT.replace("from net import TwoLayerNet", "from naive import TwoLayerNet"),
        tmp_path / "reference",
        capsys,
    )
    assert type(reference["network"]) is naive.TwoLayerNet
    assert type(ours["network"]) is TwoLayerNet
    assert len(ours["train_loss_list"]) == 300
    assert all(type(loss) is float for loss in ours["train_loss_list"])
    np.testing.assert_allclose(
        ours["train_loss_list"], reference["train_loss_list"], rtol=1e-6, atol=0
    )
    assert ours["train_acc_list"] == reference["train_acc_list"]
    assert ours["test_acc_list"] == reference["test_acc_list"]
    assert output.splitlines()[-1] == expected.splitlines()[-1]
    assert np.mean(ours["train_loss_list"][-20:]) < 0.6
    assert ours["network"].accuracy(ours["x_test"], ours["t_test"]) > 0.8


# ---------------------------------------------------------------- train
@pytest.fixture(scope="module")
def digits(mnist):
    """Return 2,000 training and 300 test images: an epoch of 20 batches of 100."""
    (x_train, t_train), (x_test, t_test) = mnist
    return x_train[:2000], t_train[:2000], x_test[:300], t_test[:300]


def one_hot(data):
    x_train, t_train, x_test, t_test = data
    return x_train, np.eye(10)[t_train], x_test, np.eye(10)[t_test]


def seeded(build, *arguments, seed=0, **options):
    np.random.seed(seed)
    return build(*arguments, **options)


def assert_same(history, expected, rtol=1e-9):
    """Check that losses agree to rounding, and accuracies exactly."""
    losses, train_accuracies, test_accuracies = expected
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=rtol, atol=0)
    assert list(history.train_acc_list) == train_accuracies
    assert list(history.test_acc_list) == test_accuracies


@pytest.mark.parametrize("labels", ["index", "one_hot"])
def test_train_is_the_hand_written_loop(digits, labels):
    data = one_hot(digits) if labels == "one_hot" else digits
    network = seeded(TwoLayerNet, 784, 50, 10)
    history = train(network, *data, iterations=130)
    assert isinstance(history, History)
    ours = seeded(TwoLayerNet, 784, 50, 10)
    assert_same(history, naive.train(ours, *data, 130))
    for key in network.params:
        np.testing.assert_allclose(network.params[key], ours.params[key], rtol=1e-9, atol=1e-13)
    assert_same(history, naive.train(seeded(naive.TwoLayerNet, 784, 50, 10), *data, 130))
    assert len(history.train_acc_list) == 7


def test_train_draws_no_more_than_the_loop(digits):
    train(seeded(TwoLayerNet, 784, 5, 10), *digits, iterations=7)
    after = np.random.rand()
    naive.train(seeded(TwoLayerNet, 784, 5, 10), *digits, 7)
    assert np.random.rand() == after


@pytest.mark.parametrize(
    ("size", "batch_size", "rate", "iterations"),
    [(300, 100, 0.1, 12), (50, 100, 0.1, 5), (20, 1, 0.05, 45), (7, 7, 1.0, 9), (1, 1, 0.1, 3)],
)
def test_sizes_of_batch_and_epoch(digits, size, batch_size, rate, iterations):
    x_train, t_train, x_test, t_test = digits
    data = x_train[:size], t_train[:size], x_test, t_test
    options = {"batch_size": batch_size, "learning_rate": rate}
    history = train(seeded(TwoLayerNet, 784, 12, 10), *data, iterations=iterations, **options)
    expected = naive.train(seeded(naive.TwoLayerNet, 784, 12, 10), *data, iterations, **options)
    assert_same(history, expected)


@pytest.mark.parametrize("batch_size", [80, 64])
def test_epoch_of_no_whole_number_of_batches(digits, batch_size):
    """The loop tests ``i % iter_per_epoch == 0``: with 2.5 that is every second epoch."""
    x_train, t_train, x_test, t_test = digits
    data = x_train[:200], t_train[:200], x_test, t_test
    history = train(seeded(TwoLayerNet, 784, 12, 10), *data, iterations=30, batch_size=batch_size)
    expected = naive.train(seeded(naive.TwoLayerNet, 784, 12, 10), *data, 30, batch_size)
    assert_same(history, expected)


def test_float32(digits):
    """Rounding differs from NumPy's, and grows from step to step."""
    network = seeded(TwoLayerNet, 784, 50, 10, dtype=np.float32)
    history = train(network, *digits, iterations=100)
    reference = seeded(naive.TwoLayerNet, 784, 50, 10, dtype=np.float32)
    losses, *_ = naive.train(reference, *digits, 100, learning_rate=np.float32(0.1))
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-3)
    assert {p.dtype for p in network.params.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("change", ["bytes", "images", "float64", "strided", "unsigned labels"])
def test_other_forms_of_the_data(digits, change):
    x_train, t_train, x_test, t_test = digits
    if change == "bytes":
        x_train, x_test = ((255 * x).round().astype(np.uint8) for x in (x_train, x_test))
    elif change == "images":
        x_train, x_test = (x.reshape(-1, 1, 28, 28) for x in (x_train, x_test))
    elif change == "float64":
        x_train, x_test = (x.astype(np.float64) for x in (x_train, x_test))
    elif change == "strided":
        x_train, t_train = x_train[::-2], t_train[::-2]
    else:
        t_train, t_test = t_train.astype(np.uint64), t_test.astype(np.uint16)
    options = {"learning_rate": 1e-4 if change == "bytes" else 0.1}
    history = train(
        seeded(TwoLayerNet, 784, 12, 10), x_train, t_train, x_test, t_test, iterations=30, **options
    )
    flat = x_train.reshape(len(x_train), 784), t_train, x_test.reshape(300, 784), t_test
    assert_same(history, naive.train(seeded(naive.TwoLayerNet, 784, 12, 10), *flat, 30, **options))


def test_generator(digits):
    before = np.random.get_state()[1].copy()
    network = TwoLayerNet(784, 12, 10, rng=np.random.default_rng(1))
    reference = TwoLayerNet(784, 12, 10, rng=np.random.default_rng(1))
    history = train(network, *digits, iterations=30, rng=np.random.default_rng(2))
    expected = naive.train(reference, *digits, 30, choice=np.random.default_rng(2).choice)
    assert_same(history, expected)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_without_test_data(digits):
    with_test = train(seeded(TwoLayerNet, 784, 12, 10), *digits, iterations=30)
    without = train(seeded(TwoLayerNet, 784, 12, 10), *digits[:2], iterations=30)
    assert list(without.train_loss_list) == list(with_test.train_loss_list)
    assert list(without.train_acc_list) == list(with_test.train_acc_list)
    assert list(without.test_acc_list) == []


def test_training_goes_on(digits):
    """A second call continues from the weights of the first."""
    network, reference = seeded(TwoLayerNet, 784, 12, 10), seeded(naive.TwoLayerNet, 784, 12, 10)
    for seed in (1, 2):
        np.random.seed(seed)
        history = train(network, *digits, iterations=10)
        np.random.seed(seed)
        assert_same(history, naive.train(reference, *digits, 10))


def test_arrays_of_the_user_are_left_alone(digits):
    """Weights change in place, as in the loop; gradients and inputs kept by the user do not."""
    network = seeded(TwoLayerNet, 784, 12, 10)
    x, t = digits[0][:5], digits[1][:5]
    W1 = network.params["W1"]
    gradient, logits = network.gradient(x, t)["W1"], network.predict(x)
    gradient_kept, logits_kept, x_kept = gradient.copy(), logits.copy(), digits[0].copy()
    train(network, *digits, iterations=5)
    assert network.params["W1"] is W1
    assert network.layers["Affine1"].W is W1
    np.testing.assert_array_equal(gradient, gradient_kept)
    np.testing.assert_array_equal(logits, logits_kept)
    np.testing.assert_array_equal(digits[0], x_kept)


@pytest.mark.parametrize("replace", ["sigmoid", "own layer", "last layer", "params"])
def test_changed_networks_train(digits, replace):
    """A network with a replaced part takes the general path, with correct results."""
    ours, reference = seeded(TwoLayerNet, 784, 12, 10), seeded(naive.TwoLayerNet, 784, 12, 10)
    if replace == "sigmoid":
        ours.layers["Relu1"], reference.layers["Relu1"] = Sigmoid(), naive.Sigmoid()
    elif replace == "own layer":
        ours.layers["Relu1"], reference.layers["Relu1"] = Leaky(), Leaky()
    elif replace == "last layer":
        ours.lastLayer, reference.lastLayer = Doubled(ours.lastLayer), Doubled(reference.lastLayer)
    else:
        new = np.full((12, 10), 0.01)
        ours.params["W2"] = new.copy()
        reference.params["W2"][...] = new
    np.random.seed(5)
    history = train(ours, *digits, iterations=50)
    np.random.seed(5)
    assert_same(history, naive.train(reference, *digits, 50))


class Tempered(TwoLayerNet):
    """A user's subclass of TwoLayerNet."""

    def predict(self, x):
        return super().predict(x) / 2

    def gradient(self, x, t):
        return {key: 3 * g for key, g in super().gradient(x, t).items()}


def test_derived_networks_train(digits):
    history = train(seeded(Tempered, 784, 12, 10), *digits, iterations=30)
    assert_same(history, naive.train(seeded(Tempered, 784, 12, 10), *digits, 30))


@pytest.mark.parametrize("options", [{"callback": True}, {"progress": True}, {"progress": False}])
def test_callback_and_progress_change_nothing(digits, options, capsys):
    plain = train(seeded(TwoLayerNet, 784, 12, 10), *digits, iterations=45)
    calls = []
    if "callback" in options:
        options = {"callback": lambda *arguments: calls.append(arguments) and None}
    shown = train(seeded(TwoLayerNet, 784, 12, 10), *digits, iterations=45, **options)
    for name in LISTS:
        assert list(getattr(shown, name)) == list(getattr(plain, name))
    assert bool(calls) == ("callback" in options)


def test_what_callback_raises_comes_through(digits):
    def stop(*_):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        train(seeded(TwoLayerNet, 784, 12, 10), *digits, iterations=45, callback=stop)


def test_history(digits, tmp_path):
    history = train(seeded(TwoLayerNet, 784, 12, 10), *digits, iterations=45)
    assert len(history.train_loss_list) == 45
    assert all(isinstance(loss, float) for loss in history.train_loss_list)
    assert len(history.train_acc_list) == len(history.test_acc_list) == 3
    assert all(0 <= a <= 1 for a in history.train_acc_list + history.test_acc_list)
    path = tmp_path / "history.png"
    history.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_iterations(digits):
    network = seeded(TwoLayerNet, 784, 12, 10)
    before = network.params["W1"].copy()
    history = train(network, *digits, iterations=0)
    assert [list(getattr(history, name)) for name in LISTS] == [[], [], []]
    np.testing.assert_array_equal(network.params["W1"], before)


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": -1},
        {"iterations": 2.5},
        {"batch_size": 0},
        {"batch_size": -1},
        {"batch_size": 2.5},
        {"learning_rate": float("nan")},
        {"learning_rate": "fast"},
        {"rng": "seed"},
        {"callback": 1},
    ],
    ids=str,
)
def test_bad_options(digits, options):
    network = seeded(TwoLayerNet, 784, 12, 10)
    with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
        train(network, *digits, **{"iterations": 2, **options})


def test_bad_data(digits):
    x, t, x_test, t_test = digits
    network = seeded(TwoLayerNet, 784, 12, 10)
    before = network.params["W1"].copy()
    wrong = t.copy()
    wrong[-1] = 10
    for data in (
        (x[:, :783], t),
        (x, t[:-1]),
        (x, wrong),
        (x[:0], t[:0]),
        (x, t, x_test[:-1], t_test),
        (x, t, x_test, np.full(300, -1)),
    ):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            train(network, *data, iterations=200)
        # raised before the first step
        np.testing.assert_array_equal(network.params["W1"], before)
    for data in ((x, t, x_test, None), (x, t, None, t_test)):
        with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
            train(network, *data, iterations=2)

"""``TwoLayerNet`` and ``numerical_gradient``."""

import copy
import io
import pickle
import zipfile

import naive
import numpy as np
import pytest

from net import Affine, Relu, Sigmoid, TwoLayerNet, numerical_gradient

KEYS = ["W1", "b1", "W2", "b2"]


def lecture_pair(*sizes, seed=0, **options):
    """Return the network and the reference, with the same seed."""
    np.random.seed(seed)
    ours = TwoLayerNet(*sizes, **options)
    np.random.seed(seed)
    return ours, naive.TwoLayerNet(*sizes, **options)


def batch(rng, n=7, d=6, c=4, one_hot=False):
    x, t = rng.standard_normal((n, d)), rng.integers(0, c, n)
    return x, np.eye(c)[t] if one_hot else t


# ---------------------------------------------------------------- construction
def test_weights_are_the_lectures(dtype):
    np.random.seed(0)
    network = TwoLayerNet(input_size=784, hidden_size=50, output_size=10, dtype=dtype)
    after = np.random.rand()
    np.random.seed(0)
    W1 = 0.01 * np.random.randn(784, 50)
    W2 = 0.01 * np.random.randn(50, 10)
    assert after == np.random.rand()
    assert list(network.params) == KEYS
    assert {p.dtype for p in network.params.values()} == {np.dtype(dtype)}
    np.testing.assert_array_equal(network.params["W1"], W1.astype(dtype))
    np.testing.assert_array_equal(network.params["b1"], np.zeros(50))
    np.testing.assert_array_equal(network.params["W2"], W2.astype(dtype))
    np.testing.assert_array_equal(network.params["b2"], np.zeros(10))


def test_weight_init_std():
    ours, reference = lecture_pair(3, 4, 5, weight_init_std=2.5)
    for key in KEYS:
        np.testing.assert_array_equal(ours.params[key], reference.params[key])
    assert not np.any(TwoLayerNet(3, 4, 5, 0).params["W1"])


def test_layers():
    network = TwoLayerNet(3, 4, 5)
    assert list(network.layers) == ["Affine1", "Relu1", "Affine2"]
    assert [type(layer) for layer in network.layers.values()] == [Affine, Relu, Affine]
    assert network.layers["Affine1"].W is network.params["W1"]
    assert network.layers["Affine2"].b is network.params["b2"]
    assert type(network.lastLayer).__name__ == "SoftmaxWithLoss"


def test_generator_is_reproducible_and_leaves_the_global_state():
    before = np.random.get_state()
    first = TwoLayerNet(6, 5, 4, rng=np.random.default_rng(7))
    again = TwoLayerNet(6, 5, 4, rng=np.random.default_rng(7))
    other = TwoLayerNet(6, 5, 4, rng=np.random.default_rng(8))
    after = np.random.get_state()
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])
    for key in ("W1", "W2"):
        np.testing.assert_array_equal(first.params[key], again.params[key])
        assert not np.array_equal(first.params[key], other.params[key])
        assert first.params[key].std() < 0.05


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", [0, -1, 2.5, "3", None, (2, 3), float("nan")])
def test_bad_sizes(position, bad):
    sizes = [4, 3, 2]
    sizes[position] = bad
    with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
        TwoLayerNet(*sizes)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": np.float16},
        {"dtype": np.int64},
        {"dtype": complex},
        {"dtype": object},
        {"dtype": "no such type"},
        {"rng": "seed"},
        {"weight_init_std": -0.01},
        {"weight_init_std": float("nan")},
        {"weight_init_std": float("inf")},
        {"weight_init_std": "0.01"},
        {"weight_init_std": None},
    ],
    ids=str,
)
def test_bad_options(options):
    with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
        TwoLayerNet(4, 3, 2, **options)


def test_sizes_of_numpy():
    network = TwoLayerNet(np.int64(4), np.uint8(3), np.int32(2), dtype="float32")
    assert network.params["W1"].shape == (4, 3)
    assert network.params["W2"].dtype == np.float32


# ---------------------------------------------------------------- predict, loss, accuracy
@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one_hot"])
def test_predict_loss_accuracy_gradient(rng, dtype, one_hot):
    ours, reference = lecture_pair(6, 5, 4, weight_init_std=1.0, dtype=dtype)
    x, t = batch(rng, n=50, one_hot=one_hot)
    x = x.astype(dtype)
    tolerance = 200 * np.finfo(dtype).eps
    logits = ours.predict(x)
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits, reference.predict(x), rtol=tolerance, atol=tolerance)
    loss = ours.loss(x, t)
    assert isinstance(loss, float)
    np.testing.assert_allclose(loss, reference.loss(x, t), rtol=tolerance)
    accuracy = ours.accuracy(x, t)
    assert isinstance(accuracy, float)
    assert accuracy == reference.accuracy(x, t)
    gradient, expected = ours.gradient(x, t), reference.gradient(x, t)
    assert list(gradient) == KEYS
    for key in KEYS:
        assert gradient[key].dtype == dtype
        np.testing.assert_allclose(gradient[key], expected[key], rtol=tolerance, atol=tolerance)


def test_gradients_are_fresh(rng):
    network = TwoLayerNet(6, 5, 4, 1.0)
    x, t = batch(rng)
    first = network.gradient(x, t)
    copies = {key: first[key].copy() for key in KEYS}
    network.gradient(-x, t)
    network.loss(2 * x, t)
    for key in KEYS:
        np.testing.assert_array_equal(first[key], copies[key])
        assert not np.shares_memory(first[key], network.params[key])


def test_predictions_are_fresh(rng):
    network = TwoLayerNet(6, 5, 4, 1.0)
    x, t = batch(rng)
    first = network.predict(x)
    kept = first.copy()
    network.predict(-x)
    network.gradient(-x, t)
    np.testing.assert_array_equal(first, kept)


def test_images_and_integers(rng):
    """Stored images are accepted: (N, height, width) bytes."""
    network = TwoLayerNet(6, 5, 4, 1.0)
    images = rng.integers(0, 256, (7, 2, 3), dtype=np.uint8)
    x = images.reshape(7, 6).astype(float)
    np.testing.assert_allclose(network.predict(images), network.predict(x), rtol=1e-12)
    np.testing.assert_allclose(network.predict(images.tolist()), network.predict(x), rtol=1e-12)
    t = [0, 1, 2, 3, 0, 1, 2]
    np.testing.assert_allclose(network.loss(images, t), network.loss(x, np.array(t)), rtol=1e-12)
    assert network.accuracy(images, t) == network.accuracy(x, np.array(t))


def test_accuracy_takes_the_first_of_equals():
    network = TwoLayerNet(2, 3, 4, 0)  # all logits equal
    assert network.accuracy(np.ones((4, 2)), np.array([0, 0, 0, 1])) == 0.75


@pytest.mark.parametrize(
    ("x", "t"),
    [
        (np.ones((3, 5)), np.zeros(3, int)),
        (np.ones((3, 6)), np.zeros(2, int)),
        (np.ones((3, 6)), np.zeros((3, 3))),
        (np.ones((0, 6)), np.zeros(0, int)),
        (np.ones((3, 6)), np.array([0, 4, 0])),
        (np.ones((3, 6)), np.array([0, -1, 0])),
        (np.ones(6), np.zeros(1, int)),
    ],
)
def test_bad_batches(x, t):
    network = TwoLayerNet(6, 5, 4)
    for method in (network.loss, network.gradient):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            method(x, t)


@pytest.mark.parametrize(
    ("x", "t"),
    [
        (np.ones((3, 6)), np.zeros(2, int)),
        (np.ones((3, 6)), np.zeros(1, int)),
        (np.ones((3, 6)), np.zeros((1, 4))),
        (np.ones((3, 6)), np.zeros((3, 5))),
        (np.ones((0, 6)), np.zeros(0, int)),
        (np.ones((3, 6)), np.array(0)),
    ],
)
def test_accuracy_of_bad_batches(x, t):
    """One label for three images would broadcast."""
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        TwoLayerNet(6, 5, 4).accuracy(x, t)


# ---------------------------------------------------------------- gradient check
@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one_hot"])
def test_gradient_check(rng, one_hot):
    network = TwoLayerNet(6, 5, 4, 1.0, rng=rng)
    x, t = batch(rng, one_hot=one_hot)
    kept = {key: network.params[key].copy() for key in KEYS}
    backprop, numerical = network.gradient(x, t), network.numerical_gradient(x, t)
    assert list(numerical) == KEYS
    for key in KEYS:
        assert numerical[key].shape == network.params[key].shape
        assert np.mean(abs(backprop[key])) > 1e-3
        assert np.mean(abs(backprop[key] - numerical[key])) < 1e-7
        np.testing.assert_array_equal(network.params[key], kept[key])


def test_gradient_check_on_mnist(rng, mnist):
    """The lecture's exercise, for those of W1's 39,200 elements that belong to some used pixels."""
    (x_train, t_train), _ = mnist
    x, t = x_train[:3], t_train[:3]
    network = TwoLayerNet(784, 50, 10, rng=rng)
    gradient = network.gradient(x, t)
    inked = np.flatnonzero(x.sum(axis=0))
    h = 1e-4
    for key in KEYS:
        param = network.params[key]
        rows = rng.choice(inked, 12, replace=False) if key == "W1" else np.arange(len(param))
        chosen = [(r, *rest) for r in rows for rest in np.ndindex(param.shape[1:])]
        assert any(gradient[key][i] != 0 for i in chosen)
        differences = []
        for i in chosen:
            kept = param[i]
            param[i] = kept + h
            above = network.loss(x, t)
            param[i] = kept - h
            below = network.loss(x, t)
            param[i] = kept
            differences.append(abs((above - below) / (2 * h) - gradient[key][i]))
        assert np.mean(differences) < 1e-7


# ---------------------------------------------------------------- parameters
def test_update_in_place_reaches_the_layer(rng):
    ours, reference = lecture_pair(6, 5, 4, weight_init_std=1.0)
    x, t = batch(rng)
    for _ in range(3):
        step, expected = ours.gradient(x, t), reference.gradient(x, t)
        for key in KEYS:
            ours.params[key] -= 0.1 * step[key]
            reference.params[key] -= 0.1 * expected[key]
    np.testing.assert_allclose(ours.loss(x, t), reference.loss(x, t), rtol=1e-12)


@pytest.mark.parametrize("key", KEYS)
def test_assignment_reaches_the_layer(rng, key):
    ours, reference = lecture_pair(6, 5, 4, weight_init_std=1.0)
    x, t = batch(rng)
    new = rng.standard_normal(ours.params[key].shape)
    ours.params[key] = new
    reference.params[key][...] = new
    np.testing.assert_array_equal(ours.params[key], new)
    np.testing.assert_allclose(ours.loss(x, t), reference.loss(x, t), rtol=1e-12)
    # and so does a later update
    ours.params[key] -= 1
    reference.params[key] -= 1
    np.testing.assert_allclose(ours.loss(x, t), reference.loss(x, t), rtol=1e-12)
    gradient, expected = ours.gradient(x, t), reference.gradient(x, t)
    for k in KEYS:
        np.testing.assert_allclose(gradient[k], expected[k], rtol=1e-10, atol=1e-13)


def test_update_of_the_dictionary_reaches_the_layers(rng):
    network = TwoLayerNet(6, 5, 4)
    x, t = batch(rng)
    other = TwoLayerNet(6, 5, 4, 1.0)
    network.params.update({key: other.params[key].copy() for key in KEYS})
    assert network.loss(x, t) == other.loss(x, t)


def test_assignment_of_another_real_type(rng):
    network = TwoLayerNet(2, 3, 2)
    network.params["W1"] = np.ones((2, 3), np.float32)
    network.params["b1"] = [0, 0, 0]
    network.params["W2"] = np.asfortranarray(np.ones((3, 2)))
    np.testing.assert_array_equal(network.predict([[1, 2]]), [[9, 9]])
    assert {p.dtype for p in network.params.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("key", KEYS)
def test_assignment_of_another_shape(rng, key):
    network = TwoLayerNet(6, 5, 4)
    x, t = batch(rng)
    before = network.loss(x, t)
    shape = network.params[key].shape
    for bad in ((1,), (*shape[::-1], 1), (*shape[:-1], shape[-1] + 1), ()):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            network.params[key] = np.ones(bad)
    assert network.loss(x, t) == before


def test_copies_are_independent(rng):
    network = TwoLayerNet(6, 5, 4, 1.0)
    x, t = batch(rng)
    before = network.loss(x, t)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin.loss(x, t) == before
        twin.params["W1"] -= twin.gradient(x, t)["W1"]
        twin.params["b2"] = np.ones(4)
        assert twin.loss(x, t) != before
        assert network.loss(x, t) == before


# ---------------------------------------------------------------- other layers
def with_sigmoid(network, layer):
    network.layers["Relu1"] = layer
    return network


def test_another_layer_in_place_of_relu(rng):
    ours, reference = lecture_pair(6, 5, 4, weight_init_std=1.0)
    with_sigmoid(ours, Sigmoid())
    with_sigmoid(reference, naive.Sigmoid())
    x, t = batch(rng)
    np.testing.assert_allclose(ours.predict(x), reference.predict(x), rtol=1e-12)
    np.testing.assert_allclose(ours.loss(x, t), reference.loss(x, t), rtol=1e-12)
    gradient, expected = ours.gradient(x, t), reference.gradient(x, t)
    numerical = ours.numerical_gradient(x, t)
    for key in KEYS:
        np.testing.assert_allclose(gradient[key], expected[key], rtol=1e-10, atol=1e-14)
        assert np.mean(abs(gradient[key] - numerical[key])) < 1e-7


def test_another_affine_layer(rng):
    """`params` has the parameters of the current layers."""
    network = TwoLayerNet(6, 5, 4, 1.0)
    x, t = batch(rng)
    W, b = rng.standard_normal((6, 5)), rng.standard_normal(5)
    network.layers["Affine1"] = Affine(W, b)
    assert network.params["W1"] is W
    gradient = network.gradient(x, t)
    numerical = network.numerical_gradient(x, t)
    for key in KEYS:
        assert np.mean(abs(gradient[key] - numerical[key])) < 1e-7
    before = network.loss(x, t)
    for key in KEYS:
        network.params[key] -= 0.01 * gradient[key]
    assert network.loss(x, t) < before


class Leaky(Relu):
    """A user's subclass of Relu."""

    def forward(self, x):
        self.slope = np.where(x > 0, 1.0, 0.1)
        return x * self.slope

    def backward(self, dout):
        return dout * self.slope


def test_a_users_own_layer(rng):
    ours, reference = lecture_pair(6, 5, 4, weight_init_std=1.0)
    with_sigmoid(ours, Leaky())
    with_sigmoid(reference, Leaky())
    x, t = batch(rng)
    np.testing.assert_allclose(ours.loss(x, t), reference.loss(x, t), rtol=1e-12)
    gradient, expected = ours.gradient(x, t), reference.gradient(x, t)
    for key in KEYS:
        np.testing.assert_allclose(gradient[key], expected[key], rtol=1e-10, atol=1e-14)


class Doubled:
    """Last layer with twice the loss of another last layer."""

    def __init__(self, inner):
        self.inner = inner

    def forward(self, x, t):
        return 2 * self.inner.forward(x, t)

    def backward(self, dout=1):
        return self.inner.backward(2 * dout)


def test_another_last_layer(rng):
    network = TwoLayerNet(6, 5, 4, 1.0)
    x, t = batch(rng)
    loss, gradient = network.loss(x, t), network.gradient(x, t)
    network.lastLayer = Doubled(network.lastLayer)
    assert network.loss(x, t) == 2 * loss
    for key, doubled in network.gradient(x, t).items():
        np.testing.assert_allclose(doubled, 2 * gradient[key], rtol=1e-14)


def test_an_inserted_layer(rng):
    ours, reference = lecture_pair(6, 5, 4, weight_init_std=1.0)
    ours.layers["Sigmoid2"] = Sigmoid()
    reference.layers["Sigmoid2"] = naive.Sigmoid()
    x, t = batch(rng)
    np.testing.assert_allclose(ours.loss(x, t), reference.loss(x, t), rtol=1e-12)
    gradient, expected = ours.gradient(x, t), reference.gradient(x, t)
    for key in KEYS:
        np.testing.assert_allclose(gradient[key], expected[key], rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------- save and load
@pytest.fixture
def saved(tmp_path):
    network = TwoLayerNet(6, 5, 4, 1.0, rng=np.random.default_rng(3))
    path = tmp_path / "network.npz"
    network.save(path)
    return network, path


@pytest.mark.parametrize("kind", [str, None], ids=["str", "Path"])
def test_round_trip(rng, tmp_path, dtype, kind):
    network = TwoLayerNet(6, 5, 4, 1.0, dtype=dtype)
    network.params["b1"] += rng.standard_normal(5).astype(dtype)
    path = tmp_path / "network.npz"
    path = kind(path) if kind else path
    network.save(path)
    loaded = TwoLayerNet.load(path)
    assert isinstance(loaded, TwoLayerNet)
    x, t = batch(rng)
    for key in KEYS:
        assert loaded.params[key].dtype == dtype
        assert loaded.params[key].tobytes() == network.params[key].tobytes()
    assert loaded.loss(x, t) == network.loss(x, t)
    # a loaded network works like any other
    loaded.params["W1"] -= loaded.gradient(x, t)["W1"]
    assert loaded.loss(x, t) < network.loss(x, t)


def test_load_leaves_the_global_state(saved):
    before = np.random.get_state()[1].copy()
    TwoLayerNet.load(saved[1])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_save_writes_just_the_named_file(tmp_path):
    network = TwoLayerNet(6, 5, 4)
    for name in ("network.npz", "network", "network.v2"):
        network.save(tmp_path / name)
        loaded = TwoLayerNet.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.params["W1"], network.params["W1"])


def test_save_replaces_the_file(saved):
    _, path = saved
    other = TwoLayerNet(2, 3, 2)
    other.save(path)
    np.testing.assert_array_equal(TwoLayerNet.load(path).params["W1"], other.params["W1"])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


class Trap:
    """Object that creates a file when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_load_never_unpickles(saved, tmp_path):
    _, path = saved
    mark = tmp_path / "mark"
    arrays = dict(np.load(path))
    assert set(KEYS) <= set(arrays)
    for key in arrays:
        trapped = np.empty(arrays[key].shape, object)
        trapped[...] = Trap(mark)
        np.savez(path, **{**arrays, key: trapped})
        with pytest.raises(ValueError, match=path.name):
            TwoLayerNet.load(path)
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ValueError, match=path.name):
        TwoLayerNet.load(path)
    assert not mark.exists()


def broken_files(arrays, path):
    """Return files that are not a network, in several ways."""

    def archive(**changes):
        changed = {**arrays, **changes}
        np.savez(path, **{key: a for key, a in changed.items() if a is not None})

    yield "empty", lambda: path.write_bytes(b"")
    yield "text", lambda: path.write_text("weights\n")
    whole = path.read_bytes()
    yield "half", lambda: path.write_bytes(whole[: len(whole) // 2])
    yield "cut", lambda: path.write_bytes(whole[:-1])

    def damaged():
        archive()
        data = bytearray(path.read_bytes())
        data[data.index(arrays["W1"].tobytes()) + 9] ^= 0xFF
        path.write_bytes(data)

    yield "damaged", damaged
    yield "an array", lambda: path.write_bytes(npy(np.ones((6, 5))))
    yield "another zip", lambda: zipfile.ZipFile(path, "w").close()
    for key in KEYS:
        yield f"no {key}", lambda key=key: archive(**{key: None})
        yield f"short {key}", lambda key=key: archive(**{key: arrays[key][..., :-1]})
        yield f"3-D {key}", lambda key=key: archive(**{key: arrays[key].reshape(-1, 1, 1)})
        for dtype in (complex, np.float16, str, bool):
            yield (
                f"{dtype.__name__} {key}",
                lambda key=key, dtype=dtype: archive(**{key: arrays[key].astype(dtype)}),
            )


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_load_of_broken_files(saved):
    _, path = saved
    arrays = dict(np.load(path))
    for what, write in broken_files(arrays, path):
        write()
        message = "loaded without a word"
        try:
            TwoLayerNet.load(path)
        except ValueError as error:
            message = str(error)
        assert path.name in message, (what, message)


def test_load_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TwoLayerNet.load(tmp_path / "nowhere.npz")


# ---------------------------------------------------------------- numerical_gradient
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 4), (2, 3, 2), (0,), (2, 0)], ids=str)
def test_numerical_gradient(rng, shape):
    x = np.asarray(rng.standard_normal(shape))
    kept = x.copy()
    gradient = numerical_gradient(lambda x: np.sum(np.sin(x)), x)
    assert gradient.shape == shape
    # h**2 / 6 times a cosine
    np.testing.assert_allclose(gradient, np.cos(kept), atol=2e-9)
    np.testing.assert_array_equal(x, kept)


def test_numerical_gradient_is_central():
    """A one-sided difference of x**2 has an error of h."""
    np.testing.assert_allclose(
        numerical_gradient(lambda x: float(x[0] ** 2), np.array([3.0])), [6], atol=1e-8
    )


def test_numerical_gradient_step_is_the_lectures():
    seen = []
    numerical_gradient(lambda x: seen.append(float(x[0])) or 0.0, np.array([1.0]))
    assert sorted(seen) == pytest.approx([1 - 1e-4, 1 + 1e-4], abs=1e-15)


def test_numerical_gradient_of_views(rng, layout):
    whole = rng.standard_normal((4, 3))
    x = layout(whole)
    if not x.flags.writeable:
        with pytest.raises(ValueError, match="read-only"):
            numerical_gradient(lambda x: np.sum(x**3), x)
        return
    np.testing.assert_allclose(
        numerical_gradient(lambda x: np.sum(x**3), x), 3 * whole**2, atol=1e-7
    )
    np.testing.assert_array_equal(x, whole)


def test_numerical_gradient_changes_x_itself():
    """The lecture's functions read the array itself, not their argument."""
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(numerical_gradient(lambda _: x[0] * x[1], x), [2, 1], atol=1e-9)


@pytest.mark.parametrize("fail_at", range(1, 5))
def test_numerical_gradient_restores_x_when_f_raises(fail_at):
    x = np.array([0.1, 0.7])
    kept = x.copy()
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise KeyError("from f")
        return x.sum()

    with pytest.raises(KeyError, match="from f"):
        numerical_gradient(f, x)
    assert calls == fail_at
    np.testing.assert_array_equal(x, kept)


def test_numerical_gradient_in_float32():
    x = np.array([0.5, 2.0], np.float32)
    gradient = numerical_gradient(lambda x: float(np.sum(x.astype(float) ** 2)), x)
    # x + h is rounded to float32: up to 1e-7 of 2h = 2e-4
    np.testing.assert_allclose(gradient, [1, 4], rtol=2e-3)
    np.testing.assert_array_equal(x, np.array([0.5, 2.0], np.float32))


@pytest.mark.parametrize(
    "bad", [np.array([1, 2]), np.array([True]), [1.0], 1.0, np.ones(2, complex)]
)
def test_numerical_gradient_of_other_things(bad):
    """h = 1e-4 added to an integer is lost, which would give a gradient of 0 without an error."""
    with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
        numerical_gradient(np.sum, bad)

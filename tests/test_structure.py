"""`save` and `load` preserve the structure of a network; unknown layers raise clear errors."""

import copy
import json
import pickle

import numpy as np
import pytest

import net
from net import (
    Affine,
    MultiLayerNet,
    MultiLayerNetExtend,
    Network,
    Relu,
    Sigmoid,
    TwoLayerNet,
    archive,
)


class Scale:
    """A user's layer."""

    parameters = ("scale",)
    buffers = ("seen",)
    options = ("power",)

    def __init__(self, scale, power=1):
        self.scale, self.power, self.seen = np.asarray(scale), power, np.zeros(1)

    def __repr__(self):
        return f"Scale(power={self.power})"

    def forward(self, x):
        self.x = np.asarray(x)
        self.seen = self.seen + 1
        return self.scale**self.power * self.x

    def backward(self, dout):
        self.dscale = np.sum(dout * self.x * self.power * self.scale ** (self.power - 1), axis=0)
        return dout * self.scale**self.power


def own():
    rng = np.random.default_rng(0)
    layers = {
        "in": Affine(rng.random((6, 5)), rng.random(5)),
        "Scale": Scale(rng.random(5) + 0.5, power=2),
        "act": Sigmoid(),
        "out": Affine(rng.random((5, 3)), rng.random(3)),
    }
    return Network(layers, weight_decay=0.5)


def replaced():
    network = TwoLayerNet(6, 5, 3, rng=0)
    network.layers["Relu1"] = Sigmoid()
    return network


NETWORKS = {
    "two layers": lambda: TwoLayerNet(6, 5, 3, rng=0),
    "float32": lambda: TwoLayerNet(6, 5, 3, dtype="float32", rng=0),
    "replaced": replaced,
    "multi": lambda: MultiLayerNet(6, [4, 5], 3, "sigmoid", 0.3, 0.2, rng=0),
    "extended": lambda: MultiLayerNetExtend(
        6, [4, 5], 3, use_dropout=True, dropout_ration=0.3, use_batchnorm=True, rng=0
    ),
    "own": own,
    "empty": lambda: Network([Relu()]),
}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    return request.param()


def batch():
    rng = np.random.default_rng(1)
    return rng.random((7, 6)), rng.integers(0, 3, 7)


def test_save_and_load(network, tmp_path):
    x, t = batch()
    if network.params:
        network.gradient(x, t)  # statistics of batch normalisation
    network.save(tmp_path / "network.npz")
    again = Network.load(tmp_path / "network.npz", layers=[Scale])
    assert type(again) is type(network)
    assert repr(again) == repr(network)
    assert again.weight_decay == network.weight_decay
    for kind in ("params", "buffers"):
        ours, theirs = getattr(network, kind), getattr(again, kind)
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            np.testing.assert_array_equal(theirs[key], value)
            assert theirs[key].dtype == value.dtype
    np.testing.assert_array_equal(again.predict(x), network.predict(x))
    for name, layer in network.layers.items():
        for option in getattr(layer, "options", ()):
            assert getattr(again.layers[name], option) == getattr(layer, option)


def test_own_layers_take_part():
    network, (x, t) = own(), batch()
    assert list(network.params) == ["W1", "b1", "scale1", "W2", "b2"]
    grads = network.gradient(x, t)
    numerical = network.numerical_gradient(x, t)
    for key, grad in grads.items():
        np.testing.assert_allclose(grad, numerical[key], atol=1e-6)
    before = network.params["scale1"].copy()
    net.train(network, x, t, iterations=5, batch_size=3, optimizer=net.Adam(), rng=0)
    assert (network.params["scale1"] != before).all()


def test_unknown_layers(tmp_path):
    own().save(tmp_path / "network.npz")
    with pytest.raises(ValueError, match=r"network\.npz: expected layers of net, got 'Scale'"):
        Network.load(tmp_path / "network.npz")


def test_another_class(tmp_path):
    class Mine(TwoLayerNet):
        """A user's subclass of a network."""

    file = tmp_path / "network.npz"
    MultiLayerNet(6, [5], 3, rng=0).save(file)
    with pytest.raises(ValueError, match="expected a TwoLayerNet, got a MultiLayerNet"):
        TwoLayerNet.load(file)
    Mine(6, 5, 3, rng=0).save(file)
    assert type(Mine.load(file)) is Mine
    with pytest.raises(ValueError, match=r"got a Mine; call Mine\.load"):
        Network.load(file)


def test_a_file_of_version_0_1(tmp_path):
    network = TwoLayerNet(6, 5, 3, rng=0)
    archive.write(tmp_path / "old.npz", dict(network.params))
    again = Network.load(tmp_path / "old.npz")
    assert type(again) is TwoLayerNet
    np.testing.assert_array_equal(again.predict(batch()[0]), network.predict(batch()[0]))


def structure():
    return json.loads(str(own_arrays()["structure"][()]))


def own_arrays():
    return net.structure.to_arrays(MultiLayerNetExtend(6, [5], 3, use_batchnorm=True, rng=0))


HOSTILE = {
    "no layers": {"layers": None},
    "layers of numbers": {"layers": [1, 2]},
    "two of a name": {"layers": [["a", "Relu", {}], ["a", "Relu", {}]]},
    "another option": {"layers": [["a", "Relu", {"slope": 1}]]},
    "an option of the wrong type": {"layers": [["a", "Dropout", {"dropout_ratio": "half"}]]},
    "a module": {"layers": [["a", "os.system", {}]]},
    "no network": {"network": "object"},
    "a format to come": {"format": 99},
    "last layer": {"last_layer": ["Affine", {}]},
    "decay": {"weight_decay": -1.0},
    "decay of text": {"weight_decay": "much"},
    "more layers than arrays": {"layers": [["a", "Affine", {}], ["b", "Affine", {}], ["c", "Affine",
                                {}]]},
    "sizes that do not fit": {"layers": [["b", "Affine", {}], ["a", "Sigmoid", {}]] * 1
                              + [["n", "BatchNormalization", {"momentum": 0.9}]]},
}  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_structures(tmp_path, change):
    arrays = own_arrays()
    if change is HOSTILE["sizes that do not fit"]:
        arrays["gamma1"] = arrays["beta1"] = arrays["running_mean1"] = np.ones(4)
        arrays["running_var1"] = np.ones(4)
    arrays["structure"] = np.array(json.dumps({**structure(), **change}))
    archive.write(tmp_path / "network.npz", arrays)
    with pytest.raises(ValueError, match=r"network\.npz.*expected.*got"):
        Network.load(tmp_path / "network.npz")


def leaky():
    """Return a custom layer with the name of a layer of `net`."""

    class Relu:
        def forward(self, x):
            return np.where(x > 0, x, 0.5 * x)

        def backward(self, dout):
            return dout

    return Relu


def test_a_custom_layer_with_the_name_of_another(tmp_path):
    file, kind, (x, _) = tmp_path / "network.npz", leaky(), batch()
    network = TwoLayerNet(6, 5, 3, 1.0, rng=0)
    network.layers["Relu1"] = kind()
    network.save(file)
    again = Network.load(file, layers=[kind])
    np.testing.assert_array_equal(again.predict(x), network.predict(x))
    with pytest.raises(ValueError, match=r"got 'custom Relu' \(Relu1\).*layers=\[Relu\]"):
        Network.load(file)
    TwoLayerNet(6, 5, 3, rng=0).save(file)  # the class of net is not replaced
    assert type(Network.load(file, layers=[kind]).layers["Relu1"]) is Relu


def test_a_custom_network_with_the_name_of_another(tmp_path):
    kind = type("TwoLayerNet", (TwoLayerNet,), {"__module__": __name__})
    kind(6, 5, 3, rng=0).save(tmp_path / "network.npz")
    assert type(kind.load(tmp_path / "network.npz")) is kind
    with pytest.raises(ValueError, match=r"got a custom TwoLayerNet; call TwoLayerNet\.load"):
        TwoLayerNet.load(tmp_path / "network.npz")


def test_constructor_arguments_that_would_be_lost(tmp_path):
    class Power(Relu):
        def __init__(self, power=1):
            super().__init__()
            self.power = power

    with pytest.raises(TypeError, match=r"Power1: expected the arguments .* others: power"):
        Network([Power(3)]).save(tmp_path / "network.npz")
    Power.options = ("power",)
    Network([Power(3)]).save(tmp_path / "network.npz")
    assert Network.load(tmp_path / "network.npz", layers=[Power]).layers[0].power == 3


class Counter:
    """A custom layer with a scalar parameter, a buffer of integers and one that may be None."""

    parameters = ("slope",)
    buffers = ("count", "mean")

    def __init__(self, slope):
        self.slope, self.count, self.mean = slope, np.zeros(2, np.int64), None

    def forward(self, x):
        self.x = x
        return self.slope * x

    def backward(self, dout):
        self.dslope = float(np.sum(dout * self.x))
        return self.slope * dout


@pytest.mark.parametrize("mean", [None, np.ones(3)])
def test_scalars_and_other_buffers(tmp_path, mean):
    (x, t), file = batch(), tmp_path / "network.npz"
    network = TwoLayerNet(6, 5, 3, dtype="float32", rng=0)
    network.layers["Relu1"] = layer = Counter(1.5)
    network.weight_decay = np.float32(0.5)
    layer.count += 7
    layer.mean = mean
    net.train(network, x, t, iterations=3, batch_size=2, rng=0)
    network.save(file)
    again = Network.load(file, layers=[Counter])
    assert again.weight_decay == 0.5
    assert again.layers["Relu1"].count.tolist() == [7, 7]
    np.testing.assert_array_equal(again.layers["Relu1"].mean, mean)
    np.testing.assert_array_equal(again.predict(x), network.predict(x))


def test_options_that_cannot_be_saved(tmp_path):
    network = own()
    network.layers["Scale"].power = object()
    with pytest.raises(TypeError, match="options: expected numbers, text or lists"):
        network.save(tmp_path / "network.npz")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- invalid networks
def test_layers_without_gradients():
    class Forgets(Scale):
        def backward(self, dout):
            return dout

    network = Network([Affine(np.eye(6, 3), np.zeros(3)), Forgets(np.ones(3))])
    with pytest.raises(ValueError, match=r"Forgets\.backward: expected dscale of shape \(3,\)"):
        network.gradient(*batch())


def test_layers_before_one_without_input_gradient():
    network = Network([Scale(np.ones(6)), Affine(np.eye(6, 3), np.zeros(3), input_gradient=False)])
    with pytest.raises(
        ValueError, match=r"Affine\(6, 3\): expected the gradient with respect to its"
    ):
        network.gradient(*batch())


def test_one_layer_twice():
    layer = Relu()
    with pytest.raises(ValueError, match="expected each layer once"):
        Network([layer, layer])


def test_params_as_a_dictionary():
    network, other = TwoLayerNet(6, 5, 3, rng=0), TwoLayerNet(6, 5, 3, rng=1)
    network.params = dict(other.params)
    assert network.layers["Affine1"].W is other.params["W1"]
    with pytest.raises(ValueError, match="params: expected W1, b1, W2, b2, got W1"):
        network.params = {"W1": other.params["W1"]}


def test_layers_by_number():
    network = own()
    assert network.layers[0] is network.layers["in"]
    assert network.layers[-1] is network.layers["out"]
    with pytest.raises(IndexError):
        network.layers[4]
    network.layers[2] = Relu()
    assert list(network.layers) == ["in", "Scale", "act", "out"]
    assert type(network.layers["act"]) is Relu
    del network.layers[1]
    assert list(network.layers) == ["in", "act", "out"]


@pytest.mark.parametrize("copy", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_independent(network, copy):
    x, t = batch()
    if network.params:
        network.gradient(x, t)
    before = network.predict(x)
    twin = copy(network)
    for value in network.params.values():
        value[...] = np.nan
    np.testing.assert_array_equal(twin.predict(x), before)
    if network.params:
        assert np.isfinite(twin.loss(x, t))
        assert all(np.isfinite(grad).all() for grad in twin.gradient(x, t).values())

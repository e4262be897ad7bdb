"""The course's convolutional networks against plain NumPy by im2col."""

import naive
import naive_convolution
import numpy as np
import pytest
from naive_networks import Activation, Affine, Dropout, Rule

import net
from net import Convolution, DeepConvNet, Network, Pooling, Relu, SimpleConvNet, Trainer, train

IMAGE, CLASSES = (1, 12, 12), 3
SIMPLE = {"filter_num": 4, "filter_size": 3, "pad": 1, "stride": 1}
DEEP = [{"filter_num": n, "filter_size": 3, "pad": pad, "stride": 1}
        for n, pad in ((3, 1), (3, 1), (4, 1), (4, 2), (5, 1), (5, 1))]  # fmt: skip


class NaiveConvolution:
    def __init__(self, params, number, param):
        self.params, self.keys, self.args = params, (f"W{number}", f"b{number}"), (
            param["stride"], param["pad"])  # fmt: skip

    def forward(self, x, train_flg):
        self.x = x
        W, b = (self.params[key] for key in self.keys)
        return naive_convolution.convolution_forward(x, W, b, *self.args)

    def backward(self, dout):
        W, b = self.keys
        dx, dW, db = naive_convolution.convolution_backward(
            dout, self.x, self.params[W], *self.args
        )
        self.grads = {W: dW, b: db}
        return dx


class NaivePooling:
    def forward(self, x, train_flg):
        self.x = x
        n, c, h, w = x.shape
        self.cut = x[:, :, : h // 2 * 2, : w // 2 * 2]
        blocks = self.cut.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        self.blocks = blocks.reshape(n, c, h // 2, w // 2, 4)
        self.arg = self.blocks.argmax(axis=-1)
        return self.blocks.max(axis=-1)

    def backward(self, dout):
        d = np.zeros_like(self.blocks)
        np.put_along_axis(d, self.arg[..., None], dout[..., None], axis=-1)
        n, c, h, w, _ = d.shape
        cut = d.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(self.cut.shape)
        dx = np.zeros_like(self.x)
        dx[:, :, : h * 2, : w * 2] = cut
        return dx


class Flatten:
    def forward(self, x, train_flg):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dout):
        return dout.reshape(self.shape)


class NaiveNetwork:
    """Network whose weights are drawn as by the course's constructors."""

    def __init__(self, deep, hidden):
        self.params, self.layers, self.in_training = {}, [], deep
        c, h, w = IMAGE
        number = 0
        for i, param in enumerate(DEEP if deep else [SIMPLE]):
            number += 1
            shape = (param["filter_num"], c, 3, 3)
            std = np.sqrt(2 / (c * 9)) if deep else 0.01
            self.params[f"W{number}"] = std * np.random.randn(*shape)
            self.params[f"b{number}"] = np.zeros(shape[0])
            self.layers += [NaiveConvolution(self.params, number, param), Activation("relu")]
            c, h, w = shape[0], h + 2 * param["pad"] - 2, w + 2 * param["pad"] - 2
            if not deep or i % 2:
                self.layers.append(NaivePooling())
                h, w = h // 2, w // 2
        self.layers.append(Flatten())
        for shape in ((c * h * w, hidden), (hidden, CLASSES)):
            number += 1
            std = np.sqrt(2 / shape[0]) if deep else 0.01
            self.params[f"W{number}"] = std * np.random.randn(*shape)
            self.params[f"b{number}"] = np.zeros(shape[1])
            self.layers.append(Affine(self.params, number))
            if shape[1] == hidden:
                self.layers.append(Activation("relu"))
            if deep:
                self.layers.append(Dropout(0.5))

    def predict(self, x, train_flg=False):
        for layer in self.layers:
            x = layer.forward(x, train_flg)
        return x

    def loss(self, x, t, train_flg=None):
        logits = self.predict(x, self.in_training if train_flg is None else train_flg)
        loss, self.y = naive.softmax_cross_entropy_forward(logits, t)
        return loss

    def gradient(self, x, t):
        self.loss(x, t, train_flg=True)
        dout = naive.softmax_cross_entropy_backward(self.y, t)
        grads = {}
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
            grads.update(getattr(layer, "grads", {}))
        return grads


def make(deep, seed=0, **options):
    np.random.seed(seed)
    if deep:
        return DeepConvNet(IMAGE, *DEEP, hidden_size=6, output_size=CLASSES, **options)
    return SimpleConvNet(IMAGE, SIMPLE, hidden_size=6, output_size=CLASSES, **options)


@pytest.fixture(params=[False, True], ids=["simple", "deep"])
def deep(request):
    return request.param


@pytest.fixture
def data(rng):
    t = rng.integers(0, CLASSES, 40)
    x = rng.random((40, *IMAGE)) * 0.3
    for i, k in enumerate(t):
        x[i, 0, 3 * k : 3 * k + 4] += 1
    return x, t


def assert_same_params(ours, theirs, rtol=1e-9):
    assert list(ours.params) == list(theirs.params)
    for key, value in theirs.params.items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(ours.params[key], value, rtol, rtol * scale)


def test_the_numbers_of_the_course(deep, data):
    ours = make(deep)
    np.random.seed(0)
    theirs = NaiveNetwork(deep, 6)
    assert_same_params(ours, theirs, 0)
    np.random.seed(1)
    history = train(ours, *data, iterations=60, batch_size=10, optimizer=net.Adam(lr=0.01))
    np.random.seed(1)
    rule, losses = Rule("Adam", 0.01), []
    for _ in range(60):
        mask = np.random.choice(40, 10)
        rule.update(theirs.params, theirs.gradient(data[0][mask], data[1][mask]))
        losses.append(theirs.loss(data[0][mask], data[1][mask]))
    np.testing.assert_allclose(history.train_loss_list, losses, rtol=1e-8)
    assert_same_params(ours, theirs, 1e-7)
    expected = np.mean(theirs.predict(data[0]).argmax(axis=1) == data[1])
    assert ours.accuracy(*data) == ours.accuracy(*data, batch_size=7) == expected


def test_blocks_cannot_be_told_from_layers(deep, data):
    """Gradients and lazily computed attributes are the same as layer by layer."""

    class Other(Relu):
        """Relu subclass, which prevents the fused kernel."""

    x, t = data
    joined, single = make(deep), make(deep)
    for name, layer in single.layers.items():
        if type(layer) is Relu:
            single.layers[name] = Other()
    np.random.seed(2)
    ours = joined.gradient(x, t)
    np.random.seed(2)
    theirs = single.gradient(x, t)
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, 1e-9, 1e-12)
    for value in joined.params.values():
        value += 1.0  # as an optimizer does, before the attributes are read
    for one, other in zip(joined.layers.values(), single.layers.values(), strict=True):
        if isinstance(other, Other):
            np.testing.assert_array_equal(one.mask, other.mask)
        elif isinstance(other, Pooling):
            np.testing.assert_array_equal(one.arg_max, other.arg_max)
            np.testing.assert_array_equal(one.x, other.x)
        elif isinstance(other, Convolution):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_allclose(one.dW, other.dW, 1e-9, 1e-12)


def test_layers_by_hand(data):
    """The course's loops over `layers`, forward and backward, work."""
    x, t = data
    network = make(False)
    out = x
    for layer in network.layers.values():
        out = layer.forward(out)
    np.testing.assert_array_equal(out, network.predict(x))
    expected = network.gradient(x, t)
    network.predict(x)
    network.last_layer.forward(out, t)
    dout = network.last_layer.backward()
    for layer in reversed(network.layers.values()):
        dout = layer.backward(dout)
    assert dout is None
    np.testing.assert_allclose(network.layers["Conv1"].dW, expected["W1"], 1e-9, 1e-12)


def test_numerical_gradient(data):
    network = SimpleConvNet(IMAGE, SIMPLE, 6, CLASSES, weight_init_std=0.3, rng=1)
    x, t = data[0][:3], data[1][:3]
    grads = network.gradient(x, t)
    for key, value in network.numerical_gradient(x, t).items():
        scale = np.abs(grads[key]).max()
        np.testing.assert_allclose(value / scale, grads[key] / scale, atol=1e-6)
    with pytest.raises(ValueError, match="Dropout1: expected layers that draw no random numbers"):
        make(True).numerical_gradient(x, t)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_load_and_resume(deep, data, tmp_path, dtype):
    file = tmp_path / "network.npz"
    network = make(deep, dtype=dtype)
    whole = make(deep, dtype=dtype)
    options = {"batch_size": 10, "rng": 3}
    for ours, iterations, more in (
        (whole, 12, {}),
        (network, 5, {"checkpoint": tmp_path / "state"}),
        (make(deep, 1, dtype=dtype), 12, {"checkpoint": tmp_path / "state", "resume": True}),
    ):
        np.random.seed(8)
        history = train(
            ours, *data, *data, iterations=iterations, optimizer=net.Adam(), **options, **more
        )
    expected = whole.predict(data[0])
    np.testing.assert_array_equal(ours.predict(data[0]), expected)
    assert len(history.train_loss_list) == 12
    whole.save(file)
    again = Network.load(file)
    assert type(again) is type(whole)
    np.testing.assert_array_equal(again.predict(data[0]), expected)
    whole.save_params(tmp_path / "params")
    other = make(deep, 5, dtype=dtype)
    other.load_params(tmp_path / "params")
    np.testing.assert_array_equal(other.predict(data[0]), expected)
    with pytest.raises(ValueError, match=r"params: expected W1 .* got"):
        SimpleConvNet(IMAGE, {**SIMPLE, "filter_num": 7}, 6, CLASSES).load_params(
            tmp_path / "params"
        )


def test_trainer(data):
    np.random.seed(0)
    network = make(False)
    trainer = Trainer(network, *data, *data, epochs=8, mini_batch_size=10, optimizer="Adam",
                      optimizer_param={"lr": 0.01}, verbose=False)  # fmt: skip
    trainer.train()
    assert trainer.history.test_acc > 0.8


@pytest.mark.parametrize(
    "call",
    [
        lambda: SimpleConvNet((1, 28)),
        lambda: SimpleConvNet(28),
        lambda: SimpleConvNet((0, 28, 28)),
        lambda: SimpleConvNet(conv_param={"filter_num": 3}),
        lambda: SimpleConvNet(conv_param={**SIMPLE, "stride": 0}),
        lambda: SimpleConvNet(conv_param={**SIMPLE, "filter_size": 40}),
        lambda: SimpleConvNet((1, 3, 3), {**SIMPLE, "pad": 0}),
        lambda: SimpleConvNet(hidden_size=0),
        lambda: DeepConvNet((1, 1, 1)),
        lambda: DeepConvNet(conv_param_3=5),
        lambda: make(False).predict(np.zeros((2, 144))),
        lambda: make(False).predict(np.zeros((2, 3, 12, 12))),
        lambda: make(False).predict(np.zeros((2, 1, 9, 9))),
        lambda: make(False).accuracy(np.zeros((2, 1, 12, 12)), [0, 1], batch_size=0),
    ],
)
def test_bad_input(call):
    with pytest.raises((TypeError, ValueError), match="expected"):
        call()


@pytest.mark.parametrize("in_place", [False, True])
def test_a_custom_layer_may_change_its_input(rng, in_place):
    """The mask of the ReLU before it is that of its output as it was."""

    class Shift:
        def forward(self, x):
            if in_place:
                x += 1.0
                return x
            return x + 1.0

        def backward(self, dout):
            return dout

    W, A = rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((144, 3))
    conv, affine = Convolution(W, np.zeros(4)), net.Affine(A, np.zeros(3))
    network = Network([conv, Relu(), Shift(), affine])
    x, t = rng.standard_normal((5, 1, 8, 8)), np.array([0, 1, 2, 0, 1])
    expected = network.numerical_gradient(x, t)
    for key, grad in network.gradient(x, t).items():
        np.testing.assert_allclose(grad, expected[key], atol=1e-6)

"""``kernels.mlp``: one compiled call, and training, against the layers and plain NumPy."""

from itertools import pairwise

import naive
import numpy as np
import pytest
from numba import njit

import kernels
from kernels._threads import Team
from kernels.mlp import IDENTITY, RELU, SIGMOID, CompiledNetwork, MLPTrainer, encode, pays_codes
from kernels.mlp._stack import is_largest, largest_of
from kernels.mlp.numerical_gradient import two_layer_numerical_gradient

NETWORKS = {
    "lecture": ((784, 50, 10), (RELU,)),
    "sigmoid": ((70, 33, 3), (SIGMOID,)),
    "deep": ((65, 33, 65, 3), (SIGMOID, RELU)),
    "four": ((30, 1, 600, 5, 7), (IDENTITY, RELU, RELU)),
    "one": ((90, 10), ()),
}
SMALL = {"small": ((9, 5, 3), (RELU,)), "small deep": ((4, 3, 1, 2), (SIGMOID, RELU))}
ALL = {**NETWORKS, **SMALL}
NAMES = [*NETWORKS, *(pytest.param(name, marks=pytest.mark.small) for name in SMALL)]
RULES = {
    "SGD": ("sgd", (0.1,), 0),
    "Momentum": ("momentum", (0.05, 0.9), 1),
    "Nesterov": ("nesterov", (0.05, 0.9), 1),
    "AdaGrad": ("adagrad", (0.05, 1e-7), 1),
    "RMSprop": ("rmsprop", (0.01, 0.9, 1e-7), 1),
    "Adam": ("adam", (0.01, 0.9, 0.999, 1e-7), 2),
}


def parameters(rng, sizes, dtype):
    pairs = list(pairwise(sizes))
    weights = [(rng.standard_normal(s) / np.sqrt(s[0])).astype(dtype) for s in pairs]
    return weights, [(0.1 * rng.standard_normal(m)).astype(dtype) for m in sizes[1:]]


def inputs(rng, n, d, kind="f8", share=0.2):
    x = rng.integers(1, 256, (n, d)) * (rng.random((n, d)) < share)
    return x.astype(kind) if kind == "u1" else (x / 255).astype(kind)


def by_layers(weights, biases, activations, x, t):
    """Return loss, gradients and activations by the functions of single layers."""
    a, kept, count = x, [], len(weights)
    for i in range(count):
        kept.append([a, None])
        a = kernels.affine_forward(a, weights[i], biases[i])
        if i < count - 1 and activations[i] == RELU:
            a, kept[i][1] = kernels.relu_forward(a)
        elif i < count - 1 and activations[i] == SIGMOID:
            kept[i][1] = a = kernels.sigmoid_forward(a)
    loss, y = kernels.softmax_cross_entropy_forward(a, t)
    d, grads = kernels.softmax_cross_entropy_backward(y, t), []
    for i in reversed(range(count)):
        d, dW, db = kernels.affine_backward(d, kept[i][0], weights[i])
        grads[:0] = [dW, db]
        if i and activations[i - 1] == RELU:
            d = kernels.relu_backward(d, kept[i - 1][1])
        elif i and activations[i - 1] == SIGMOID:
            d = kernels.sigmoid_backward(d, kept[i - 1][1])
    return loss, y, kept, grads, a


def forward(params, activations, x):
    """Return the logits and the input of each affine layer, by plain NumPy."""
    a, kept = x.astype("f8"), []
    for i in range(len(params) // 2):
        kept.append(a)
        a = naive.affine_forward(a, params[2 * i], params[2 * i + 1])
        if i < len(activations) and activations[i] == RELU:
            a = naive.relu_forward(a)[0]
        elif i < len(activations) and activations[i] == SIGMOID:
            a = naive.sigmoid_forward(a)
    return a, kept


def gradient(params, activations, x, t, decay=0.0):
    a, kept = forward(params, activations, x)
    d, grads = naive.softmax_cross_entropy_backward(naive.softmax(a), t), []
    for i in reversed(range(len(kept))):
        d, dW, db = naive.affine_backward(d, kept[i], params[2 * i])
        grads[:0] = [dW + decay * params[2 * i], db]
        if i and activations[i - 1] == RELU:
            d = d * (kept[i] > 0)
        elif i and activations[i - 1] == SIGMOID:
            d = naive.sigmoid_backward(d, kept[i])
    return grads


def loss(params, activations, x, t, decay=0.0):
    value, _ = naive.softmax_cross_entropy_forward(forward(params, activations, x)[0], t)
    return value + 0.5 * decay * sum(np.sum(W * W) for W in params[::2])


def update(rule, options, number, p, g, s0, s1):
    lr, o1, o2 = (*options, 0, 0)[:3]
    if rule == "sgd":
        p -= lr * g
    elif rule == "momentum":
        s0[...] = o1 * s0 - lr * g
        p += s0
    elif rule == "nesterov":
        p += o1**2 * s0 - (1 + o1) * lr * g
        s0[...] = o1 * s0 - lr * g
    elif rule == "adagrad":
        s0 += g * g
        p -= lr * g / (np.sqrt(s0) + 1e-7)
    elif rule == "rmsprop":
        s0[...] = o1 * s0 + (1 - o1) * g * g
        p -= lr * g / (np.sqrt(s0) + 1e-7)
    else:
        s0 += (1 - o1) * (g - s0)
        s1 += (1 - o2) * (g * g - s1)
        p -= lr * np.sqrt(1 - o2**number) / (1 - o1**number) * s0 / (np.sqrt(s1) + 1e-7)


# ---------------------------------------------------------------- one call
@pytest.mark.parametrize("kinds", [("f4", "f4"), ("f4", "f8"), ("u1", "f4"), ("f8", "f8")], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_bits_of_the_layers(rng, name, kinds):
    sizes, activations = ALL[name]
    weights, biases = parameters(rng, sizes, kinds[1])
    network = CompiledNetwork(weights, biases, activations)
    for n, share in ((1, 0.2), (7, 1), (40, 0.2), (300, 0.1)):
        x, labels = inputs(rng, n, sizes[0], kinds[0], share), rng.integers(0, sizes[-1], n)
        targets = rng.random((n, sizes[-1]))
        for t in (labels, labels.astype("u1"), np.eye(sizes[-1])[labels], targets):
            value, y, kept, grads, logits = by_layers(weights, biases, activations, x, t)
            forward_, dweights, dbiases = network.gradient(x, t)
            assert forward_.loss == value == network.loss(x, t).loss
            np.testing.assert_array_equal(forward_.y, y)
            np.testing.assert_array_equal(forward_.x, x)
            for i, (a, _) in enumerate(kept[1:]):
                assert forward_.outputs[i].tobytes() == a.tobytes()
                mask = kept[i][1] if activations[i] == RELU else None
                assert (forward_.masks[i] is None) == (mask is None)
                if mask is not None:
                    np.testing.assert_array_equal(forward_.masks[i], mask)
            got = [g for pair in zip(dweights, dbiases, strict=True) for g in pair]
            assert [g.tobytes() for g in got] == [g.tobytes() for g in grads]
            classes = t if t.ndim == 1 else t.argmax(axis=1)
            assert network.accuracy(x, t) == np.mean(logits.argmax(axis=1) == classes)


def test_large_batches_on_threads_have_the_same_bits(rng, bits_on_threads, dtype):
    sizes = (300, 40, 20, 5)
    weights, biases = parameters(rng, sizes, dtype)
    network = CompiledNetwork(weights, biases, (RELU, SIGMOID))
    x, t = inputs(rng, 9000, 300, dtype), rng.integers(0, 5, 9000)

    def everything():
        forward_, dweights, dbiases = network.gradient(x, t)
        return (forward_.loss, forward_.y, *dweights, *dbiases, network.accuracy(x, t))

    one, others = bits_on_threads(everything)
    assert all(bits == one for bits in others)
    value, _, _, grads, _ = by_layers(weights, biases, (RELU, SIGMOID), x, t)
    assert everything()[0] == value
    assert everything()[2].tobytes() == grads[0].tobytes()


@pytest.mark.parametrize("name", ["lecture", "deep"])
def test_nan_and_infinity(rng, name):
    sizes, activations = ALL[name]
    t = rng.integers(0, sizes[-1], 20)
    for bad in (np.nan, np.inf, -np.inf):
        for which in range(3):
            weights, biases = parameters(rng, sizes, "f8")
            x = inputs(rng, 20, sizes[0])
            (x, weights[0], weights[1])[which][3, 1] = bad
            with np.errstate(all="ignore"):
                value, y, _, grads, _ = by_layers(weights, biases, activations, x, t)
                got, dweights, _ = CompiledNetwork(weights, biases, activations).gradient(x, t)
            np.testing.assert_array_equal([got.loss], [value])
            np.testing.assert_array_equal(got.y, y)
            np.testing.assert_array_equal(dweights[0], grads[0])


def test_parameters_may_change_in_place(rng):
    weights, biases = parameters(rng, (6, 4, 3), "f8")
    network = CompiledNetwork(weights, biases, [RELU])
    x, t = inputs(rng, 5, 6), np.arange(5) % 3
    first, dweights, _ = network.gradient(x, t)
    kept = dweights[0].copy()
    weights[0][...] *= 2
    biases[1] += 1
    again = network.loss(x, t)
    assert again.loss == by_layers(weights, biases, [RELU], x, t)[0] != first.loss
    network.gradient(x, t)
    np.testing.assert_array_equal(dweights[0], kept)  # results are new arrays
    arrays = [weights[0], biases[0], weights[1], biases[1]]
    assert network.matches(arrays)
    assert not network.matches(arrays[:2])
    assert not network.matches([weights[0].copy(), *arrays[1:]])
    biases[1].resize((3, 1), refcheck=False)
    assert not network.matches(arrays)


@pytest.mark.small
def test_wrong_arguments(rng):
    weights, biases = parameters(rng, (6, 4, 3), "f8")
    network = CompiledNetwork(weights, biases, [RELU])
    x, t = inputs(rng, 5, 6), np.arange(5) % 3
    for bad_x, bad_t in (
        *[(x[:, :5], t), (x[0], t), (x[:0], t[:0]), (x.reshape(5, 2, 3)[:, :1], t)],
        *[(x, t[:4]), (x, t + 1), (x, t - 1), (x, np.eye(3)), (x, np.full((5, 3), np.nan))],
    ):
        for call in (network.loss, network.gradient, network.accuracy):
            with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
                call(bad_x, bad_t)
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        network.loss(x, t * 1.0)
    for arguments in (
        *[(weights, biases, []), (weights, biases[:1], [RELU]), (weights, biases, [7])],
        *[(weights[::-1], biases, [RELU]), ([], [], []), (weights, biases[::-1], [RELU])],
        (weights, [b.astype("f4") for b in biases], [RELU]),
        ([weights[0].T.copy().T, weights[1]], biases, [RELU]),
    ):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            CompiledNetwork(*arguments)


# ---------------------------------------------------------------- training
def train(name, rule, dtype, kind, *, batch=20, n=30, decay=0.0, soft=False, threads=1, **options):
    """Return trained parameters and losses, and those of plain NumPy."""
    rng = np.random.default_rng(5)
    sizes, activations = ALL[name]
    code, rule_options, num_states = RULES[rule]
    weights, biases = parameters(rng, sizes, dtype)
    params = [a for pair in zip(weights, biases, strict=True) for a in pair]
    states = [[np.zeros_like(a) for a in params] for _ in range(num_states)]
    x, t = inputs(rng, 50, sizes[0], kind), rng.integers(0, sizes[-1], 50)
    if soft:
        t = rng.random((50, sizes[-1]))
    drawn = rng.integers(0, 50, (n, batch))
    exact = [a.astype("f8") for a in params]
    exact_states = [[np.zeros_like(a) for a in exact] for _ in range(2)]
    expected = []
    for number, examples in enumerate(drawn, 1):
        grads = gradient(exact, activations, x[examples], t[examples], decay)
        for p, g, s0, s1 in zip(exact, grads, *exact_states, strict=True):
            update(code, rule_options, number, p, g, s0, s1)
        expected.append(loss(exact, activations, x[examples], t[examples], decay))
    with Team(threads) as team:
        trainer = MLPTrainer(
            weights, biases, activations, batch, x, team, code, rule_options, states, 0, decay,
            **options,
        )  # fmt: skip
        losses = []
        for part in (drawn[: n // 3], drawn[n // 3 :]):
            losses += trainer.train(part, None if soft else t[part], t[part] if soft else None,
                None).tolist()  # fmt: skip
            trainer.store()
            trainer.load()
        assert trainer.iteration == n
        classes = t.argmax(axis=1) if soft else t
        accuracy = trainer.accuracy(x, classes)
    logits = forward([a.astype("f8") for a in params], activations, x)[0]
    assert abs(accuracy - np.mean(logits.argmax(axis=1) == classes)) <= 0.02
    ours = [np.array(losses), *params, *[s for state in states for s in state]]
    pairs = [np.array(expected), *exact, *[s for k in exact_states[:num_states] for s in k]]
    return ours, pairs


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NAMES)
def test_training_is_that_of_numpy(name, rule, sparse):
    for decay, soft in ((0.0, False), (0.1, True)):
        ours, exact = train(name, rule, "f8", "f8", decay=decay, soft=soft, sparse=sparse)
        for a, b in zip(ours, exact, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("logistic", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_losses_before_updates_and_weights_of_examples(name, logistic):
    """One trainer takes batches of several sizes, each with its weight decay, as estimators do."""
    rng = np.random.default_rng(3)
    sizes, activations = ALL[name]
    x, t = inputs(rng, 50, sizes[0]), rng.integers(0, sizes[-1], 50)
    targets = (rng.random((50, sizes[-1])) < 0.4) * 1.0 if logistic else np.eye(sizes[-1])[t]
    weights = rng.random(50)
    weights[3] = 0
    weighted, biases = parameters(rng, sizes, "f8")
    params = [a for pair in zip(weighted, biases, strict=True) for a in pair]
    exact, results = [a.copy() for a in params], []

    def step(batch, decay):
        """Return the loss before an update by SGD, and do the update, in plain NumPy."""
        a, kept = forward(exact, activations, x[batch])
        y = naive.sigmoid_forward(a) if logistic else naive.softmax(a)
        p = targets[batch]
        rows = -(p * np.log(y) + ((1 - p) * np.log(1 - y) if logistic else 0)).sum(axis=1)
        share = weights[batch][:, None] / len(batch)
        value = (rows * share[:, 0]).sum() + 0.5 * decay * sum(np.sum(W * W) for W in exact[::2])
        d, grads = (y - p) * share, []
        for i in reversed(range(len(kept))):
            d, dW, db = naive.affine_backward(d, kept[i], exact[2 * i])
            grads[:0] = [dW + decay * exact[2 * i], db]
            if i and activations[i - 1] == RELU:
                d = d * (kept[i] > 0)
            elif i and activations[i - 1] == SIGMOID:
                d = naive.sigmoid_backward(d, kept[i])
        for a, grad in zip(exact, grads, strict=True):
            a -= 0.1 * grad
        return value

    with Team() as team:
        trainer = MLPTrainer(
            weighted, biases, activations, 20, x, team, "sgd", [0.1], [],
            logistic=logistic, loss_before_update=True,
        )  # fmt: skip
        for rows, size in ((4, 20), (1, 7), (3, 20), (2, 1)):
            drawn, decays = rng.integers(0, 50, (rows, size)), 0.1 * rng.random(rows)
            results.append(
                trainer.train(
                    drawn,
                    None if logistic else t[drawn],
                    targets[drawn] if logistic else None,
                    None,
                    weights[drawn],
                    decays,
                )
            )
            expected = [step(*batch) for batch in zip(drawn, decays, strict=True)]
            np.testing.assert_allclose(results[-1], expected, rtol=1e-10)
        trainer.store()
    for a, b in zip(params, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_logistic_outputs_at_their_limits():
    """The loss of logits far from 0 is the logit, not the logarithm of a rounded probability."""
    for dtype in ("f4", "f8"):
        W, b = np.array([[1.0, -1.0]], dtype), np.zeros(2, dtype)
        x = np.array([[1000.0], [-1000.0], [0.0]], dtype)
        with Team(1) as team:
            trainer = MLPTrainer(
                [W], [b], [], 1, x, team, "sgd", [0.0], [], logistic=True
            )  # fmt: skip
            targets = np.array([[[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.5]]])
            losses = trainer.train(np.array([[0], [1], [2]]), None, targets, None)
        np.testing.assert_allclose(losses, [1000, 2000, 2 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_logits(rng, dtype, threads):
    for (sizes, activations), n in (
        (NETWORKS["deep"], 30),
        (((300, 300, 300, 3), (RELU,) * 2), 700),
    ):
        weights, biases = parameters(rng, sizes, dtype)
        x = inputs(rng, n, sizes[0], dtype)
        network = CompiledNetwork(weights, biases, activations)
        logits = network.logits(x, threads)
        assert (
            logits.tobytes()
            == by_layers(weights, biases, activations, x, np.zeros(n, int))[4].tobytes()
        )
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            network.logits(x[:, 1:])


@pytest.mark.parametrize("kinds", [("f4", "f4"), ("f4", "u1"), ("f8", "f4"), ("f8", "u1")], ids=str)
@pytest.mark.parametrize("batch", [1, 65, 300])
def test_types_and_batch_sizes(kinds, batch):
    for sparse in (True, False):
        for name in ("lecture", "deep"):
            for rule in ("SGD", "Momentum"):  # SGD skips rows without a gradient
                ours, exact = train(name, rule, *kinds, batch=batch, n=9, sparse=sparse)
                tolerance = 2e-3 if kinds[0] == "f4" else 1e-9
                for a, b in zip(ours, exact, strict=True):
                    atol = tolerance * np.abs(b).max()
                    np.testing.assert_allclose(a, b, rtol=tolerance, atol=atol)


def test_the_largest_is_that_of_numpy(rng):
    """The index of the maximum is the first of equals, or the first NaN, and in range."""
    rows = [[1, 1, 0], [np.nan, 2, np.nan], [0, np.nan, 5], [-np.inf] * 3, [0, -0.0, 0], [3, 2, 1]]
    largest, tells = njit(lambda row: largest_of(row)), njit(lambda row, k: is_largest(row, k))
    for row in np.array([*rows, *rng.integers(0, 3, (50, 3))], "f8"):
        assert largest(row) == row.argmax()
        assert [k for k in range(-1, 5) if tells(row, k)] == [row.argmax()]


@pytest.mark.parametrize(
    ("rule", "decay", "batch"), [("Adam", 0.1, 20), ("SGD", 0.0, 20), ("SGD", 0.0, 1)]
)
@pytest.mark.parametrize("name", ["lecture", "deep", "four"])
def test_training_has_the_same_bits_on_threads(name, rule, decay, batch):
    for sparse in (True, False):
        one = None
        for threads in (1, 2, 3, 4, 8):
            ours, _ = train(name, rule, "f4", "f4", batch=batch, n=6, decay=decay, threads=threads,
                sparse=sparse)  # fmt: skip
            bits = [a.tobytes() for a in ours]
            one = one or bits
            assert bits == one


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("before", [False, True])
def test_weight_decay_may_begin_later(before, batch):
    """The loss before an update needs the sum of squares of weights updated without decay.

    With one example, few of these weights change.
    """
    rng = np.random.default_rng(3)
    x, t = inputs(rng, 20, 150), rng.integers(0, 3, 20)
    weights, biases = parameters(rng, (150, 33, 3), "f8")
    penalty = 0.5 * sum(np.sum(W * W) for W in weights)
    with Team(1) as team:
        make = weights, biases, [RELU], 20, x, team, "sgd", [0.0], []
        trainer = MLPTrainer(*make, sparse=True, loss_before_update=before)
        rows = np.tile(np.arange(batch), (4, 1))
        losses = [
            trainer.train(rows, t[rows], None, None, weight_decay=decays)
            for decays in ([0, 0, 0.5, 1], [0, 0, 0, 0], [1, 0, 0, 1])
        ]
    np.testing.assert_allclose(
        np.ravel(losses) - losses[0][0],
        penalty * np.array([0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 0, 1]),
        atol=1e-9,
    )


def test_a_thousand_iterations_in_float64():
    ours, exact = train("lecture", "SGD", "f8", "f8", n=1000)
    np.testing.assert_allclose(ours[0], exact[0], rtol=1e-9)


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_divergence_is_that_of_the_dense_route(threads, batch):
    """NaN and infinity propagate as in NumPy, also where zeros are skipped."""
    rng = np.random.default_rng(1)
    x, t = inputs(rng, 50, 150), rng.integers(0, 3, 50)
    drawn = rng.integers(0, 50, (6, batch))
    results = []
    for sparse in (True, False):
        weights, biases = parameters(np.random.default_rng(2), (150, 33, 3), "f8")
        with Team(threads) as team, np.errstate(all="ignore"):
            trainer = MLPTrainer(
                weights, biases, [RELU], batch, x, team, "sgd", [1e200], [], sparse=sparse
            )
            losses = trainer.train(drawn, t[drawn], None, None)
            trainer.store()
        results.append([losses, *weights, *biases])
    assert np.isnan(results[0][0][-1])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_infinite_weight_of_an_input_that_is_zero(threads, batch):
    """An update makes weights infinite whose inputs are 0 in the next batch: 0 inf is NaN."""
    x, t = np.zeros((2 * batch, 150)), np.arange(2 * batch) % 3
    x[:batch, :70], x[batch:, 70:] = 1e300, 1
    rows = np.arange(2 * batch).reshape(2, batch)
    for sparse in (True, False):
        weights, biases = parameters(np.random.default_rng(2), (150, 33, 3), "f8")
        weights[0][:70] = 0
        with Team(threads) as team, np.errstate(all="ignore"):
            trainer = MLPTrainer(
                weights, biases, [IDENTITY], batch, x, team, "sgd", [1e10], [], sparse=sparse
            )
            trainer.train(rows[:1], t[rows[:1]], None, None)
            trainer.store()
            assert np.isinf(weights[0][:70]).any()
            assert all(np.isfinite(a).all() for a in (weights[0][70:], weights[1], *biases))
            assert np.isnan(trainer.train(rows[1:], t[rows[1:]], None, None)).all()


def test_a_denormal_gradient_of_one_example():
    """Only updates flush denormal numbers, not the gradient: 255 times one may be normal."""
    x, results = np.zeros((1, 64), "f4"), []
    x[:, :20] = 255
    for sparse in (True, False):
        weights, biases = parameters(np.random.default_rng(2), (64, 8, 3), "f4")
        weights[0][...], weights[1][...] = 0, weights[1] / np.abs(weights[1]).max() * 1e-38
        with Team(1) as team:
            make = [IDENTITY], 1, x, team, "sgd", [1.0], []
            trainer = MLPTrainer(weights, biases, *make, sparse=sparse)
            trainer.train(np.zeros((1, 1), int), np.zeros((1, 1), int), None, None)
            trainer.store()
        results.append(weights[0])
    assert np.count_nonzero(results[0][:20]) > 80
    np.testing.assert_array_equal(*results)


def test_a_new_depth_or_size_compiles_nothing(rng, compiles_nothing):
    def run(sizes, activations, rule):
        weights, biases = parameters(rng, sizes, "f4")
        network = CompiledNetwork(weights, biases, activations)
        x, t = inputs(rng, 30, sizes[0], "f4"), rng.integers(0, sizes[-1], 30)
        network.gradient(x, t)
        network.accuracy(x, t)
        code, options, count = RULES[rule]
        params = [a for pair in zip(weights, biases, strict=True) for a in pair]
        states = [[np.zeros_like(a) for a in params] for _ in range(count)]
        drawn = rng.integers(0, 30, (3, 10))
        with Team(1) as team:
            trainer = MLPTrainer(weights, biases, activations, 10, x, team, code, options, states)
            trainer.train(drawn, t[drawn], None, None)
            trainer.accuracy(x, t)

    def others():
        run((100, 70, 30, 20, 5), (RELU, SIGMOID, RELU), "Adam")
        run((20, 3), (), "Nesterov")

    def warm():
        for rule in ("Adam", "Nesterov"):
            for units in (4, 80):  # of the first layer: without and with skipping zeros
                run((64, units, 10), (RELU,), rule)

    compiles_nothing(warm, others)


@pytest.mark.small
def test_trainer_refuses(rng):
    weights, biases = parameters(rng, (6, 4, 3), "f8")
    x, t = inputs(rng, 8, 6), np.arange(8) % 3
    with Team(1) as team:
        make = (weights, biases, [RELU], 2)
        trainer = MLPTrainer(*make, x, team, "sgd", [0.1], [])
        drawn = np.array([[0, 1], [2, 3]])
        for bad in (
            *[
                (drawn + 7, t[drawn], None),
                (drawn - 1, t[drawn], None),
                (drawn, t[drawn] + 1, None),
            ],
            *[(drawn, t[drawn] - 3, None), (drawn, None, None), (drawn, t[drawn][:1], None)],
            *[
                (drawn[:, [0, 1, 1]], t[drawn[:, [0, 1, 1]]], None),
                (drawn[:, :0], drawn[:, :0], None),
            ],
            (drawn, None, np.ones((2, 2, 4))),
        ):
            with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
                trainer.train(*bad, None)
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            MLPTrainer(*make, x[:, :5], team, "sgd", [0.1], [])
        with pytest.raises(ValueError, match="expected"):
            MLPTrainer(*make, x, team, "momentum", [0.1, 0.9], [[weights[0]]])
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            trainer.train(drawn, t[drawn], None, None, weights=np.ones((2, 1)))
        assert trainer.train(drawn[:0], t[drawn][:0], None, None).size == 0
        logistic = MLPTrainer(*make, x, team, "sgd", [0.1], [], logistic=True)
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            logistic.train(drawn, t[drawn], None, None)


# ---------------------------------------------------------------- data of other dtypes, with zeros
@pytest.mark.parametrize("kinds", [("u1", "f4"), ("f4", "f8"), ("u1", "f8")], ids=str)
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
def test_narrow_data_give_the_bits_of_wide_data(rng, kinds, is_sparse):
    x, t = inputs(rng, 300, 90, kinds[0]), rng.integers(0, 5, 300)
    dtype, drawn = np.dtype(kinds[1]), rng.integers(0, 300, (20, 40))
    results = []
    with Team(2) as team:
        for data in (x, x.astype(dtype)):
            weights, biases = parameters(np.random.default_rng(1), (90, 33, 5), dtype)
            make = (weights, biases, [RELU], 40, data, team, "sgd", [0.1], [])
            trainer = MLPTrainer(*make, sparse=is_sparse)
            losses, accuracy = trainer.train(drawn, t[drawn], None, None), trainer.accuracy(data, t)
            trainer.store()
            results.append([losses.tobytes(), *(w.tobytes() for w in weights), accuracy])
    assert results[0] == results[1]


def test_zeros_are_skipped_where_that_is_faster(rng):
    x = rng.random((100, 50)) * (rng.random((100, 50)) < 0.2)
    weights, biases = parameters(rng, (50, 50, 5), "f8")
    make = [RELU], 10, Team(1), "sgd", [0.1], []
    for data, sparse in ((x, True), (x + 1, False)):
        trainer = MLPTrainer(weights, biases, *make[:2], data, *make[2:])
        assert trainer.sparse is sparse
    for bad in (x[0], *make[2:]), (x, make[2], "adan", *make[4:]):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            MLPTrainer(weights, biases, *make[:2], *bad)


@pytest.mark.parametrize(
    ("d", "columns", "bounds"),
    [
        (127, slice(None), [0, 127]),
        (128, slice(None), [0, 64, 128]),
        (400, slice(None), [0, 200, 400]),
        (400, slice(200, None), [0, 300, 400]),
        (400, slice(100), [0, 64, 400]),  # not less than a word of the bitmap
        (400, slice(390, None), [0, 336, 400]),
        (400, slice(0), [0, 64, 400]),
    ],
    ids=str,
)
def test_parts_have_as_many_non_zeros_each(d, columns, bounds):
    x = np.zeros((30, d))
    x[:, columns] = 0.1
    with Team(2) as team:
        make = [np.zeros((d, 50))], [np.zeros(50)], [], 10, x, team, "sgd", [0.1], []
        trainer = MLPTrainer(*make, sparse=True)
        np.testing.assert_allclose(trainer._work.bounds, bounds, atol=1)
        loss = trainer.train(np.arange(10)[None], np.zeros((1, 10), int), None, None)
        trainer.store()
    # The gradient of class 0 is 1 / 50 - 1 times the input.
    np.testing.assert_allclose(make[0][0][:, 0], 0.1 * 0.98 * x[0])
    assert 0 < loss[0] < np.log(50)


# ---------------------------------------------------------------- numerical gradient
@pytest.mark.slow
def test_numerical_gradient_of_large_activations(rng):
    """The gradient was once infinite for activations above 7e6."""
    for scale in (1.0, 1e3, 1e7, 1e9):
        x, t = scale * (1 + rng.random((3, 4))), np.array([0, 1, 2])
        W1, W2 = rng.random((4, 5)), rng.standard_normal((5, 3)) / scale
        params = [W1, rng.random(5), W2, rng.standard_normal(3)]
        numeric = two_layer_numerical_gradient(x, t, params, 1e-4)

        def value(_, params=params, x=x, t=t):
            return loss(params, [RELU], x, t)

        for a, p in zip(numeric, params, strict=True):
            assert np.isfinite(a).all()
            expected = naive.numerical_gradient(value, p)
            np.testing.assert_allclose(
                a, expected, rtol=1e-6, atol=1e-7 * max(1, abs(expected).max())
            )


# ---------------------------------------------------------------- encoded data
@pytest.mark.parametrize("kinds", [("f4", "f4"), ("f4", "f8"), ("f8", "f8")], ids=str)
def test_encoded_data_gives_the_same_bits(rng, kinds):
    """Training and evaluation on codes and on the original data are bitwise identical."""
    x, t = inputs(rng, 300, 90, kinds[0]), rng.integers(0, 5, 300)
    dtype, drawn = np.dtype(kinds[1]), rng.integers(0, 300, (20, 40))
    results = []
    with Team(2) as team:
        encoded = encode(x, team)
        np.testing.assert_array_equal(encoded.values[encoded.codes], x.astype(dtype))
        for data in (encoded, x):
            weights, biases = parameters(np.random.default_rng(1), (90, 33, 5), dtype)
            make = (weights, biases, [RELU], 40, data, team, "sgd", [0.1], [])
            trainer = MLPTrainer(*make, sparse=True)
            losses = trainer.train(drawn, t[drawn], None, None)
            accuracies = [trainer.accuracy(each, t) for each in (encoded, x)]
            assert accuracies[0] == accuracies[1]
            trainer.store()
            results.append([losses.tobytes(), *(w.tobytes() for w in weights), accuracies[0]])
            weights[0][3, 1] = np.nan
            trainer.load()
            assert trainer.accuracy(encoded, t) == trainer.accuracy(x, t)
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            MLPTrainer(*make[:4], encoded, *make[5:], sparse=False)
    assert results[0] == results[1]


UNEVEN = {
    "too many": lambda x: x.__setitem__((slice(None), 0), np.linspace(0, 1, 5000)),
    "late": lambda x: x.__setitem__((4999, 7), 0.123),  # not among the sampled rows
    "late and large": lambda x: x.__setitem__((4999, 7), 1e300),
    "negative": lambda x: x.__setitem__((4999, 7), -1 / 255),
    "NaN": lambda x: x.__setitem__((4999, 7), np.nan),
    "infinite": lambda x: x.__setitem__((0, 7), np.inf),
    "all zero": lambda x: x.__imul__(0),
    "tiny beside large": lambda x: x.__setitem__((0, 7), 1e-9),
}


@pytest.mark.parametrize("change", UNEVEN.values(), ids=UNEVEN)
def test_other_numbers_are_not_encoded(rng, change):
    x = rng.integers(0, 6, (5000, 8)) / 5
    with Team(2) as team:
        assert encode(x, team) is not None
        change(x)
        assert encode(x, team) is None


def test_codes_pay_for_large_sets_of_many_zeros(rng):
    x = inputs(rng, 5000, 800, "f4")
    assert pays_codes(x, x.dtype, 50)
    assert not pays_codes(x[:100], x.dtype, 50)
    assert not pays_codes(x, x.dtype, 5)  # for a product of few columns, sampling does not pay
    assert not pays_codes(x + 1, x.dtype, 50)
    assert not pays_codes((x * 255).astype(np.uint8), x.dtype, 50)


def test_numbers_too_small_to_encode():
    x = np.zeros((10, 1024), np.float32)
    x[:, ::7] = 1e-38
    with Team(1) as team:
        assert encode(x, team) is None

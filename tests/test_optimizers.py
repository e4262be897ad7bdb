"""``net.optimizers``: the formulas of the course, errors, and the state in checkpoints."""

import pickle
from collections.abc import MutableMapping

import naive
import numpy as np
import pytest
from support.from_python import callable_from_python

from kernels import _updates
from kernels.optimizers import RULES
from net.optimizers import SGD, AdaGrad, Adam, Momentum, Nesterov, Optimizer, RMSprop

# The course's formulas again. Arguments: parameter, gradient, number of the update, states.
# Each function returns the parameter and the states.
LR = 0.05


def sgd(p, g, t):
    return p - LR * g, []


def momentum(p, g, t, v):
    v = 0.9 * v - LR * g
    return p + v, [v]


def nesterov(p, g, t, v):
    return p + 0.9 * 0.9 * v - (1 + 0.9) * LR * g, [0.9 * v - LR * g]


def adagrad(p, g, t, h):
    h = h + g**2
    return p - LR * g / (np.sqrt(h) + 1e-7), [h]


def rmsprop(p, g, t, h):
    h = 0.99 * h + (1 - 0.99) * g**2
    return p - LR * g / (np.sqrt(h) + 1e-7), [h]


def adam(p, g, t, m, v):
    m = 0.9 * m + (1 - 0.9) * g
    v = 0.999 * v + (1 - 0.999) * g**2
    lr_t = LR * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return p - lr_t * m / (np.sqrt(v) + 1e-7), [m, v]


CASES = {
    SGD: sgd,
    Momentum: momentum,
    Nesterov: nesterov,
    AdaGrad: adagrad,
    RMSprop: rmsprop,
    Adam: adam,
}


@pytest.fixture(params=CASES, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def make(rng, dtype=np.float64):
    shapes = {"W1": (5, 4), "b1": (4,), "conv/W": (2, 3, 1, 2), "none": (0, 3)}
    return {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}


def copies(arrays):
    return {key: np.array(a) for key, a in arrays.items()}


def equal(a, b):
    assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in a.items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in b.items()
    }


@pytest.mark.small
def test_the_formulas(rng, kind):
    """Parameters and states agree to twelve digits over a hundred updates."""
    optimizer, params = kind(lr=LR), make(rng)
    expected = copies(params)
    states = {key: [np.zeros_like(p)] * len(kind.slots) for key, p in params.items()}
    held = dict(params)
    for t in range(1, 101):
        grads = make(rng)
        assert optimizer.update(params, grads) is None
        for key, g in grads.items():
            expected[key], states[key] = CASES[kind](expected[key], g, t, *states[key])
    for key, p in params.items():
        assert p is held[key]  # changed in place
        np.testing.assert_allclose(p, expected[key], rtol=1e-12, atol=1e-12)
        for slot, state in zip(kind.slots, states[key], strict=True):
            np.testing.assert_allclose(getattr(optimizer, slot)[key], state, rtol=1e-12, atol=1e-12)
    assert optimizer.iter == 100


@pytest.mark.small
def test_on_a_plane(kind):
    """As in the course's example, floats in a dictionary are replaced."""
    optimizer, params = kind(lr=LR), {"x": -7.0, "y": 2}
    expected, states = [-7.0, 2.0], [[0.0] * len(kind.slots)] * 2
    for t in range(1, 31):
        optimizer.update(params, {"x": params["x"] / 10.0, "y": 2.0 * params["y"]})
        for i, g in enumerate((expected[0] / 10.0, 2.0 * expected[1])):
            expected[i], states[i] = CASES[kind](expected[i], g, t, *states[i])
    assert type(params["x"]) is type(params["y"]) is float
    np.testing.assert_allclose([params["x"], params["y"]], expected, rtol=1e-12)


@pytest.mark.small
def test_float32_stays_float32(rng, kind):
    optimizer, params = kind(lr=LR), make(rng, np.float32)
    expected = {key: p.astype(np.float64) for key, p in params.items()}
    other = kind(lr=LR)
    for _ in range(3):
        grads = make(rng)  # float64: converted
        optimizer.update(params, grads)
        other.update(expected, {key: g.astype(np.float32) for key, g in grads.items()})
    for key, p in params.items():
        assert p.dtype == np.float32
        np.testing.assert_allclose(p, expected[key], rtol=1e-4, atol=1e-5)
        assert all(getattr(optimizer, slot)[key].dtype == np.float32 for slot in kind.slots)


class Held(MutableMapping):
    """Mapping like a network's parameters, which another object holds."""

    def __init__(self, held):
        self.held = held

    def __getitem__(self, key):
        return self.held[key]

    def __setitem__(self, key, value):
        raise AssertionError("an array is changed in place")

    def __delitem__(self, key):
        raise AssertionError

    def __iter__(self):
        return iter(self.held)

    def __len__(self):
        return len(self.held)


@pytest.mark.small
@pytest.mark.parametrize("odd", [False, True])
def test_any_mapping_and_any_layout(rng, kind, odd):
    params, grads = make(rng), make(rng)
    expected = copies(params)
    kind(lr=LR).update(expected, grads)
    if odd:
        params = {key: np.asfortranarray(p.repeat(2, 0))[::2] for key, p in params.items()}
    kind(lr=LR).update(Held(params), grads)
    for key, p in params.items():
        np.testing.assert_array_equal(p, expected[key])


@pytest.mark.small
def test_a_parameter_without_a_gradient(rng, kind):
    """A parameter without gradient is unchanged, has a state of zeros, and is updated later."""
    optimizer, params = kind(lr=LR), make(rng)
    kept = params["W1"].copy()
    optimizer.update(params, {"b1": np.ones(4)})
    np.testing.assert_array_equal(params["W1"], kept)
    for slot in kind.slots:
        assert set(getattr(optimizer, slot)) == set(params)
    optimizer.update(params, make(rng))
    assert (params["W1"] != kept).all()
    params["late"] = np.ones(2)
    optimizer.update(params, {"late": np.ones(2)})
    assert (params["late"] < 1).all()


# ---------------------------------------------------------------- options
@pytest.mark.small
def test_representation_and_defaults():
    assert [repr(kind()) for kind in CASES] == [
        "SGD(lr=0.01)",
        "Momentum(lr=0.01, momentum=0.9)",
        "Nesterov(lr=0.01, momentum=0.9)",
        "AdaGrad(lr=0.01)",
        "RMSprop(lr=0.01, decay_rate=0.99)",
        "Adam(lr=0.001, beta1=0.9, beta2=0.999)",
    ]


@pytest.mark.small
def test_attributes_before_the_first_update(kind):
    optimizer = kind()
    assert optimizer.iter == 0
    assert all(getattr(optimizer, slot) is None for slot in kind.slots)


@pytest.mark.small
@pytest.mark.parametrize("wrong", [None, "0.1", np.nan, np.inf, 1j, [0.1], True, 10**400])
def test_wrong_options(kind, wrong):
    for name in kind.options:
        with pytest.raises((TypeError, ValueError), match=f"{name}: expected .* got "):
            kind(**{name: wrong})


@pytest.mark.small
@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        (Momentum, "momentum", -0.1),
        (Momentum, "momentum", 1.1),
        (Nesterov, "momentum", 2),
        (RMSprop, "decay_rate", 1.5),
        (Adam, "beta1", 1),
        (Adam, "beta2", 1.0),
        (Adam, "beta2", -1e-9),
    ],
)
def test_shares_outside_of_zero_to_one(kind, name, wrong):
    with pytest.raises(ValueError, match=f"{name}: expected a number from 0 to .*, got {wrong}"):
        kind(**{name: wrong})


@pytest.mark.small
def test_options_may_change_between_updates(rng, kind):
    optimizer, params = kind(lr=1e9), make(rng)
    optimizer.lr = 0.0
    kept = copies(params)
    optimizer.update(params, make(rng))
    for key, p in params.items():
        np.testing.assert_array_equal(p, kept[key])


@pytest.mark.small
def test_hyperparameters_are_those_of_the_compiled_rule(rng, kind):
    """A compiled training loop with these options does the same as `update`."""
    optimizer, params = kind(lr=LR), {"W": rng.standard_normal(7)}
    p, g = params["W"].copy(), rng.standard_normal(7)
    states = [*np.zeros((len(kind.slots), 7)), np.zeros(0), np.zeros(0)][:2]
    address = _updates.get_rule_address(RULES[kind.rule], p.dtype)
    update_block = callable_from_python(_updates.update_block)
    for t in (1, 2, 3):
        optimizer.update(params, {"W": g})
        update_block(address, p, g, *states, optimizer.hyperparameters(), t)
    np.testing.assert_array_equal(p, params["W"])


@pytest.mark.small
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_overridden_hyperparameters_of_another_dtype(dtype):
    class Whole(Momentum):
        def hyperparameters(self):
            return np.array([1, 7, 0, 7], dtype)[::2]

    params = {"W": np.array([1.0, 2.0])}
    Whole().update(params, {"W": np.array([1.0, 1.0])})
    np.testing.assert_array_equal(params["W"], [0.0, 1.0])


# ---------------------------------------------------------------- bad input
@pytest.mark.small
def test_the_number_of_overridden_hyperparameters(monkeypatch):
    optimizer, params = Adam(), {"W": np.array([1.0, 2.0])}
    monkeypatch.setattr(optimizer, "hyperparameters", lambda: np.array([0.1, 0.9]))
    with pytest.raises(ValueError, match="expected 4 numbers, got the shape"):
        optimizer.update(params, {"W": np.array([1.0, 1.0])})


@pytest.mark.small
@pytest.mark.parametrize(
    "spoil",
    [
        lambda params, grads: grads.update(other=np.ones(3)),
        lambda params, grads: grads.update(b1=np.ones(3)),
        lambda params, grads: grads.update(b1=np.ones((1, 4))),
        lambda params, grads: grads.update(b1=1.0),
        lambda params, grads: grads.update(b1=np.ones(4, complex)),
        lambda params, grads: grads.update(b1=None),
        lambda params, grads: grads.update(b1=np.ma.masked_array(np.ones(4))),
        lambda params, grads: params.update(b1=np.ones(4, int)),
        lambda params, grads: params.update(b1=np.broadcast_to(1.0, (4,))),
        lambda params, grads: params.update(b1=[1.0] * 4),
        lambda params, grads: params.update(b1=None),
        lambda params, grads: params.update(b1=True),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_nothing_is_changed_by_what_is_refused(rng, kind, spoil, after):
    optimizer, params = kind(lr=LR), make(rng)
    for _ in range(after):
        optimizer.update(params, make(rng))
    before, state = copies(params), optimizer.state()
    grads = make(rng)
    changed = dict(params)
    spoil(changed, grads)
    with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
        optimizer.update(changed, grads)
    equal(params, before)
    equal(optimizer.state(), state)


@pytest.mark.small
@pytest.mark.parametrize("new", [np.ones(5), np.ones(4, np.float32), np.ones((1, 4))])
def test_parameters_that_have_become_others(rng, new):
    optimizer, params = Adam(), make(rng)
    optimizer.update(params, make(rng))
    params["b1"] = new
    before = copies(params)
    with pytest.raises(ValueError, match=r"params\['b1'\]: expected shape .* got .* new optimizer"):
        optimizer.update(params, {"W1": np.ones((5, 4)), "b1": np.ones(new.shape)})
    equal(params, before)


# ---------------------------------------------------------------- state
@pytest.mark.small
@pytest.mark.parametrize("after", [0, 1, 7])
def test_state_round_trip(rng, kind, after, dtype):
    """A restored optimizer continues with bitwise identical updates."""
    optimizer, params = kind(lr=LR), make(rng, dtype)
    params["x"] = -7.0
    for _ in range(after):
        optimizer.update(params, {**make(rng), "x": 0.3})
    state = optimizer.state()
    frozen = copies(state)
    restored, other = kind(lr=LR), {k: np.array(p) if k != "x" else p for k, p in params.items()}
    restored.set_state(state, other)
    equal(restored.state(), state)
    for _ in range(3):
        grads = {**make(rng), "x": 0.3}
        optimizer.update(params, grads)
        restored.update(other, grads)
    equal(copies(params), copies(other))
    equal(optimizer.state(), restored.state())
    equal(state, frozen)  # both directions copy


@pytest.mark.small
def test_state_through_pickle(rng, kind):
    optimizer, params = kind(lr=LR), make(rng)
    optimizer.update(params, make(rng))
    equal(pickle.loads(pickle.dumps(optimizer)).state(), optimizer.state())


SPOILT = {
    "iter missing": lambda s: s.pop("iter"),
    "iter negative": lambda s: s.update(iter=np.array(-1)),
    "iter no integer": lambda s: s.update(iter=np.array(1.5)),
    "iter an array": lambda s: s.update(iter=np.array([1, 2])),
    "iter 0": lambda s: s.update(iter=np.array(0)),
    "one missing": lambda s: s.pop("m/b1"),
    "another one": lambda s: s.update({"m/b2": np.ones(4)}),
    "of no slot": lambda s: s.update({"h/b1": np.ones(4)}),
    "other shape": lambda s: s.update({"v/W1": np.ones((4, 5))}),
    "other dtype": lambda s: s.update({"v/W1": np.ones((5, 4), np.float32)}),
}


@pytest.mark.small
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_states_that_do_not_fit(rng, spoil):
    optimizer, params = Adam(), make(rng)
    optimizer.update(params, make(rng))
    state = optimizer.state()
    spoil(state)
    other = Adam()
    other.update(params, make(rng))
    kept = other.state()
    with pytest.raises(ValueError, match=r"Adam: expected .* got "):
        other.set_state(state, params)
    equal(other.state(), kept)


@pytest.mark.small
def test_a_state_of_another_optimizer(rng):
    momentum, params = Momentum(), make(rng)
    momentum.update(params, make(rng))
    for other in (SGD(), Adam(), AdaGrad()):
        with pytest.raises(ValueError, match="expected a state of"):
            other.set_state(momentum.state(), params)


# ---------------------------------------------------------------- a user's own
class Lion(Optimizer):
    options = ("lr", "beta")
    slots = ("m",)

    def __init__(self, lr=0.01, beta=0.9):
        super().__init__(lr=lr, beta=beta)

    def update_array(self, p, g, m):
        p -= self.lr * np.sign(self.beta * m + (1 - self.beta) * g)
        m += (1 - self.beta) * (g - m)


class Clipped(Momentum):
    def update_array(self, p, g, *states):
        super().update_array(p, np.clip(g, -1, 1), *states)


@pytest.mark.small
def test_a_users_own(rng):
    optimizer, params = Lion(lr=0.5), {"W": np.zeros(3), "x": 1.0}
    assert repr(optimizer) == "Lion(lr=0.5, beta=0.9)"
    assert optimizer.rule is None
    optimizer.update(params, {"W": [3.0, 0.0, -1.0], "x": 2.0})
    np.testing.assert_array_equal(params["W"], [-0.5, 0, 0.5])
    assert params["x"] == 0.5
    restored = Lion()
    restored.set_state(optimizer.state(), params)
    equal(restored.state(), optimizer.state())
    with pytest.raises(TypeError, match="expected the options lr, beta, got lr"):
        Optimizer.__init__(optimizer, lr=0.1)


@pytest.mark.small
def test_a_class_that_changes_a_rule_is_not_taken_for_it(rng):
    """The compiled rule of the base class would ignore the overridden method."""
    assert Momentum.rule == "momentum"
    assert Clipped.rule is None
    params, expected = {"W": np.zeros(3)}, {"W": np.zeros(3)}
    Clipped(lr=LR).update(params, {"W": np.array([5.0, 0.5, -7.0])})
    Momentum(lr=LR).update(expected, {"W": np.array([1.0, 0.5, -1.0])})
    np.testing.assert_array_equal(params["W"], expected["W"])

    class Named(Momentum):
        """Nothing changed."""

    assert Named.rule == "momentum"


@pytest.mark.small
def test_a_class_without_a_rule():
    class Nothing(Optimizer):
        pass

    with pytest.raises(NotImplementedError, match="Nothing has no update_array"):
        Nothing().update({"x": 1.0}, {"x": 1.0})

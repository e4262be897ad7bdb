"""``kernels.optimizers`` against the formulas in NumPy."""

import os
import subprocess
import sys

import naive
import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from support.argument_strategies import swapped
from support.from_python import callable_from_python

import kernels
from kernels import _denormals, _updates, optimizers

# The states of each rule, and the other arguments.
RULES = {
    "sgd": (0, {"lr": 0.1}),
    "momentum": (1, {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (1, {"lr": 0.1, "momentum": 0.9}),
    "adagrad": (1, {"lr": 0.1}),
    "rmsprop": (1, {"lr": 0.1, "decay_rate": 0.99}),
    "adam": (2, {"t": 3, "lr": 0.1, "beta1": 0.9, "beta2": 0.999}),
}
SMALL_SHAPES = [(), (0,), (1,), (7,), (3, 0), (7, 5), (2, 3, 4)]
LARGE = _updates.MIN_PARALLEL_UPDATE + 12_345
SHAPES = [pytest.param(s, marks=pytest.mark.small) for s in SMALL_SHAPES] + [(LARGE,), (401, 1001)]


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


def kernel(rule):
    return getattr(kernels, f"{rule}_update")


def make(rng, rule, shape, dtype):
    """Return parameters, gradient and states, all with some exact zeros."""
    arrays = [np.array(rng.standard_normal(shape), dtype) for _ in range(2)]
    arrays += [np.array(rng.random(shape), dtype) for _ in range(RULES[rule][0])]
    for a in arrays:
        a[rng.random(shape) < 0.1] = 0
    return arrays


def expect(rule, arrays, **options):
    """Return the expected arrays."""
    arrays = [a.copy() for a in arrays]
    with np.errstate(all="ignore"):
        getattr(naive, f"{rule}_update")(*arrays, **{**RULES[rule][1], **options})
    return arrays


def check(arrays, expected):
    """Allow a few roundings: terms of the states may cancel; the change of p is about lr."""
    for a, b in zip(arrays, expected, strict=True):
        assert a.dtype == b.dtype
        naive.assert_within(a, b, np.maximum(abs(b), 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(rng, rule, shape, dtype):
    arrays = make(rng, rule, shape, dtype)
    g = arrays[1].copy()
    expected = expect(rule, arrays)
    assert kernel(rule)(*arrays, **RULES[rule][1]) is None
    check(arrays, expected)
    np.testing.assert_array_equal(arrays[1], g)


@pytest.mark.small
def test_many_updates(rng, rule):
    """A hundred updates in float64 agree to twelve digits."""
    arrays = make(rng, rule, (13,), np.float64)
    arrays[0][arrays[0] == 0] = 1
    reference = [a.copy() for a in arrays]
    options = dict(RULES[rule][1])
    for t in range(1, 101):
        if "t" in options:
            options["t"] = t
        reference[1][...] = arrays[1][...] = rng.standard_normal(13)
        kernel(rule)(*arrays, **options)
        getattr(naive, f"{rule}_update")(*reference, **options)
    for a, b in zip(arrays, reference, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.small
@pytest.mark.parametrize("t", [1, 2, 10, 1000, 10**9, 2**53])
def test_adam_at_any_iteration(rng, t):
    arrays = make(rng, "adam", (5,), np.float64)
    expected = expect("adam", arrays, t=t)
    kernels.adam_update(*arrays, **{**RULES["adam"][1], "t": t})
    check(arrays, expected)


@pytest.mark.small
def test_nothing_moves_without_a_gradient(rule, dtype):
    """States and gradients of 0 do not give 0 / 0."""
    arrays = [np.ones(3, dtype), *np.zeros((1 + RULES[rule][0], 3), dtype)]
    kernel(rule)(*arrays, **RULES[rule][1])
    assert [a.tolist() for a in arrays] == [[1.0] * 3, *[[0.0] * 3] * (len(arrays) - 1)]


@pytest.mark.parametrize("size", [5, LARGE])
def test_nan_and_infinity(rule, size, dtype):
    arrays = [np.ones(size, dtype) for _ in range(2 + RULES[rule][0])]
    arrays[1][:] = np.resize(np.array([np.nan, np.inf, -np.inf, 0, 1], dtype), size)
    expected = expect(rule, arrays)
    kernel(rule)(*arrays, **RULES[rule][1])
    check(arrays, expected)


def test_bits_do_not_depend_on_threads(rng, bits_on_threads, rule, dtype):
    arrays = make(rng, rule, (LARGE,), dtype)

    def updated():
        copies = [a.copy() for a in arrays]
        kernel(rule)(*copies, **RULES[rule][1])
        return tuple(copies)

    one, others = bits_on_threads(updated)
    assert all(bits == one for bits in others)


# ---------------------------------------------------------------- denormal numbers
flushes = pytest.mark.skipif(
    numba.config.DISABLE_JIT or not _denormals._IS_X86, reason="denormal numbers are kept"
)


@flushes
@pytest.mark.parametrize("size", [5, LARGE])
def test_states_do_not_stay_denormal(rule, size, dtype):
    """Values that shrink stay normal numbers or become 0, in all threads."""
    tiny = np.finfo(dtype).tiny
    arrays = [np.ones(size, dtype), np.zeros(size, dtype)]
    arrays += [np.full(size, tiny, dtype) for _ in range(RULES[rule][0])]
    kernel(rule)(*arrays, **RULES[rule][1])
    assert (arrays[0] == 1).all()
    for state in arrays[2:]:
        assert ((state == 0) | (state >= tiny)).all()
        assert rule in ("adagrad", "adam") or not state.any()


@flushes
def test_denormal_gradients_count_as_zero(rule, dtype):
    tiny = np.finfo(dtype).tiny
    arrays = [np.zeros(5, dtype), np.full(5, tiny / 2, dtype), *np.zeros((2, 5), dtype)]
    arrays = arrays[: 2 + RULES[rule][0]]
    kernel(rule)(*arrays, **RULES[rule][1])
    for changed in (arrays[0], *arrays[2:]):
        assert not changed.any()


@pytest.mark.parametrize("size", [5, LARGE])
def test_elsewhere_denormal_numbers_are_kept(rule, size, dtype):
    """An update does not change the floating-point mode of the threads that ran it."""
    arrays = [np.ones(size, dtype) for _ in range(2 + RULES[rule][0])]
    kernel(rule)(*arrays, **RULES[rule][1])
    tiny = np.finfo(dtype).tiny
    assert (np.full(size, tiny, dtype) * dtype(0.5)).all()
    x, b = np.full((LARGE // 64, 64), tiny, dtype), np.zeros(64, dtype)
    assert kernels.affine_forward(x, np.eye(64, dtype=dtype) * dtype(0.5), b).all()


# ---------------------------------------------------------------- memory
@pytest.mark.small
@pytest.mark.parametrize("which", ["p", "g", "states", "all"])
def test_layouts(rng, rule, layout, which, dtype):
    """Any layout is updated in place; memory between the elements does not change."""
    arrays = make(rng, rule, (7, 5), dtype)
    expected = expect(rule, arrays)
    placed = [
        layout(a) if which in ("all", ["p", "g", "states"][min(i, 2)]) else a
        for i, a in enumerate(arrays)
    ]
    between = [around(a) for a in placed]
    if any(not a.flags.writeable for i, a in enumerate(placed) if i != 1):
        kept = [a.copy() for a in placed]
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            kernel(rule)(*placed, **RULES[rule][1])
        for a, b in zip(placed, kept, strict=True):
            np.testing.assert_array_equal(a, b)
        return
    kernel(rule)(*placed, **RULES[rule][1])
    check(placed, expected)
    assert [around(a) for a in placed] == between


def around(a):
    """Return the bytes of a view's base array without those of the view."""
    if not isinstance(a.base, np.ndarray) or a.base.dtype != a.dtype:
        return None
    base = a.base.copy()
    view = np.ndarray(a.shape, a.dtype, base, a.ctypes.data - a.base.ctypes.data, a.strides)
    view[...] = 0
    return base.tobytes()


def test_layouts_compile_nothing(rng, rule, layout, compiles_nothing, dtype):
    arrays = make(rng, rule, (2, 3, 4), dtype)
    placed = [layout(a) for a in arrays]
    for i, a in enumerate(placed):
        if not a.flags.writeable and i != 1:
            placed[i] = arrays[i].copy()
    compiles_nothing(
        lambda: kernel(rule)(*arrays, **RULES[rule][1]),
        lambda: kernel(rule)(*placed, **RULES[rule][1]),
    )


@pytest.mark.small
@pytest.mark.parametrize("g_dtype", [np.float32, np.float64, np.int8, np.uint64, np.bool_])
def test_gradients_of_other_types(rng, rule, dtype, g_dtype):
    p, g, *states = make(rng, rule, (7, 5), dtype)
    g = (4 * abs(g)).astype(g_dtype)
    expected = expect(rule, [p, g.astype(dtype), *states])
    for form in (g, g.tolist(), swapped(g), np.asfortranarray(g)):
        copies = [a.copy() for a in (p, *states)]
        kernel(rule)(copies[0], form, *copies[1:], **RULES[rule][1])
        check(copies, [expected[0], *expected[2:]])


@pytest.mark.small
def test_arrays_of_the_other_byte_order(rng, rule, dtype):
    arrays = make(rng, rule, (7, 5), dtype)
    expected = expect(rule, arrays)
    other = [swapped(a) for a in arrays]
    kernel(rule)(*other, **RULES[rule][1])
    check([a.astype(dtype) for a in other], expected)


@pytest.mark.parametrize("size", [pytest.param(9, marks=pytest.mark.small), LARGE])
def test_a_gradient_that_is_also_changed(rng, rule, size, dtype):
    """As in NumPy, the right side is computed before the left side changes."""
    memory, _, *states = make(rng, rule, (size + 1,), dtype)
    states = [s[:-1] for s in states]
    for p, g in ((memory[1:], memory[:-1]), (memory[:-1], memory[1:]), (memory[1:],) * 2):
        expected = expect(rule, [p, g, *states])
        kept, first = memory.copy(), [s.copy() for s in states]
        kernel(rule)(p, g, *states, **RULES[rule][1])
        check([p, *states], [expected[0], *expected[2:]])
        memory[...] = kept
        for s, value in zip(states, first, strict=True):
            s[...] = value
    for state in states:
        expected = expect(rule, [memory[1:], state, *states])
        kernel(rule)(memory[1:], state, *states, **RULES[rule][1])
        check([memory[1:], *states], [expected[0], *expected[2:]])


def overlapping(arrays):
    """Yield each pair of the updated arrays in shared memory."""
    shared = np.ones((8, 6), arrays[0].dtype)
    views = [
        (shared[:7, :5], shared[1:, 1:]),
        (shared.reshape(-1)[:35].reshape(7, 5), shared.reshape(-1)[13:].reshape(7, 5)),
        (shared[:7, :5], shared[6::-1, :5]),
    ]
    changed = [0, *range(2, len(arrays))]
    for i in changed:
        for j in changed:
            if i < j:
                for a, b in (*views, (arrays[0],) * 2, (shared[:7, :5],) * 2):
                    yield [a if k == i else b if k == j else c for k, c in enumerate(arrays)]


@pytest.mark.small
@pytest.mark.parametrize("rule", [name for name, (states, *_) in RULES.items() if states])
def test_arrays_that_share_memory(rng, rule, dtype):
    cases = 0
    for arrays in overlapping(make(rng, rule, (7, 5), dtype)):
        kept = [a.copy() for a in arrays]
        with pytest.raises(ValueError, match=r"expected separate arrays, got .* overlap"):
            kernel(rule)(*arrays, **RULES[rule][1])
        for a, b in zip(arrays, kept, strict=True):
            np.testing.assert_array_equal(a, b)
        cases += 1
    assert cases >= 4


@pytest.mark.small
def test_columns_of_one_array(rng, rule, dtype):
    """Arrays may interleave in memory without overlap."""
    arrays = make(rng, rule, (9,), dtype)
    expected = expect(rule, arrays)
    table = np.stack(arrays, axis=1)
    kernel(rule)(*table.T, **RULES[rule][1])
    check(list(table.T), expected)


# ---------------------------------------------------------------- bad input
@pytest.mark.small
def test_wrong_arrays(rng, rule, dtype):
    """Bad arguments raise a clear error, and nothing changes."""
    good = make(rng, rule, (7, 5), dtype)
    other = np.float64 if dtype == np.float32 else np.float32
    wrong = {
        TypeError: [
            lambda a: a.astype(complex),
            lambda a: a.astype(object),
            lambda a: np.ma.masked_array(a),
            lambda a: a.astype(str),
            lambda a: None,
        ],
        ValueError: [lambda a: a[:6].copy(), lambda a: a.T, lambda a: a[None], lambda a: a[0, 0]],
    }
    only_changed = {
        TypeError: [
            lambda a: a.astype(int),
            lambda a: a.astype(np.float16),
            lambda a: a.tolist(),
            lambda a: 1.0,
        ],
        ValueError: [lambda a: np.broadcast_to(a[:1], a.shape)],
    }
    only_states = {ValueError: [lambda a: a.astype(other)]}
    for i in range(len(good)):
        cases = [wrong] + [only_changed] * (i != 1) + [only_states] * (i > 1)
        for error, change in ((e, c) for case in cases for e in case for c in case[e]):
            arrays = [a.copy() for a in good]
            arrays[i] = change(arrays[i])
            with pytest.raises((error, TypeError), match=naive.EXPECTED_GOT):
                kernel(rule)(*arrays, **RULES[rule][1])
            for k, a in enumerate(arrays):
                if k != i:
                    np.testing.assert_array_equal(a, good[k])


@pytest.mark.small
@pytest.mark.parametrize("wrong", [None, "1", 1j, np.ones(2), [0.1], np.ma.masked])
def test_wrong_numbers(rng, rule, wrong):
    arrays = make(rng, rule, (3,), np.float64)
    kept = [a.copy() for a in arrays]
    for name in RULES[rule][1]:
        with pytest.raises((TypeError, ValueError), match=f"{name}: expected .*got "):
            kernel(rule)(*arrays, **{**RULES[rule][1], name: wrong})
    for a, b in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.small
@pytest.mark.parametrize("t", [0, -1, 2**53 + 1, 10**400])
def test_adam_counts_from_one(t):
    p, g, m, v = np.zeros((4, 2))
    with pytest.raises(ValueError, match="t: expected an integer from 1"):
        kernels.adam_update(p, g, m, v, t, 0.1, 0.9, 0.999)


@pytest.mark.small
def test_other_kinds_of_numbers(rng, rule):
    arrays = make(rng, rule, (3,), np.float64)
    options = {"lr": np.float32(0.5), "momentum": 1, "decay_rate": np.array(0.5), "beta1": False}
    options = {k: options.get(k, v) for k, v in RULES[rule][1].items()}
    if "t" in options:
        options["t"] = np.uint8(200)
    expected = expect(rule, arrays, **{k: float(v) for k, v in options.items()})
    kernel(rule)(*arrays, **options)
    check(arrays, expected)


# ---------------------------------------------------------------- from compiled code
@numba.njit(cache=True)
def users_updates(p, g, s0, s1, which):
    if which == 0:
        kernels.sgd_update(p, g, 0.1)
    if which == 1:
        kernels.momentum_update(p, g, s0, 0.1, 0.9)
    if which == 2:
        kernels.nesterov_update(p, g, s0, lr=0.1, momentum=0.9)
    if which == 3:
        kernels.adagrad_update(p, g, s0, 0.1)
    if which == 4:
        kernels.rmsprop_update(p, g, s0, 0.1, 0.99, 1e-7)
    if which == 5:
        kernels.adam_update(p, g, s0, s1, 3, 0.1, 0.9, beta2=0.999)


def call_compiled(rule, arrays):
    p, g, *states = arrays
    filled = [*states, np.zeros(p.shape, p.dtype), np.zeros(p.shape, p.dtype)]
    users_updates(p, g, *filled[:2], [*RULES].index(rule))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(0,), (7,), (LARGE,)], ids=str)
def test_from_njit_the_same_bits(rng, rule, shape, dtype):
    arrays = make(rng, rule, shape, dtype)
    copies = [a.copy() for a in arrays]
    call_compiled(rule, copies)
    kernel(rule)(*arrays, **RULES[rule][1])
    for a, b in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, b)


@numba.njit(cache=True)
def users_rmsprop(p, g, h):
    kernels.rmsprop_update(p, g, h, 0.1, 0.99)


@pytest.mark.exhaustive
def test_from_njit_strided_and_of_other_types(rng):
    p, g, h = make(rng, "rmsprop", (7, 5), np.float64)
    g = (4 * g).astype(np.int32)
    expected = expect("rmsprop", [p, g.astype(float), h])
    p, h = p.repeat(2, 0)[::2], np.asfortranarray(h)
    users_rmsprop(p, g.T.copy().T, h)
    check([p, h], [expected[0], expected[2]])


def test_from_njit_wrong_values(rng):
    p, g, m, v = make(rng, "adam", (7,), np.float64)
    for arrays in (
        (p, g[:3], m, v),
        (p, g, m[:3], v),
        (p, g, m, v[:3]),
        (p, g, p, v),
        (p, g, m, m),
    ):
        kept = [a.copy() for a in arrays]
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            call_compiled("adam", arrays)
        for a, b in zip(arrays, kept, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="t: expected"):
        numba.njit(lambda p, t: kernels.adam_update(p, p, p + 0, p + 0, t, 0.1, 0.9, 0.9))(p, 0)


def test_from_njit_a_gradient_that_is_also_changed(rng):
    p = rng.standard_normal(9)
    expected = p[:-1] - 0.1 * p[1:]
    numba.njit(lambda p, g: kernels.sgd_update(p, g, 0.1))(p[:-1], p[1:])
    np.testing.assert_array_equal(p[:-1], expected)


@pytest.mark.parametrize("i", [0, 2, 3])
def test_from_njit_arrays_that_cannot_be_changed(rng, i):
    for change in (
        lambda a: np.broadcast_to(a, a.shape),
        lambda a: a.astype(np.float32) if i else a.astype(int),
        lambda a: a[None],
        lambda a: None,
        lambda a: 1.0,
    ):
        arrays = make(rng, "adam", (7,), np.float64)
        arrays[i] = change(arrays[i])
        update = numba.njit(lambda p, g, m, v: kernels.adam_update(p, g, m, v, 1, 0.1, 0.9, 0.999))
        with pytest.raises(TypingError, match=naive.EXPECTED_GOT):
            update(*arrays)


# ---------------------------------------------------------------- for compiled training loops
@pytest.mark.exhaustive
def test_rules_of_different_processes_are_kept_apart(tmp_path):
    """Code that two processes compiled does not refer to one another's functions."""
    program = """
import sys
import numpy as np
from kernels import adagrad_update, sgd_update
p, g = np.ones(3), np.full(3, 2.0)
for name in sys.argv[1:]:
    if name == "sgd":
        sgd_update(p, g, 0.25)
    else:
        adagrad_update(p, g, np.zeros(3), 0.25)
    print(f"{p[0]:.2f}")
"""

    def run(*names):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-W", "error", "-c", program, *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run("sgd") == ["0.50"]
    assert run("adagrad") == ["0.75"]
    assert run("adagrad", "sgd") == ["0.75", "0.25"]
    assert run("sgd", "adagrad") == ["0.50", "0.25"]


@pytest.mark.parametrize("parts", [1, 3])
def test_blocks_give_the_bits_of_the_public_update(rng, rule, parts, dtype):
    arrays = make(rng, rule, (1001,), dtype)
    copies = [*(a.copy() for a in arrays), *np.zeros((2, 0), dtype)][:4]
    options = dict(RULES[rule][1])
    t = options.pop("t", 1)
    if rule not in ("sgd", "momentum", "nesterov"):
        options["epsilon"] = 1e-7
    address = _updates.get_rule_address(optimizers.RULES[rule], dtype)
    values = np.array([*options.values()])
    update_block = callable_from_python(_updates.update_block)
    for part in range(parts):
        a, b = 1001 * part // parts, 1001 * (part + 1) // parts
        update_block(address, *(c[a:b] for c in copies), values, t)
    kernel(rule)(*arrays, **RULES[rule][1])
    for a, b in zip(arrays, copies, strict=False):
        np.testing.assert_array_equal(a, b)

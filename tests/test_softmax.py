"""``kernels.softmax``: probabilities and cross-entropy against plain NumPy."""

import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as hnp
import naive
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.softmax import (
    softmax,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

INTEGERS = [np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64)]
SMALL_SHAPES = [(1, 1), (1, 10), (3, 1), (7, 5), (3, 10)]
SHAPES = [(100, 10), (257, 10), (100, 3), (5, 1000), (4001, 11), (20_000, 10)]
PARAMS = [pytest.param(s, marks=pytest.mark.small) for s in SMALL_SHAPES] + SHAPES
KINDS = ["index", "one_hot", "soft"]


def logits(rng, shape, dtype):
    return (5 * rng.standard_normal(shape)).astype(dtype)


def targets(rng, kind, shape, dtype):
    n, c = shape
    index = rng.integers(0, c, n)
    if kind == "index":
        return index
    one_hot = np.eye(c)[index]
    if kind == "one_hot":
        return one_hot.astype(dtype)
    soft = 0.9 * one_hot + 0.1 * rng.random(shape)
    return (soft / soft.sum(axis=1, keepdims=True)).astype(dtype)


def spread(x):
    """Return the range of the finite logits.

    The rounding error of ``x - max`` is that of a number of this size, and becomes a relative error
    of the exponential.
    """
    finite = np.where(np.isfinite(x), x, np.nan)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.nanmax(finite) - np.nanmin(finite)) if x.size else 0


def check_softmax(y, x):
    expected = naive.softmax(x.astype(np.float64))
    naive.assert_within(y, expected, expected, terms=x.shape[-1] + 8 + spread(x))


def check_loss(loss, x, t, dtype):
    expected, _ = naive.softmax_cross_entropy_forward(x.astype(np.float64), t)
    if not np.isfinite(expected):
        np.testing.assert_array_equal(loss, expected)
        return
    # Each log p has the rounding errors of x - max and of a logarithm of C terms. The mean
    # may add only a few roundings, whatever the length of the batch.
    terms = x.shape[1] + 16
    assert abs(loss - expected) <= np.finfo(dtype).eps * terms * (1 + spread(x))


def check_backward(dx, y, t, dout=1.0):
    y = y.astype(np.float64)
    expected = naive.softmax_cross_entropy_backward(y, t, dout)
    naive.assert_within(dx, expected, abs(dout) * (y + 1) / len(y))


# ---------------------------------------------------------------- values
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", PARAMS, ids=str)
def test_shapes(rng, shape, kind, dtype):
    x, t = logits(rng, shape, dtype), targets(rng, kind, shape, dtype)
    x_kept, t_kept = x.copy(), t.copy()
    probabilities = softmax(x)
    loss, y = softmax_cross_entropy_forward(x, t)
    y_kept = y.copy()
    dx = softmax_cross_entropy_backward(y, t)
    assert probabilities.dtype == y.dtype == dx.dtype == dtype
    assert np.ndim(loss) == 0
    check_softmax(probabilities, x)
    check_softmax(y, x)
    check_loss(loss, x, t, dtype)
    check_backward(dx, y, t)
    check_backward(softmax_cross_entropy_backward(y, t, 2.5), y, t, 2.5)
    check_backward(softmax_cross_entropy_backward(y, t, dout=-1), y, t, -1)
    np.testing.assert_array_equal(x, x_kept)
    np.testing.assert_array_equal(t, t_kept)
    np.testing.assert_array_equal(y, y_kept)
    assert not np.shares_memory(dx, y)


@pytest.mark.parametrize(
    "shape",
    [
        *(
            pytest.param(s, marks=pytest.mark.small)
            for s in [(1,), (7,), (0, 5), (2, 3, 4), (2, 0, 3), (2, 1, 3, 2)]
        ),
        (10_001,),
        (30, 20, 50),
    ],
    ids=str,
)
def test_softmax_is_over_the_last_axis(rng, shape, dtype):
    x = logits(rng, shape, dtype)
    y = softmax(x)
    assert y.dtype == dtype
    check_softmax(y, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [pytest.param((7, 5), marks=pytest.mark.small), (4001, 10)], ids=str
)
def test_layouts(rng, layout, shape, kind, dtype):
    x, t = logits(rng, shape, dtype), targets(rng, kind, shape, dtype)
    check_softmax(softmax(layout(x)), x)
    for arguments in ((layout(x), layout(t)), (x, layout(t)), (layout(x), t)):
        loss, y = softmax_cross_entropy_forward(*arguments)
        check_loss(loss, x, t, dtype)
        check_softmax(y, x)
    for arguments in ((layout(y), layout(t)), (y, layout(t)), (layout(y), t)):
        check_backward(softmax_cross_entropy_backward(*arguments), y, t)


def test_layouts_and_labels_compile_nothing(rng, layout, compiles_nothing, dtype):
    def run(x, t, soft):
        softmax(x)
        for targets in (t, soft):
            softmax_cross_entropy_forward(x, targets)
            softmax_cross_entropy_backward(x, targets)

    x, t = logits(rng, (7, 5), dtype), np.arange(7) % 5

    def others():
        run(layout(x), layout(t), layout(x))
        run(x, t.astype(np.uint8), x.astype(np.float64))
        run(x, t.astype(np.uint64), x.astype(np.float32))

    compiles_nothing(lambda: run(x, t, x), others)


@pytest.mark.small
def test_layouts_of_three_dimensions(rng, layout):
    x = logits(rng, (2, 3, 4), np.float64)
    check_softmax(softmax(layout(x)), x)


@pytest.mark.small
@pytest.mark.parametrize("label_dtype", INTEGERS)
def test_labels_of_every_integer_type(rng, label_dtype):
    x = logits(rng, (7, 5), np.float64)
    t = targets(rng, "index", (7, 5), None)
    loss, y = softmax_cross_entropy_forward(x, t.astype(label_dtype))
    check_loss(loss, x, t, np.float64)
    check_backward(softmax_cross_entropy_backward(y, t.astype(label_dtype)), y, t)


@pytest.mark.small
@pytest.mark.parametrize("target_dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_one_hot_of_other_types(rng, target_dtype, dtype):
    """The dtype of the targets does not affect that of the results."""
    x = logits(rng, (7, 5), dtype)
    t = targets(rng, "index", (7, 5), None)
    one_hot = np.eye(5, dtype=target_dtype)[t]
    loss, y = softmax_cross_entropy_forward(x, one_hot)
    dx = softmax_cross_entropy_backward(y, one_hot)
    assert y.dtype == dx.dtype == dtype
    check_loss(loss, x, t, dtype)
    check_backward(dx, y, t)


def test_one_hot_and_index_agree(rng, dtype):
    for shape in ((7, 5), (100, 10), (4001, 10)):
        x, t = logits(rng, shape, dtype), targets(rng, "index", shape, None)
        x[0, :] = -np.inf
        x[0, t[0]] = 0
        one_hot = np.eye(shape[1], dtype=dtype)[t]
        loss, y = softmax_cross_entropy_forward(x, t)
        loss_hot, y_hot = softmax_cross_entropy_forward(x, one_hot)
        assert np.isfinite(loss)
        np.testing.assert_allclose(loss, loss_hot, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(y, y_hot)
        np.testing.assert_allclose(
            softmax_cross_entropy_backward(y, t),
            softmax_cross_entropy_backward(y, one_hot),
            rtol=4 * np.finfo(dtype).eps,
        )


def test_loss_of_a_long_float32_batch():
    """A float32 sum over 200,000 rows would be wrong in the fourth digit."""
    x = np.tile(np.array([0.1, 0.2, 0.7], np.float32), (200_000, 1))
    t = np.zeros(len(x), np.int64)
    loss, _ = softmax_cross_entropy_forward(x, t)
    one_row, _ = naive.softmax_cross_entropy_forward(x[:1].astype(np.float64), t[:1])
    np.testing.assert_allclose(loss, one_row, rtol=1e-6)


# ---------------------------------------------------------------- extremes
@pytest.mark.small
def test_no_overflow(dtype):
    x = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], dtype)
    expected = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], dtype)
    y = softmax(x)
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)
    for t, total in (([0, 0, 0], np.log(6)), ([2, 1, 2], 40_000 + np.log(6))):
        t = np.array(t)
        loss, y_loss = softmax_cross_entropy_forward(x, t)
        np.testing.assert_allclose(loss, total / 3, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_allclose(y_loss, expected, rtol=4 * np.finfo(dtype).eps)


def test_largest_and_smallest_numbers(dtype):
    big = np.finfo(dtype).max
    x = np.array([[big, big / 2, -big], [-big, -big, -big], [big, big, big]], dtype)
    expected = [[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3]
    np.testing.assert_allclose(softmax(x), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.small
def test_loss_far_from_the_target_is_not_cut_off(dtype):
    """No epsilon inside the logarithm: it would cap the loss at 16."""
    x = np.array([[0.0, 50.0], [0.0, 300.0]], dtype)
    loss, _ = softmax_cross_entropy_forward(x, np.array([0, 0]))
    np.testing.assert_allclose(loss, 175, rtol=4 * np.finfo(dtype).eps)


def test_loss_near_the_target_keeps_its_digits():
    """log(1 + e) for a tiny e is about 2e-9, not 0, as log-sum-exp computes it."""
    x = np.array([[20.0, 0.0]])
    loss, _ = softmax_cross_entropy_forward(x, np.array([0]))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-20.0)), rtol=0, atol=4e-16)
    assert loss > 0


SPOILT_ROWS = {
    "nan": [0.0, np.nan, 1.0, 2.0],
    "nan first": [np.nan, 1.0, 2.0, 3.0],
    "inf": [0.0, np.inf, 1.0, 2.0],
    "two inf": [np.inf, np.inf, 1.0, 2.0],
    "-inf": [0.0, -np.inf, 1.0, 2.0],
    "-inf first": [-np.inf, 0.0, 1.0, 2.0],
    "all -inf": [-np.inf] * 4,
    "all but one -inf": [-np.inf, -np.inf, 1.0, -np.inf],
}


@pytest.mark.parametrize("row", SPOILT_ROWS.values(), ids=SPOILT_ROWS)
@pytest.mark.parametrize("n", [3, 5000])
def test_nan_and_infinity(rng, row, n, dtype):
    x = logits(rng, (n, 4), dtype)
    x[n // 2] = row
    check_softmax(softmax(x), x)
    for kind in KINDS:
        t = targets(rng, kind, x.shape, dtype)
        loss, y = softmax_cross_entropy_forward(x, t)
        check_softmax(y, x)
        check_loss(loss, x, t, dtype)
        check_backward(softmax_cross_entropy_backward(y, t), y, t)


@pytest.mark.small
def test_impossible_target():
    """A logit of -inf gives an infinite loss at the target, and adds nothing elsewhere."""
    x = np.array([[0.0, -np.inf]])
    for t, expected in ((0, 0.0), (1, np.inf)):
        assert softmax_cross_entropy_forward(x, np.array([t]))[0] == expected
        assert softmax_cross_entropy_forward(x, np.eye(2)[[t]])[0] == expected


# ---------------------------------------------------------------- threads, gradients
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(100, 10), (20_001, 10), (300, 1000)], ids=str)
def test_bits_do_not_depend_on_threads(rng, bits_on_threads, shape, kind, dtype):
    x, t = logits(rng, shape, dtype), targets(rng, kind, shape, dtype)
    y = naive.softmax(x)
    for f in (
        lambda: softmax(x),
        lambda: softmax_cross_entropy_forward(x, t),
        lambda: softmax_cross_entropy_backward(y, t),
    ):
        one, others = bits_on_threads(f)
        assert all(bits == one for bits in others)


@pytest.mark.small
@pytest.mark.parametrize("kind", KINDS)
def test_numerical_gradient(rng, kind):
    x = rng.standard_normal((5, 4))
    t = targets(rng, kind, x.shape, np.float64)
    _, y = softmax_cross_entropy_forward(x, t)
    expected = naive.numerical_gradient(lambda x: softmax_cross_entropy_forward(x, t)[0], x)
    # h**2 / 6 times a third derivative below 1: 2e-9 at most
    np.testing.assert_allclose(softmax_cross_entropy_backward(y, t), expected, atol=1e-8)


# ---------------------------------------------------------------- numbers
@pytest.mark.parametrize("classes", [100_000, 1_000_003])
def test_many_nearly_equal_classes(rng, classes):
    """A sum in float32 would lose three digits; only the rounding of each term remains."""
    x = (1 + 1e-3 * rng.standard_normal((2, classes))).astype(np.float32)
    expected = naive.softmax(x.astype(np.float64))
    np.testing.assert_allclose(softmax(x), expected, rtol=5e-7)
    np.testing.assert_allclose(softmax(x).astype(np.float64).sum(axis=1), 1, rtol=2e-7)
    loss, y = softmax_cross_entropy_forward(x, np.array([0, classes - 1]))
    np.testing.assert_allclose(y, expected, rtol=5e-7)
    expected_loss = naive.softmax_cross_entropy_forward(x.astype(float), np.array([0, classes - 1]))
    np.testing.assert_allclose(loss, expected_loss[0], rtol=1e-6)


# ---------------------------------------------------------------- a race
RACE = """
import sys, threading
import numba, numpy as np
from kernels import softmax_cross_entropy_backward, softmax_cross_entropy_forward

@numba.njit(nogil=True)
def compiled_forward(x, t):
    return softmax_cross_entropy_forward(x, t)

@numba.njit(nogil=True)
def compiled_backward(x, t):
    return softmax_cross_entropy_backward(x, t)

# Another thread makes the last label right and wrong in turn, without ever holding the GIL.
@numba.njit(nogil=True)
def meddle(t, stop):
    turns = 0
    while stop[0] == 0:
        t[-1] = 10**13 if turns % 2 else 1
        turns += 1
    return turns

numba.set_num_threads(1)
x = np.zeros((20_000, 4), np.float32)
t, stop = np.zeros(len(x), np.int64), np.zeros(1, np.int64)
functions = [
    softmax_cross_entropy_forward, softmax_cross_entropy_backward, compiled_forward,
    compiled_backward,
]
for f in functions:
    f(x, t)
stop[0] = 1
meddle(t, stop)
stop[0] = 0
thread = threading.Thread(target=meddle, args=(t, stop))
thread.start()
outcomes = {"right": 0, "refused": 0}
for k in range(2000):
    try:
        functions[k % 4](x, t)
        outcomes["right"] += 1
    except ValueError as error:
        assert "expected class indices from 0 to" in str(error)
        outcomes["refused"] += 1
stop[0] = 1
thread.join()
print(outcomes)
assert min(outcomes.values()) > 20, outcomes
"""


def test_labels_that_another_thread_changes_meanwhile():
    """Labels are copied before the check, so that they cannot change after it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RACE],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])


# ---------------------------------------------------------------- from compiled code
@numba.njit(cache=True)
def users_loss(x, t):
    loss, y = softmax_cross_entropy_forward(x, t)
    return loss, y, softmax_cross_entropy_backward(y, t), softmax(x)


@pytest.mark.slow
@pytest.mark.small
@pytest.mark.parametrize("kind", ["index", "soft"])
def test_from_njit(rng, kind):
    x, t = logits(rng, (7, 5), np.float64), targets(rng, kind, (7, 5), np.float64)
    loss, y, dx, probabilities = users_loss(x, t)
    expected_loss, expected_y = softmax_cross_entropy_forward(x, t)
    assert loss == expected_loss
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, softmax_cross_entropy_backward(y, t))
    np.testing.assert_array_equal(probabilities, softmax(x))


@pytest.mark.slow
def test_from_njit_bad_input():
    x = np.zeros((3, 5))
    for t in (
        np.array([0, 5, 0]),
        np.array([0, -1, 0]),
        np.array([0, 2**64 - 1, 0], np.uint64),
        np.array([0, 0]),
        np.zeros((3, 4)),
        np.full((3, 5), np.nan),
    ):
        with pytest.raises(ValueError, match="expected"):
            users_loss(x, t)
    with pytest.raises(ValueError, match="expected"):
        users_loss(x[:0], np.zeros(0, np.int64))
    for bad in ((x[0], np.zeros(5, np.int64)), (x, np.zeros(3)), (x, np.zeros((3, 5), complex))):
        with pytest.raises(numba.TypingError, match="expected"):
            users_loss(*bad)


@numba.njit(cache=True)
def users_backward(y, t, dout):
    return softmax_cross_entropy_backward(y, t, dout)


@pytest.mark.small
def test_from_njit_with_dout(rng):
    y, t = naive.softmax(logits(rng, (7, 5), np.float64)), np.zeros(7, np.int64)
    np.testing.assert_array_equal(
        users_backward(y, t, 3.0), softmax_cross_entropy_backward(y, t, 3.0)
    )


# ---------------------------------------------------------------- bad input
BAD_LABELS = {
    "too large": np.array([0, 4, 2]),
    "far too large": np.array([0, 2**62, 2]),
    "negative": np.array([0, -1, 2]),
    "far negative": np.array([0, -(2**62), 2]),
    "uint64 beyond int64": np.array([0, 2**63, 2], np.uint64),
    "uint64 that wraps to -1": np.array([0, 2**64 - 1, 2], np.uint64),
    "uint8": np.array([0, 255, 2], np.uint8),
    "int8": np.array([0, -128, 2], np.int8),
    "last": np.array([0, 1, 4]),
    "short": np.array([0, 1]),
    "long": np.array([0, 1, 2, 3]),
    "0-d": np.array(1),
    "3-D": np.zeros((3, 4, 1)),
    "narrow one-hot": np.zeros((3, 3)),
    "wide one-hot": np.zeros((3, 5)),
    "short one-hot": np.zeros((2, 4)),
    "column of labels": np.zeros((3, 1), np.int64),
    "soft with NaN": np.array([[1.0, 0, 0, 0], [np.nan, 0, 0, 0], [0, 0, 1, 0]]),
    "soft with inf": np.array([[1.0, 0, 0, 0], [0, np.inf, 0, 0], [0, 0, 1, 0]]),
}


@pytest.mark.small
@pytest.mark.parametrize("t", BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_targets(t):
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        softmax_cross_entropy_forward(np.zeros((3, 4)), t)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        softmax_cross_entropy_backward(np.full((3, 4), 0.25), t)


@pytest.mark.parametrize("bad", [10, -1])
def test_one_bad_label_in_a_long_batch(bad):
    """A bad label is found at any position, in any thread."""
    x, t = np.zeros((20_000, 10)), np.zeros(20_000, np.int64)
    for place in (0, 9_999, 19_999):
        t[place] = bad
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            softmax_cross_entropy_forward(x, t)
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            softmax_cross_entropy_backward(x, t)
        t[place] = 0
    assert np.isfinite(softmax_cross_entropy_forward(x, t)[0])


@pytest.mark.small
@pytest.mark.parametrize("dtype", [bool, np.float64, np.float32, np.float16, complex, object, str])
def test_labels_that_are_no_integers(dtype):
    t = np.array([0, 1, 0]).astype(dtype)
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        softmax_cross_entropy_forward(np.zeros((3, 2)), t)
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        softmax_cross_entropy_backward(np.full((3, 2), 0.5), t)


@pytest.mark.small
@pytest.mark.parametrize("t", [np.zeros(0, np.int64), np.zeros((0, 3))], ids=["index", "soft"])
def test_empty_batch(t):
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        softmax_cross_entropy_forward(np.zeros((0, 3)), t)


@pytest.mark.small
def test_wrong_shapes():
    t = np.array([0, 1, 0])
    for x in (np.zeros(3), np.zeros((3, 2, 1)), np.array(1.0), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            softmax_cross_entropy_forward(x, t)
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            softmax_cross_entropy_backward(x, t)
    for x in (np.array(1.0), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            softmax(x)


WRONG_TYPES = {
    "complex": lambda a: a.astype(complex),
    "object": lambda a: a.astype(object),
    "string": lambda a: a.astype(str),
    "masked": lambda a: np.ma.masked_array(a, mask=a > 0),
}


@pytest.mark.small
@pytest.mark.parametrize("convert", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_types(convert):
    good, one_hot = np.full((2, 2), 0.5), np.eye(2)
    bad = convert(good)
    for kernel, arguments in (
        (softmax, (bad,)),
        (softmax_cross_entropy_forward, (bad, one_hot)),
        (softmax_cross_entropy_forward, (good, convert(one_hot))),
        (softmax_cross_entropy_backward, (bad, one_hot)),
        (softmax_cross_entropy_backward, (good, convert(one_hot))),
    ):
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            kernel(*arguments)


@pytest.mark.small
def test_masked_labels():
    t = np.ma.masked_array([0, 1, 0], mask=[0, 1, 0])
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        softmax_cross_entropy_forward(np.zeros((3, 2)), t)


# ---------------------------------------------------------------- invariances
@st.composite
def any_logits(draw, bound=50):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    elements = st.floats(-bound, bound, width=8 * np.dtype(dtype).itemsize)
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return draw(hnp.arrays(dtype, shape, elements=elements))


@given(any_logits(bound=1e4))
def test_softmax_is_a_distribution(x):
    y = softmax(x)
    check_softmax(y, x)
    assert np.all((y >= 0) & (y <= 1))
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(y.astype(np.float64).sum(axis=1), 1, rtol=(x.shape[1] + 4) * eps)


@given(any_logits(), st.integers(-100, 100))
def test_softmax_does_not_see_a_shift(x, shift):
    # the shifted logits, at most 150, are rounded at their new magnitude
    rtol = (2 * 150 + x.shape[1] + 16) * np.finfo(x.dtype).eps
    np.testing.assert_allclose(softmax(x + x.dtype.type(shift)), softmax(x), rtol=rtol)


@given(any_logits(), st.randoms(use_true_random=False))
def test_softmax_follows_a_permutation(x, random):
    order = list(range(x.shape[1]))
    random.shuffle(order)
    rtol = (x.shape[1] + 4) * np.finfo(x.dtype).eps
    np.testing.assert_allclose(softmax(x[:, order]), softmax(x)[:, order], rtol=rtol)


@given(any_logits(), st.data())
def test_cross_entropy(x, data):
    n, c = x.shape
    t = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, c - 1)))
    loss, y = softmax_cross_entropy_forward(x, t)
    check_loss(loss, x, t, x.dtype)
    check_softmax(y, x)
    dx = softmax_cross_entropy_backward(y, t)
    check_backward(dx, y, t)
    # each row of the gradient sums to 0
    np.testing.assert_allclose(dx.sum(axis=1), 0, atol=(c + 8) * np.finfo(x.dtype).eps)

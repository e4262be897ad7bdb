"""``kernels.relu`` and ``kernels.sigmoid`` against plain NumPy."""

import hypothesis.extra.numpy as hnp
import naive
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.relu import relu_backward, relu_forward
from kernels.sigmoid import sigmoid_backward, sigmoid_forward

SMALL_SHAPES = [(0,), (1,), (7,), (0, 5), (3, 0), (1, 1), (7, 5), (2, 3, 4), (2, 1, 3, 2)]
SHAPES = [(100, 50), (257, 65), (1, 784), (70_001,), (300, 1000), (33, 3, 29, 31)]
PARAMS = [pytest.param(s, marks=pytest.mark.small) for s in SMALL_SHAPES] + SHAPES


def values(rng, shape, dtype):
    """Return values of both signs, zeros of both signs, small and large values."""
    a = (rng.standard_normal(shape) * 10 ** rng.uniform(-3, 1.5, shape)).astype(dtype)
    a[rng.random(shape) < 0.1] = 0
    a[rng.random(shape) < 0.1] = -0.0
    return a


def check_sigmoid(out, x):
    """Allow a few roundings of the value: the exponential, one addition, one division."""
    expected = naive.sigmoid_forward(x.astype(np.float64))
    naive.assert_within(out, expected, expected)


def check_sigmoid_backward(dx, dout, out):
    dout, out = dout.astype(np.float64), out.astype(np.float64)
    expected = naive.sigmoid_backward(dout, out)
    naive.assert_within(dx, expected, abs(expected))


# ---------------------------------------------------------------- both
@pytest.mark.parametrize("shape", PARAMS, ids=str)
def test_relu_shapes(rng, shape, dtype):
    x, dout = values(rng, shape, dtype), values(rng, shape, dtype)
    x_kept, dout_kept = x.copy(), dout.copy()
    out, mask = relu_forward(x)
    mask_kept = mask.copy()
    dx = relu_backward(dout, mask)
    expected, expected_mask = naive.relu_forward(x)
    assert out.dtype == dx.dtype == dtype
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_array_equal(dx, naive.relu_backward(dout, expected_mask))
    np.testing.assert_array_equal(x, x_kept)
    np.testing.assert_array_equal(dout, dout_kept)
    np.testing.assert_array_equal(mask, mask_kept)
    assert not np.shares_memory(out, x)
    assert not np.shares_memory(dx, dout)


@pytest.mark.parametrize("shape", PARAMS, ids=str)
def test_sigmoid_shapes(rng, shape, dtype):
    x, dout = values(rng, shape, dtype), values(rng, shape, dtype)
    x_kept, dout_kept = x.copy(), dout.copy()
    out = sigmoid_forward(x)
    out_kept = out.copy()
    dx = sigmoid_backward(dout, out)
    assert out.dtype == dx.dtype == dtype
    check_sigmoid(out, x)
    check_sigmoid_backward(dx, dout, out)
    np.testing.assert_array_equal(x, x_kept)
    np.testing.assert_array_equal(dout, dout_kept)
    np.testing.assert_array_equal(out, out_kept)
    assert not np.shares_memory(out, x)
    assert not np.shares_memory(dx, dout)
    assert not np.shares_memory(dx, out)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((7,), marks=pytest.mark.small),
        pytest.param((7, 5), marks=pytest.mark.small),
        pytest.param((2, 3, 4), marks=pytest.mark.small),
        (300, 1000),
    ],
    ids=str,
)
def test_layouts(rng, layout, shape, dtype):
    x, dout = values(rng, shape, dtype), values(rng, shape, dtype)
    out, mask = relu_forward(layout(x))
    np.testing.assert_array_equal(out, naive.relu_forward(x)[0])
    np.testing.assert_array_equal(mask, x <= 0)
    expected = naive.relu_backward(dout, mask)
    np.testing.assert_array_equal(relu_backward(layout(dout), layout(mask)), expected)
    np.testing.assert_array_equal(relu_backward(layout(dout), mask), expected)
    np.testing.assert_array_equal(relu_backward(dout, layout(mask)), expected)
    out = sigmoid_forward(layout(x))
    check_sigmoid(out, x)
    for arguments in ((layout(dout), layout(out)), (layout(dout), out), (dout, layout(out))):
        check_sigmoid_backward(sigmoid_backward(*arguments), dout, out)


def test_layouts_compile_nothing(rng, layout, compiles_nothing, dtype):
    def run(x, mask):
        relu_forward(x)
        relu_backward(x, mask)
        sigmoid_forward(x)
        sigmoid_backward(x, x)

    x = values(rng, (2, 3, 4), dtype)
    compiles_nothing(
        lambda: run(x.reshape(-1), x.reshape(-1) > 0), lambda: run(layout(x), layout(x > 0))
    )


def test_bits_do_not_depend_on_threads(rng, bits_on_threads, dtype):
    for shape in ((1000, 1001), (3, 70_001)):
        x, dout = values(rng, shape, dtype), values(rng, shape, dtype)
        mask, out = x <= 0, naive.sigmoid_forward(x)
        for f in (
            lambda x=x: relu_forward(x),
            lambda dout=dout, mask=mask: relu_backward(dout, mask),
            lambda x=x: sigmoid_forward(x),
            lambda dout=dout, out=out: sigmoid_backward(dout, out),
        ):
            one, others = bits_on_threads(f)
            assert all(bits == one for bits in others)


# ---------------------------------------------------------------- ReLU
@pytest.mark.small
def test_relu_is_closed_at_zero():
    out, mask = relu_forward(np.array([-1.0, -0.0, 0.0, 5e-324, 1.0]))
    np.testing.assert_array_equal(out, [0, 0, 0, 5e-324, 1])
    np.testing.assert_array_equal(mask, [True, True, True, False, False])
    np.testing.assert_array_equal(relu_backward(np.ones(5), mask), [0, 0, 0, 1, 1])


@pytest.mark.parametrize("size", [5, 100_000])
def test_relu_nan_and_infinity(size, dtype):
    x = np.resize(np.array([np.nan, np.inf, -np.inf, 1, -1], dtype), size)
    out, mask = relu_forward(x)
    np.testing.assert_array_equal(out, np.resize([np.nan, np.inf, 0, 1, 0], size))
    np.testing.assert_array_equal(mask, np.resize([False, False, True, False, True], size))
    # where x <= 0, NaN and infinity in dout do not propagate
    np.testing.assert_array_equal(
        relu_backward(x, np.ones(size, bool)), np.zeros(size), strict=False
    )
    np.testing.assert_array_equal(relu_backward(x, np.zeros(size, bool)), x)


# ---------------------------------------------------------------- sigmoid
def test_sigmoid_extremes(dtype):
    x = np.array([-np.inf, -1000, -1e30, 0, 1e30, 1000, np.inf, np.nan], dtype)
    expected = [0, 0, 0, 0.5, 1, 1, 1, np.nan]
    np.testing.assert_array_equal(sigmoid_forward(x), expected)
    long = np.tile(x, 20_000)
    np.testing.assert_array_equal(sigmoid_forward(long), np.tile(expected, 20_000))


def test_sigmoid_keeps_its_precision_far_out(dtype):
    """1e-30 has as many correct digits as 0.5."""
    x = np.linspace(-87, 87, 10_001).astype(dtype)
    check_sigmoid(sigmoid_forward(x), x)


def test_sigmoid_backward_nan_and_infinity(dtype):
    dout = np.array([np.nan, np.inf, np.inf, -np.inf, 1, 1], dtype)
    out = np.array([0.5, 0, 0.5, 0.25, np.nan, 1], dtype)
    expected = [np.nan, np.nan, np.inf, -np.inf, np.nan, 0]
    np.testing.assert_array_equal(sigmoid_backward(dout, out), expected)


@pytest.mark.small
def test_sigmoid_numerical_gradient(rng):
    x, dout = rng.standard_normal((2, 7, 5))
    dx = sigmoid_backward(dout, sigmoid_forward(x))
    expected = naive.numerical_gradient(lambda x: np.sum(dout * sigmoid_forward(x)), x)
    # h**2 / 6 times the third derivative (below 1/8) is 2e-10 for |dout| = 1
    np.testing.assert_allclose(dx, expected, atol=1e-8)


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(max_dims=3, max_side=40),
        elements=st.floats(width=32, allow_subnormal=False),
    )
)
def test_any_values(x):
    out, mask = relu_forward(x)
    expected, expected_mask = naive.relu_forward(x)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(mask, expected_mask)
    out = sigmoid_forward(x)
    check_sigmoid(out, x)
    finite = out[~np.isnan(out)]
    assert np.all((finite >= 0) & (finite <= 1))


# ---------------------------------------------------------------- from compiled code
@numba.njit(cache=True)
def users_relu(x, dout):
    out, mask = relu_forward(x)
    return out, mask, relu_backward(dout, mask)


@numba.njit(cache=True)
def users_sigmoid(x, dout):
    out = sigmoid_forward(x)
    return out, sigmoid_backward(dout, out)


@pytest.mark.small
def test_from_njit(rng):
    x, dout = rng.standard_normal((2, 7, 5))
    out, mask, dx = users_relu(x, dout)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    np.testing.assert_array_equal(mask, x <= 0)
    np.testing.assert_array_equal(dx, np.where(x > 0, dout, 0))
    out, dx = users_sigmoid(x, dout)
    np.testing.assert_array_equal(out, sigmoid_forward(x))
    np.testing.assert_array_equal(dx, sigmoid_backward(dout, out))


@pytest.mark.exhaustive
def test_from_njit_strided_and_four_dimensional(rng):
    x, dout = rng.standard_normal((2, 3, 4, 5, 6))
    np.testing.assert_array_equal(users_relu(x, dout)[2], np.where(x > 0, dout, 0))
    x, dout = rng.standard_normal((2, 5, 7))
    out, dx = users_sigmoid(x.T, dout.T)
    check_sigmoid(out, x.T)
    check_sigmoid_backward(dx, dout.T, out)


def test_from_njit_bad_shapes():
    with pytest.raises(ValueError, match="expected"):
        users_relu(np.ones((3, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="expected"):
        users_sigmoid(np.ones((3, 2)), np.ones((3, 1)))


# ---------------------------------------------------------------- bad input
@pytest.mark.small
@pytest.mark.parametrize("shape", [(3,), (2, 3), (3, 3), (3, 2, 1), (1, 2), ()], ids=str)
def test_wrong_shapes(shape):
    dout = np.ones((3, 2))
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        relu_backward(dout, np.zeros(shape, bool))
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        sigmoid_backward(dout, np.full(shape, 0.5))


@pytest.mark.small
@pytest.mark.parametrize("kind", ["complex", "object", "string", "masked"])
def test_wrong_types(kind):
    good, mask = np.ones((3, 2)), np.zeros((3, 2), bool)
    bad = {
        "complex": good.astype(complex),
        "object": good.astype(object),
        "string": good.astype(str),
        "masked": np.ma.masked_array(good, mask=True),
    }[kind]
    for kernel, arguments in (
        (relu_forward, (bad,)),
        (relu_backward, (bad, mask)),
        (sigmoid_forward, (bad,)),
        (sigmoid_backward, (bad, good)),
        (sigmoid_backward, (good, bad)),
    ):
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            kernel(*arguments)


@pytest.mark.small
@pytest.mark.parametrize("mask_dtype", [np.float64, complex, object])
def test_relu_mask_of_another_type(mask_dtype):
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        relu_backward(np.ones((3, 2)), np.zeros((3, 2), mask_dtype))

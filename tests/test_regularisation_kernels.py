"""``kernels.dropout`` and ``kernels.batch_norm`` against plain NumPy."""

import naive
import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from kernels import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    dropout_backward,
    dropout_forward,
)

SMALL = [(1,), (7,), (0, 5), (7, 5), (2, 3, 4)]
MASKED_SHAPES = [pytest.param(s, marks=pytest.mark.small) for s in SMALL] + [(70_001,), (300, 1000)]

# Shape of x, and whether there is one parameter for each channel or for each element.
SMALL_CASES = [
    ((1, 1), "channel"),
    ((7, 5), "channel"),
    ((2, 1), "channel"),
    ((3, 0), "channel"),
    ((3, 2, 4, 5), "channel"),
    ((3, 2, 4, 5), "element"),
    ((1, 3, 1, 1), "channel"),
    ((5, 2, 3), "channel"),
    ((5, 2, 3), "element"),
]
LARGE_CASES = [
    ((100, 50), "channel"),
    ((1003, 130), "channel"),
    ((33, 2001), "channel"),
    ((10, 30, 24, 24), "channel"),
    ((101, 64, 3, 3), "channel"),
    ((9, 3, 29, 31), "element"),
]
CASES = [pytest.param(*c, marks=pytest.mark.small, id=str(c)) for c in SMALL_CASES if 0 not in c[0]]
CASES += [pytest.param(*c, id=str(c)) for c in LARGE_CASES]


def batch(rng, shape, by, dtype, offset=3.0):
    features = shape[1] if by == "channel" else int(np.prod(shape[1:]))
    x = (rng.standard_normal(shape) * 2 + offset).astype(dtype)
    gamma, beta = rng.standard_normal((2, features)).astype(dtype)
    return x, gamma, beta, rng.standard_normal(shape).astype(dtype)


def channels_last(a):
    """Return the same images with the channels last in memory."""
    return np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)


def doubles(*arrays):
    return [a.astype(np.float64) for a in arrays]


def check_forward(x, gamma, beta, result):
    """Check results that are computed in float64 and rounded once to the dtype of gamma."""
    out, mean, var = result
    expected, expected_mean, expected_var = naive.batch_norm_forward(*doubles(x, gamma, beta))
    assert out.dtype == gamma.dtype
    assert mean.dtype == var.dtype == np.float64
    n = x.size // gamma.size
    naive.assert_within(mean, expected_mean, abs(x).max(), n)
    naive.assert_within(var, expected_var, (abs(x) ** 2).max(), n)
    # The mean has the rounding error of x; in the result it is divided by the deviation.
    std = np.sqrt(expected_var + 1e-6).min()
    magnitude = abs(gamma).max() * abs(x).max() / std + abs(beta).max()
    if gamma.dtype == np.float32:
        np.testing.assert_allclose(out, expected, rtol=2e-7, atol=1e-12 * magnitude * n)
    naive.assert_within(out, expected, magnitude, n)


def check_backward(dout, x, gamma, mean, var, result):
    expected = naive.batch_norm_backward(*doubles(dout, x, gamma), mean, var)
    n, std = x.size // gamma.size, np.sqrt(var + 1e-6).min()
    size = abs(dout).max() * abs(x).max() / std
    for a, e, magnitude in zip(
        result,
        expected,
        (abs(gamma).max() / std * (1 + abs(x).max() / std) * size, n * size, n * size),
        strict=True,
    ):
        assert a.dtype == gamma.dtype
        if gamma.dtype == np.float32:
            np.testing.assert_allclose(a, e, rtol=2e-7, atol=1e-12 * magnitude * n)
        naive.assert_within(a, e, magnitude, n)


# ---------------------------------------------------------------- dropout
@pytest.mark.parametrize("shape", MASKED_SHAPES, ids=str)
def test_dropout_shapes(rng, shape, dtype):
    x, mask = rng.standard_normal(shape).astype(dtype), rng.random(shape) > 0.3
    kept = x.copy()
    for f in (dropout_forward, dropout_backward):
        out = f(x, mask)
        assert out.dtype == dtype
        np.testing.assert_array_equal(out, naive.dropout(x, mask))
        assert not np.shares_memory(out, x)
    np.testing.assert_array_equal(x, kept)


def test_dropout_nan_and_infinity(dtype):
    x = np.array([np.nan, np.inf, -np.inf, -0.0, -1.0, 1.0] * 2, dtype)
    mask = np.arange(12) < 6
    out, expected = dropout_forward(x, mask), naive.dropout(x, mask)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(np.signbit(out[9:]), np.signbit(expected[9:]))


def test_dropout_layouts(rng, layout, dtype, compiles_nothing):
    x, mask = rng.standard_normal((7, 5)).astype(dtype), rng.random((7, 5)) > 0.5
    for f in (dropout_forward, dropout_backward):
        compiles_nothing(lambda f=f: f(x, mask), lambda f=f: f(layout(x), layout(mask)))
        np.testing.assert_array_equal(f(layout(x), layout(mask)), x * mask)


@pytest.mark.small
@pytest.mark.parametrize("f", [dropout_forward, dropout_backward])
def test_dropout_bad_input(f):
    x = np.ones((3, 2))
    for mask in (np.ones((2, 3), bool), np.ones(6, bool), True):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            f(x, mask)
    for mask in (x, x.astype(int), None, "mask"):
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            f(x, mask)


# ---------------------------------------------------------------- batch normalisation
@pytest.mark.parametrize("order", ["C", "channels last"])
@pytest.mark.parametrize(("shape", "by"), CASES)
def test_batch_norm_shapes(rng, shape, by, dtype, order):
    x, gamma, beta, dout = batch(rng, shape, by, dtype)
    if order != "C":
        x, dout = channels_last(x), channels_last(dout)
    copies = [a.copy() for a in (x, gamma, beta, dout)]
    result = batch_norm_forward(x, gamma, beta)
    out, mean, var = result
    assert out.shape == x.shape
    check_forward(x, gamma, beta, result)
    check_backward(dout, x, gamma, mean, var, batch_norm_backward(dout, x, gamma, mean, var))
    given = batch_norm_inference(x, gamma, beta, mean, var)
    np.testing.assert_array_equal(given, out)
    other_mean, other_var = rng.standard_normal(gamma.size), rng.random(gamma.size)
    given = batch_norm_inference(x, gamma, beta, other_mean, other_var)
    expected = naive.batch_norm_inference(*doubles(x, gamma, beta), other_mean, other_var)
    np.testing.assert_allclose(
        given, expected, rtol=1e-6 if dtype == np.float32 else 1e-12, atol=1e-8
    )
    for a, b in zip((x, gamma, beta, dout), copies, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.small
@pytest.mark.parametrize(
    ("shape", "by"), [((7, 5), "channel"), ((3, 2, 2, 3), "channel"), ((3, 2, 2, 3), "element")]
)
def test_batch_norm_numerical_gradient(rng, shape, by):
    x, gamma, beta, dout = batch(rng, shape, by, np.float64)

    def loss(_):
        return np.sum(dout * batch_norm_forward(x, gamma, beta)[0])

    _, mean, var = batch_norm_forward(x, gamma, beta)
    gradients = batch_norm_backward(dout, x, gamma, mean, var)
    for a, gradient in zip((x, gamma, beta), gradients, strict=True):
        np.testing.assert_allclose(
            gradient, naive.numerical_gradient(loss, a), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_batch_norm_far_from_zero(rng, offset):
    """Sums in float32 would lose the variance."""
    x, gamma, beta, _ = batch(rng, (10_000, 3), "channel", np.float32, offset)
    check_forward(x, gamma, beta, batch_norm_forward(x, gamma, beta))


@pytest.mark.small
def test_batch_norm_constant_features(dtype):
    """A variance of 0 divides by the square root of 1e-6."""
    x, gamma = np.full((4, 3), 7, dtype), np.ones(3, dtype)
    out, mean, var = batch_norm_forward(x, gamma, gamma)
    np.testing.assert_allclose(out, 1, rtol=1e-6)
    np.testing.assert_array_equal(var, 0)
    dx, dgamma, dbeta = batch_norm_backward(np.ones((4, 3), dtype), x, gamma, mean, var)
    np.testing.assert_allclose(dx, 0, atol=1e-9)
    np.testing.assert_allclose(dgamma, 0, atol=1e-9)
    np.testing.assert_array_equal(dbeta, 4)


def test_batch_norm_nan_and_infinity(rng, dtype):
    """NaN and infinity propagate within their own feature only."""
    for shape, by in (((9, 70), "channel"), ((9, 70, 3, 3), "channel")):
        x, gamma, beta, dout = batch(rng, shape, by, dtype)
        x[3, 5], x[4, 7], dout[5, 11] = np.nan, np.inf, np.nan
        out, mean, var = batch_norm_forward(x, gamma, beta)
        dx, dgamma, dbeta = batch_norm_backward(dout, x, gamma, mean, var)
        spoilt = np.isin(np.arange(70), [5, 7])
        assert np.isnan(out[:, spoilt]).all()
        assert np.isfinite(out[:, ~spoilt]).all()
        spoilt = np.isin(np.arange(70), [5, 7, 11])
        assert np.isnan(dx[:, spoilt]).all()
        assert np.isfinite(dx[:, ~spoilt]).all()
        assert np.isfinite(dgamma[~spoilt]).all()
        assert np.isnan(dgamma[spoilt]).all()
        np.testing.assert_array_equal(np.isnan(dbeta), np.arange(70) == 11)


@pytest.mark.parametrize(("shape", "by"), [((7, 5), "channel"), ((3, 2, 4, 5), "channel")])
def test_batch_norm_layouts(rng, layout, shape, by, dtype, compiles_nothing):
    x, gamma, beta, dout = batch(rng, shape, by, dtype)

    def run(place):
        out, mean, var = batch_norm_forward(place(x), place(gamma), place(beta))
        given = batch_norm_inference(*map(place, (x, gamma, beta, mean, var)))
        return out, mean, var, given, *batch_norm_backward(*map(place, (dout, x, gamma, mean, var)))

    compiles_nothing(lambda: run(lambda a: a), lambda: run(layout))
    for a, b in zip(run(layout), run(lambda a: a), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (40, 30, 9, 7), (5, 3, 6), (2, 3, 2, 2, 2)])
def test_batch_norm_keeps_the_order_of_images(rng, shape, dtype, compiles_nothing):
    x, gamma, beta, dout = batch(rng, shape, "channel", dtype)

    def run(x, dout):
        out, mean, var = batch_norm_forward(x, gamma, beta)
        given = batch_norm_inference(x, gamma, beta, mean, var)
        return out, given, *batch_norm_backward(dout, x, gamma, mean, var)

    last = channels_last(x)
    last.setflags(write=False)
    expected = run(x, dout)
    results = []
    compiles_nothing(
        lambda: results.append(run(last.copy("K"), channels_last(dout))),
        lambda: results.extend([run(last, channels_last(dout)), run(last, dout)]),
    )
    for result in results:
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
        for a, b in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(a, b)
        for images in result[:3]:
            assert np.moveaxis(images, 1, -1).flags.c_contiguous


def test_batch_norm_nan_in_images(rng, dtype):
    x, gamma, beta, dout = batch(rng, (4, 3, 2, 2), "channel", dtype)
    for bad in (np.nan, np.inf):
        x[1, 2, 0, 1] = bad
        out, mean, var = batch_norm_forward(channels_last(x), gamma, beta)
        dx, dgamma, dbeta = batch_norm_backward(dout, channels_last(x), gamma, mean, var)
        for images in (out, dx):
            assert np.isnan(images[:, 2]).all()
            assert np.isfinite(images[:, :2]).all()
        assert np.isfinite(dbeta).all()
        np.testing.assert_array_equal(np.isnan(dgamma), [False, False, True])


@pytest.mark.parametrize("order", [np.array, channels_last])
def test_batch_norm_bits_do_not_depend_on_threads(rng, bits_on_threads, dtype, order):
    for shape, by in LARGE_CASES:
        x, gamma, beta, dout = batch(rng, shape, by, dtype)
        x, dout = order(x), order(dout)
        _, mean, var = batch_norm_forward(x, gamma, beta)
        for f in (
            lambda a=(x, gamma, beta): batch_norm_forward(*a),
            lambda a=(x, gamma, beta, mean, var): batch_norm_inference(*a),
            lambda a=(dout, x, gamma, mean, var): batch_norm_backward(*a),
        ):
            one, others = bits_on_threads(f)
            assert all(bits == one for bits in others)


@pytest.mark.parametrize("x_dtype", [np.uint8, np.int32, np.float32])
def test_batch_norm_of_other_types(rng, x_dtype):
    x, gamma, beta, dout = batch(rng, (40, 30), "channel", np.float64, offset=9)
    x = x.clip(0).astype(x_dtype)
    result = batch_norm_forward(x, gamma, beta)
    check_forward(x, gamma, beta, result)
    _, mean, var = result
    check_backward(dout, x, gamma, mean, var, batch_norm_backward(dout, x, gamma, mean, var))


@pytest.mark.small
def test_batch_norm_bad_shapes():
    x, one, four = np.ones((3, 2, 2, 2)), np.ones(2), np.ones(8)
    assert batch_norm_forward(x, one, one)[0].shape == x.shape
    assert batch_norm_forward(x, four, four)[0].shape == x.shape
    for args in (
        (x, np.ones(4), np.ones(4)),
        (x, one, four),
        (x, np.ones((2, 1)), np.ones((2, 1))),
        (x[0, 0, 0], one, one),
        (np.ones((3, 2)), np.ones(3), np.ones(3)),
        (np.ones((0, 2)), one, one),
        (1.0, one, one),
        (x, 1.0, 1.0),
    ):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            batch_norm_forward(*args)
    for args in ((x, x, one, one, four), (x[:2], x, one, one, one), (x, x, four, one, one)):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            batch_norm_backward(*args)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        batch_norm_inference(x, one, one, four, four)
    assert batch_norm_inference(x[:0], one, one, one, one).shape == (0, 2, 2, 2)


# ---------------------------------------------------------------- from compiled code
@numba.njit(cache=True)
def users_dropout(x, mask):
    return dropout_forward(x, mask), dropout_backward(dout=x, mask=mask)


@numba.njit(cache=True)
def users_batch_norm(x, gamma, beta, dout):
    out, mean, var = batch_norm_forward(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm_backward(dout, x, gamma, mean, var)
    return out, mean, var, batch_norm_inference(x, gamma, beta, mean, var), dx, dgamma, dbeta


@pytest.mark.slow
def test_dropout_from_njit(rng):
    x, mask = rng.standard_normal((7, 5)), rng.random((7, 5)) > 0.5
    for out in (*users_dropout(x, mask), *users_dropout(x.T.copy().T, mask)):
        np.testing.assert_array_equal(out, x * mask)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        users_dropout(x, mask[:3])
    with pytest.raises(TypingError, match=naive.EXPECTED_GOT):
        users_dropout(x, x)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "by"), [((7, 5), "channel"), ((6, 3, 4, 5), "channel")])
def test_batch_norm_from_njit(rng, shape, by, dtype):
    x, gamma, beta, dout = batch(rng, shape, by, dtype)
    out, mean, var = batch_norm_forward(x, gamma, beta)
    gradients = batch_norm_backward(dout, x, gamma, mean, var)
    expected = (out, mean, var, out, *gradients)
    for a, b in zip(users_batch_norm(x, gamma, beta, dout), expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_batch_norm_from_njit_bad_shapes():
    x, one = np.ones((3, 2)), np.ones(2)
    for args in (
        (x, np.ones(3), one, x),
        (x, one, np.ones(3), x),
        (x[:0], one, one, x),
        (x, one, one, x[:2]),
    ):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            users_batch_norm(*args)

"""``kernels.pooling`` against im2col in NumPy."""

import naive
import naive_convolution
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exhaustive import exhaustive
from test_convolution import channels_last

import kernels
from kernels.pooling import max_pool_backward, max_pool_forward

# N, C, H, W, pool_h, pool_w, stride, pad
SHAPES = [
    *(
        pytest.param(s, marks=pytest.mark.small)
        for s in (
            (2, 3, 4, 6, 2, 2, 2, 0),
            (1, 2, 5, 5, 2, 2, 2, 0),
            (2, 1, 5, 4, 3, 2, 1, 1),
            (1, 3, 5, 6, 2, 2, 3, 1),
            (1, 2, 3, 3, 2, 2, 1, 0),
            (0, 2, 4, 4, 2, 2, 2, 0),
            (1, 0, 4, 4, 2, 2, 2, 0),
            (2, 2, 3, 4, 3, 4, 1, 0),
            (1, 2, 3, 3, 1, 1, 2, 0),
        )
    ),
    (100, 30, 24, 24, 2, 2, 2, 0),
    (5, 17, 13, 11, 3, 3, 2, 1),
    (3, 70, 9, 8, 2, 2, 2, 1),
]


def images(rng, shape, dtype, odd=True):
    """Return small integers, so that there are ties; if `odd`, also NaN and infinities."""
    x = rng.integers(-3, 4, shape[:4]).astype(dtype)
    if odd and x.size:
        for bad in (np.nan, np.inf, -np.inf, -0.0):
            x[rng.random(x.shape) < 0.02] = bad
    return x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(rng, shape, dtype):
    x, options = images(rng, shape, dtype), shape[4:]
    expected, indices = naive_convolution.max_pool_forward(x, *options)
    dout = rng.integers(-9, 10, expected.shape).astype(dtype)
    dx = naive_convolution.max_pool_backward(dout, indices, x.shape, *options)
    for order in (np.ascontiguousarray, channels_last, np.asfortranarray):
        given = order(x)
        kept = given.copy()
        out, arg_max = max_pool_forward(given, *options)
        assert out.dtype == dtype
        assert arg_max.dtype == np.int32
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(arg_max, indices)
        np.testing.assert_array_equal(given, kept)
        for i in (arg_max, arg_max.astype(np.int64), np.ascontiguousarray(arg_max)):
            found = max_pool_backward(order(dout), i, x.shape, *options)
            np.testing.assert_array_equal(found, dx)  # small integers: no rounding


@pytest.mark.small
def test_layouts(rng, layout, dtype):
    for options in ((2, 2, 2, 0), (3, 2, 1, 1)):
        x = images(rng, (2, 3, 5, 6), dtype)
        expected, indices = naive_convolution.max_pool_forward(x, *options)
        out, arg_max = max_pool_forward(layout(x), *options)
        np.testing.assert_array_equal(out, expected)
        dout = rng.integers(-9, 10, out.shape).astype(dtype)
        dx = naive_convolution.max_pool_backward(dout, indices, x.shape, *options)
        found = max_pool_backward(layout(dout), layout(arg_max), x.shape, *options)
        np.testing.assert_array_equal(found, dx)


def test_layouts_and_sizes_compile_nothing(rng, layout, compiles_nothing, dtype):
    def run(shape, change, *options):
        out, arg_max = max_pool_forward(change(images(rng, shape, dtype)), *options)
        max_pool_backward(change(out), change(arg_max), shape, *options)

    compiles_nothing(
        lambda: run((2, 3, 5, 6), lambda a: a, 2, 2, 2),
        lambda: [run((3, 5, 7, 6), layout, *o) for o in ((2, 2, 2), (3, 2, 1, 1), (7, 6, 1))],
    )


@pytest.mark.small
def test_integers_are_converted(rng):
    x = rng.integers(0, 9, (2, 3, 4, 4))
    out, _ = max_pool_forward(x, 2, 2, 2)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, naive_convolution.max_pool_forward(x, 2, 2, 2)[0])


@pytest.mark.small
def test_gradient_numerically(rng):
    x = rng.permutation(2 * 3 * 5 * 4).reshape(2, 3, 5, 4).astype(float)  # no ties
    for options in ((2, 2, 2, 0), (3, 2, 1, 1)):
        out, arg_max = max_pool_forward(x, *options)
        dout = rng.standard_normal(out.shape)
        dx = max_pool_backward(dout, arg_max, x.shape, *options)

        def loss(_, dout=dout, options=options):
            return np.sum(dout * max_pool_forward(x, *options)[0])

        np.testing.assert_allclose(dx, naive.numerical_gradient(loss, x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("options", [(2, 2, 2, 0), (3, 3, 2, 1), (3, 2, 1, 0)], ids=str)
def test_bits_do_not_depend_on_threads(rng, dtype, options, bits_on_threads):
    x = rng.standard_normal((50, 17, 13, 12)).astype(dtype)
    dout = rng.standard_normal(max_pool_forward(x, *options)[0].shape).astype(dtype)

    def run():
        out, arg_max = max_pool_forward(x, *options)
        return out, arg_max, max_pool_backward(dout, arg_max, x.shape, *options)

    one, others = bits_on_threads(run)
    assert all(other == one for other in others)


@st.composite
def any_shape(draw):
    pool_h, pool_w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    pad = draw(st.integers(0, min(pool_h, pool_w) - 1))
    h, w = (draw(st.integers(max(1, p - 2 * pad), p + 9)) for p in (pool_h, pool_w))
    n, c = draw(st.integers(0, 6)), draw(st.integers(1, 20))
    return n, c, h, w, pool_h, pool_w, draw(st.integers(1, 4)), pad


@given(any_shape(), st.integers(0, 9))
def test_any_shape(shape, seed):
    rng = np.random.default_rng(seed)
    x, options = images(rng, shape, np.float32), shape[4:]
    out, arg_max = max_pool_forward(x, *options)
    expected, indices = naive_convolution.max_pool_forward(x, *options)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(arg_max, indices)
    dout = rng.integers(-9, 10, out.shape).astype(np.float32)
    dx = naive_convolution.max_pool_backward(dout, indices, x.shape, *options)
    np.testing.assert_array_equal(max_pool_backward(dout, arg_max, x.shape, *options), dx)


# ---------------------------------------------------------------- from compiled code
@numba.njit
def compiled(x, dout, size):
    out, arg_max = kernels.max_pool_forward(x, size, 2, 2, pad=1)
    return out, arg_max, kernels.max_pool_backward(dout, arg_max, x.shape, size, 2, 2, 1)


@numba.njit
def compiled_backward(dout, arg_max, shape):
    return kernels.max_pool_backward(dout, arg_max, shape, 2, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, exhaustive(np.float64)], ids=["float32", "float64"])
def test_compiled_callers(rng, dtype):
    x = images(rng, (2, 3, 5, 6), dtype)
    expected, indices = naive_convolution.max_pool_forward(x, 3, 2, 2, 1)
    dout = rng.integers(-9, 10, expected.shape).astype(dtype)
    out, arg_max, dx = compiled(x, dout, 3)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(arg_max, indices)
    wanted = naive_convolution.max_pool_backward(dout, indices, x.shape, 3, 2, 2, 1)
    np.testing.assert_array_equal(dx, wanted)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        compiled(x, dout[:1], 3)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        compiled(x, dout, 1)
    for bad in (-1, 4, 2**40):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            compiled_backward(
                np.ones((1, 1, 1, 1), dtype), np.full((1, 1, 1, 1), bad), (1, 1, 2, 2)
            )


# ---------------------------------------------------------------- wrong input
X = np.ones((2, 3, 5, 4))
DOUT, ARG = np.ones((2, 3, 2, 2)), np.zeros((2, 3, 2, 2), int)
WRONG = {
    "x 3-D": lambda: max_pool_forward(X[0], 2, 2, 2),
    "window too high": lambda: max_pool_forward(X, 6, 2, 2),
    "window of 0": lambda: max_pool_forward(X, 0, 2, 2),
    "stride 0": lambda: max_pool_forward(X, 2, 2, 0),
    "pad negative": lambda: max_pool_forward(X, 2, 2, 2, -1),
    "pad as large as the window": lambda: max_pool_forward(X, 2, 3, 2, 2),
    "window of 32 bits": lambda: max_pool_forward(X, 50_000, 50_000, 60_000, 49_999),
    "dout": lambda: max_pool_backward(DOUT[:1], ARG, X.shape, 2, 2, 2),
    "arg_max": lambda: max_pool_backward(DOUT, ARG[:, :2], X.shape, 2, 2, 2),
    "shape": lambda: max_pool_backward(DOUT, ARG, X.shape[1:], 2, 2, 2),
    "shape negative": lambda: max_pool_backward(DOUT, ARG, (-2, 3, 5, 4), 2, 2, 2),
    "index negative": lambda: max_pool_backward(DOUT, ARG - 1, X.shape, 2, 2, 2),
    "index too large": lambda: max_pool_backward(DOUT, ARG + 4, X.shape, 2, 2, 2),
    "index far too large": lambda: max_pool_backward(DOUT, ARG + 2**32, X.shape, 2, 2, 2),
    "index of a pad": lambda: max_pool_backward(
        np.ones((1, 1, 3, 3)), np.zeros((1, 1, 3, 3), int), (1, 1, 4, 4), 2, 2, 2, 1
    ),
}


@pytest.mark.small
@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_wrong_values(call):
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        call()


@pytest.mark.small
def test_wrong_types():
    for call in (
        lambda: max_pool_forward(X, 2.0, 2, 2),
        lambda: max_pool_forward(X, 2, None, 2),
        lambda: max_pool_forward(X.astype(complex), 2, 2, 2),
        lambda: max_pool_backward(DOUT, ARG.astype(float), X.shape, 2, 2, 2),
        lambda: max_pool_backward(DOUT, ARG > 0, X.shape, 2, 2, 2),
        lambda: max_pool_backward(DOUT, ARG, 4, 2, 2, 2),
    ):
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            call()

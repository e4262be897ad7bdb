"""``kernels.convolution`` and the kernel fused with ReLU and pooling against im2col in NumPy."""

import naive
import naive_convolution
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exhaustive import exhaustive

import kernels
from kernels._convolution_block import (
    convolution_relu_backward,
    convolution_relu_forward,
    convolution_relu_pool_backward,
    convolution_relu_pool_forward,
)
from kernels.convolution import (
    convolution_backward,
    convolution_backward_params,
    convolution_forward,
)

# N, C, H, W, FN, FH, FW, stride, pad
SMALL_SHAPES = [
    (2, 1, 5, 4, 3, 3, 2, 1, 0),
    (1, 3, 4, 5, 2, 2, 3, 1, 1),
    (2, 6, 5, 4, 3, 3, 3, 2, 1),
    (0, 2, 4, 4, 3, 3, 3, 1, 0),
    (1, 2, 3, 3, 2, 1, 1, 1, 2),
    (2, 1, 4, 3, 1, 4, 3, 1, 0),
    (1, 0, 3, 3, 2, 2, 2, 1, 0),
    (1, 2, 3, 3, 0, 2, 2, 1, 0),
    (1, 1, 0, 2, 1, 2, 2, 1, 1),
]
SHAPES = [
    (100, 1, 28, 28, 30, 5, 5, 1, 0),
    (12, 16, 28, 28, 16, 3, 3, 1, 1),
    (12, 16, 14, 14, 33, 3, 3, 1, 2),
    (21, 32, 8, 8, 64, 3, 3, 1, 1),
    (7, 64, 3, 3, 130, 3, 3, 1, 1),
    (3, 3, 32, 31, 7, 5, 5, 2, 2),
    (5, 17, 9, 13, 5, 2, 4, 3, 1),
    (4, 9, 7, 6, 18, 7, 6, 1, 0),
    (330, 2, 5, 5, 4, 3, 3, 1, 1),
    (3, 40, 14, 14, 64, 3, 3, 1, 1),  # filters in several parts
    (2, 6, 9, 7, 20, 3, 3, 1, 1),
]
PARAMS = [pytest.param(s, marks=pytest.mark.small) for s in SMALL_SHAPES] + SHAPES


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def operands(rng, shape, dtype):
    n, c, h, w, filters, fh, fw, stride, pad = shape
    out = (h + 2 * pad - fh) // stride + 1, (w + 2 * pad - fw) // stride + 1
    return (
        rng.standard_normal((n, c, h, w)).astype(dtype),
        rng.standard_normal((filters, c, fh, fw)).astype(dtype),
        rng.standard_normal(filters).astype(dtype),
        rng.standard_normal((n, filters, *out)).astype(dtype),
    )


def check_forward(out, x, W, b, stride, pad):
    x, W, b = (a.astype(np.float64) for a in (x, W, b))
    magnitude = naive_convolution.convolution_forward(abs(x), abs(W), abs(b), stride, pad)
    expected = naive_convolution.convolution_forward(x, W, b, stride, pad)
    naive.assert_within(out, expected, magnitude, terms=W[:1].size + 1)


def check_backward(gradients, dout, x, W, stride, pad):
    dout, x, W = (a.astype(np.float64) for a in (dout, x, W))
    expected = naive_convolution.convolution_backward(dout, x, W, stride, pad)
    magnitudes = naive_convolution.convolution_backward(abs(dout), abs(x), abs(W), stride, pad)
    positions = dout[:, :1].size
    terms = W.size // max(1, W.shape[1]), positions, positions
    k = len(expected) - len(gradients)
    for got, want, magnitude, n in zip(
        gradients, expected[k:], magnitudes[k:], terms[k:], strict=True
    ):
        naive.assert_within(got, want, magnitude, n)


@pytest.mark.parametrize("shape", PARAMS, ids=str)
def test_shapes(rng, shape, dtype):
    x, W, b, dout = operands(rng, shape, dtype)
    stride, pad = shape[-2:]
    copies = [a.copy() for a in (x, W, b, dout)]
    out = convolution_forward(x, W, b, stride, pad)
    gradients = convolution_backward(dout, x, W, stride, pad)
    assert {out.dtype, *(g.dtype for g in gradients)} == {np.dtype(dtype)}
    check_forward(out, x, W, b, stride, pad)
    check_backward(gradients, dout, x, W, stride, pad)
    alone = convolution_backward_params(dout, x, W, stride, pad)
    for got, want in zip(alone, gradients[1:], strict=True):
        np.testing.assert_array_equal(got, want)
    for a, kept in zip((x, W, b, dout), copies, strict=True):
        np.testing.assert_array_equal(a, kept)


@pytest.mark.small
@pytest.mark.parametrize("shape", [*SMALL_SHAPES[:6], (3, 20, 6, 5, 17, 3, 3, 1, 1)], ids=str)
def test_memory_orders(rng, shape, dtype):
    """Results are bitwise identical in either memory order, and have the channels last."""
    x, W, b, dout = operands(rng, shape, dtype)
    stride, pad = shape[-2:]
    out = convolution_forward(x, W, b, stride, pad)
    gradients = convolution_backward(dout, x, W, stride, pad)
    for images in (out, gradients[0]):
        assert images.transpose(0, 2, 3, 1).flags.c_contiguous
        assert images.flags.writeable
    for order in (channels_last, np.asfortranarray):
        np.testing.assert_array_equal(convolution_forward(order(x), W, b, stride, pad), out)
        others = convolution_backward(order(dout), order(x), order(W), stride, pad)
        for got, want in zip(others, gradients, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.small
def test_layouts(rng, layout, dtype):
    for shape in ((2, 3, 5, 4, 3, 3, 2, 1, 1), (2, 8, 5, 4, 3, 3, 3, 2, 0)):
        x, W, b, dout = operands(rng, shape, dtype)
        stride, pad = shape[-2:]
        arrays = [layout(a) for a in (x, W, b, dout)]
        check_forward(convolution_forward(*arrays[:3], stride, pad), x, W, b, stride, pad)
        gradients = convolution_backward(arrays[3], *arrays[:2], stride, pad)
        check_backward(gradients, dout, x, W, stride, pad)


def test_layouts_and_sizes_compile_nothing(rng, layout, compiles_nothing, dtype):
    def run(shape, change):
        *arrays, stride, pad = *(change(a) for a in operands(rng, shape, dtype)), *shape[-2:]
        x, W, b, dout = arrays
        convolution_forward(x, W, b, stride, pad)
        convolution_backward(dout, x, W, stride, pad)

    compiles_nothing(
        lambda: run(SMALL_SHAPES[0], lambda a: a),
        lambda: [run(s, layout) for s in (*SMALL_SHAPES, (12, 16, 9, 9, 16, 3, 3, 1, 1))],
    )


@pytest.mark.small
@pytest.mark.parametrize("x_dtype", [np.uint8, np.int64, np.float32])
def test_narrow_x_is_widened(rng, x_dtype):
    for shape in ((2, 3, 5, 4, 3, 3, 2, 1, 0), (2, 9, 5, 4, 3, 3, 2, 2, 1)):
        _, W, b, dout = operands(rng, shape, np.float64)
        x = (100 * rng.random(shape[:4])).astype(x_dtype)
        stride, pad = shape[-2:]
        for a in (x, channels_last(x)):
            check_forward(convolution_forward(a, W, b, stride, pad), x, W, b, stride, pad)
            gradients = convolution_backward(dout, a, W, stride, pad)
            check_backward(gradients, dout, x, W, stride, pad)


@pytest.mark.small
def test_bias_may_be_a_number(rng, dtype):
    x, W, _, _ = operands(rng, SMALL_SHAPES[0], dtype)
    out = convolution_forward(x, W, 0.5)
    assert out.dtype == dtype
    check_forward(out, x, W, np.full(3, 0.5), 1, 0)


@pytest.mark.small
def test_results_are_fresh(rng, dtype):
    x, W, b, dout = operands(rng, SMALL_SHAPES[0], dtype)
    results = [convolution_forward(x, W, b), *convolution_backward(dout, x, W)]
    kept = [r.copy() for r in results]
    convolution_forward(2 * x, W, b)
    convolution_backward(2 * dout, x, W)
    for r, k in zip(results, kept, strict=True):
        assert not any(np.shares_memory(r, a) for a in (x, W, b, dout))
        np.testing.assert_array_equal(r, k)


NAN_SHAPES = [
    (2, 1, 6, 5, 3, 3, 2, 1, 1),
    (2, 9, 6, 5, 18, 3, 3, 1, 0),
    (12, 16, 7, 7, 4, 3, 3, 1, 1),
    (2, 3, 7, 7, 4, 3, 3, 2, 1),
]


@pytest.mark.parametrize("shape", NAN_SHAPES, ids=str)
def test_nan_and_infinity(rng, shape, dtype):
    """NaN and infinity propagate to the same elements as by im2col, and to no others."""
    clean = operands(rng, shape, dtype)
    stride, pad = shape[-2:]
    for bad in (np.nan, np.inf, -np.inf):
        for i in range(4):
            for where in (lambda n: 0, lambda n: n // 2, lambda n: n - 1):
                x, W, b, dout = (a.copy() for a in clean)
                spoilt = (x, W, b, dout)[i]
                spoilt[tuple(where(n) for n in spoilt.shape)] = bad
                check_forward(convolution_forward(x, W, b, stride, pad), x, W, b, stride, pad)
                gradients = convolution_backward(dout, x, W, stride, pad)
                check_backward(gradients, dout, x, W, stride, pad)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[1], SHAPES[5], SHAPES[8]], ids=str)
def test_bits_do_not_depend_on_threads(rng, shape, dtype, bits_on_threads):
    x, W, b, dout = operands(rng, shape, dtype)
    options = shape[-2:]
    y = kernels.relu_forward(convolution_forward(x, W, b, *options))[0]
    small = np.ascontiguousarray(dout[:, :, : dout.shape[2] // 2, : dout.shape[3] // 2])

    def run():
        pooled, arg = convolution_relu_pool_forward(x, W, b, *options)
        return (
            convolution_forward(x, W, b, *options),
            *convolution_backward(dout, x, W, *options),
            pooled,
            *convolution_relu_pool_backward(small, arg, x, W, *options),
            *convolution_relu_backward(dout, y, x, W, *options),
        )

    one, others = bits_on_threads(run)
    assert all(other == one for other in others)


@pytest.mark.small
@pytest.mark.parametrize("shape", [(2, 1, 4, 4, 2, 2, 3, 1, 1), (1, 6, 5, 4, 2, 3, 3, 2, 1)])
def test_gradients_numerically(rng, shape):
    x, W, b, dout = operands(rng, shape, np.float64)
    stride, pad = shape[-2:]
    gradients = convolution_backward(dout, x, W, stride, pad)

    def loss(_):
        return np.sum(dout * convolution_forward(x, W, b, stride, pad))

    for gradient, a in zip(gradients, (x, W, b), strict=True):
        np.testing.assert_allclose(gradient, naive.numerical_gradient(loss, a), rtol=1e-6)


@st.composite
def any_shape(draw):
    small = st.integers(1, 9)
    fh, fw, stride, pad = draw(small), draw(small), draw(st.integers(1, 4)), draw(st.integers(0, 4))
    h, w = (draw(st.integers(max(0, f - 2 * pad), f + 12)) for f in (fh, fw))
    return (
        draw(st.integers(0, 12)),
        draw(small),
        h,
        w,
        draw(st.integers(0, 40)),
        fh,
        fw,
        stride,
        pad,
    )


@given(any_shape(), st.booleans(), st.integers(0, 9))
def test_any_shape(shape, last, seed):
    x, W, b, dout = operands(np.random.default_rng(seed), shape, np.float32)
    stride, pad = shape[-2:]
    order = channels_last if last else np.ascontiguousarray
    check_forward(convolution_forward(order(x), W, b, stride, pad), x, W, b, stride, pad)
    gradients = convolution_backward(order(dout), order(x), W, stride, pad)
    check_backward(gradients, dout, x, W, stride, pad)


# ---------------------------------------------------------------- with ReLU and pooling
def separately(x, W, b, stride, pad):
    y, mask = kernels.relu_forward(convolution_forward(x, W, b, stride, pad))
    return y, mask, *kernels.max_pool_forward(y, 2, 2, 2)


BLOCKS = [
    *(pytest.param(s, marks=pytest.mark.small) for s in (SMALL_SHAPES[0], SMALL_SHAPES[1])),
    SHAPES[0],
    SHAPES[1],
    (3, 5, 9, 11, 30, 3, 3, 2, 1),
    (2, 4, 7, 6, 5, 2, 2, 1, 2),
    (2, 2, 7, 6, 130, 3, 2, 1, 0),
    (12, 1, 28, 28, 30, 5, 5, 1, 0),  # several chunks of images
    (2, 33, 7, 6, 40, 2, 2, 1, 2),
    (2, 32, 8, 8, 64, 3, 3, 1, 1),
    (1, 20, 33, 30, 9, 3, 3, 1, 1),  # several blocks of an image's rows
    (2, 40, 14, 15, 64, 3, 3, 1, 1),  # filters in several parts
    (1, 116, 5, 5, 15, 3, 3, 1, 0),  # in float32 only if columns are rounded up to whole vectors
    (1, 116, 5, 5, 7, 3, 3, 1, 0),  # in float64
    (0, 1, 6, 6, 3, 3, 3, 1, 0),
    (1, 0, 6, 6, 3, 3, 3, 1, 0),
    (2, 1, 6, 6, 0, 3, 3, 1, 0),
]


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "C order"])
@pytest.mark.parametrize("shape", BLOCKS, ids=str)
def test_fused_with_relu_and_pooling(rng, shape, dtype, last):
    x, W, b, dout = operands(rng, shape, dtype)
    options = shape[-2:]
    x = channels_last(x) if last else x
    y, mask, pooled, arg_max = separately(x, W, b, *options)
    np.testing.assert_array_equal(convolution_relu_forward(x, W, b, *options), y)
    out, arg = convolution_relu_pool_forward(x, W, b, *options, channels_last=last)
    np.testing.assert_array_equal(out, pooled)
    assert (out.transpose(0, 2, 3, 1) if last else out).flags.c_contiguous

    upper = rng.standard_normal(out.shape).astype(dtype)
    upper = channels_last(upper) if last else upper
    dy = kernels.max_pool_backward(upper, arg_max, y.shape, 2, 2, 2)
    gradients = convolution_relu_pool_backward(upper, arg, x, W, *options)
    check_backward(gradients, kernels.relu_backward(dy, mask), x, W, *options)
    alone = convolution_relu_pool_backward(upper, arg, x, W, *options, input_gradient=False)
    assert alone[0] is None

    gradients = convolution_relu_backward(dout, y, x, W, *options)
    check_backward(gradients, kernels.relu_backward(dout, mask), x, W, *options)
    check_backward(alone[1:], kernels.relu_backward(dy, mask), x, W, *options)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8, 18, 3, 3, 1, 1), (1, 32, 6, 6, 33, 3, 3, 1, 1)])
def test_fused_with_nan_and_infinity(rng, shape, dtype):
    clean = operands(rng, shape, dtype)[:3]
    for bad in (np.nan, np.inf, -np.inf):
        for i in range(3):
            arrays = [a.copy() for a in clean]
            arrays[i][tuple(n // 2 for n in arrays[i].shape)] = bad
            y, mask, pooled, arg_max = separately(*arrays, 1, 1)
            out, arg = convolution_relu_pool_forward(*arrays, 1, 1)
            np.testing.assert_array_equal(out, pooled)
            dout = rng.standard_normal(out.shape).astype(dtype)
            dy = kernels.max_pool_backward(dout, arg_max, y.shape, 2, 2, 2)
            gradients = convolution_relu_pool_backward(dout, arg, *arrays[:2], 1, 1)
            check_backward(gradients, kernels.relu_backward(dy, mask), *arrays[:2], 1, 1)


# ---------------------------------------------------------------- from compiled code
@numba.njit
def compiled(x, W, b, dout):
    out = kernels.convolution_forward(x, W, b, 2, 1)
    dx, dW, db = kernels.convolution_backward(dout, x, W, 2, pad=1)
    return out, dx, dW, db, *kernels.convolution_backward_params(dout, x, W, stride=2, pad=1)


@numba.njit
def compiled_with_defaults(x, W):
    return kernels.convolution_forward(x, W, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, exhaustive(np.float64)], ids=["float32", "float64"])
def test_compiled_callers(rng, dtype):
    x, W, b, dout = operands(rng, (12, 6, 9, 8, 5, 3, 3, 2, 1), dtype)
    out, *gradients = compiled(x, W, b, dout)
    check_forward(out, x, W, b, 2, 1)
    check_backward(gradients[:3], dout, x, W, 2, 1)
    check_backward(gradients[3:], dout, x, W, 2, 1)
    check_forward(compiled_with_defaults(channels_last(x), W), x, W, np.full(5, 0.5), 1, 0)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        compiled(x[:, :5].copy(), W, b, dout)  # contiguous, so that nothing else is compiled
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        compiled(x, W, b, dout[:, :, :-1].copy())
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        compiled(x, W, b[:2], dout)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        compiled_with_defaults(channels_last(x[:, :, :2]), W)


# ---------------------------------------------------------------- wrong input
X, WEIGHT, B = np.ones((2, 3, 5, 4)), np.ones((6, 3, 3, 2)), np.ones(6)
DOUT = np.ones((2, 6, 3, 3))
WRONG = {
    "x 3-D": lambda: convolution_forward(X[0], WEIGHT, B),
    "W 2-D": lambda: convolution_forward(X, WEIGHT[0, 0], B),
    "channels": lambda: convolution_forward(X[:, :2], WEIGHT, B),
    "b long": lambda: convolution_forward(X, WEIGHT, np.ones(7)),
    "b of one": lambda: convolution_forward(X, WEIGHT, np.ones(1)),
    "b 2-D": lambda: convolution_forward(X, WEIGHT, np.ones((6, 1))),
    "filter too high": lambda: convolution_forward(X[:, :, :2], WEIGHT, B),
    "filter too wide": lambda: convolution_forward(X[..., :1], WEIGHT, B),
    "no filter": lambda: convolution_forward(X, WEIGHT[:, :, :0], B),
    "stride 0": lambda: convolution_forward(X, WEIGHT, B, 0),
    "stride negative": lambda: convolution_forward(X, WEIGHT, B, -1),
    "pad negative": lambda: convolution_forward(X, WEIGHT, B, 1, -1),
    "stride of 65 bits": lambda: convolution_forward(X, WEIGHT, B, 2**64),
    "pad of 32 bits": lambda: convolution_forward(X, WEIGHT, B, 2**31, 2**31 - 2),
    "padded image too large": lambda: convolution_forward(X, WEIGHT, B, 2**31 - 1, 2**31 - 2),
    "dout 3-D": lambda: convolution_backward(DOUT[0], X, WEIGHT),
    "dout rows": lambda: convolution_backward(DOUT[:, :, :2], X, WEIGHT),
    "dout filters": lambda: convolution_backward_params(DOUT[:, :5], X, WEIGHT),
    "dout of another pad": lambda: convolution_backward(DOUT, X, WEIGHT, 1, 1),
    "fused, nothing to pool": lambda: convolution_relu_pool_forward(X, WEIGHT, B, 4),
    "fused, dout": lambda: convolution_relu_pool_backward(DOUT, np.ones(1, np.uint8), X, WEIGHT),
}


@pytest.mark.small
@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_wrong_values(call):
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        call()


@pytest.mark.small
@pytest.mark.parametrize("wrong", [1.0, None, "1", [1, 1]], ids=str)
def test_wrong_sizes(wrong):
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        convolution_forward(X, WEIGHT, B, wrong)
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        convolution_backward(DOUT, X, WEIGHT, 1, wrong)


@pytest.mark.small
@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 3))
def test_numpy_integers_are_sizes(stride, pad):
    out = convolution_forward(X, WEIGHT, B, np.int32(stride), np.uint8(pad))
    np.testing.assert_array_equal(out, convolution_forward(X, WEIGHT, B, stride, pad))

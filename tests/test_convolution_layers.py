"""The layers of a convolutional network against the course's in NumPy."""

import naive
import naive_convolution
import numpy as np
import pytest
from net.layers.convolution import Convolution, Pooling

pytestmark = pytest.mark.small


def convolution(rng, dtype, **options):
    W, b = rng.standard_normal((4, 3, 3, 2)).astype(dtype), rng.standard_normal(4).astype(dtype)
    return Convolution(W, b, **options), naive_convolution.Convolution(W, b, **options)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": 1, "pad": 1}], ids=str)
def test_convolution(rng, dtype, options):
    layer, reference = convolution(rng, dtype, **options)
    x = rng.standard_normal((2, 3, 6, 5)).astype(dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-10}
    out = layer.forward(x)
    np.testing.assert_allclose(out, reference.forward(x), **tolerance)
    assert layer.x is x
    dout = rng.standard_normal(out.shape).astype(dtype)
    np.testing.assert_allclose(layer.backward(dout), reference.backward(dout), **tolerance)
    np.testing.assert_allclose(layer.dW, reference.dW, **tolerance)
    np.testing.assert_allclose(layer.db, reference.db, **tolerance)
    kept = layer.dW, layer.db, layer.dW.copy(), layer.db.copy()
    layer.backward(2 * dout)
    assert layer.dW is not kept[0]
    np.testing.assert_array_equal(kept[0], kept[2])
    np.testing.assert_array_equal(kept[1], kept[3])


def test_without_the_gradient_of_the_input(rng, dtype):
    layer, _ = convolution(rng, dtype)
    other, _ = convolution(rng, dtype)
    first = Convolution(layer.W, layer.b, input_gradient=False)
    x = rng.standard_normal((2, 3, 6, 5)).astype(dtype)
    dout = layer.forward(x)
    first.forward(x)
    assert layer.backward(dout) is not None
    assert first.backward(dout) is None
    np.testing.assert_array_equal(first.dW, layer.dW)
    np.testing.assert_array_equal(first.db, layer.db)
    assert other.dW is None


def test_parameters_are_shared_and_may_be_replaced(rng):
    layer, _ = convolution(rng, np.float64)
    x = rng.standard_normal((1, 3, 4, 4))
    W = layer.W
    W *= 2
    before = layer.forward(x)
    layer.W = W / 2
    layer.b = layer.b / 2
    np.testing.assert_allclose(layer.forward(x), before / 2 + 0 * before, rtol=1e-9, atol=1e-9)


def test_a_number_as_bias():
    layer = Convolution(np.ones((3, 1, 2, 2), np.float32), 0)
    assert layer.b.shape == (3,)
    assert layer.b.dtype == np.float32
    layer.forward(np.ones((1, 1, 2, 2)))
    layer.backward(np.ones((1, 3, 1, 1)))
    np.testing.assert_array_equal(layer.db, np.ones(3))


@pytest.mark.parametrize("options", [(2, 2, 2, 0), (3, 2, 1, 1), (2, 2, 3, 0)], ids=str)
def test_pooling(rng, dtype, options):
    layer, reference = Pooling(*options), naive_convolution.Pooling(*options)
    x = rng.integers(-3, 4, (2, 3, 7, 6)).astype(dtype)
    out = layer.forward(x)
    np.testing.assert_array_equal(out, reference.forward(x))
    np.testing.assert_array_equal(layer.arg_max, reference.arg_max)
    assert layer.x is x
    dout = rng.integers(-3, 4, out.shape).astype(dtype)
    np.testing.assert_array_equal(layer.backward(dout), reference.backward(dout))


def test_half_precision_is_widened(rng):
    x = rng.standard_normal((1, 3, 4, 4)).astype(np.float16)
    layer, _ = convolution(rng, np.float32)
    out = layer.forward(x)
    np.testing.assert_array_equal(out, layer.forward(x.astype(np.float32)))
    assert layer.x.dtype == np.float32
    pooled = Pooling(2, 2).forward(x)
    assert pooled.dtype == np.float32


def test_backward_before_forward(rng):
    for layer in (convolution(rng, np.float64)[0], Pooling(2, 2)):
        with pytest.raises(RuntimeError, match=naive.EXPECTED_GOT):
            layer.backward(np.ones((1, 1, 1, 1)))


def test_a_failed_forward_keeps_the_last(rng):
    layer, _ = convolution(rng, np.float64)
    x = rng.standard_normal((1, 3, 4, 4))
    layer.forward(x)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        layer.forward(x[:, :2])
    assert layer.x is x


WRONG = {
    "W 2-D": (ValueError, lambda: Convolution(np.ones((3, 2)), np.ones(3))),
    "b long": (ValueError, lambda: Convolution(np.ones((3, 2, 1, 1)), np.ones(4))),
    "stride": (ValueError, lambda: Convolution(np.ones((3, 2, 1, 1)), np.ones(3), 0)),
    "pad": (TypeError, lambda: Convolution(np.ones((3, 2, 1, 1)), np.ones(3), 1, 0.5)),
    "complex": (TypeError, lambda: Convolution(np.ones((3, 2, 1, 1)) * 1j, np.ones(3))),
    "pool": (ValueError, lambda: Pooling(0, 2)),
    "pool stride": (TypeError, lambda: Pooling(2, 2, 1.5)),
    "masked": (TypeError, lambda: Pooling(2, 2).forward(np.ma.ones((1, 1, 2, 2)))),
    "masked half": (
        TypeError,
        lambda: Pooling(2, 2).forward(np.ma.ones((1, 1, 2, 2), np.float16)),
    ),
}


@pytest.mark.parametrize(("error", "call"), WRONG.values(), ids=WRONG)
def test_wrong_input(error, call):
    with pytest.raises(error, match=naive.EXPECTED_GOT):
        call()

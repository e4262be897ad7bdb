"""The layers of ``net``: attributes, accepted shapes, and errors."""

import naive
import numpy as np
import pytest

from net import Add, Affine, Mul, Relu, Sigmoid, SoftmaxWithLoss


def parameters(rng, d, m, dtype=np.float64):
    return rng.standard_normal((d, m)).astype(dtype), rng.standard_normal(m).astype(dtype)


def rtol(dtype):
    """Return the tolerance of a sum of a few dozen terms of similar size."""
    return 100 * np.finfo(dtype).eps


# ---------------------------------------------------------------- Affine
def test_affine(rng, dtype):
    W, b = parameters(rng, 5, 3, dtype)
    x, dout = rng.random((7, 5)).astype(dtype), rng.random((7, 3)).astype(dtype)
    layer, reference = Affine(W, b), naive.Affine(W, b)
    assert layer.x is layer.dW is layer.db is None
    out, expected = layer.forward(x), reference.forward(x)
    np.testing.assert_allclose(out, expected, rtol=rtol(dtype), atol=rtol(dtype))
    np.testing.assert_array_equal(layer.x, x)
    dx, expected = layer.backward(dout), reference.backward(dout)
    np.testing.assert_allclose(dx, expected, rtol=rtol(dtype), atol=rtol(dtype))
    np.testing.assert_allclose(layer.dW, reference.dW, rtol=rtol(dtype))
    np.testing.assert_allclose(layer.db, reference.db, rtol=rtol(dtype))
    assert {a.dtype for a in (out, dx, layer.dW, layer.db)} == {np.dtype(dtype)}


def test_affine_holds_the_arrays_it_was_given(rng, dtype):
    """As in the lecture, an in-place update of the array changes the layer."""
    W, b = parameters(rng, 5, 3, dtype)
    layer = Affine(W, b)
    assert layer.W is W
    assert layer.b is b
    x = np.ones((2, 5), dtype)
    before = layer.forward(x)
    b += 1
    np.testing.assert_allclose(layer.forward(x), before + 1, rtol=rtol(dtype))
    layer.W = np.zeros((5, 3), dtype)
    np.testing.assert_array_equal(layer.forward(x), np.tile(b, (2, 1)))


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 1, 2, 3), (4, 6, 1), (0, 2, 3), (1, 3, 2)])
def test_affine_takes_tensors(rng, shape):
    W, b = parameters(rng, 6, 3)
    x, dout = rng.standard_normal(shape), rng.standard_normal((shape[0], 3))
    layer, reference = Affine(W, b), naive.Affine(W, b)
    flat = x.reshape(shape[0], 6)
    np.testing.assert_allclose(layer.forward(x), reference.forward(flat), atol=1e-13)
    dx = layer.backward(dout)
    assert dx.shape == shape
    np.testing.assert_allclose(dx, reference.backward(dout).reshape(shape), atol=1e-13)
    np.testing.assert_allclose(layer.dW, reference.dW, atol=1e-13)
    np.testing.assert_allclose(layer.db, reference.db, atol=1e-13)


def test_affine_takes_strided_tensors(rng):
    W, b = parameters(rng, 6, 3)
    x = rng.standard_normal((3, 2, 4)).T  # (4, 2, 3), in Fortran order
    np.testing.assert_allclose(
        Affine(W, b).forward(x), np.ascontiguousarray(x).reshape(4, 6) @ W + b, atol=1e-13
    )


def test_affine_shape_follows_the_last_forward(rng):
    layer = Affine(*parameters(rng, 6, 3))
    layer.forward(np.ones((4, 2, 3)))
    layer.forward(np.ones((5, 6)))
    assert layer.backward(np.ones((5, 3))).shape == (5, 6)


def test_affine_keeps_no_gradient_of_an_old_backward(rng):
    """Arrays kept by a user are not overwritten by the next step."""
    layer = Affine(*parameters(rng, 5, 3))
    x, dout = rng.standard_normal((7, 5)), rng.standard_normal((7, 3))

    def step(factor):
        out = layer.forward(factor * x)
        return out, layer.backward(dout), layer.dW, layer.db

    first = step(1)
    copies = [a.copy() for a in first]
    step(2)
    for kept, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


def test_affine_backward_uses_the_input_of_its_forward(rng):
    layer = Affine(*parameters(rng, 5, 3))
    x = rng.standard_normal((7, 5))
    layer.forward(x)
    layer.backward(np.ones((7, 3)))
    np.testing.assert_allclose(layer.dW, x.T @ np.ones((7, 3)), atol=1e-13)


# ---------------------------------------------------------------- ReLU, sigmoid
def test_relu(rng, dtype):
    x, dout = rng.standard_normal((2, 7, 5)).astype(dtype)
    layer, reference = Relu(), naive.Relu()
    assert layer.mask is None
    np.testing.assert_array_equal(layer.forward(x), reference.forward(x))
    np.testing.assert_array_equal(layer.mask, reference.mask)
    kept = dout.copy()
    dx = layer.backward(dout)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, reference.backward(dout))
    np.testing.assert_array_equal(dout, kept)


def test_sigmoid(rng, dtype):
    x, dout = rng.standard_normal((2, 7, 5)).astype(dtype)
    layer, reference = Sigmoid(), naive.Sigmoid()
    assert layer.out is None
    out = layer.forward(x)
    np.testing.assert_allclose(out, reference.forward(x), rtol=rtol(dtype))
    np.testing.assert_array_equal(layer.out, out)
    dx = layer.backward(dout)
    assert out.dtype == dx.dtype == dtype
    np.testing.assert_allclose(dx, reference.backward(dout), rtol=rtol(dtype))


@pytest.mark.parametrize("layer_type", [Relu, Sigmoid])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (2, 1, 3, 2), (0, 3)], ids=str)
def test_activations_take_any_shape(rng, layer_type, shape):
    x, dout = rng.standard_normal(shape), rng.standard_normal(shape)
    layer, reference = layer_type(), getattr(naive, layer_type.__name__)()
    np.testing.assert_allclose(layer.forward(x), reference.forward(x), rtol=1e-14)
    np.testing.assert_allclose(layer.backward(dout), reference.backward(dout), rtol=1e-13)


@pytest.mark.parametrize("layer_type", [Relu, Sigmoid])
def test_activations_keep_nothing_of_an_old_step(rng, layer_type):
    layer = layer_type()
    x, dout = rng.standard_normal((2, 7, 5))
    first = layer.forward(x), layer.backward(dout)
    copies = [a.copy() for a in first]
    layer.forward(-x)
    layer.backward(2 * dout)
    for kept, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


# ---------------------------------------------------------------- softmax with loss
@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one_hot"])
def test_softmax_with_loss(rng, dtype, one_hot):
    x = rng.standard_normal((7, 5)).astype(dtype)
    t = rng.integers(0, 5, 7)
    if one_hot:
        t = np.eye(5, dtype=dtype)[t]
    layer, reference = SoftmaxWithLoss(), naive.SoftmaxWithLoss()
    assert layer.loss is layer.y is layer.t is None
    loss, expected = layer.forward(x, t), reference.forward(x, t)
    assert isinstance(loss, float)
    assert loss == layer.loss
    np.testing.assert_allclose(loss, expected, rtol=rtol(dtype))
    np.testing.assert_allclose(layer.y, reference.y, rtol=rtol(dtype))
    np.testing.assert_array_equal(layer.t, t)
    dx = layer.backward()
    assert layer.y.dtype == dx.dtype == dtype
    np.testing.assert_allclose(dx, reference.backward(), atol=rtol(dtype))
    np.testing.assert_allclose(layer.backward(dout=3), 3 * dx, rtol=rtol(dtype))
    np.testing.assert_allclose(layer.backward(0.5), dx / 2, rtol=rtol(dtype))


def test_softmax_with_loss_keeps_nothing_of_an_old_step(rng):
    layer = SoftmaxWithLoss()
    x = rng.standard_normal((7, 5))
    layer.forward(x, np.zeros(7, int))
    first = layer.y, layer.backward()
    copies = [a.copy() for a in first]
    layer.forward(-x, np.ones(7, int))
    layer.backward(2)
    for kept, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


# ---------------------------------------------------------------- conversion of arguments
REAL = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a.tolist())),
    "int64": lambda a: a.astype(np.int64),
    "uint8": lambda a: a.astype(np.uint8),
    "int16": lambda a: a.astype(np.int16),
    "big-endian": lambda a: a.astype(">f8"),
    "big-endian integers": lambda a: a.astype(">i4"),
    "longdouble": lambda a: a.astype(np.longdouble),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}


@pytest.mark.parametrize("convert", REAL.values(), ids=REAL)
def test_real_input_is_converted(convert):
    x = np.arange(6.0).reshape(2, 3)
    W, b = np.arange(12.0).reshape(3, 4), np.arange(4.0)
    dout = np.arange(8.0).reshape(2, 4)
    t = [3, 1]
    affine, relu, sigmoid, last = Affine(W, b), Relu(), Sigmoid(), SoftmaxWithLoss()
    np.testing.assert_array_equal(affine.forward(convert(x)), x @ W + b)
    np.testing.assert_array_equal(affine.backward(convert(dout)), dout @ W.T)
    np.testing.assert_array_equal(relu.forward(convert(x)), x)
    np.testing.assert_array_equal(relu.backward(convert(x)), np.where(x > 0, x, 0))
    np.testing.assert_allclose(sigmoid.forward(convert(x)), naive.sigmoid_forward(x), rtol=1e-14)
    np.testing.assert_allclose(
        sigmoid.backward(convert(x)),
        naive.sigmoid_backward(x, naive.sigmoid_forward(x)),
        rtol=1e-13,
    )
    expected, _ = naive.softmax_cross_entropy_forward(dout, np.array(t))
    np.testing.assert_allclose(last.forward(convert(dout), t), expected, rtol=1e-14)
    np.testing.assert_allclose(last.forward(dout, convert(np.eye(4)[t])), expected, rtol=1e-14)


@pytest.mark.parametrize("convert", REAL.values(), ids=REAL)
def test_real_parameters_are_converted(convert):
    W = np.arange(12.0).reshape(3, 4)
    layer = Affine(convert(W), list(range(4)))
    assert layer.W.dtype == layer.b.dtype == np.float64
    x = np.ones((2, 3))
    np.testing.assert_array_equal(layer.forward(x), x @ W + np.arange(4))


def test_parameters_give_the_type(rng):
    W, b = parameters(rng, 5, 3, np.float32)
    layer = Affine(W, b)
    for x in (rng.random((7, 5)), rng.integers(0, 9, (7, 5)), np.ones((7, 5), np.uint8)):
        out = layer.forward(x)
        dx = layer.backward(np.ones((7, 3)))
        assert {a.dtype for a in (out, dx, layer.dW, layer.db)} == {np.dtype(np.float32)}
        np.testing.assert_allclose(out, x @ W.astype(float) + b, rtol=1e-4, atol=1e-5)


@pytest.mark.small
def test_float16_is_widened(rng):
    half = rng.standard_normal((4, 3)).astype(np.float16)
    W, b = rng.random((3, 2)).astype(np.float32), np.zeros(2, np.float32)
    for ours, theirs in ((Affine(W, b), Affine(W, b)), (Relu(), Relu()), (Sigmoid(), Sigmoid())):
        out, expected = ours.forward(half), theirs.forward(half.astype(np.float32))
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out, expected)
        dout = np.ones(out.shape, np.float16)
        np.testing.assert_array_equal(ours.backward(dout), theirs.backward(dout.astype(np.float32)))


def refused():
    good = np.ones((2, 3))
    return {
        "complex": good.astype(complex),
        "object": good.astype(object),
        "string": good.astype(str),
        "masked": np.ma.masked_array(good, mask=[[1, 0, 0], [0, 0, 0]]),
        "dates": np.zeros((2, 3), "M8[D]"),
        "None": None,
    }


@pytest.mark.parametrize("bad", refused().values(), ids=refused())
def test_other_input_is_refused(bad):
    W, b, good = np.ones((3, 3)), np.ones(3), np.ones((2, 3))
    layers = [Affine(W, b), Relu(), Sigmoid()]
    for layer in layers:
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            layer.forward(bad)
        layer.forward(good)
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            layer.backward(bad)
    last = SoftmaxWithLoss()
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        last.forward(bad, [0, 1])
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        last.forward(good, bad)
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        Affine(bad, b)
    with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
        Affine(good, None if bad is None else bad[0])


def test_wrong_shapes_are_refused():
    layer = Affine(np.ones((6, 3)), np.ones(3))
    for shape in ((2, 5), (2, 2, 2), (6,), (), (2, 3, 6)):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            layer.forward(np.ones(shape))
    layer.forward(np.ones((2, 6)))
    for shape in ((2, 2), (3, 3), (3,), (2, 3, 1)):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            layer.backward(np.ones(shape))
    for activation in (Relu(), Sigmoid()):
        activation.forward(np.ones((2, 3)))
        for shape in ((3, 2), (3,), (2, 1)):
            with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
                activation.backward(np.ones(shape))
    last = SoftmaxWithLoss()
    for x, t in (((2, 3), (2, 4)), ((2, 3), (3,)), ((3,), (3,)), ((0, 3), (0,))):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            last.forward(np.ones(x), np.zeros(t, int))
    for t in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            last.forward(np.ones((2, 3)), t)
    for W, b in (((6,), (3,)), ((6, 3), (2,)), ((6, 3), (1, 3)), ((2, 6, 3), (3,))):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            Affine(np.ones(W), np.ones(b))


@pytest.mark.parametrize(
    "layer", [Affine(np.ones((3, 3)), np.ones(3)), Relu(), Sigmoid(), SoftmaxWithLoss(), Mul()]
)
def test_backward_before_forward(layer):
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(np.ones((2, 3)))


# ---------------------------------------------------------------- the computational graph
def test_add_and_mul_of_numbers():
    add, mul = Add(), Mul()
    assert add.forward(2, 3) == 5
    assert add.backward(1.5) == (1.5, 1.5)
    assert mul.forward(2, 3) == 6
    assert mul.backward(1.5) == (4.5, 3.0)
    assert mul.forward(np.float64(2.5), 4) == 10
    assert mul.backward(1) == (4, 2.5)


def test_add_and_mul_of_arrays(rng):
    x, y, dout = rng.standard_normal((3, 4, 5))
    add, mul = Add(), Mul()
    np.testing.assert_array_equal(add.forward(x, y), x + y)
    for gradient in add.backward(dout):
        np.testing.assert_array_equal(gradient, dout)
    np.testing.assert_array_equal(mul.forward(x, y), x * y)
    dx, dy = mul.backward(dout)
    np.testing.assert_array_equal(dx, dout * y)
    np.testing.assert_array_equal(dy, dout * x)


def test_add_and_mul_broadcast_as_the_lecture_writes_them(rng):
    """The gradients are ``dout * y`` and ``dout * x``, not summed over the broadcast axes."""
    x, y, dout = rng.standard_normal((3, 1)), rng.standard_normal(4), rng.standard_normal((3, 4))
    add, mul = Add(), Mul()
    np.testing.assert_array_equal(add.forward(x, y), x + y)
    np.testing.assert_array_equal(mul.forward(x, y), x * y)
    dx, dy = mul.backward(dout)
    np.testing.assert_array_equal(dx, dout * y)
    np.testing.assert_array_equal(dy, dout * x)
    np.testing.assert_array_equal(mul.forward(2, y), 2 * y)
    dx, dy = mul.backward(1)
    np.testing.assert_array_equal(dx, y)
    np.testing.assert_array_equal(dy, 2)


def test_add_and_mul_of_lists():
    np.testing.assert_array_equal(Add().forward([1, 2], [3, 4]), [4, 6])
    np.testing.assert_array_equal(Mul().forward([1, 2], [3, 4]), [3, 8])


def test_add_and_mul_keep_nothing_of_an_old_step(rng):
    x, y, dout = rng.standard_normal((3, 4))
    for node in (Add(), Mul()):
        first = (node.forward(x, y), *node.backward(dout))
        copies = [a.copy() for a in first]
        node.forward(2 * x, y)
        node.backward(3 * dout)
        for kept, copy in zip(first, copies, strict=True):
            np.testing.assert_array_equal(kept, copy)


def test_add_gradients_are_separate(rng):
    """Changing one of the two gradients changes neither the other nor ``dout``."""
    dout = rng.standard_normal(4)
    kept = dout.copy()
    add = Add()
    add.forward(dout, dout)
    dx, dy = add.backward(dout)
    dx += 1
    np.testing.assert_array_equal(dy, kept)
    np.testing.assert_array_equal(dout, kept)


def test_shop_bill():
    """Two apples at 100 and three oranges at 150, with 10 % tax."""
    apple, apples, orange, oranges, tax = 100, 2, 150, 3, 1.1
    mul_apple, mul_orange, add, mul_tax = Mul(), Mul(), Add(), Mul()

    apple_price = mul_apple.forward(apple, apples)
    orange_price = mul_orange.forward(orange, oranges)
    both = add.forward(apple_price, orange_price)
    price = mul_tax.forward(both, tax)
    assert (apple_price, orange_price, both) == (200, 450, 650)
    assert price == pytest.approx(715, rel=1e-14)

    dboth, dtax = mul_tax.backward(1)
    dapple_price, dorange_price = add.backward(dboth)
    dorange, doranges = mul_orange.backward(dorange_price)
    dapple, dapples = mul_apple.backward(dapple_price)
    assert dapple == pytest.approx(2.2, rel=1e-14)
    assert dapples == pytest.approx(110, rel=1e-14)
    assert dorange == pytest.approx(3.3, rel=1e-14)
    assert doranges == pytest.approx(165, rel=1e-14)
    assert dtax == 650

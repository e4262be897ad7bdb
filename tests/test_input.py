"""For any argument, a kernel or layer agrees with NumPy, or says in an error what it expected."""

import naive
import naive_convolution
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.argument_strategies import (
    COMMON,
    WRONG,
    Call,
    arguments,
    cast,
    kind,
    mask,
    outcome,
    right,
    right_targets,
    scale,
    targets,
)
from support.exhaustive import explore

import kernels
from net import Add, Affine, Mul, Relu, Sigmoid, SoftmaxWithLoss

pytestmark = pytest.mark.slow


# ---------------------------------------------------------------- references
def real_arrays(*args):
    arrays = [right(a) for a in args]
    return None if any(a is None for a in arrays) else arrays


def affine_forward(x, W, b):
    if (arrays := real_arrays(x, W, b)) is None:
        return None
    x, W, b = arrays
    if x.ndim != 2 or W.ndim != 2 or b.shape != W.shape[1:] or x.shape[1] != W.shape[0]:
        return None
    x, W, b = (cast(a, kind(W)) for a in (x, W, b))
    return [(naive.affine_forward(x, W, b), naive.affine_forward(abs(x), abs(W), abs(b)))]


def affine_backward(dout, x, W):
    if (arrays := real_arrays(dout, x, W)) is None:
        return None
    dout, x, W = arrays
    if x.ndim != 2 or W.ndim != 2 or dout.shape != (x.shape[0], W.shape[1]):
        return None
    if x.shape[1] != W.shape[0]:
        return None
    dout, x, W = (cast(a, kind(W)) for a in (dout, x, W))
    results = naive.affine_backward(dout, x, W)
    return list(zip(results, naive.affine_backward(abs(dout), abs(x), abs(W)), strict=True))


def affine_backward_params(dout, x, W):
    results = affine_backward(dout, x, W)
    return results and results[1:]


def convolution_shapes(x, W):
    """Return whether the shapes of images and filters match, with stride 1 and no padding."""
    if not (x.ndim == W.ndim == 4 and x.shape[1] == W.shape[1] and min(W.shape[2:]) > 0):
        return False
    return all(n >= f for n, f in zip(x.shape[2:], W.shape[2:], strict=True))


def convolution_forward(x, W, b):
    if (arrays := real_arrays(x, W, b)) is None:
        return None
    x, W, b = arrays
    if not convolution_shapes(x, W) or b.shape not in ((), W.shape[:1]):
        return None
    x, W, b = (cast(a, kind(W)) for a in (x, W, b))
    results = (naive_convolution.convolution_forward(*a) for a in ((x, W, b), map(abs, (x, W, b))))
    return [tuple(results)]


def convolution_backward(dout, x, W):
    if (arrays := real_arrays(dout, x, W)) is None:
        return None
    dout, x, W = arrays
    if not convolution_shapes(x, W):
        return None
    out = (n - f + 1 for n, f in zip(x.shape[2:], W.shape[2:], strict=True))
    if dout.shape != (x.shape[0], W.shape[0], *out):
        return None
    dout, x, W = (cast(a, kind(W)) for a in (dout, x, W))
    results = naive_convolution.convolution_backward(dout, x, W)
    magnitudes = naive_convolution.convolution_backward(abs(dout), abs(x), abs(W))
    return list(zip(results, magnitudes, strict=True))


def convolution_backward_params(dout, x, W):
    results = convolution_backward(dout, x, W)
    return results and results[1:]


def max_pool_forward(x):
    x = right(x)
    if x is None or x.ndim != 4 or x.shape[2] < 1 or x.shape[3] < 2:
        return None
    out = naive_convolution.max_pool_forward(cast(x, kind(x)), 1, 2, 1)[0]
    return [(out, abs(out))]


def elementwise(function):
    def reference(*args):
        if (arrays := real_arrays(*args)) is None or len({a.shape for a in arrays}) != 1:
            return None
        results = function(*(cast(a, kind(arrays[-1])) for a in arrays))
        results = results if isinstance(results, tuple) else (results,)
        return [(np.asarray(r), abs(np.asarray(r)) * 1) for r in results]

    return reference


def relu_forward(x):
    with np.errstate(all="ignore"):
        return np.where(x <= 0, 0, x).astype(x.dtype), x <= 0


def relu_backward(dout, mask):
    dout, booleans = right(dout), right(mask)
    if dout is None or booleans is None or booleans.dtype != bool:
        return None
    if dout.shape != booleans.shape:
        return None
    dx = np.where(booleans, 0, cast(dout, kind(dout)))
    return [(dx.astype(kind(dout)), abs(dx))]


def softmax(x):
    x = right(x)
    if x is None or x.ndim == 0 or x.shape[-1] == 0:
        return None
    x = cast(x, kind(x))
    y = naive.softmax(x) if x.size else x
    return [(y, np.ones(x.shape))]


def cross_entropy(x, t):
    x = right(x)
    if x is None or x.ndim != 2 or x.size == 0:
        return None
    x = cast(x, kind(x))
    if (t := right_targets(t, x.shape, x.dtype)) is None:
        return None
    loss, y = naive.softmax_cross_entropy_forward(x.astype(np.float64), t)
    # Terms may cancel if the targets are not a distribution.
    size = 1 + np.max(np.abs(x[np.isfinite(x)]), initial=0)
    weight = 1 if t.ndim == 1 else abs(t).sum()
    return [(np.asarray(loss, x.dtype), size * weight), (y.astype(x.dtype), np.ones(x.shape))]


def cross_entropy_backward(y, t, dout):
    y, dout = right(y), right(dout)
    if y is None or y.ndim != 2 or dout is None or dout.ndim:
        return None
    y = cast(y, kind(y))
    if (t := right_targets(t, y.shape, y.dtype)) is None:
        return None
    n = max(len(y), 1)
    dx = naive.softmax_cross_entropy_backward(y.astype(np.float64), t, 1.0)
    dx = np.float64(dout) * dx
    size = abs(np.float64(dout)) * (abs(y) + (1 if t.ndim == 1 else abs(t))) / n
    return [(dx.astype(y.dtype), size)]


def dropout(x, mask):
    x, booleans = right(x), right(mask)
    if x is None or booleans is None or booleans.dtype != bool or x.shape != booleans.shape:
        return None
    out = cast(x, kind(x)) * booleans
    return [(out, abs(out))]


def batch_norm_arguments(x, gamma, *vectors):
    """Return the arguments in float64 and the dtype of the results, or None if invalid."""
    if (arrays := real_arrays(x, gamma, *vectors)) is None:
        return None
    x, gamma, *vectors = arrays
    if x.ndim < 2 or gamma.shape not in ((x.shape[1],), (int(np.prod(x.shape[1:])),)):
        return None
    if any(v.shape != gamma.shape for v in vectors):
        return None
    dtype = kind(gamma)
    return [cast(cast(a, dtype), np.float64) for a in (x, gamma)], vectors, dtype


def magnitude(gamma, std, *factors):
    """Return the magnitude of a product for its rounding error; where not finite, no bound."""
    size = np.max(np.abs(gamma), initial=0) / np.min(std, initial=1)
    for factor in factors:
        size = size * np.max(abs(factor), initial=1e-3)
    return size if np.isfinite(size) else np.inf


def batch_norm_forward(x, gamma, beta):
    if (found := batch_norm_arguments(x, gamma, beta)) is None or found[0][0].size == 0:
        return None
    (x, gamma), (beta,), dtype = found
    beta = cast(cast(beta, dtype), np.float64)
    out, mean, var = naive.batch_norm_forward(x, gamma, beta)
    size = magnitude(gamma, np.sqrt(var + 1e-6), x) + magnitude([1], [1], beta)
    whole = magnitude([1], [1], x)
    return [(cast(out, dtype), size), (mean, whole), (var, whole**2)]


def batch_norm_inference(x, gamma, beta, mean, var):
    if (found := batch_norm_arguments(x, gamma, beta, mean, var)) is None:
        return None
    (x, gamma), (beta, *statistics), dtype = found
    beta, mean, var = (
        cast(cast(beta, dtype), np.float64),
        *(cast(a, np.float64) for a in statistics),
    )
    if x.size == 0:
        return [(np.empty(x.shape, dtype), np.empty(x.shape))]
    out = naive.batch_norm_inference(x, gamma, beta, mean, var)
    size = magnitude(gamma, np.sqrt(var + 1e-6), x) + magnitude(gamma, np.sqrt(var + 1e-6), mean)
    return [(cast(out, dtype), size + magnitude([1], [1], beta))]


def batch_norm_backward(dout, x, gamma, mean, var):
    """Return the gradients by the documented formula, for any mean and variance."""
    if (found := batch_norm_arguments(x, gamma, mean, var)) is None or found[0][0].size == 0:
        return None
    (x, gamma), statistics, dtype = found
    mean, var = (cast(a, np.float64) for a in statistics)
    if (dout := right(dout)) is None or dout.shape != x.shape:
        return None
    dout, back = naive.by_feature(cast(cast(dout, dtype), np.float64), len(gamma))
    columns, _ = naive.by_feature(x, len(gamma))
    std = np.sqrt(var + 1e-6)
    n, xn = len(columns), (columns - mean) / std
    dbeta, dgamma = dout.sum(axis=0), np.sum(dout * xn, axis=0)
    dx = gamma / std * (dout - dbeta / n - xn * dgamma / n)
    far = abs(x).max() + abs(mean).max()
    sizes = magnitude(gamma, std**3, dout, far, far) * n, magnitude(1 / std, std**0, dout, far) * n
    results = zip((back(dx), dgamma, dbeta), (*sizes, magnitude([n], [1], dout)), strict=True)
    return [(cast(a, dtype), size) for a, size in results]


# ---------------------------------------------------------------- kernels
MAKERS = {"mask": mask, "t": targets, "dout": scale}
KERNELS = {
    "affine_forward": Call(kernels.affine_forward, ("ND", "DM", "M"), affine_forward),
    "affine_backward": Call(kernels.affine_backward, ("NM", "ND", "DM"), affine_backward),
    "affine_backward_params": Call(
        kernels.affine_backward_params, ("NM", "ND", "DM"), affine_backward_params
    ),
    "convolution_forward": Call(
        kernels.convolution_forward, ("NC1D", "MC11", "M"), convolution_forward
    ),
    "convolution_backward": Call(
        kernels.convolution_backward, ("NM1D", "NC1D", "MC11"), convolution_backward
    ),
    "convolution_backward_params": Call(
        kernels.convolution_backward_params, ("NM1D", "NC1D", "MC11"), convolution_backward_params
    ),
    "max_pool_forward": Call(
        lambda x: kernels.max_pool_forward(x, 1, 2, 1)[0], ("NC1D",), max_pool_forward
    ),
    "relu_forward": Call(kernels.relu_forward, ("ND",), elementwise(relu_forward)),
    "relu_backward": Call(kernels.relu_backward, ("ND", "mask"), relu_backward),
    "sigmoid_forward": Call(kernels.sigmoid_forward, ("ND",), elementwise(naive.sigmoid_forward)),
    "sigmoid_backward": Call(
        kernels.sigmoid_backward, ("ND", "ND"), elementwise(naive.sigmoid_backward)
    ),
    "dropout_forward": Call(kernels.dropout_forward, ("ND", "mask"), dropout),
    "dropout_backward": Call(kernels.dropout_backward, ("ND", "mask"), dropout),
    "batch_norm_forward": Call(kernels.batch_norm_forward, ("ND", "D", "D"), batch_norm_forward),
    "batch_norm_forward of images": Call(
        kernels.batch_norm_forward, ("NCDM", "C", "C"), batch_norm_forward
    ),
    "batch_norm_inference": Call(
        kernels.batch_norm_inference, ("ND", "D", "D", "D", "D"), batch_norm_inference
    ),
    "batch_norm_backward": Call(
        kernels.batch_norm_backward, ("ND", "ND", "D", "D", "D"), batch_norm_backward
    ),
    "softmax": Call(kernels.softmax, ("NDC",), softmax),
    "cross_entropy": Call(kernels.softmax_cross_entropy_forward, ("NC", "t"), cross_entropy),
    "cross_entropy_backward": Call(
        kernels.softmax_cross_entropy_backward, ("NC", "t", "dout"), cross_entropy_backward
    ),
}


@pytest.mark.small
@pytest.mark.parametrize("name", KERNELS)
@explore(300)
@given(data=st.data())
def test_kernels(name, data):
    call = KERNELS[name]
    call.check(data.draw(arguments(call.shapes, makers=MAKERS)))


RIGHT = {
    "affine_forward": (np.ones((4, 3)), np.ones((3, 2)), np.ones(2)),
    "affine_backward": (np.ones((4, 2)), np.ones((4, 3)), np.ones((3, 2))),
    "affine_backward_params": (np.ones((4, 2)), np.ones((4, 3)), np.ones((3, 2))),
    "convolution_forward": (np.ones((4, 3, 2, 2)), np.ones((2, 3, 1, 1)), np.ones(2)),
    "convolution_backward": (
        *(np.ones((4, 2, 2, 2)), np.ones((4, 3, 2, 2)), np.ones((2, 3, 1, 1))),
    ),
    "convolution_backward_params": (
        *(np.ones((4, 2, 2, 2)), np.ones((4, 3, 2, 2)), np.ones((2, 3, 1, 1))),
    ),
    "max_pool_forward": (np.ones((4, 3, 2, 2)),),
    "relu_forward": (np.ones((4, 3)),),
    "relu_backward": (np.ones((4, 3)), np.ones((4, 3), bool)),
    "sigmoid_forward": (np.ones((4, 3)),),
    "sigmoid_backward": (np.ones((4, 3)), np.ones((4, 3))),
    "dropout_forward": (np.ones((4, 3)), np.ones((4, 3), bool)),
    "dropout_backward": (np.ones((4, 3)), np.ones((4, 3), bool)),
    "batch_norm_forward": (np.ones((4, 3)), np.ones(3), np.ones(3)),
    "batch_norm_forward of images": (np.ones((4, 3, 2, 2)), np.ones(3), np.ones(3)),
    "batch_norm_inference": (np.ones((4, 3)), *np.ones((4, 3))),
    "batch_norm_backward": (np.ones((4, 3)), np.ones((4, 3)), *np.ones((3, 3))),
    "softmax": (np.ones((4, 3)),),
    "cross_entropy": (np.ones((4, 3)), np.arange(4) % 3),
    "cross_entropy_backward": (np.ones((4, 3)), np.arange(4) % 3, 1.0),
}


@pytest.mark.small
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_kind_for_every_argument(name, wrong):
    for i in range(len(RIGHT[name])):
        args = list(RIGHT[name])
        args[i] = WRONG[wrong](np.asarray(args[i]))
        assert isinstance(outcome(KERNELS[name].function, *args), TypeError | ValueError)


@pytest.mark.small
@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_numbers_that_float32_cannot_hold_are_infinite(dtype):
    large = np.full((1, 1), 1e300, dtype)
    one, b = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    assert kernels.affine_forward(large, one, b) == np.inf
    assert kernels.affine_forward(-one, one, 1e300 * np.ones(1, dtype)) == np.inf
    layer = Affine(one, large[0])
    assert layer.forward(one) == np.inf
    layer.backward(large)
    assert layer.dW == layer.db == np.inf


@pytest.mark.small
@pytest.mark.parametrize("order", [">", "<"])
def test_float32_of_either_byte_order_gives_float32(order):
    x, mask = np.ones((4, 3), f"{order}f4"), np.ones((4, 3), bool)
    row = x[0].copy()
    for result in (
        kernels.affine_forward(x, x.T.copy(), np.ones(4, x.dtype)),
        *kernels.relu_forward(x)[:1],
        kernels.relu_backward(x, mask),
        kernels.sigmoid_forward(x),
        kernels.sigmoid_backward(x, x),
        kernels.dropout_forward(x, mask),
        kernels.batch_norm_forward(x, row, row)[0],
        kernels.softmax(x),
        kernels.softmax_cross_entropy_forward(x, np.arange(4) % 3)[1],
        kernels.softmax_cross_entropy_backward(x, np.arange(4) % 3),
    ):
        assert result.dtype == np.float32
        assert result.dtype.isnative


def test_conversions_raise_no_floating_point_errors():
    """With any np.errstate, numbers out of range of float32 become 0 or infinite."""
    one, row = np.ones((2, 2), np.float32), np.ones(2, np.float32)
    with np.errstate(all="raise"):
        for number in (1e-40, 1e-300, 1e300, np.nan, np.inf):
            x = np.full((2, 2), number)
            for kind in (np.float64, np.longdouble, ">f8"):
                kernels.affine_forward(x.astype(kind), one, row)
                kernels.sigmoid_backward(x.astype(kind), one)
                kernels.batch_norm_forward(x.astype(kind), row, row)
                kernels.sgd_update(one.copy(), x.astype(kind), 0.1)
        kernels.softmax_cross_entropy_forward(one, np.full((2, 2), 1e-300))


# ---------------------------------------------------------------- layers
def affine_layer(W, b, x, dout):
    layer = Affine(W, b)
    out = layer.forward(x)
    dx = layer.backward(dout)
    return out, dx, layer.dW, layer.db


def expected_of_affine(W, b, x, dout):
    x = right(x)
    if right(W) is None or right(W).ndim != 2 or x is None or x.ndim < 2:
        return None
    flat = x
    if x.ndim > 2:
        if np.prod(x.shape[1:]) != len(right(W)):
            return None
        flat = x.reshape(len(x), len(right(W)))
    forward, backward = affine_forward(flat, W, b), affine_backward(dout, flat, W)
    if forward is None or backward is None:
        return None
    dx = [a.reshape(x.shape) for a in backward[0]]
    return [*forward, dx, *backward[1:]]


def two_step(make):
    def steps(x, dout):
        layer = make()
        return layer.forward(x), layer.backward(dout)

    return steps


def expected_of_relu(x, dout):
    forward = KERNELS["relu_forward"].reference(x)
    backward = forward and relu_backward(dout, forward[1][0])
    return backward and [forward[0], *backward]


def expected_of_sigmoid(x, dout):
    forward = KERNELS["sigmoid_forward"].reference(x)
    backward = forward and KERNELS["sigmoid_backward"].reference(dout, forward[0][0])
    return backward and [*forward, *backward]


def loss_layer(x, t, dout):
    layer = SoftmaxWithLoss()
    loss = layer.forward(x, t)
    return loss, layer.y, layer.backward(dout)


def expected_of_loss(x, t, dout):
    forward = cross_entropy(x, t)
    backward = forward and cross_entropy_backward(forward[1][0], t, dout)
    return backward and [*forward, *backward]


LAYERS = {
    "Affine": Call(affine_layer, ("DM", "M", "ND", "NM"), expected_of_affine),
    "Affine of images": Call(affine_layer, ("DM", "M", "N1D", "NM"), expected_of_affine),
    "Relu": Call(two_step(Relu), ("ND", "ND"), expected_of_relu),
    "Sigmoid": Call(two_step(Sigmoid), ("NDC", "NDC"), expected_of_sigmoid),
    "SoftmaxWithLoss": Call(loss_layer, ("NC", "t", "dout"), expected_of_loss),
}


@pytest.mark.small
@pytest.mark.parametrize("name", LAYERS)
@explore(200)
@given(data=st.data())
def test_layers(name, data):
    call = LAYERS[name]
    call.check(data.draw(arguments(call.shapes, makers=MAKERS)))


OPERANDS = {"ND": ("ND", "ND"), "row": ("ND", "D"), "column": ("N1", "ND"), "other": ("ND", "DN")}


@pytest.mark.small
@pytest.mark.parametrize(("node", "operation"), [(Add, np.add), (Mul, np.multiply)])
@pytest.mark.parametrize("shapes", OPERANDS.values(), ids=OPERANDS)
@explore(100)
@given(data=st.data())
def test_nodes(node, operation, shapes, data):
    x, y = data.draw(arguments(shapes))
    arrays = real_arrays(x, y)
    try:
        with np.errstate(all="ignore"):
            expected = None if arrays is None else operation(*arrays)
    except ValueError:  # shapes
        expected = None
    with np.errstate(all="ignore"):  # NumPy's warnings, as in the lecture's code
        found = outcome(node().forward, x, y)
    assert isinstance(found, Exception) == (expected is None), found
    if expected is not None:
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- the same memory twice
@pytest.mark.small
@pytest.mark.parametrize("dtype", COMMON)
def test_arguments_that_share_memory(dtype):
    memory = (np.arange(40) % 7 - 3).astype(dtype)
    a, late, row = memory[:25].reshape(5, 5), memory[15:].reshape(5, 5), memory[3:8]
    for x, W, b in ((a, a, a[0]), (a, a.T, a[:, 1]), (a, late, row), (late[::-1], a, row[::-1])):
        KERNELS["affine_forward"].check([x, W, b])
        KERNELS["affine_backward"].check([W, x, a])
        KERNELS["sigmoid_backward"].check([x, W])
        KERNELS["cross_entropy"].check([x, x])
        KERNELS["cross_entropy_backward"].check([x, W, 1.0])
        LAYERS["Affine"].check([W, b, x, x])
        LAYERS["Relu"].check([x, x])
    mask = a.view(np.bool_)[:, : 5 * a.itemsize : a.itemsize]
    np.testing.assert_array_equal(kernels.relu_backward(a, mask), np.where(mask, 0, a))


# ---------------------------------------------------------------- changed in between
@pytest.mark.small
def test_what_changes_between_forward_and_backward(rng):
    """As in the lecture, a layer reads its arrays again: it uses new values, but not new shapes."""
    W, b, x, dout = (rng.standard_normal(s) for s in ((4, 3), 3, (5, 4), (5, 3)))
    layer, reference = Affine(W, b), naive.Affine(W, b)
    layer.forward(x)
    reference.forward(x)
    x[0], W[1] = 7, np.nan
    np.testing.assert_allclose(layer.backward(dout), reference.backward(dout), rtol=1e-12)
    np.testing.assert_allclose(layer.dW, reference.dW, rtol=1e-12)
    for name, value in (("x", x[:4]), ("x", x[:, :2]), ("W", W[:3]), ("W", W[0]), ("x", None)):
        layer = Affine(W, b)
        layer.forward(x)
        setattr(layer, name, value)
        with pytest.raises((ValueError, RuntimeError), match=naive.EXPECTED_GOT):
            layer.backward(dout)

    relu = Relu()
    relu.forward(x)
    for other in (relu.mask[:4], relu.mask.astype(int), relu.mask * 1.0):
        relu.mask = other
        with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
            relu.backward(x)


@pytest.mark.small
@pytest.mark.parametrize("bad", [3, -1, 2**62, -(2**62)])
def test_labels_that_change_between_forward_and_backward(rng, bad):
    x, t = rng.standard_normal((6, 3)), rng.integers(0, 3, 6)
    layer = SoftmaxWithLoss()
    layer.forward(x, t)
    t[4] = bad
    with pytest.raises(ValueError, match=f"expected class indices from 0 to 2, got {bad} in row 4"):
        layer.backward()
    layer.y = layer.y[:5]
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        layer.backward()

"""Dropout and batch normalisation: the layers that depend on ``train_flg``."""

import naive
import numpy as np
import pytest

from net import BatchNormalization, Dropout


def make(rng, shape, features, dtype=np.float64):
    x, dout = (3 + 2 * rng.standard_normal((2, *shape))).astype(dtype)
    gamma, beta = rng.standard_normal((2, features)).astype(dtype)
    return x, dout, gamma, beta


# ---------------------------------------------------------------- dropout
@pytest.mark.small
def test_dropout_draws_the_courses_numbers(rng, dtype):
    x, dout, *_ = make(rng, (7, 5), 5, dtype)
    layer = Dropout(0.3)
    np.random.seed(7)
    out = layer.forward(x)
    np.random.seed(7)
    mask = np.random.rand(*x.shape) > 0.3
    np.testing.assert_array_equal(layer.mask, mask)
    np.testing.assert_array_equal(out, x * mask)
    np.testing.assert_array_equal(layer.backward(dout), dout * mask)
    assert out.dtype == dtype
    assert layer.forward(x).tobytes() != out.tobytes()  # a new mask each time


@pytest.mark.small
def test_dropout_in_inference(rng, dtype):
    x = make(rng, (2, 3, 4, 5), 3, dtype)[0]
    layer = Dropout(0.3)
    layer.forward(x)
    mask, state = layer.mask, np.random.get_state()[1].copy()
    out = layer.forward(x, train_flg=False)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, 0.7 * x, rtol=1e-6)
    assert layer.mask is mask
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # nothing drawn
    assert not np.shares_memory(Dropout(0).forward(x, False), x)


@pytest.mark.small
@pytest.mark.parametrize(("ratio", "share"), [(0, 1), (1, 0), (0.5, 0.5), (0.1, 0.9)])
def test_dropout_ratio(ratio, share):
    np.random.seed(0)
    kept = Dropout(ratio).forward(np.ones((100, 100))).mean()
    assert abs(kept - share) < 0.02 * (0 < share < 1) + 1e-3


@pytest.mark.small
@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan, None, "half", [0.5], True])
def test_dropout_wrong_ratio(wrong):
    with pytest.raises((TypeError, ValueError), match=r"dropout_ratio: expected .* got"):
        Dropout(wrong)


# ---------------------------------------------------------------- batch normalisation
CASES = [((7, 5), 5), ((6, 3, 4, 2), 3), ((6, 3, 4, 2), 24)]


@pytest.mark.small
@pytest.mark.parametrize(("shape", "features"), CASES)
def test_batch_normalisation(rng, shape, features, dtype):
    x, dout, gamma, beta = make(rng, shape, features, dtype)
    layer = BatchNormalization(gamma, beta)
    assert layer.gamma is gamma
    assert layer.beta is beta
    running_mean, running_var = np.zeros((2, features))
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}
    )
    for _ in range(3):
        out = layer.forward(x)
        wide = [a.astype(np.float64) for a in (x, gamma, beta)]
        expected, mean, var = naive.batch_norm_forward(*wide)
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_var = 0.9 * running_var + 0.1 * var
        np.testing.assert_allclose(out, expected, **tolerance)
        np.testing.assert_allclose(layer.running_mean, running_mean, **tolerance)
        np.testing.assert_allclose(layer.running_var, running_var, **tolerance)
        assert out.dtype == layer.running_mean.dtype == layer.running_var.dtype == dtype
        given = naive.batch_norm_inference(*wide, running_mean, running_var)
        np.testing.assert_allclose(layer.forward(x, train_flg=False), given, **tolerance)
        dx = layer.backward(dout)
        gradients = naive.batch_norm_backward(dout.astype(np.float64), wide[0], wide[1], mean, var)
        for a, b in zip((dx, layer.dgamma, layer.dbeta), gradients, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, **tolerance)
        x = x + 1


@pytest.mark.small
def test_running_values_to_begin_with(rng):
    x, _, gamma, beta = make(rng, (7, 5), 5)
    mean, var = rng.standard_normal(5), rng.random(5)
    layer = BatchNormalization(gamma, beta, momentum=0.5, running_mean=mean, running_var=var)
    out = layer.forward(x, False)
    np.testing.assert_allclose(out, naive.batch_norm_inference(x, gamma, beta, mean, var))
    kept = mean.copy()
    layer.forward(x)
    np.testing.assert_array_equal(mean, kept)  # the caller's array
    np.testing.assert_allclose(layer.running_mean, 0.5 * mean + 0.5 * x.mean(0))


@pytest.mark.small
def test_inference_changes_nothing(rng):
    x, dout, gamma, beta = make(rng, (7, 5), 5)
    layer = BatchNormalization(gamma, beta)
    layer.forward(x)
    mean, var = layer.running_mean.copy(), layer.running_var.copy()
    dx = layer.backward(dout)
    layer.forward(2 * x + 1, train_flg=False)
    np.testing.assert_array_equal(layer.running_mean, mean)
    np.testing.assert_array_equal(layer.running_var, var)
    np.testing.assert_array_equal(layer.backward(dout), dx)


@pytest.mark.small
def test_gradients_are_fresh(rng):
    x, dout, gamma, beta = make(rng, (7, 5), 5)
    layer = BatchNormalization(gamma, beta)
    layer.forward(x)
    layer.backward(dout)
    kept, copy = layer.dgamma, layer.dgamma.copy()
    layer.backward(2 * dout)
    assert layer.dgamma is not kept
    np.testing.assert_array_equal(kept, copy)


@pytest.mark.small
def test_batch_normalisation_bad_input(rng):
    x, dout, gamma, beta = make(rng, (7, 5), 5)
    for wrong in (
        (np.ones((5, 1)), beta),
        (gamma, np.ones(4)),
        (gamma, beta, 1.5),
        (gamma, beta, "0.9"),
        (gamma, beta, 0.9, np.ones(4)),
        (gamma, beta, 0.9, None, np.ones((5, 1))),
        (gamma.astype(complex), beta),
    ):
        with pytest.raises((TypeError, ValueError), match=naive.EXPECTED_GOT):
            BatchNormalization(*wrong)
    layer = BatchNormalization(gamma, beta)
    for wrong in (np.ones((7, 4)), np.ones(5), np.ones((0, 5))):
        with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
            layer.forward(wrong)
    np.testing.assert_array_equal(layer.running_mean, 0)
    layer.forward(x)
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        layer.backward(dout[:3])
    assert layer.dgamma is None


# ---------------------------------------------------------------- both
@pytest.mark.small
@pytest.mark.parametrize("layer", [Dropout(), BatchNormalization(np.ones(5), np.zeros(5))])
def test_backward_before_forward(layer):
    layer.forward(np.ones((7, 5)), train_flg=False)
    with pytest.raises(RuntimeError, match=r"backward: expected a call of forward .* got none"):
        layer.backward(np.ones((7, 5)))


@pytest.mark.small
@pytest.mark.parametrize("layer", [Dropout(0.2), BatchNormalization(np.ones(5), np.zeros(5), 0.8)])
def test_what_a_network_reads(layer):
    """Parameters with gradients, buffers and options are attributes under the names given."""
    for name in getattr(layer, "parameters", ()):
        assert hasattr(layer, name)
        assert hasattr(layer, f"d{name}")
    assert all(
        isinstance(getattr(layer, name), np.ndarray) for name in getattr(layer, "buffers", ())
    )
    options = {name: getattr(layer, name) for name in layer.options}
    parameters = [getattr(layer, name) for name in getattr(layer, "parameters", ())]
    again = type(layer)(*parameters, **options)
    assert {name: getattr(again, name) for name in layer.options} == options

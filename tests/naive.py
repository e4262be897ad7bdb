"""The network of the lecture in plain NumPy, as a reference for the compiled code.

Nothing here imports ``kernels`` or ``net``. The code favours clarity over speed. Products are
``@``: ``np.dot`` takes a matrix of one element for a scalar, and 0 times infinity for 0.
"""

import re
from collections import OrderedDict

import numpy as np


# ---------------------------------------------------------------- functions
def affine_forward(x, W, b):
    """Return ``x W + b``.

    >>> affine_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([5.0]))
    array([[16.]])
    """
    with np.errstate(all="ignore"):
        return x @ W + b


def affine_backward(dout, x, W):
    with np.errstate(all="ignore"):
        return dout @ W.T, x.T @ dout, np.sum(dout, axis=0)


def relu_forward(x):
    mask = x <= 0
    out = x.copy()
    out[mask] = 0
    return out, mask


def relu_backward(dout, mask):
    dx = dout.copy()
    dx[mask] = 0
    return dx


def sigmoid_forward(x):
    """Return ``1 / (1 + exp(-x))``, in a form in which ``exp`` cannot overflow."""
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def sigmoid_backward(dout, out):
    with np.errstate(all="ignore"):
        return dout * (1 - out) * out


def log_softmax(x):
    with np.errstate(all="ignore"):
        shifted = x - np.max(x, axis=-1, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def softmax(x):
    """Return the probabilities over the last axis.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    with np.errstate(all="ignore"):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)


def softmax_cross_entropy_forward(x, t):
    """Return the mean loss of the batch and the probabilities.

    A target of exactly 0 adds nothing, even if ``log p`` is ``-inf``, so class indices
    and one-hot targets always agree.
    """
    log_p = log_softmax(x)
    n = x.shape[0]
    if t.ndim == 1:
        loss = -np.sum(log_p[np.arange(n), t]) / n
    else:
        with np.errstate(all="ignore"):
            loss = -np.sum(np.where(t == 0, 0, t * log_p)) / n
    return loss, softmax(x)


def softmax_cross_entropy_backward(y, t, dout=1.0):
    n = y.shape[0]
    dx = y.copy()
    if t.ndim == 1:
        dx[np.arange(n), t] -= 1
    else:
        dx -= t
    return dout * dx / n


def numerical_gradient(f, x):
    """Return the central difference of ``f`` at ``x``, one element at a time.

    >>> x = np.array([3.0, 4.0])
    >>> np.round(numerical_gradient(lambda x: np.sum(x**2), x), 6)
    array([6., 8.])
    """
    h = 1e-4
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + h
        above = f(x)
        x[index] = kept - h
        below = f(x)
        x[index] = kept
        grad[index] = (above - below) / (2 * h)
    return grad


# ---------------------------------------------------------------- dropout, batch normalisation
def dropout(x, mask):
    with np.errstate(all="ignore"):
        return x * mask


def by_feature(x, features):
    """Return the elements of each feature as a column, and the inverse function."""
    if x.ndim > 2 and features == x.shape[1]:  # channels
        columns = np.moveaxis(x, 1, -1)
        return columns.reshape(-1, features), lambda a: np.moveaxis(a.reshape(columns.shape), -1, 1)
    return x.reshape(x.shape[0], -1), lambda a: a.reshape(x.shape)


def batch_norm_forward(x, gamma, beta):
    with np.errstate(all="ignore"):
        columns, back = by_feature(x, len(gamma))
        mean = columns.mean(axis=0)
        xc = columns - mean
        var = np.mean(xc**2, axis=0)
        return back(gamma * (xc / np.sqrt(var + 10e-7)) + beta), mean, var


def batch_norm_inference(x, gamma, beta, mean, var):
    with np.errstate(all="ignore"):
        columns, back = by_feature(x, len(gamma))
        return back(gamma * ((columns - mean) / np.sqrt(var + 10e-7)) + beta)


def batch_norm_backward(dout, x, gamma, mean, var):
    """Return the gradients, node by node through the computational graph, as in the book."""
    with np.errstate(all="ignore"):
        dout, back = by_feature(dout, len(gamma))
        columns, _ = by_feature(x, len(gamma))
        n, xc, std = len(columns), columns - mean, np.sqrt(var + 10e-7)
        dbeta = dout.sum(axis=0)
        dgamma = np.sum(xc / std * dout, axis=0)
        dxn = gamma * dout
        dxc = dxn / std
        dstd = -np.sum(dxn * xc / (std * std), axis=0)
        dvar = 0.5 * dstd / std
        dxc = dxc + (2.0 / n) * xc * dvar
        dmu = np.sum(dxc, axis=0)
        return back(dxc - dmu / n), dgamma, dbeta


# ---------------------------------------------------------------- updates, in place
def sgd_update(p, g, lr):
    p -= lr * g


def momentum_update(p, g, v, lr, momentum):
    v[...] = momentum * v - lr * g
    p += v


def nesterov_update(p, g, v, lr, momentum):
    p += momentum * momentum * v - (1 + momentum) * lr * g
    v[...] = momentum * v - lr * g


def adagrad_update(p, g, h, lr, epsilon=1e-7):
    h += g * g
    p -= lr * g / (np.sqrt(h) + epsilon)


def rmsprop_update(p, g, h, lr, decay_rate, epsilon=1e-7):
    h[...] = decay_rate * h + (1 - decay_rate) * (g * g)
    p -= lr * g / (np.sqrt(h) + epsilon)


def adam_update(p, g, m, v, t, lr, beta1, beta2, epsilon=1e-7):
    lr_t = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    p -= lr_t * m / (np.sqrt(v) + epsilon)


# ---------------------------------------------------------------- layers
class Affine:
    def __init__(self, W, b):
        self.W = W
        self.b = b
        self.x = None
        self.dW = None
        self.db = None

    def forward(self, x):
        self.x = x
        return affine_forward(x, self.W, self.b)

    def backward(self, dout):
        dx, self.dW, self.db = affine_backward(dout, self.x, self.W)
        return dx


class Relu:
    def __init__(self):
        self.mask = None

    def forward(self, x):
        out, self.mask = relu_forward(x)
        return out

    def backward(self, dout):
        return relu_backward(dout, self.mask)


class Sigmoid:
    def __init__(self):
        self.out = None

    def forward(self, x):
        self.out = sigmoid_forward(x)
        return self.out

    def backward(self, dout):
        return sigmoid_backward(dout, self.out)


class SoftmaxWithLoss:
    def __init__(self):
        self.loss = None
        self.y = None
        self.t = None

    def forward(self, x, t):
        self.t = t
        self.loss, self.y = softmax_cross_entropy_forward(x, t)
        return self.loss

    def backward(self, dout=1):
        return softmax_cross_entropy_backward(self.y, self.t, dout)


# ---------------------------------------------------------------- network
class TwoLayerNet:
    def __init__(
        self, input_size, hidden_size, output_size, weight_init_std=0.01, dtype=np.float64
    ):
        self.params = {}
        self.params["W1"] = weight_init_std * np.random.randn(input_size, hidden_size)
        self.params["b1"] = np.zeros(hidden_size)
        self.params["W2"] = weight_init_std * np.random.randn(hidden_size, output_size)
        self.params["b2"] = np.zeros(output_size)
        for key in self.params:
            self.params[key] = self.params[key].astype(dtype)

        self.layers = OrderedDict()
        self.layers["Affine1"] = Affine(self.params["W1"], self.params["b1"])
        self.layers["Relu1"] = Relu()
        self.layers["Affine2"] = Affine(self.params["W2"], self.params["b2"])

        self.lastLayer = SoftmaxWithLoss()

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        y = self.predict(x)
        return self.lastLayer.forward(y, t)

    def accuracy(self, x, t):
        y = self.predict(x)
        y = np.argmax(y, axis=1)
        if t.ndim != 1:
            t = np.argmax(t, axis=1)
        return np.sum(y == t) / float(x.shape[0])

    def numerical_gradient(self, x, t):
        return {
            key: numerical_gradient(lambda _: self.loss(x, t), self.params[key])
            for key in ("W1", "b1", "W2", "b2")
        }

    def gradient(self, x, t):
        self.loss(x, t)

        dout = self.lastLayer.backward(1)
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)

        grads = {}
        grads["W1"], grads["b1"] = self.layers["Affine1"].dW, self.layers["Affine1"].db
        grads["W2"], grads["b2"] = self.layers["Affine2"].dW, self.layers["Affine2"].db
        return grads


def train(
    network,
    x_train,
    t_train,
    x_test,
    t_test,
    iters_num=10000,
    batch_size=100,
    learning_rate=0.1,
    choice=None,
):
    """Train any network of this interface with the lecture's loop.

    Return the list of losses and the two lists of accuracies.
    """
    choice = choice or np.random.choice
    train_size = x_train.shape[0]
    train_loss_list = []
    train_acc_list = []
    test_acc_list = []
    iter_per_epoch = max(train_size / batch_size, 1)

    for i in range(iters_num):
        batch_mask = choice(train_size, batch_size)
        x_batch = x_train[batch_mask]
        t_batch = t_train[batch_mask]

        grad = network.gradient(x_batch, t_batch)
        for key in ("W1", "b1", "W2", "b2"):
            network.params[key] -= learning_rate * grad[key]

        train_loss_list.append(network.loss(x_batch, t_batch))

        if i % iter_per_epoch == 0:
            train_acc_list.append(network.accuracy(x_train, t_train))
            test_acc_list.append(network.accuracy(x_test, t_test))

    return train_loss_list, train_acc_list, test_acc_list


# ---------------------------------------------------------------- comparison
#: Pattern of every error message: what was expected, and what was passed.
EXPECTED_GOT = re.compile("expected.* got ", re.IGNORECASE | re.DOTALL)


def assert_within(actual, expected, magnitude, terms=1):
    """Check that ``actual`` equals ``expected`` up to the rounding of a sum of ``terms`` terms.

    A sum of n terms of total absolute value ``magnitude``, in any order, has an error of at
    most n unit roundoffs of ``magnitude``, in the precision of ``actual``. The reference has
    the same bound in its own precision, and a few operations are added to the sum. NaN and
    infinity must be at the same positions.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    info = np.finfo(actual.dtype)
    expected = expected.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.isinf(actual), infinite)
    np.testing.assert_array_equal(actual[infinite], expected[infinite])
    finite = np.isfinite(expected)
    magnitude = np.broadcast_to(magnitude, expected.shape)[finite].astype(np.float64)
    error = np.abs(actual[finite].astype(np.float64) - expected[finite])
    bound = (terms + 4) * info.eps * magnitude + info.tiny
    worst = np.max(error / bound, initial=0)
    assert worst <= 1, f"{worst:.3g} times the rounding allowed; largest error {error.max():.3g}"

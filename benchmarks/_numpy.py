"""Reference implementations in idiomatic NumPy: the kernels' formulas, and networks of layers.

`Net` has the layers and the weights of a network of this project. Convolution and pooling use
im2col, as in the course.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def affine_backward(dout: Array, x: Array, W: Array) -> tuple[Array, ...]:
    """Return the gradients with respect to input, weights and bias."""
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def softmax(x: Array) -> Array:
    """Return the softmax of each row."""
    y = np.exp(x - x.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return y


def cross_entropy(x: Array, t: Array) -> tuple[Any, Array]:
    """Return the mean loss and the probabilities, for class indices."""
    y = softmax(x)
    return -np.log(y[np.arange(len(t)), t]).mean(), y


def cross_entropy_backward(y: Array, t: Array) -> Array:
    """Return the gradient with respect to the logits."""
    dx = y.copy()
    dx[np.arange(len(t)), t] -= 1
    dx /= len(t)
    return dx


def _features(x: Array) -> tuple[int, ...]:
    """Return the shape in which an array with one element per feature broadcasts with `x`."""
    return (1, -1, *[1] * (x.ndim - 2))


def batch_norm(x: Array, gamma: Array, beta: Array, *given: Array) -> Any:
    """Return the batch normalised by given statistics; without them, by its own, and these."""
    axes, shape = (0, *range(2, x.ndim)), _features(x)
    mean, var = given or (x.mean(axis=axes), x.var(axis=axes))
    scale = gamma / np.sqrt(var + 1e-6).astype(x.dtype)
    out = (x - mean.astype(x.dtype).reshape(shape)) * scale.reshape(shape) + beta.reshape(shape)
    return out if given else (out, mean, var)


def batch_norm_backward(dout: Array, x: Array, gamma: Array, mean: Array, var: Array) -> Any:
    """Return the gradients with respect to `x`, `gamma` and `beta`."""
    axes, shape, n = (0, *range(2, x.ndim)), _features(x), x.size // x.shape[1]
    std = np.sqrt(var + 1e-6).astype(x.dtype)
    xn = (x - mean.astype(x.dtype).reshape(shape)) / std.reshape(shape)
    dbeta, dgamma = dout.sum(axis=axes), (dout * xn).sum(axis=axes)
    dx = dout - (dbeta / n).reshape(shape) - xn * (dgamma / n).reshape(shape)
    return (gamma / std).reshape(shape) * dx, dgamma, dbeta


def sgd(p: Array, g: Array, lr: float) -> None:
    """Update by stochastic gradient descent; the functions below apply the other rules."""
    p -= lr * g


def momentum(p: Array, g: Array, v: Array, lr: float, momentum: float) -> None:
    v *= momentum
    v -= lr * g
    p += v


def nesterov(p: Array, g: Array, v: Array, lr: float, momentum: float) -> None:
    p += momentum * momentum * v - (1 + momentum) * lr * g
    v[...] = momentum * v - lr * g


def adagrad(p: Array, g: Array, h: Array, lr: float) -> None:
    h += g * g
    p -= lr * g / (np.sqrt(h) + 1e-7)


def rmsprop(p: Array, g: Array, h: Array, lr: float, decay_rate: float) -> None:
    h *= decay_rate
    h += (1 - decay_rate) * g * g
    p -= lr * g / (np.sqrt(h) + 1e-7)


def adam(
    p: Array, g: Array, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float
) -> None:
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    lr_t = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
    p -= float(lr_t) * m / (np.sqrt(v) + 1e-7)


# -------------------------------------------------------------------------------------- convolution
def im2col(x: Array, height: int, width: int, stride: int = 1, pad: int = 0) -> Array:
    """Return every window as a row, ``(N OH OW, C height width)``."""
    n, c, h, w = x.shape
    oh, ow = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    img = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    col = np.zeros((n, c, height, width, oh, ow), x.dtype)
    for i in range(height):
        for j in range(width):
            col[:, :, i, j] = img[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(col: Array, shape: Any, height: int, width: int, stride: int = 1, pad: int = 0) -> Array:
    """Sum the contributions of all windows to each input: the adjoint of `im2col`."""
    n, c, h, w = shape
    oh, ow = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    col = col.reshape(n, oh, ow, c, height, width).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((n, c, h + 2 * pad + stride - 1, w + 2 * pad + stride - 1), col.dtype)
    for i in range(height):
        for j in range(width):
            img[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride] += col[:, :, i, j]
    return img[:, :, pad : h + pad, pad : w + pad]


# ------------------------------------------------------------------------------------------- layers
class Affine:
    def __init__(self, layer: Any):
        self.params = [layer.W.copy(), layer.b.copy()]

    def forward(self, x: Array, train: bool) -> Array:
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return self.x @ self.params[0] + self.params[1]

    def backward(self, dout: Array, input_gradient: bool) -> Any:
        self.grads = [self.x.T @ dout, dout.sum(axis=0)]
        return (dout @ self.params[0].T).reshape(self.shape) if input_gradient else None


class Relu:
    def __init__(self, layer: Any):
        self.params: list[Array] = []

    def forward(self, x: Array, train: bool) -> Array:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Array, input_gradient: bool) -> Array:
        dout[self.mask] = 0
        return dout


class Sigmoid(Relu):
    def forward(self, x: Array, train: bool) -> Array:
        self.out: Array = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout: Array, input_gradient: bool) -> Array:
        return dout * (1 - self.out) * self.out


class Dropout(Relu):
    def forward(self, x: Array, train: bool) -> Array:
        if not train:
            return x * x.dtype.type(0.5)
        self.kept = np.random.rand(*x.shape) > 0.5
        return x * self.kept

    def backward(self, dout: Array, input_gradient: bool) -> Array:
        return dout * self.kept


class Convolution(Affine):
    def __init__(self, layer: Any):
        super().__init__(layer)
        self.window = (*layer.W.shape[2:], layer.stride, layer.pad)

    def forward(self, x: Array, train: bool) -> Array:
        (W, b), self.shape = self.params, x.shape
        self.col = im2col(x, *self.window)
        height, _, stride, pad = self.window
        oh = (x.shape[2] + 2 * pad - height) // stride + 1
        out = self.col @ W.reshape(len(W), -1).T + b
        return out.reshape(len(x), oh, -1, len(W)).transpose(0, 3, 1, 2)

    def backward(self, dout: Array, input_gradient: bool) -> Any:
        W = self.params[0]
        rows = dout.transpose(0, 2, 3, 1).reshape(-1, len(W))
        self.grads = [(self.col.T @ rows).T.reshape(W.shape), rows.sum(axis=0)]
        if input_gradient:
            return col2im(rows @ W.reshape(len(W), -1), self.shape, *self.window)
        return None


class Pooling(Relu):
    """Maximum pooling in 2 x 2 windows."""

    def forward(self, x: Array, train: bool) -> Array:
        self.shape = n, c, h, w = x.shape
        col = im2col(x, 2, 2, 2).reshape(-1, 4)
        self.arg_max = col.argmax(axis=1)
        return col.max(axis=1).reshape(n, h // 2, w // 2, c).transpose(0, 3, 1, 2)

    def backward(self, dout: Array, input_gradient: bool) -> Array:
        dmax = np.zeros((dout.size, 4), dout.dtype)
        dmax[np.arange(dout.size), self.arg_max] = dout.transpose(0, 2, 3, 1).ravel()
        return col2im(dmax, self.shape, 2, 2, 2)


LAYERS: dict[str, Any] = {
    each.__name__: each for each in (Affine, Relu, Sigmoid, Dropout, Convolution, Pooling)
}


class Net:
    """NumPy version of a network of this project, and its optimizer.

    Parameters
    ----------
    network : net.Network
    rule : {"SGD", "Momentum", "Adam"}
    lr : float
    input_gradient : bool, default True
        Whether to compute the gradient with respect to the images, which is not used; the course
        does.
    """

    def __init__(self, network: Any, rule: str, lr: float, input_gradient: bool = True):
        self.layers = [LAYERS[type(layer).__name__](layer) for layer in network.layers.values()]
        self.rule, self.lr, self.input_gradient, self.done = rule, lr, input_gradient, 0
        arrays = [p for layer in self.layers for p in layer.params]
        self.params = dict(zip(network.params, arrays, strict=True))
        self.states = [[np.zeros_like(p), np.zeros_like(p)] for p in arrays]

    def predict(self, x: Array, train: bool = False) -> Array:
        """Return the logits."""
        for layer in self.layers:
            x = layer.forward(x, train)
        return x

    def loss(self, x: Array, t: Array) -> Any:
        """Return the loss; `t` is class indices or one-hot."""
        loss, self.y = cross_entropy(self.predict(x, True), t if t.ndim == 1 else t.argmax(axis=1))
        return loss

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Return the gradients of the parameters."""
        self.loss(x, t)
        dout = cross_entropy_backward(self.y, t) if t.ndim == 1 else (self.y - t) / len(t)
        for i, layer in reversed(list(enumerate(self.layers))):
            dout = layer.backward(dout, i > 0 or self.input_gradient)
        grads = [g for layer in self.layers if layer.params for g in layer.grads]
        return dict(zip(self.params, grads, strict=True))

    def step(self, x: Array, t: Array) -> None:
        """Update the parameters by the gradient of a batch."""
        grads, self.done = self.gradient(x, t), self.done + 1
        for (key, p), (a, b) in zip(self.params.items(), self.states, strict=True):
            if self.rule == "SGD":
                sgd(p, grads[key], self.lr)
            elif self.rule == "Momentum":
                momentum(p, grads[key], a, self.lr, 0.9)
            else:
                adam(p, grads[key], a, b, self.done, self.lr, 0.9, 0.999)

    def accuracy(self, x: Array, t: Array, batch: int | None = None) -> float:
        """Return the fraction of correct predictions."""
        batch = batch or len(x)
        t = t if t.ndim == 1 else t.argmax(axis=1)
        right = sum(
            np.sum(self.predict(x[i : i + batch]).argmax(axis=1) == t[i : i + batch])
            for i in range(0, len(x), batch)
        )
        return float(right) / len(x)

    def flops(self, x: Array, density: float = 1.0) -> tuple[float, float]:
        """Return the multiplications and additions of a forward and of a backward pass.

        `density` is the fraction of nonzero inputs: the first layer skips the zeros.
        """
        forward, first = 0.0, 0.0
        for layer in self.layers:
            x = layer.forward(x, False)
            if layer.params:
                here = 2.0 * x.size * (layer.params[0].size / layer.params[1].size)
                first = first or here
                forward += here
        return forward + (density - 1) * first, 2 * forward + (density - 2) * first

"""The course's networks and training loop in plain NumPy, from their description.

Nothing here imports ``kernels`` or ``net``.
"""

from collections import OrderedDict

import naive
import numpy as np


class Affine:
    def __init__(self, params, number):
        self.params, self.keys = params, (f"W{number}", f"b{number}")

    def forward(self, x, train_flg):
        self.x = x
        W, b = (self.params[key] for key in self.keys)
        return x @ W + b

    def backward(self, dout):
        W, b = self.keys
        self.grads = {W: self.x.T @ dout, b: dout.sum(axis=0)}
        return dout @ self.params[W].T


class Activation:
    def __init__(self, name):
        self.name = name

    def forward(self, x, train_flg):
        self.out = np.maximum(x, 0) if self.name == "relu" else 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        if self.name == "relu":
            return dout * (self.out > 0)
        return dout * self.out * (1 - self.out)


class Dropout:
    def __init__(self, ratio):
        self.ratio = ratio

    def forward(self, x, train_flg):
        if not train_flg:
            return x * (1.0 - self.ratio)
        self.mask = np.random.rand(*x.shape) > self.ratio
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class BatchNorm:
    def __init__(self, params, number, momentum=0.9):
        self.params, self.keys = params, (f"gamma{number}", f"beta{number}")
        self.momentum = momentum
        self.running_mean = self.running_var = 0.0

    def forward(self, x, train_flg):
        gamma, beta = (self.params[key] for key in self.keys)
        if train_flg:
            mean, var = x.mean(axis=0), x.var(axis=0)
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            mean, var = self.running_mean, self.running_var
        self.std = np.sqrt(var + 10e-7)
        self.xn = (x - mean) / self.std
        return gamma * self.xn + beta

    def backward(self, dout):
        gamma, beta = self.keys
        self.grads = {gamma: (dout * self.xn).sum(axis=0), beta: dout.sum(axis=0)}
        dxn = dout * self.params[gamma]
        return (dxn - dxn.mean(axis=0) - self.xn * (dxn * self.xn).mean(axis=0)) / self.std


class Network:
    """MultiLayerNetExtend; without dropout and batch normalisation, MultiLayerNet."""

    def __init__(
        self, sizes, activation="relu", std="relu", decay=0.0, dropout=None, batch_norm=False
    ):
        self.params, self.decay = {}, decay
        self.layers = OrderedDict()
        for i in range(1, len(sizes)):
            n, m = sizes[i - 1], sizes[i]
            scale = {"relu": np.sqrt(2 / n), "sigmoid": np.sqrt(1 / n)}.get(std, std)
            self.params[f"W{i}"] = scale * np.random.randn(n, m)
            self.params[f"b{i}"] = np.zeros(m)
            self.layers[f"Affine{i}"] = Affine(self.params, i)
            if i == len(sizes) - 1:
                break
            if batch_norm:
                self.params[f"gamma{i}"], self.params[f"beta{i}"] = np.ones(m), np.zeros(m)
                self.layers[f"BatchNorm{i}"] = BatchNorm(self.params, i)
            self.layers[f"Activation_function{i}"] = Activation(activation)
            if dropout is not None:
                self.layers[f"Dropout{i}"] = Dropout(dropout)

    def predict(self, x, train_flg=False):
        for layer in self.layers.values():
            x = layer.forward(x, train_flg)
        return x

    def loss(self, x, t, train_flg=False):
        loss, self.y = naive.softmax_cross_entropy_forward(self.predict(x, train_flg), t)
        weights = [value for key, value in self.params.items() if key.startswith("W")]
        return loss + 0.5 * self.decay * sum(np.sum(W**2) for W in weights)

    def accuracy(self, x, t):
        return np.mean(self.predict(x).argmax(axis=1) == t)

    def gradient(self, x, t):
        self.loss(x, t, train_flg=True)
        dout = naive.softmax_cross_entropy_backward(self.y, t)
        grads = {}
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
            grads.update(getattr(layer, "grads", {}))
        for key in grads:
            if key.startswith("W"):
                grads[key] = grads[key] + self.decay * self.params[key]
        return grads


class Rule:
    """One of the course's six optimizers."""

    def __init__(self, name, lr, momentum=0.9, decay_rate=0.99, beta1=0.9, beta2=0.999):
        self.name, self.lr, self.momentum, self.decay_rate = name, lr, momentum, decay_rate
        self.beta1, self.beta2, self.t = beta1, beta2, 0
        self.first, self.second = {}, {}

    def update(self, params, grads):
        self.t += 1
        for key, g in grads.items():
            a = self.first.setdefault(key, np.zeros_like(g))
            b = self.second.setdefault(key, np.zeros_like(g))
            p, lr, m = params[key], self.lr, self.momentum
            if self.name == "SGD":
                p -= lr * g
            elif self.name == "Momentum":
                a[...] = m * a - lr * g
                p += a
            elif self.name == "Nesterov":
                p += m * m * a - (1 + m) * lr * g
                a[...] = m * a - lr * g
            elif self.name == "AdaGrad":
                a += g * g
                p -= lr * g / (np.sqrt(a) + 1e-7)
            elif self.name == "RMSprop":
                a[...] = self.decay_rate * a + (1 - self.decay_rate) * g * g
                p -= lr * g / (np.sqrt(a) + 1e-7)
            else:
                rate = lr * np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
                a += (1 - self.beta1) * (g - a)
                b += (1 - self.beta2) * (g * g - b)
                p -= rate * a / (np.sqrt(b) + 1e-7)


def train(network, rule, x, t, iterations, batch_size, choice, losses_in_training=False):
    """Run the course's loop; return the loss of each batch after its update, and the accuracies."""
    losses, accuracies = [], []
    for i in range(iterations):
        mask = choice(len(x), batch_size)
        grads = network.gradient(x[mask], t[mask])
        rule.update(network.params, grads)
        losses.append(network.loss(x[mask], t[mask], train_flg=losses_in_training))
        if i % max(len(x) / batch_size, 1) == 0:
            accuracies.append(network.accuracy(x, t))
    return losses, accuracies

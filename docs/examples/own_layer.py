"""A custom layer computed by your own compiled functions."""

import numpy as np
from numba import njit

from kernels import sigmoid_backward, sigmoid_forward
from net import Affine, Network, Relu, Sigmoid, load_mnist, plot_histories, train


@njit(cache=True)
def swish_forward(x):
    s = sigmoid_forward(x)
    return x * s, s


@njit(cache=True)
def swish_backward(dout, x, s):
    return dout * s + sigmoid_backward(dout * x, s)


class Swish:
    """Activation ``x * sigmoid(x)``, computed by compiled functions that call kernels."""

    def forward(self, x):
        self.x = x
        out, self.s = swish_forward(x)
        return out

    def backward(self, dout):
        return swish_backward(dout, self.x, self.s)


def make_network(activation):
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, np.sqrt(2 / n), (n, m)) for n, m in ((784, 100), (100, 10))]
    first, second = (Affine(W.astype("f4"), np.zeros(W.shape[1], "f4")) for W in weights)
    return Network([first, activation, second])


(x_train, t_train), (x_test, t_test) = load_mnist()

network = make_network(Swish())
x, t = x_train[:5], t_train[:5]
exact, step = network.gradient(x, t)["b1"], np.float32(0.01)
network.params["b1"] += step
above = network.loss(x, t)
network.params["b1"] -= 2 * step
below = network.loss(x, t)
print(f"gradient of all biases: {exact.sum():.4f}, numerically {(above - below) / 0.02:.4f}")

histories = {}
for activation in (Sigmoid(), Relu(), Swish()):
    name = type(activation).__name__
    network = make_network(activation)
    histories[name] = train(network, x_train, t_train, x_test, t_test, iterations=3000, rng=1)
    print(f"{name:7} test accuracy {histories[name].test_acc:.4f}")

plot_histories(histories, "own_layer.png", title="Three activations between two affine layers")

"""Gradient check of a right and a wrong ReLU: back-propagation and numerical differentiation."""

import numpy as np
from matplotlib.figure import Figure

from net import Relu, TwoLayerNet, load_mnist


class WrongRelu(Relu):
    """ReLU whose ``backward`` does not zero the gradient of negative inputs."""

    def backward(self, dout):
        return dout


(x_train, t_train), _ = load_mnist()
x, t = x_train[:3], t_train[:3]

figure = Figure(figsize=(10, 5), layout="constrained")
both = zip(figure.subplots(1, 2, sharex=True), (Relu, WrongRelu), strict=True)
for axes, layer in both:
    network = TwoLayerNet(784, 10, 10, weight_init_std=0.1, rng=0)
    network.layers["Relu1"] = layer()
    exact, approximate = network.gradient(x, t), network.numerical_gradient(x, t)
    print(layer.__name__)
    for key in exact:
        print(f"  {key}: mean difference {np.mean(np.abs(exact[key] - approximate[key])):.1e}")
        axes.plot(approximate[key].ravel(), exact[key].ravel(), ".", markersize=4, label=key)
    axes.axline((0, 0), slope=1, color="0.7", linewidth=1, zorder=0)
    axes.set_title(layer.__name__)
    axes.set_xlabel("numerical differentiation")
    axes.set_ylabel("back-propagation")
    axes.legend()
figure.savefig("gradient_check.png", dpi=100)

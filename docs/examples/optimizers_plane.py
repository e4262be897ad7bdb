"""Paths of six optimizers that minimise ``f(x, y) = x^2 / 20 + y^2``, an elongated valley."""

import numpy as np
from matplotlib.figure import Figure

from net import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop

optimizers = {
    "SGD": SGD(lr=0.95),
    "Momentum": Momentum(lr=0.1),
    "Nesterov": Nesterov(lr=0.1),
    "AdaGrad": AdaGrad(lr=1.5),
    "RMSprop": RMSprop(lr=0.3),
    "Adam": Adam(lr=0.3),
}

x, y = np.meshgrid(np.linspace(-10, 10, 200), np.linspace(-5, 5, 100))
figure = Figure(figsize=(12, 6.5), layout="constrained")
for axes, (name, optimizer) in zip(figure.subplots(2, 3).ravel(), optimizers.items(), strict=True):
    params = {"x": -7.0, "y": 2.0}
    path = []
    for _ in range(30):
        path.append((params["x"], params["y"]))
        optimizer.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
    axes.contour(x, y, x**2 / 20 + y**2, levels=np.arange(0.25, 8, 0.75), colors="0.8")
    axes.plot(*np.transpose(path), "o-", markersize=4)
    axes.plot(0, 0, "k+", markersize=12)
    axes.set_title(f"{name}: ends at ({path[-1][0]:.2f}, {path[-1][1]:.2f})")
    print(f"{name:9} {path[-1][0]:6.2f} {path[-1][1]:6.2f}")
figure.savefig("optimizers_plane.png", dpi=100)

"""Random search for a learning rate and a weight decay, on a validation set."""

import numpy as np
from matplotlib.figure import Figure

from net import SGD, MultiLayerNet, load_mnist, train

(x_train, t_train), _ = load_mnist()
rng = np.random.default_rng(0)
order = rng.permutation(len(x_train))[:500]
x_val, t_val = x_train[order[:100]], t_train[order[:100]]
x_few, t_few = x_train[order[100:]], t_train[order[100:]]

trials = []
for _ in range(60):
    decay, rate = 10 ** rng.uniform(-8, -4), 10 ** rng.uniform(-6, -2)
    network = MultiLayerNet(784, [100] * 6, 10, weight_decay_lambda=decay, dtype="float32", rng=0)
    history = train(
        network, x_few, t_few, x_val, t_val, iterations=200, batch_size=100,
        optimizer=SGD(lr=rate), rng=1,
    )  # fmt: skip
    trials.append((history.test_acc, rate, decay, history))

trials.sort(key=lambda trial: -trial[0])
figure = Figure(figsize=(12, 6.5), layout="constrained")
grid = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
for axes, (accuracy, rate, decay, history) in zip(grid, trials, strict=False):
    print(f"accuracy {accuracy:.2f}, learning rate {rate:.5f}, weight decay {decay:.2e}")
    axes.plot(history.evaluated_at, history.test_acc_list, label="validation set")
    axes.plot(history.evaluated_at, history.train_acc_list, "--", label="training set")
    axes.set_title(f"lr {rate:.5f}, decay {decay:.1e}", fontsize=10)
grid[0].legend()
figure.supxlabel("iteration")
figure.supylabel("accuracy")
figure.savefig("hyperparameters.png", dpi=100)

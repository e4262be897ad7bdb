"""Accuracy with and without batch normalisation, for initial weights of eight scales."""

import warnings

import numpy as np
from matplotlib.figure import Figure

from net import MultiLayerNetExtend, Trainer, load_mnist

(x_train, t_train), (x_test, t_test) = load_mnist()
x_train, t_train = x_train[:1000], t_train[:1000]

figure = Figure(figsize=(12, 6.5), layout="constrained")
grid = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
for axes, std in zip(grid, np.logspace(0, -4, num=8), strict=True):
    for name, use_batchnorm in (("batch normalisation", True), ("without", False)):
        network = MultiLayerNetExtend(
            784, [100] * 5, 10, weight_init_std=std, use_batchnorm=use_batchnorm,
            dtype="float32", rng=0,
        )  # fmt: skip
        trainer = Trainer(
            network, x_train, t_train, x_test, t_test, epochs=20, mini_batch_size=100,
            optimizer_param={"lr": 0.01}, evaluate_sample_num_per_epoch=1000, verbose=False,
        )  # fmt: skip
        # Large weights without normalisation overflow.
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            trainer.train()
        axes.plot(trainer.train_acc_list, "-" if use_batchnorm else "--", label=name)
        print(f"std {std:.4f}, {name:19} {trainer.train_acc_list[-1]:.3f}")
    axes.set_title(f"standard deviation {std:.2g}")
    axes.set_ylim(0, 1)
grid[0].legend()
figure.supxlabel("epoch")
figure.supylabel("accuracy on the training set")
figure.savefig("batch_normalization.png", dpi=100)

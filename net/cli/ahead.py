"""Compilation of the functions that a run needs, on two cores, while the data are loaded."""

import argparse
from typing import Any

from net.cli.networks import make_network, make_optimizer

MNIST_SIZE = 60_000
"""Number of training images, assumed before the data are loaded."""


def compile_run(options: argparse.Namespace, comm: Any) -> None:
    """Compile the functions that a run needs, or load them, by training a temporary network."""
    import numpy as np

    from kernels.mlp import MIN_PASSES
    from kernels.mlp.ahead import compile_training
    from net import train

    rng, state = np.random.default_rng(0), np.random.get_state()
    convolves = options.network.endswith("conv")
    image, count, units = ((28, 28), 40, 2) if convolves else ((8, 8), 1000, 64)
    network = make_network(options, image, 2, rng, [units] * max(1, len(options.hidden or [1, 1])))
    x = (rng.random((count, 1, *image)) < 0.2).astype(np.float32)
    t = rng.integers(0, 2, len(x))
    optimizer = make_optimizer(options)
    optimizer.lr = 0.001
    if convolves and comm is None:
        compile_convolutions(network, x[:20], make_optimizer(options))
    elif not convolves:
        x = x.reshape(len(x), -1)
        passes = options.epochs or (options.iterations or 10_000) * options.batch_size / MNIST_SIZE
        encodes = passes >= MIN_PASSES
        if comm is None and not options.dropout and not options.batch_norm:
            compile_training(network.params["W1"].dtype, optimizer.rule, x, units, encodes)
        if encodes:
            x = x.astype(np.uint8)  # the dtype of encoded data
    try:
        train(
            *(network, x, t, x, t),
            iterations=1,
            batch_size=20,
            optimizer=optimizer,
            rng=0,
            comm=comm,
        )
    finally:
        np.random.set_state(state)


def compile_convolutions(network: Any, x: Any, optimizer: Any) -> None:
    """Compile convolution blocks and updates, and in another process the other layers."""
    import numba
    import numpy as np

    from kernels._convolution_backward import add_chunks
    from kernels.mlp.ahead import another_process
    from net.conv_blocks import ConvBlock, join_layers

    W = network.params["W1"]
    types = numba.typeof(np.empty((0, 0), W.dtype)), numba.typeof(np.empty(0, W.dtype))
    code = f"from net.cli.ahead import compile_dense_layers; compile_dense_layers('{W.dtype}')"
    with another_process(code, add_chunks, types):
        blocks = [unit for unit in join_layers(network.layers.values()) if type(unit) is ConvBlock]
        for block in blocks:
            x = block.forward(x)
        for block in reversed(blocks):
            x = block.backward(x)
        optimizer.update({"W": W.copy()}, {"W": W})


def compile_dense_layers(dtype: str) -> None:
    """Compile the kernels of the layers after the convolutions into the cache on disk."""
    import numpy as np

    from net.layers import Affine, Relu, SoftmaxWithLoss

    x, last = np.zeros((20, 40), dtype), SoftmaxWithLoss()
    layers = [Affine(np.zeros((40, 40), dtype), np.zeros(40, dtype)), Relu()]
    for layer in layers:
        x = layer.forward(x)
    last.forward(x, np.zeros(len(x), np.int64))
    dout = last.backward(1)
    for layer in reversed(layers):
        dout = layer.backward(dout)

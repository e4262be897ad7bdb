"""Layers, networks and training of a course on deep learning, on compiled kernels.

All but the optimizers are imported lazily: the command line's ``--help`` does not import Numba, and
the layers do not import the progress bar.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from net import _installed, optimizers
from net.optimizers import *

if TYPE_CHECKING:
    from net.conv_net import DeepConvNet, SimpleConvNet
    from net.gradient import numerical_gradient
    from net.history import History
    from net.layers import (
        Add,
        Affine,
        BatchNormalization,
        Convolution,
        Dropout,
        Layer,
        Mul,
        Pooling,
        Relu,
        Sigmoid,
        SoftmaxWithLoss,
    )
    from net.mnist import load_mnist
    from net.multi_layer_net import MultiLayerNet, MultiLayerNetExtend
    from net.network import Network
    from net.plot import plot_filters, plot_histories
    from net.trainer import Trainer
    from net.training import train
    from net.two_layer_net import TwoLayerNet

    __version__: str

_EXPORTS = {
    "conv_net": ("DeepConvNet", "SimpleConvNet"),
    "gradient": ("numerical_gradient",),
    "history": ("History",),
    "layers": (
        "Add",
        "Affine",
        "BatchNormalization",
        "Convolution",
        "Dropout",
        "Layer",
        "Mul",
        "Pooling",
        "Relu",
        "Sigmoid",
        "SoftmaxWithLoss",
    ),
    "mnist": ("load_mnist",),
    "multi_layer_net": ("MultiLayerNet", "MultiLayerNetExtend"),
    "network": ("Network",),
    "plot": ("plot_filters", "plot_histories"),
    "trainer": ("Trainer",),
    "training": ("train",),
    "two_layer_net": ("TwoLayerNet",),
}

__all__ = [
    "Add",
    "Affine",
    "BatchNormalization",
    "Convolution",
    "DeepConvNet",
    "Dropout",
    "History",
    "Layer",
    "Mul",
    "MultiLayerNet",
    "MultiLayerNetExtend",
    "Network",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SimpleConvNet",
    "SoftmaxWithLoss",
    "Trainer",
    "TwoLayerNet",
    "load_mnist",
    "numerical_gradient",
    "plot_filters",
    "plot_histories",
    "train",
]
__all__ += optimizers.__all__


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _installed.get_version()
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(import_module(f"net.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

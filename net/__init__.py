"""Layers, networks and training of a course on deep learning, on compiled kernels.

Attributes are imported lazily: the command line's ``--help`` does not import Numba, and the layers
do not import the progress bar.
"""

from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

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
    from net.optimizers import SGD, AdaGrad, Adam, Momentum, Nesterov, Optimizer, RMSprop
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
    "optimizers": ("SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "Optimizer", "RMSprop"),
    "plot": ("plot_filters", "plot_histories"),
    "trainer": ("Trainer",),
    "training": ("train",),
    "two_layer_net": ("TwoLayerNet",),
}

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "Add",
    "Affine",
    "BatchNormalization",
    "Convolution",
    "DeepConvNet",
    "Dropout",
    "History",
    "Layer",
    "Momentum",
    "Mul",
    "MultiLayerNet",
    "MultiLayerNetExtend",
    "Nesterov",
    "Network",
    "Optimizer",
    "Pooling",
    "RMSprop",
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


def _source(spec: Any) -> str:
    """Return the source of a package, which may be in a zip file, or an empty string."""
    if hasattr(spec.loader, "get_source"):
        with suppress(ImportError, OSError, SyntaxError, UnicodeDecodeError):
            return spec.loader.get_source(spec.name) or ""
    return ""


def _check_kernels() -> None:
    """Raise ImportError if the importable package `kernels` is not that of njitnet."""
    spec = find_spec("kernels")
    if spec is None:
        found = "none"
    elif spec.origin is None:  # uninstalling the other distribution removed the file
        found = f"one without its __init__.py, in {list(spec.submodule_search_locations or ())}"
    elif "affine_forward" not in _source(spec):
        found = f"another one, {spec.origin}"
    else:
        return
    raise ImportError(
        f"net: expected the package 'kernels' of njitnet, got {found}. The distribution 'kernels' "
        "of Hugging Face has the same import name, and the two write over each other's files. Use "
        "an environment without it: pip uninstall kernels, then install njitnet again with "
        "--force-reinstall --no-deps"
    )


_check_kernels()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return version("njitnet")
        except PackageNotFoundError:
            return "unknown"
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(import_module(f"net.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

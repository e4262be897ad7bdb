"""The lecture's layers and network, on compiled kernels.

What is asked for is imported when it is asked for: the command line's ``--help`` does not wait for
Numba, and who wants the layers does not wait for the progress bar.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from net.gradient import numerical_gradient
    from net.layers import Add, Affine, Mul, Relu, Sigmoid, SoftmaxWithLoss
    from net.mnist import load_mnist
    from net.training import History, train
    from net.two_layer_net import TwoLayerNet

__all__ = [
    "Add",
    "Affine",
    "History",
    "Mul",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
    "TwoLayerNet",
    "load_mnist",
    "numerical_gradient",
    "train",
]

_ROOMS = {
    "layers": ("Add", "Affine", "Mul", "Relu", "Sigmoid", "SoftmaxWithLoss"),
    "two_layer_net": ("TwoLayerNet",),
    "gradient": ("numerical_gradient",),
    "mnist": ("load_mnist",),
    "training": ("History", "train"),
}


def _check_kernels() -> None:
    """Say plainly when the `kernels` to be imported is not the one that belongs here."""
    spec = find_spec("kernels")
    if spec is None:
        found = "none"
    elif spec.origin is None:  # the file was the other distribution's when that was uninstalled
        found = f"one without its __init__.py, in {list(spec.submodule_search_locations or ())}"
    elif "affine_forward" not in Path(spec.origin).read_text("utf-8", "replace"):
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
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"net.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

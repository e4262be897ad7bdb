"""Check for unmodified layers of `net`, which compiled code can replace."""

from typing import Any

from net.layers.activations import Relu, Sigmoid
from net.layers.affine import Affine
from net.layers.convolution import Convolution, Pooling
from net.layers.softmax_with_loss import SoftmaxWithLoss

_METHODS = {
    kind: (kind.forward, kind.backward)
    for kind in (Affine, Relu, Sigmoid, Convolution, Pooling, SoftmaxWithLoss)
}


def supports_fast_path(layer: Any) -> bool:
    """Return whether a layer is an instance of a class of `net` with its original methods.

    Parameters
    ----------
    layer : object

    Returns
    -------
    bool
        False for a subclass, and if `forward` or `backward` was replaced on the class or instance.
    """
    kind = type(layer)
    methods = _METHODS.get(kind)
    return (
        methods is not None
        and kind.forward is methods[0]
        and kind.backward is methods[1]
        and "forward" not in layer.__dict__
        and "backward" not in layer.__dict__
    )

"""Fused convolution, ReLU and pooling.

The attributes of the layers stay available: arrays that the fused kernel does not write to memory
are computed when they are read.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kernels._convolution_block import (
    convolution_relu_backward,
    convolution_relu_forward,
    convolution_relu_pool_backward,
    convolution_relu_pool_forward,
)
from kernels.pooling import max_pool_forward
from net.layer_list import is_custom
from net.layers import Affine, Convolution, Pooling, Relu
from net.layers._base import Later
from net.layers._plain import supports_fast_path


class ConvBlock:
    """A convolution, a ReLU, and optionally a 2 x 2 pooling, run as one kernel.

    Parameters
    ----------
    conv : Convolution
    relu : Relu
    pool : Pooling or None
    before_affine : bool
        Whether an affine layer follows, which reads each image as one row.
    """

    def __init__(self, conv: Convolution, relu: Relu, pool: Pooling | None, before_affine: bool):
        self._conv, self._relu, self._pool = conv, relu, pool
        self._before_affine = before_affine
        self._kept: Any = None

    def forward(self, x: Any) -> Any:
        """Return the output of the last layer of the block."""
        conv, relu, pool = self._conv, self._relu, self._pool
        W, b, stride, pad = conv.W, conv.b, conv.stride, conv.pad
        if np.ndim(x) != 4:
            raise ValueError(
                f"{conv!r}: expected x (N, {W.shape[1]}, H, W), got shape {np.shape(x)}; "
                "load_mnist(flatten=False) gives images"
            )
        if pool is None:
            out = self._kept = convolution_relu_forward(x, W, b, stride, pad)
            relu.mask = Later(lambda: out <= 0)
        else:
            out, self._kept = convolution_relu_pool_forward(
                x, W, b, stride, pad, channels_last=not self._before_affine
            )
            then = W.copy(), b.copy()  # the optimizer changes both before `relu.mask` is read
            again = Later(lambda: convolution_relu_forward(x, *then, stride, pad))
            relu.mask = Later(lambda: again.value <= 0)
            pool.x = again
            pool.arg_max = Later(lambda: max_pool_forward(again.value, 2, 2, 2, 0)[1])
        conv.x = x
        return out

    def backward(self, dout: Any) -> Any:
        """Return the gradient with respect to the input, and set the convolution's gradients."""
        conv = self._conv
        args: tuple[Any, ...] = conv.x, conv.W, conv.stride, conv.pad
        backward: Any = convolution_relu_backward
        if self._pool is not None:
            backward = convolution_relu_pool_backward
        dx, conv.dW, conv.db = backward(dout, self._kept, *args, input_gradient=conv.input_gradient)
        return dx


def join_layers(layers: Iterable[Any]) -> list[Any]:
    """Join consecutive layers that can run as one kernel.

    Parameters
    ----------
    layers : iterable of layer

    Returns
    -------
    list of layer and ConvBlock
    """
    rest = list(layers)
    joined: list[Any] = []
    i = 0
    while i < len(rest):
        conv, relu, after = (*rest[i : i + 3], None, None)[:3]
        joins = type(conv) is Convolution and type(relu) is Relu
        joins = joins and supports_fast_path(conv) and supports_fast_path(relu)
        pools = type(after) is Pooling and supports_fast_path(after) and _is_2x2(after)
        # Without pooling, a custom layer may change the output, from which the mask is read.
        if not joins or not (pools or (after is not None and not is_custom(type(after)))):
            joined.append(conv)
            i += 1
            continue
        pool = after if pools else None
        i += 2 if pool is None else 3
        joined.append(ConvBlock(conv, relu, pool, i < len(rest) and isinstance(rest[i], Affine)))
    return joined


def has_parameters(unit: Any) -> bool:
    """Return whether a layer or block has parameters.

    Parameters
    ----------
    unit : layer or ConvBlock

    Returns
    -------
    bool
    """
    return isinstance(unit, ConvBlock) or bool(getattr(unit, "parameters", ()))


def _is_2x2(pool: Pooling) -> bool:
    return (pool.pool_h, pool.pool_w, pool.stride, pool.pad) == (2, 2, 2, 0)

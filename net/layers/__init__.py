"""Layers: state and attributes; the arithmetic is in :mod:`kernels`."""

from net.layers._base import Layer
from net.layers.activations import Relu, Sigmoid
from net.layers.affine import Affine
from net.layers.batch_normalization import BatchNormalization
from net.layers.convolution import Convolution, Pooling
from net.layers.dropout import Dropout
from net.layers.nodes import Add, Mul
from net.layers.softmax_with_loss import SoftmaxWithLoss

__all__ = [
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
]

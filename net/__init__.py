"""The lecture's layers and network, on compiled kernels."""

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

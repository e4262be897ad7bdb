"""Compiled training and evaluation of stacks of affine layers and activations.

These are the only kernels that know a network's architecture.
"""

from kernels.mlp._stack import IDENTITY, RELU, SIGMOID
from kernels.mlp.encoding import MIN_PASSES, EncodedData, encode, pays_codes
from kernels.mlp.network import CompiledNetwork, Forward
from kernels.mlp.trainer import MLPTrainer

__all__ = [
    "IDENTITY",
    "MIN_PASSES",
    "RELU",
    "SIGMOID",
    "CompiledNetwork",
    "EncodedData",
    "Forward",
    "MLPTrainer",
    "encode",
    "pays_codes",
]

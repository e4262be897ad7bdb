"""Whole networks of affine layers and activations, compiled: the only kernels that know an
architecture.
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

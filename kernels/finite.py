"""Moved to :mod:`kernels.mlp.numerical_gradient`."""

from kernels.mlp.numerical_gradient import two_layer_numerical_gradient

__all__ = ["two_layer_numerical_gradient"]

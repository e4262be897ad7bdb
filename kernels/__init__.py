"""Neural-network kernels compiled by Numba.

Every function takes NumPy arrays, can be called from Python and from user-defined ``@numba.njit``
functions, and returns bit-identical results for any number of threads.
"""

from kernels import optimizers
from kernels.affine import affine_backward, affine_backward_params, affine_forward
from kernels.batch_norm import batch_norm_backward, batch_norm_forward, batch_norm_inference
from kernels.convolution import (
    convolution_backward,
    convolution_backward_params,
    convolution_forward,
)
from kernels.dropout import dropout_backward, dropout_forward
from kernels.optimizers import *
from kernels.pooling import max_pool_backward, max_pool_forward
from kernels.relu import relu_backward, relu_forward
from kernels.sigmoid import sigmoid_backward, sigmoid_forward
from kernels.softmax import (
    softmax,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

__all__ = [
    "affine_backward",
    "affine_backward_params",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "convolution_backward",
    "convolution_backward_params",
    "convolution_forward",
    "dropout_backward",
    "dropout_forward",
    "max_pool_backward",
    "max_pool_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]
__all__ += optimizers.__all__

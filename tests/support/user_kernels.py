"""User-defined compiled functions that call kernels from parallel loops."""

import numpy as np
from numba import njit, prange

from kernels import affine_forward, relu_forward, softmax


@njit(parallel=True, cache=True)
def activations(x):
    rectified, probable = np.empty(x.shape), np.empty(x.shape)
    for i in prange(x.shape[0]):
        rectified[i] = relu_forward(x[i])[0]
        probable[i] = softmax(x[i])
    return rectified, probable


@njit(parallel=True, cache=True)
def affine(x, W, b):
    out = np.empty((x.shape[0], x.shape[1], W.shape[1]))
    for i in prange(x.shape[0]):
        out[i] = affine_forward(x[i], W, b)
    return out

"""Whether the kernels are still right: a fast kernel that gives something else shows here."""

from typing import Any

import numpy as np

from benchmarks import bench_activations, bench_affine, bench_batch_norm, bench_softmax
from benchmarks.bench_base import BATCHES, DTYPES, THREADS, Kernel, set_threads

OPERATIONS: dict[str, type[Kernel]] = {
    operation.__name__: operation
    for module in (bench_affine, bench_activations, bench_batch_norm, bench_softmax)
    for operation in vars(module).values()
    if isinstance(operation, type)
    and operation.__module__ == module.__name__
    and issubclass(operation, Kernel)
}


def one_hot(y: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the targets as probabilities."""
    return np.eye(y.shape[1])[t]


def softmax(x: np.ndarray) -> np.ndarray:
    """Return probabilities."""
    y = np.exp(x - x.max(axis=1, keepdims=True))
    return y / y.sum(axis=1, keepdims=True)


def cross_entropy(x: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss and the probabilities."""
    y = softmax(x)
    return -np.log(y[np.arange(len(t)), t]).mean(), y


def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *given: np.ndarray) -> Any:
    """Return the batch normalised by its own or by given statistics, and its own."""
    mean, var = given or (x.mean(axis=0), x.var(axis=0))
    out = gamma * (x - mean) / np.sqrt(var + 1e-6) + beta
    return out if given else (out, mean, var)


def batch_norm_backward(
    dout: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> Any:
    """Return the three gradients."""
    std = np.sqrt(var + 1e-6)
    xn = (x - mean) / std
    dbeta, dgamma = dout.sum(axis=0), (dout * xn).sum(axis=0)
    return gamma / std * (dout - dbeta / len(x) - xn * dgamma / len(x)), dgamma, dbeta


REFERENCE: dict[str, Any] = {
    "AffineForward": lambda x, W, b: x @ W + b,
    "AffineBackward": lambda dout, x, W: (dout @ W.T, x.T @ dout, dout.sum(axis=0)),
    "AffineGradient": lambda dout, x, W: (x.T @ dout, dout.sum(axis=0)),
    "ReluForward": lambda x: (np.maximum(x, 0), x <= 0),
    "ReluBackward": lambda dout, mask: np.where(mask, 0, dout),
    "SigmoidForward": lambda x: 1 / (1 + np.exp(-x)),
    "SigmoidBackward": lambda dout, out: dout * out * (1 - out),
    "BatchNormForward": batch_norm,
    "BatchNormInference": batch_norm,
    "BatchNormBackward": batch_norm_backward,
    "DropoutForward": lambda x, mask: x * mask,
    "Softmax": softmax,
    "SoftmaxCrossEntropyForward": cross_entropy,
    "SoftmaxCrossEntropyBackward": lambda y, t: (y - one_hot(y, t)) / len(y),
}
"""The formulas in NumPy, by the name of the class that measures the kernel."""


def difference(operation: str, batch: int, dtype: str) -> float:
    """Return how far a kernel is from NumPy in float64, relative to the largest value."""
    arguments = OPERATIONS[operation]().arguments(batch, dtype)
    exact = [a.astype("float64") if a.dtype.kind == "f" else a for a in arguments]
    found, expected = OPERATIONS[operation].kernel(*arguments), REFERENCE[operation](*exact)
    if not isinstance(found, tuple):
        found, expected = (found,), (expected,)
    differences = []
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
        differences.append(abs(ours - theirs).max() / (abs(theirs).max() or 1))
    return float(max(differences))


class Correctness:
    """The largest relative difference to NumPy over all batches and numbers of threads."""

    params = (list(OPERATIONS), DTYPES)
    param_names = ("operation", "dtype")
    unit = "relative difference"

    def track_difference(self, operation: str, dtype: str) -> float:
        worst = 0.0
        for threads in THREADS:
            set_threads(threads)
            for batch in BATCHES:
                worst = max(worst, difference(operation, batch, dtype))
        return worst

"""The operations of the kernels in NumPy, PyTorch and JAX, each in the library's fastest form.

Some operations of the libraries compute less: PyTorch's ReLU returns no mask, and its cross-entropy
returns no probabilities. Images are stored with the channels last.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import kernels
from benchmarks import _numpy
from benchmarks._report import installed
from benchmarks._timing import LIBRARIES, Call

Array = np.ndarray[Any, Any]
CONVOLUTIONAL = 437_610
"""Number of parameters of the course's SimpleConvNet."""


@cache
def normal(*shape: int, dtype: str, seed: int = 0) -> Array:
    """Return normally distributed numbers; the same arguments return the same array."""
    return np.random.default_rng((*shape, seed)).standard_normal(shape, np.dtype(dtype))


@cache
def labels(count: int, classes: int = 10) -> Array:
    """Return random class indices."""
    return np.random.default_rng(count).integers(0, classes, count)


class Operation(NamedTuple):
    """An operation: its random arguments, and its functions in each library.

    `torch` takes tensors and returns a call; `jax` is a function to compile. `flops` returns the
    floating-point operations for a shape; None if the operation is limited by memory.
    """

    arguments: Callable[..., tuple[Any, ...]]
    numpy: Callable[..., Any]
    torch: Callable[..., Call] | None = None
    jax: Callable[..., Any] | None = None
    flops: Callable[..., float] | None = None


class _Torch:
    """Proxy that imports PyTorch lazily."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("torch"), name)


torch = _Torch()


def _images(n: int, c: int, h: int, w: int, dtype: str) -> Array:
    return normal(n, h, w, c, dtype=dtype).transpose(0, 3, 1, 2)


def _output(n: int, c: int, h: int, w: int, f: int, k: int) -> tuple[int, int, int, int]:
    """Return the shape of a convolution's output; 3 x 3 filters have a pad of 1."""
    return n, f, *((h, w) if k == 3 else (h - k + 1, w - k + 1))


def _convolution(n: int, c: int, h: int, w: int, f: int, k: int, dtype: str) -> Any:
    W = normal(f, c, k, k, dtype=dtype)
    return _images(n, c, h, w, dtype), W, normal(f, dtype=dtype), 1, int(k == 3)


def _convolution_backward(n: int, c: int, h: int, w: int, f: int, k: int, dtype: str) -> Any:
    x, W, _, stride, pad = _convolution(n, c, h, w, f, k, dtype)
    return _images(*_output(n, c, h, w, f, k), dtype), x, W, stride, pad


def _convolution_flops(n: int, c: int, h: int, w: int, f: int, k: int) -> float:
    return 2.0 * c * k * k * float(np.prod(_output(n, c, h, w, f, k)))


class _Layer(NamedTuple):
    W: Array
    b: Array
    stride: int
    pad: int


def _numpy_convolution(x: Array, W: Array, b: Array, stride: int, pad: int) -> Array:
    return _numpy.Convolution(_Layer(W, b, stride, pad)).forward(x, True)


def _numpy_convolution_backward(dout: Array, x: Array, W: Array, stride: int, pad: int) -> Any:
    layer = _numpy.Convolution(_Layer(W, W[:, 0, 0, 0], stride, pad))
    layer.shape, layer.col = x.shape, _numpy.im2col(x, *layer.window)
    dx = layer.backward(dout, x.shape[1] > 1)
    return (dx, *layer.grads) if x.shape[1] > 1 else tuple(layer.grads)


def _our_convolution_backward(dout: Array, x: Array, W: Array, stride: int, pad: int) -> Any:
    # Images of one channel are a network's input, whose gradient is not needed.
    first = x.shape[1] == 1
    function = kernels.convolution_backward_params if first else kernels.convolution_backward
    return function(dout, x, W, stride, pad)


def _torch_convolution_backward(dout: Any, x: Any, W: Any, stride: int, pad: int) -> Call:
    sizes = [len(W)], [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1
    mask = [x.shape[1] > 1, True, True]
    return partial(torch.ops.aten.convolution_backward, dout, x, W, *sizes, mask)


def _torch_cross_entropy_backward(y: Any, t: Any) -> Call:
    # These functions are called by autograd, which stores the logarithm of the probabilities.
    aten = torch.ops.aten
    log_y, one, count = y.log(), y.new_ones(()), y.new_full((), len(y))

    def call() -> Any:
        upper = aten.nll_loss_backward(one, log_y, t, None, 1, -100, count)
        return aten._log_softmax_backward_data(upper, log_y, 1, log_y.dtype)

    return call


def _torch_adam(p: Any, g: Any, m: Any, v: Any, *options: float) -> Call:
    parameter = torch.nn.Parameter(p)
    parameter.grad = g
    update: Call = torch.optim.Adam([parameter], lr=options[1], fused=True).step
    return update


def _jax_convolution(x: Any, W: Any, b: Any, stride: int, pad: int) -> Any:
    from jax import lax

    pads = [(pad, pad)] * 2
    return lax.conv_general_dilated(x, W, (stride, stride), pads) + b[:, None, None]


def _jax_convolution_backward(dout: Any, x: Any, W: Any, stride: int, pad: int) -> Any:
    import jax

    def forward(x: Any, W: Any, b: Any) -> Any:
        return _jax_convolution(x, W, b, stride, pad)

    gradients = jax.vjp(forward, x, W, W[:, 0, 0, 0])[1](dout)
    return gradients if x.shape[1] > 1 else gradients[1:]


def _affine(n: int, d: int, m: int, dtype: str) -> tuple[Any, ...]:
    return normal(n, d, dtype=dtype), normal(d, m, dtype=dtype), normal(m, dtype=dtype)


def _affine_gradients(n: int, d: int, m: int, dtype: str) -> tuple[Any, ...]:
    # Different arrays even if their shapes are equal: NumPy computes x.T @ x at half the cost.
    dout, x, W = (
        normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(((n, m), (n, d), (d, m)))
    )
    return dout, x, W


def _elements(*shape: int, dtype: str) -> tuple[Any, ...]:
    return (normal(*shape, dtype=dtype),)


def _and_mask(*shape: int, dtype: str) -> tuple[Any, ...]:
    x = normal(*shape, dtype=dtype)
    return x, x[::-1] <= 0


def _probabilities(n: int, m: int, dtype: str) -> tuple[Any, ...]:
    y = abs(normal(n, m, dtype=dtype))
    return np.divide(y, y.sum(axis=1, keepdims=True)), labels(n, m)


@cache
def _batch_norm(*shape: int, dtype: str) -> tuple[Any, ...]:
    """Return a gradient, a batch, scale and shift, and the batch's mean and variance."""
    x = normal(*shape, dtype=dtype) if len(shape) == 2 else _images(*shape, dtype)
    gamma, beta = normal(2, shape[1], dtype=dtype)
    mean, var = kernels.batch_norm_forward(x, gamma, beta)[1:]
    return x[::-1].copy(), x, gamma, beta, mean, var + 1  # the variance of a batch of one is 0


def _update(*states_and_options: Any) -> Callable[..., tuple[Any, ...]]:
    states, *options = states_and_options

    def arguments(size: int, dtype: str) -> tuple[Any, ...]:
        g = normal(size, dtype=dtype)
        return (g.copy(), g, *(np.zeros(size, dtype) for _ in range(states)), *options)

    return arguments


def _torch_batch_norm(x: Any, gamma: Any, beta: Any) -> Call:
    return partial(torch.native_batch_norm, x, gamma, beta, None, None, True, 0.1, 1e-6)


OPERATIONS: dict[str, Operation] = {
    "affine_forward": Operation(
        _affine,
        lambda x, W, b: x @ W + b,
        lambda x, W, b: partial(torch.addmm, b, x, W),
        lambda x, W, b: x @ W + b,
        lambda n, d, m: 2.0 * n * d * m,
    ),
    "affine_backward": Operation(
        _affine_gradients,
        _numpy.affine_backward,
        lambda dout, x, W: lambda: (dout.mm(W.T), x.T.mm(dout), dout.sum(0)),
        lambda dout, x, W: (dout @ W.T, x.T @ dout, dout.sum(0)),
        lambda n, d, m: 4.0 * n * d * m,
    ),
    "affine_backward_params": Operation(
        _affine_gradients,
        lambda dout, x, W: (x.T @ dout, dout.sum(axis=0)),
        flops=lambda n, d, m: 2.0 * n * d * m,
    ),
    "relu_forward": Operation(
        _elements,
        lambda x: (np.maximum(x, 0), x <= 0),
        lambda x: partial(torch.relu, x),
    ),
    "relu_backward": Operation(
        _and_mask,
        lambda dout, mask: np.multiply(dout, ~mask),
        # PyTorch's mask is the output.
        lambda dout, mask: partial(
            torch.ops.aten.threshold_backward, dout, (~mask).to(dout.dtype), 0
        ),
    ),
    "sigmoid_forward": Operation(
        _elements,
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: partial(torch.sigmoid, x),
    ),
    "sigmoid_backward": Operation(
        lambda *shape, dtype: (
            normal(*shape, dtype=dtype),
            1 / (1 + abs(normal(*shape, dtype=dtype))),
        ),
        lambda dout, out: dout * (1 - out) * out,
        lambda dout, out: partial(torch.ops.aten.sigmoid_backward, dout, out),
    ),
    "dropout_forward": Operation(_and_mask, lambda x, mask: x * mask),
    "softmax": Operation(_elements, _numpy.softmax, lambda x: partial(torch.softmax, x, 1)),
    "softmax_cross_entropy_forward": Operation(
        lambda n, m, dtype: (normal(n, m, dtype=dtype), labels(n, m)),
        _numpy.cross_entropy,
        lambda x, t: partial(torch.nn.functional.cross_entropy, x, t),
    ),
    "softmax_cross_entropy_backward": Operation(
        _probabilities, _numpy.cross_entropy_backward, _torch_cross_entropy_backward
    ),
    "batch_norm_forward": Operation(
        lambda *shape, dtype: _batch_norm(*shape, dtype=dtype)[1:4],
        _numpy.batch_norm,
        _torch_batch_norm,
    ),
    "batch_norm_inference": Operation(
        lambda *shape, dtype: _batch_norm(*shape, dtype=dtype)[1:], _numpy.batch_norm
    ),
    "batch_norm_backward": Operation(
        lambda *shape, dtype: tuple(_batch_norm(*shape, dtype=dtype)[i] for i in (0, 1, 2, 4, 5)),
        _numpy.batch_norm_backward,
    ),
    "sgd_update": Operation(_update(0, 1e-6), _numpy.sgd),
    "momentum_update": Operation(_update(1, 1e-6, 0.9), _numpy.momentum),
    "nesterov_update": Operation(_update(1, 1e-6, 0.9), _numpy.nesterov),
    "adagrad_update": Operation(_update(1, 1e-6), _numpy.adagrad),
    "rmsprop_update": Operation(_update(1, 1e-6, 0.99), _numpy.rmsprop),
    "adam_update": Operation(_update(2, 1, 1e-6, 0.9, 0.999), _numpy.adam, _torch_adam),
    "convolution_forward": Operation(
        _convolution,
        _numpy_convolution,
        lambda x, W, b, stride, pad: partial(torch.nn.functional.conv2d, x, W, b, stride, pad),
        _jax_convolution,
        _convolution_flops,
    ),
    "convolution_backward": Operation(
        _convolution_backward,
        _numpy_convolution_backward,
        _torch_convolution_backward,
        _jax_convolution_backward,
        lambda n, c, *rest: (1 + (c > 1)) * _convolution_flops(n, c, *rest),
    ),
    "max_pool_forward": Operation(
        lambda *shape, dtype: (_images(*shape, dtype), 2, 2, 2),
        lambda x, *window: _numpy.Pooling(None).forward(x, True),
        lambda x, *window: partial(torch.ops.aten.max_pool2d_with_indices, x, [2, 2], [2, 2]),
    ),
}
"""Operations by the name of the kernel."""


def ours(operation: str) -> Callable[..., Any]:
    """Return njitnet's function for an operation."""
    if operation == "convolution_backward":
        return _our_convolution_backward
    kernel: Callable[..., Any] = getattr(kernels, operation)
    return kernel


def convert(library: str, arguments: tuple[Any, ...], variant: str = "") -> list[Any]:
    """Convert arguments to a library's arrays; `variant` is PyTorch's memory format of images."""
    if library == "torch":
        order = torch.channels_last if variant == "channels-last" else torch.contiguous_format
        return [
            a
            if not isinstance(a, np.ndarray)
            else torch.from_numpy(a if a.strides and min(a.strides) > 0 else a.copy()).contiguous(
                memory_format=order if a.ndim == 4 else torch.contiguous_format
            )
            for a in arguments
        ]
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        return [jax.numpy.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
    return list(arguments)


def operation_calls(
    operation: str, shape: tuple[int, ...], dtype: str, libraries: tuple[str, ...] = LIBRARIES
) -> dict[str, Call]:
    """Return the calls to time, for each library that is installed and has the operation."""
    job, found = OPERATIONS[operation], {}
    arguments = job.arguments(*shape, dtype=dtype)
    if "njitnet" in libraries:
        found["njitnet"] = partial(ours(operation), *arguments)
    if "numpy" in libraries:
        found["numpy"] = partial(job.numpy, *convert("numpy", arguments))
    if "torch" in libraries and job.torch and installed("torch"):
        images = any(getattr(a, "ndim", 0) == 4 for a in arguments)
        for variant in ("contiguous", "channels-last") if images else ("",):
            call = job.torch(*convert("torch", arguments, variant))
            found[f"torch, {variant}" if variant else "torch"] = torch.inference_mode()(call)
    if "jax" in libraries and job.jax and installed("jax"):
        import jax

        converted = convert("jax", arguments)
        constants = tuple(i for i, a in enumerate(arguments) if not isinstance(a, np.ndarray))
        compiled = jax.jit(job.jax, static_argnums=constants)
        found["jax"] = lambda: jax.block_until_ready(compiled(*converted))
    return found


def bytes_moved(operation: str, shape: tuple[int, ...], dtype: str) -> float:
    """Return the number of bytes that a kernel reads and writes."""
    arguments = OPERATIONS[operation].arguments(*shape, dtype=dtype)
    results = ours(operation)(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    arrays = [a for a in (*arguments, *results) if a is not None]
    total = float(sum(np.asarray(a).nbytes for a in arrays))
    if operation.endswith("update"):  # all arrays except the gradient are also written
        total += total - arguments[1].nbytes
    return total


def difference(operation: str, shape: tuple[int, ...], dtype: str) -> float:
    """Return a kernel's largest difference from NumPy in float64, relative to the largest value."""
    arguments = OPERATIONS[operation].arguments(*shape, dtype=dtype)
    floats = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in arguments]
    exact = [a.astype("float64") if f else a for a, f in zip(arguments, floats, strict=True)]
    found = ours(operation)(*arguments)
    expected = OPERATIONS[operation].numpy(*exact)
    if operation.endswith("update"):
        found, expected = arguments, tuple(exact)
    if operation == "max_pool_forward":
        found = found[0]
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    worst = 0.0
    for a, b in ((np.asarray(a, "float64"), np.asarray(b, "float64")) for a, b in pairs):
        worst = max(worst, float(abs(a - b).max() / (abs(b).max() or 1)))
    return worst

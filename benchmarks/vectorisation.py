"""Vectorisation of the compiled kernels: ``python -m benchmarks.vectorisation``.

The script counts the floating-point instructions of each compiled kernel by vector width, and
compares the register-tiled micro-kernel with plain loops for the same product.
"""

import re
import timeit
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numba
import numpy as np

import kernels
from kernels import _gemm, _microkernel, _vectors, relu, sigmoid
from kernels._compiler import njit
from kernels._gemm_threads import gemm

ARITHMETIC = re.compile(
    r"^\s+v?(?:add|sub|mul|div|max|min|fn?m(?:add|sub)\d*|cmp\w*|blendm)([ps][sd])\b(.*)$"
)


def widths(assembly: str) -> Counter[str]:
    """Count the arithmetic instructions of an x86 assembly listing by register width in bits."""
    found: Counter[str] = Counter()
    for line in assembly.splitlines():
        match = ARITHMETIC.match(line)
        if match:
            kind, registers = match.groups()
            size = next((b for r, b in (("zmm", "512"), ("ymm", "256")) if r in registers), "128")
            found["scalar" if kind.startswith("s") else size] += 1
    return found


@numba.njit(nogil=True)
# Without annotations: Numba infers the types.
def plain_product(x, W, b, out):
    """Compute ``x W + b`` in plain loops: four rows at a time, along the rows of `W`."""
    n, m = out.shape
    for i in range(0, n - 3, 4):
        for j in range(m):
            out[i, j] = out[i + 1, j] = out[i + 2, j] = out[i + 3, j] = b[j]
        for k in range(x.shape[1]):
            x0, x1, x2, x3 = x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k]
            for j in range(m):
                w = W[k, j]
                out[i, j] += x0 * w
                out[i + 1, j] += x1 * w
                out[i + 2, j] += x2 * w
                out[i + 3, j] += x3 * w


def best(call: Callable[[], Any], rounds: int = 200) -> float:
    """Return the shortest of `rounds` times of a call, in seconds."""
    return min(timeit.repeat(call, number=1, repeat=rounds))


def main() -> None:
    """Print both tables."""
    rng = np.random.default_rng(0)
    print(
        f"vectors of {8 * _vectors.VECTOR_BYTES} bits, tiles of up to {_vectors.TILE_ROWS[0]} x "
        f"{_vectors.TILE_VECTORS} vectors"
    )
    x, W, b = (rng.random(s, np.float32) for s in ((100, 784), (784, 50), 50))
    t = rng.integers(0, 10, 100)
    out = kernels.affine_forward(x, W, b)
    _, mask = kernels.relu_forward(out)
    softmax = import_module("kernels.softmax")  # the package has a function of that name
    logits, none = np.ascontiguousarray(out[:, :10]), np.empty((0, 10), np.float32)
    y = np.empty_like(logits)
    flat, flat_mask = out.reshape(-1), mask.reshape(-1)
    bodies = {
        "micro-kernel": (_microkernel.microkernel_address, (out, out)),
        "relu forward": (relu._forward_part, (flat, flat, flat_mask)),
        "relu backward": (relu._backward_part, (flat, flat_mask, flat)),
        "sigmoid forward": (sigmoid._forward_part, (flat, flat)),
        "sigmoid backward": (sigmoid._backward_part, (flat, flat, flat)),
        "softmax forward": (softmax.softmax_part, (logits, y, none, t, np.empty(100))),
        "softmax backward": (softmax.backward_part, (y, none, t, np.float32(0.01), y.copy())),
    }
    print("\narithmetic instructions   512-bit   256-bit   128-bit    scalar")
    for name, (function, arguments) in bodies.items():
        # A copy: the functions have no machine code of their own, or code that is loaded from the
        # cache and cannot be inspected.
        model = function.targetoptions.get("error_model", "python")
        body = njit(function.py_func, cache=False, error_model=model)
        body.compile(tuple(map(numba.typeof, arguments)))
        found = widths("\n".join(body.inspect_asm().values()))
        counts = "".join(f"{found[k]:10}" for k in ("512", "256", "128", "scalar"))
        print(f"{name:24}{counts}")

    flops = 2 * x.shape[0] * W.size
    numba.set_num_threads(1)
    addresses = _gemm.get_product_addresses(x.dtype, x.dtype, _gemm.DENSE)
    plain_product(x, W, b, out)
    times = {
        "micro-kernel": best(lambda: gemm(addresses, x, np.False_, W, np.False_, b, out)),
        "plain loops": best(lambda: plain_product(x, W, b, out)),
        "NumPy": best(lambda: np.add(np.matmul(x, W, out=out), b, out=out)),
    }
    print(
        "\n(100, 784) x (784, 50), float32, one thread (NumPy: its default number of threads), "
        "GFLOP/s"
    )
    for name, seconds in times.items():
        print(f"{name:24}{flops / seconds / 1e9:10.0f}")


if __name__ == "__main__":
    main()

"""A table of convolution and pooling beside PyTorch: ``python -m benchmarks.convolution``.

All take turns in one process, on batches of 100 images whose channels come last in memory; PyTorch
has them in both memory orders. The best call of all rounds counts: what else runs on the machine
makes calls slower, never faster. The peak that the processor's multiply-add units can reach is
measured in the same rounds.
"""

import argparse
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numba
import numpy as np

import kernels
from benchmarks import _peers
from benchmarks._limits import peak_flops
from benchmarks.bench_convolution import BATCH, operands

LAYERS = [
    "1x28x28 30x5x5",
    "1x28x28 16x3x3",
    "3x32x32 32x3x3",
    "16x28x28 16x3x3",
    "16x14x14 32x3x3",
    "32x14x14 32x3x3",
    "32x8x8 64x3x3",
    "64x8x8 64x3x3",
]
POOLED = ["30x24x24", "16x28x28", "32x14x14", "64x8x8"]

Calls = dict[str, Callable[[], Any]]


def convolution_calls(layer: str, dtype: str) -> tuple[Calls, Calls, float]:
    """Return what to time forward and backward, and the floating-point operations forward."""
    x, W, b, pad = operands(layer, dtype)
    first = x.shape[1] == 1  # the gradient of the network's input is not needed
    out = kernels.convolution_forward(x, W, b, 1, pad)
    dout = out.copy(order="K")
    backward = kernels.convolution_backward_params if first else kernels.convolution_backward
    forward_calls: Calls = {"ours": lambda: kernels.convolution_forward(x, W, b, 1, pad)}
    backward_calls: Calls = {"ours": lambda: backward(dout, x, W, 1, pad)}
    if _peers.installed(["torch"]):
        import torch

        for name, order in (
            ("torch", torch.contiguous_format),
            ("torch last", torch.channels_last),
        ):
            X, V, D = (torch.from_numpy(a).contiguous(memory_format=order) for a in (x, W, dout))
            bias = torch.from_numpy(b)

            def theirs(X: Any = X, V: Any = V, bias: Any = bias) -> Any:
                return torch.nn.functional.conv2d(X, V, bias, padding=pad)

            def theirs_backward(X: Any = X, V: Any = V, D: Any = D) -> Any:
                sizes = [len(b)], [1, 1], [pad, pad], [1, 1], False, [0, 0], 1
                mask = [not first, True, True]
                return torch.ops.aten.convolution_backward(D, X, V, *sizes, mask)

            forward_calls[name], backward_calls[name] = theirs, theirs_backward
    return forward_calls, backward_calls, 2.0 * out.size * W[0].size


def pooling_calls(shape: str, dtype: str) -> tuple[Calls, Calls]:
    """Return what to time forward and backward for windows of 2 x 2."""
    x = operands(f"{shape} 1x1x1", dtype)[0]
    out, arg_max = kernels.max_pool_forward(x, 2, 2, 2)
    dout = out.copy(order="K")
    forward: Calls = {"ours": lambda: kernels.max_pool_forward(x, 2, 2, 2)}
    backward: Calls = {"ours": lambda: kernels.max_pool_backward(dout, arg_max, x.shape, 2, 2, 2)}
    if _peers.installed(["torch"]):
        import torch

        sizes = [2, 2], [2, 2]
        for name, order in (
            ("torch", torch.contiguous_format),
            ("torch last", torch.channels_last),
        ):
            X, D = (torch.from_numpy(a).contiguous(memory_format=order) for a in (x, dout))
            indices = torch.ops.aten.max_pool2d_with_indices(X, *sizes)[1]

            def theirs(X: Any = X) -> Any:
                return torch.ops.aten.max_pool2d_with_indices(X, *sizes)

            def theirs_backward(X: Any = X, D: Any = D, indices: Any = indices) -> Any:
                return torch.ops.aten.max_pool2d_with_indices_backward(
                    D, X, *sizes, [0, 0], [1, 1], False, indices
                )

            forward[name], backward[name] = theirs, theirs_backward
    return forward, backward


def best_seconds(calls: Calls, rounds: int) -> dict[str, float]:
    """Return the best time of each call, the calls taking turns."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            _peers.settle()
            call()
            for _ in range(3):
                begin = perf_counter()
                call()
                best[name] = min(best[name], perf_counter() - begin)
    return best


def table(dtype: str, threads: int, rounds: int, layers: Sequence[str]) -> str:
    """Measure on a number of threads, and return the tables."""
    numba.set_num_threads(threads)
    if _peers.installed(["torch"]):
        import torch

        torch.set_num_threads(threads)
    rows, peak, names = [], 0.0, []
    for layer in layers:
        forward, backward, flops = convolution_calls(layer, dtype)
        first = layer.startswith("1x")
        for title, calls, work in (
            ("forward", forward, flops),
            ("backward", backward, flops * (1 if first else 2)),
        ):
            peak = max(peak, peak_flops(dtype, threads))
            best = best_seconds(calls, rounds)
            names = list(best)
            speeds = [work / seconds / 1e9 for seconds in best.values()]
            rows.append((layer, title, best, speeds))
    header = ["layer", "", *(f"{n}, ms" for n in names), *(f"{n}, of peak" for n in names), "ratio"]
    lines = [
        [
            *(layer, title, *(_peers.number(s * 1e3) for s in best.values())),
            *(f"{speed / (peak / 1e9):.0%}" for speed in speeds),
            _ratio(best),
        ]
        for layer, title, best, speeds in rows
    ]
    pooled = []
    for shape in POOLED:
        for title, calls in zip(("forward", "backward"), pooling_calls(shape, dtype), strict=True):
            best = best_seconds(calls, rounds)
            cells = (_peers.number(s * 1e3) for s in best.values())
            pooled.append([f"{shape} pooled 2x2", title, *cells, _ratio(best)])
    return (
        f"{dtype}, {threads} thread{'s' * (threads > 1)}, batch {BATCH}; peak "
        f"{_peers.number(peak / 1e9)} GFLOP/s\n"
        + _peers.plain(header, lines)
        + "\n\n"
        + _peers.plain(["pooling", "", *(f"{n}, ms" for n in names), "ratio"], pooled)
    )


def _ratio(best: dict[str, float]) -> str:
    others = [seconds for name, seconds in best.items() if name != "ours"]
    return f"{min(others) / best['ours']:.2f}" if others else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    summary = str(__doc__).partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolution", description=summary)
    parser.add_argument("--dtype", nargs="+", choices=["float32", "float64"], default=["float32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, numba.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two layers only")
    options = parser.parse_args(arguments)
    neighbours = _peers.Neighbours()
    layers = LAYERS[::3][:2] if options.quick else LAYERS
    tables = [
        table(dtype, n, options.rounds, layers) for dtype in options.dtype for n in options.threads
    ]
    print(_peers.machine())
    print(f"Ratio: PyTorch's better time by ours. {neighbours.report()}")
    print("\n\n".join(["", *tables]))


if __name__ == "__main__":
    main()

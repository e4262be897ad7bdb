"""Loss, gradient and accuracy of a whole network in one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kernels._arrays import FLOAT32, FLOAT64, UINT8, Array, as_real, as_widenable, format_shapes
from kernels._bitmap import skips_zeros
from kernels._gemm import (
    BOTH,
    DENSE,
    SKIP_BOTH,
    SKIP_ROWS,
    bitmap_row,
    get_product_addresses,
)
from kernels._targets import NO_LABELS, NO_TARGETS, check_targets
from kernels._threads import Team, new_barrier
from kernels.mlp._losses import get_losses_address
from kernels.mlp._pass import EVALUATED, count_correct, fill_logits, narrow_targets, run_part
from kernels.mlp._stack import (
    ACTIVATION,
    BIAS,
    DENSE_BLOCK,
    IDENTITY,
    INPUTS,
    NUM_COLUMNS,
    OUTPUTS,
    RELU,
    SIGMOID,
    UNITS,
    VALUES,
    WEIGHT,
)

PARALLEL_PRODUCTS = 100_000_000
"""Number of multiplications in a batch above which a team of threads is faster."""

_ONE_THREAD = new_barrier()  # of one thread, which never waits


class Forward(NamedTuple):
    """Results of a forward pass that the layers keep.

    All arrays are new, except that `x` and `targets` may be the arguments of the call.
    """

    loss: float
    y: Array  # (N, C): probabilities
    x: Array  # (N, D): the input as a matrix; uint8 and float32 keep their dtype
    outputs: list[Array]  # of each activation, the inputs of the next affine layers
    masks: list[Array | None]  # True where a ReLU's input was 0 or less; None for other activations
    labels: Array  # int64 (N,), or empty: the checked copy of `t`
    targets: Array  # (N, C), or empty


class CompiledNetwork:
    """Network of affine layers and activations, with softmax and the mean cross-entropy.

    The network keeps references to the parameter arrays and reads them at each call, so they may be
    changed in place. For any number of threads, the results are bit-identical to those of the
    layers' own kernels.

    Parameters
    ----------
    weights : sequence of ndarray, shapes (D, M1), (M1, M2) ... (M, C)
    biases : sequence of ndarray, shapes (M1,), (M2,) ... (C,)
        All float32 or all float64, C-contiguous, aligned and writable.
    activations : sequence of int
        `IDENTITY`, `RELU` or `SIGMOID` between two affine layers: one fewer than `weights`.

    Raises
    ------
    ValueError
        If the shapes are incompatible, or a dtype or memory layout is not as required.

    Notes
    -----
    D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors",
    Nature 323 (1986).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels.mlp import RELU, CompiledNetwork
    >>> W1, b1, W2, b2 = np.eye(2), np.zeros(2), np.eye(2), np.zeros(2)
    >>> network = CompiledNetwork([W1, W2], [b1, b2], [RELU])
    >>> x, t = np.array([[1000.0, 0.0]]), np.array([1])
    >>> network.loss(x, t).loss, network.accuracy(x, t)
    (1000.0, 0.0)
    >>> forward, dWs, dbs = network.gradient(x, t)
    >>> dWs[1]
    array([[ 1000., -1000.],
           [    0.,     0.]])
    """

    def __init__(
        self, weights: Sequence[Array], biases: Sequence[Array], activations: Sequence[int]
    ):
        sizes = check_parameters(weights, biases, activations)
        self.weights, self.biases = list(weights), list(biases)
        self.activations = [int(code) for code in activations]
        self.dtype = weights[0].dtype
        self._arrays = [a for pair in zip(weights, biases, strict=True) for a in pair]
        self._forms = [(a.shape, a.dtype) for a in self._arrays]
        self._table = network_table(sizes, sizes, self.activations)
        self._table[:, WEIGHT] = [w.ctypes.data for w in self.weights]
        self._table[:, BIAS] = [b.ctypes.data for b in self.biases]
        self._tables: dict[Any, Array] = {}  # by the dtype of x and the kernels needed
        self._needs: dict[Any, tuple[int, ...]] = {}  # by the dtype of x and the pass
        self._bitmap_row = bitmap_row(sizes[0])
        self._widths, self._zeros = sizes[1:], np.zeros(max(sizes), self.dtype)
        self._shapes: list[tuple[tuple[int, ...], int, int]] = []  # of gradients, with bounds
        at = 0
        for a in self._arrays:
            self._shapes.append((a.shape, at, at + a.size))
            at += a.size
        self._num_parameters = at
        self._no_gradient = np.empty(0, self.dtype)
        self._products = sum(w.size for w in weights)

    def matches(self, arrays: Sequence[Array]) -> bool:
        """Return whether these are the network's arrays, with unchanged shapes and dtypes.

        The order is ``W1 b1 W2 b2 ...``.
        """
        return (
            len(arrays) == len(self._arrays)
            and all(map(is_, arrays, self._arrays))
            and self._forms == [(a.shape, a.dtype) for a in arrays]
        )

    def logits(self, x: ArrayLike, threads: int | None = None) -> Array:
        """Compute the outputs of the last layer.

        Parameters
        ----------
        x : array_like, shape (N, D) or (N, ...)
            As for `loss`.
        threads : int, optional
            Maximum number of threads; by default as many as Numba may use.

        Returns
        -------
        ndarray, shape (N, C)

        Raises
        ------
        TypeError, ValueError
            If the shape or dtype of `x` is invalid, or the batch is empty.
        """
        x = self._batch(x)
        logits = np.empty((x.shape[0], self._widths[-1]), self.dtype)
        with Team(threads if x.shape[0] * self._products > PARALLEL_PRODUCTS else 1) as team:
            outputs = np.empty((team.size, EVALUATED * sum(self._widths[:-1])), self.dtype)
            skip, net = self._evaluation(x)
            team.run(
                *(fill_logits, net, self._zeros, x.view(UINT8), np.int64(skip), logits, outputs)
            )
        return logits

    def loss(self, x: ArrayLike, t: ArrayLike) -> Forward:
        """Compute the mean cross-entropy of a batch.

        Parameters
        ----------
        x : array_like, shape (N, D) or (N, ...)
            uint8 and float32 are widened to the dtype of the parameters as they are read.
        t : array_like, shape (N,) or (N, C)
            Class indices of any integer type, or target distributions.

        Returns
        -------
        Forward

        Raises
        ------
        TypeError, ValueError
            If `x` or `t` has an invalid shape, dtype or value, or the batch is empty.
        """
        return self._run(x, t, self._no_gradient)

    def gradient(self, x: ArrayLike, t: ArrayLike) -> tuple[Forward, list[Array], list[Array]]:
        """Compute the gradient of the mean cross-entropy of a batch.

        The arguments and errors are those of `loss`.

        Returns
        -------
        forward : Forward
        dweights, dbiases : list of ndarray
            Views of one new array, ``dweights[0].base``, in the order ``W1 b1 W2 b2 ...``.
        """
        gradient = np.empty(self._num_parameters, self.dtype)
        forward = self._run(x, t, gradient)
        parts = [gradient[a:b].reshape(shape) for shape, a, b in self._shapes]
        return forward, parts[::2], parts[1::2]

    def accuracy(self, x: ArrayLike, t: ArrayLike) -> float:
        """Compute the fraction of a batch whose largest logit is that of the target's class.

        The arguments and errors are those of `loss`. The class of a target distribution is the
        index of its largest element.

        Returns
        -------
        float
        """
        x = self._batch(x)
        t = t if type(t) is np.ndarray else as_real(t, "t")
        shape = x.shape[0], self._widths[-1]
        if t.shape == shape:
            labels, targets = NO_LABELS, as_widenable(t, FLOAT64, "t")
            if targets.dtype != FLOAT64:
                targets = targets.astype(FLOAT64)
        else:
            labels, targets = check_targets(t, shape, FLOAT64)
        skip, net = self._evaluation(x)
        threads = None if x.shape[0] * self._products > PARALLEL_PRODUCTS else 1
        with Team(threads) as team:
            correct = count_correct_on_threads(net, self._zeros, x, skip, labels, targets, team)
        if correct < 0:
            raise ValueError("t: expected finite targets, got NaN or infinity")
        return float(correct / x.shape[0])

    def _network(self, x_dtype: np.dtype[Any], needs: tuple[int, ...]) -> Array:
        """Return the network's table for the dtype of a batch and the kernels needed."""
        try:
            return self._tables[x_dtype, needs]
        except KeyError:
            net = self._table.copy()
            net[:, DENSE_BLOCK:VALUES] = get_product_addresses(self.dtype, self.dtype, DENSE)
            net[0, DENSE_BLOCK:VALUES] = get_product_addresses(x_dtype, self.dtype, needs)
            return self._tables.setdefault((x_dtype, needs), net)

    def _evaluation(self, x: Array) -> tuple[bool, Array]:
        """Return whether zeros of `x` are skipped, and the network's table for evaluation."""
        skip = bool(skips_zeros(x, self.weights[0], self._widths[0])[0])
        return skip, self._network(x.dtype, SKIP_ROWS if skip else DENSE)

    def _batch(self, x: ArrayLike) -> Array:
        """Check a batch and convert it for compiled code."""
        a = x if type(x) is np.ndarray else as_real(x, "x")
        d = self.weights[0].shape[0]
        if a.ndim < 2 or a.shape[0] == 0 or (a.ndim == 2 and a.shape[1] != d):
            raise ValueError(f"x: expected a batch (N, {d}) with N at least 1, got shape {a.shape}")
        if a.ndim > 2:
            if a.size != a.shape[0] * d:
                raise ValueError(
                    f"x: expected a batch (N, ...) with {d} elements in each example, got shape "
                    f"{a.shape}"
                )
            a = a.reshape(a.shape[0], d)
        if (a.dtype is self.dtype or a.dtype is FLOAT32 or a.dtype is UINT8) and a.flags.carray:
            return a
        return as_widenable(a, self.dtype, "x")

    def _run(self, x: ArrayLike, t: ArrayLike, gradient: Array) -> Forward:
        x = self._batch(x)
        n, widths, dtype = x.shape[0], self._widths, self.dtype
        classes, total = widths[-1], sum(widths)
        t = t if type(t) is np.ndarray else as_real(t, "t")
        labels, targets = NO_LABELS, NO_TARGETS[dtype]
        if t.dtype is FLOAT64 and dtype is FLOAT32 and t.shape == (n, classes) and t.flags.carray:
            targets = np.empty(t.shape, dtype)  # such as one-hot targets from `load_mnist`
            if not narrow_targets(t.reshape(-1), targets):
                raise ValueError("t: expected finite targets, got NaN or infinity")
        else:
            labels, targets = check_targets(t, (n, classes), dtype)
        outputs, y = np.empty(n * total, dtype), np.empty((n, classes), dtype)
        masks = np.empty(n * (total - classes), np.bool_)
        douts = np.empty(n * total if gradient.size else 0, dtype)
        words = np.empty(n * self._bitmap_row if gradient.size else 0, np.uint64)
        kind = x.dtype, bool(gradient.size)
        if kind not in self._needs:  # kernels for other batches are compiled when needed
            skip = bool(skips_zeros(x, self.weights[0], widths[0])[0])
            self._needs[kind] = (SKIP_BOTH if gradient.size else SKIP_ROWS) if skip else DENSE
        args = (
            self._network(x.dtype, self._needs[kind]),
            self._zeros,
            get_losses_address(dtype),
            x,
            words,
            labels,
            targets,
            outputs,
            y,
            masks,
            douts,
            gradient,
            np.empty(n),
        )
        if n * self._products > PARALLEL_PRODUCTS:
            with Team() as team:
                loss, complete = team.run(run_part, *args)[0]
        else:
            loss, complete = run_part(*args, 0, 1, _ONE_THREAD)
        if not complete:
            self._needs[kind] = BOTH
            return self._run(x, t, gradient)
        out_list: list[Array] = []
        mask_list: list[Array | None] = []
        at = 0
        for code, m in zip(self.activations, widths[:-1], strict=True):
            end = at + n * m
            out_list.append(outputs[at:end].reshape(n, m))
            mask_list.append(masks[at:end].reshape(n, m) if code == RELU else None)
            at = end
        return Forward(loss, y, x, out_list, mask_list, labels, targets)


def check_parameters(
    weights: Sequence[Array], biases: Sequence[Array], activations: Sequence[int]
) -> list[int]:
    """Check the arrays of parameters, and return the sizes ``[D, M1 ... C]``."""
    shapes = {f"W{i + 1}": w for i, w in enumerate(weights)}
    shapes |= {f"b{i + 1}": b for i, b in enumerate(biases)}
    count = len(weights)
    fits = (
        count > 0
        and len(biases) == count
        and len(activations) == count - 1
        and all(isinstance(a, np.ndarray) for a in shapes.values())
        and all(
            w.ndim == 2 and b.shape == w.shape[1:] for w, b in zip(weights, biases, strict=True)
        )
        and all(v.shape[1] == w.shape[0] for v, w in pairwise(weights))
        and all(w.size for w in weights)
    )
    if not fits:
        raise ValueError(
            "expected W1 (D, M1), b1 (M1,), W2 (M1, M2) ... and activations between them, got "
            f"{format_shapes(**shapes)}, {len(activations)} activations"
        )
    if any(code not in (IDENTITY, RELU, SIGMOID) for code in activations):
        raise ValueError(f"activations: expected IDENTITY, RELU or SIGMOID, got {activations}")
    kinds = {a.dtype for a in shapes.values()}
    if kinds not in ({FLOAT32}, {FLOAT64}) or not all(a.flags.carray for a in shapes.values()):
        raise ValueError(
            "expected all parameters float32 or all float64, C-contiguous, aligned and writable, "
            f"got {', '.join(sorted(map(str, kinds)))}"
        )
    return [weights[0].shape[0], *(w.shape[1] for w in weights)]


def network_table(sizes: Sequence[int], units: Sequence[int], activations: Sequence[int]) -> Array:
    """Return a network's table with its sizes and activations; see `kernels.mlp._stack`."""
    net = np.zeros((len(sizes) - 1, NUM_COLUMNS), np.int64)
    net[:, INPUTS], net[:, OUTPUTS], net[:, UNITS] = sizes[:-1], sizes[1:], units[1:]
    net[:-1, ACTIVATION], net[-1, ACTIVATION] = list(activations), IDENTITY
    return net


def count_correct_on_threads(
    net: Array, zeros: Array, x: Array, skip: bool, labels: Array, targets: Array, team: Team
) -> int:
    """Count the examples whose largest logit is that of their class.

    Return -1 if a target is not finite. `skip` says whether zeros of `x` are skipped; the table
    must hold the addresses of the kernels for that.
    """
    targets = targets if targets.size else NO_TARGETS[FLOAT64]
    outputs = np.empty((team.size, EVALUATED * int(net[:, OUTPUTS].sum())), zeros.dtype)
    counts = team.run(
        *(count_correct, net, zeros, x.view(UINT8), np.int64(skip), labels, targets, outputs)
    )
    return -1 if min(counts) < 0 else int(sum(counts))

"""The fast path: compiled code for stacks of Affine layers with ReLU or Sigmoid in between.

The structure of a network decides whether the fast path applies; the results are the same with and
without it. A network with any other layer, or with a replaced method, is computed by its layers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import as_kernel_array, as_real, as_widenable
from kernels._threads import Team
from kernels.mlp import (
    IDENTITY,
    RELU,
    SIGMOID,
    CompiledNetwork,
    EncodedData,
    Forward,
    MLPTrainer,
    encode,
    pays_codes,
)
from kernels.mlp.numerical_gradient import two_layer_numerical_gradient
from net.distributed import Examples
from net.gradient import STEP
from net.iterations import draw_rows
from net.layers import Affine, Relu, Sigmoid, SoftmaxWithLoss
from net.layers._plain import supports_fast_path
from net.optimizer import Optimizer
from net.thread_tuner import ThreadTuner

Array = NDArray[Any]

CODES, CLASSES = "codes", "classes"
"""Keys of the encoded data sets, and of the classes of a set, in the dictionary `prepared`."""

_ACTIVATIONS = {Relu: RELU, Sigmoid: SIGMOID}


class Stack:
    """The layers of a network, and the compiled network that replaces them.

    Attributes
    ----------
    compiled : CompiledNetwork
    affines : list of Affine
    keys : list of str
        Keys of the parameters: ``W1 b1 W2 b2 ...``.
    activations : list of Relu, Sigmoid or None
        The activation between each pair of consecutive `affines`; None if there is none.
    last_layer : SoftmaxWithLoss
    """

    def __init__(self, layers: list[Any], last_layer: SoftmaxWithLoss, keys: list[str]):
        self._layers, self.last_layer = [*layers, last_layer], last_layer
        self.affines: list[Affine] = [layer for layer in layers if type(layer) is Affine]
        self.keys = keys
        if len(keys) != 2 * len(self.affines):  # a layer with its own list of parameters
            raise ValueError(f"expected W and b of {len(self.affines)} layers, got {keys}")
        self.activations: list[Any] = []
        for one, other in pairwise(layers):
            if type(one) is Affine:
                self.activations.append(None if type(other) is Affine else other)
        codes = [int(_ACTIVATIONS.get(type(a), IDENTITY)) for a in self.activations]
        self.compiled = CompiledNetwork(
            [layer.W for layer in self.affines], [layer.b for layer in self.affines], codes
        )

    def is_current(self, layers: list[Any]) -> bool:
        """Return whether the stack still represents `layers`, which end with the last layer."""
        if len(layers) != len(self._layers) or not all(map(is_, layers, self._layers)):
            return False
        arrays = [a for layer in self.affines for a in (layer.W, layer.b)]
        return self.compiled.matches(arrays) and all(map(supports_fast_path, layers))

    def keep(self, x: ArrayLike, t: ArrayLike, forward: Forward) -> None:
        """Set the attributes of the layers that a forward pass sets."""
        first = self.affines[0]
        first.x, first._shape = forward.x, np.shape(x)
        for i, out in enumerate(forward.outputs):
            affine, activation = self.affines[i + 1], self.activations[i]
            affine.x, affine._shape = out, out.shape
            if type(activation) is Relu:
                activation.mask = forward.masks[i]
            elif activation is not None:
                activation.out = out
        last = self.last_layer
        last.loss, last.y, last.t = forward.loss, forward.y, t


def find_stack(network: Any, known: Stack | None, methods: Mapping[str, Any]) -> Stack | None:
    """Return the stack of a network, or None if the fast path does not apply.

    Parameters
    ----------
    network : Network
    known : Stack or None
        The result of the previous call.
    methods : mapping of str to callable
        Methods that must not be overridden or replaced in the network.

    Returns
    -------
    Stack or None
    """
    kind, own = type(network), network.__dict__
    for name, method in methods.items():
        if name in own or getattr(kind, name) is not method:
            return None
    layers, last_layer = list(network.layers.values()), network.last_layer
    if known is not None and known.is_current([*layers, last_layer]):
        return known
    before: Any = None
    for layer in layers:
        kind = type(layer)
        if not supports_fast_path(layer) or not (
            kind is Affine or (kind in _ACTIVATIONS and type(before) is Affine)
        ):
            return None
        before = layer
    if type(before) is not Affine or not (
        type(last_layer) is SoftmaxWithLoss and supports_fast_path(last_layer)
    ):
        return None
    try:
        return Stack(layers, last_layer, list(network.params))
    except (AttributeError, TypeError, ValueError):  # the layers compute, or raise a clear error
        return None


def loss(stack: Stack, x: ArrayLike, t: ArrayLike) -> float:
    """Return the loss of a batch, and set the attributes of the layers.

    Parameters
    ----------
    stack : Stack
    x, t : array_like

    Returns
    -------
    float
    """
    forward = stack.compiled.loss(x, t)
    stack.keep(x, t, forward)
    return forward.loss


def gradient(stack: Stack, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
    """Return the gradients by key, and set the attributes of the layers.

    Parameters
    ----------
    stack : Stack
    x, t : array_like

    Returns
    -------
    dict of str to ndarray
        New arrays.
    """
    forward, dweights, dbiases = stack.compiled.gradient(x, t)
    stack.keep(x, t, forward)
    grads: list[Array] = []
    for layer, dW, db in zip(stack.affines, dweights, dbiases, strict=True):
        layer.dW, layer.db = dW, db
        grads += dW, db
    return dict(zip(stack.keys, grads, strict=True))


def numerical_gradient(
    stack: Stack | None, params: Mapping[str, Array], x: ArrayLike, t: ArrayLike
) -> dict[str, Array] | None:
    """Return the numerical gradient of Affine, ReLU, Affine, or None for another network.

    Parameters
    ----------
    stack : Stack or None
    params : mapping of str to ndarray
    x, t : array_like

    Returns
    -------
    dict of str to ndarray, or None
    """
    if stack is None or [type(a) for a in stack.activations] != [Relu]:
        return None
    x = as_real(x, "x")
    batch = x.reshape(x.shape[0], -1) if x.ndim > 2 and x.size else x
    grads = two_layer_numerical_gradient(batch, as_real(t, "t"), list(params.values()), STEP)
    return {
        key: grad.astype(value.dtype, copy=False)
        for grad, (key, value) in zip(grads, params.items(), strict=True)
    }


def _is_one_hot(t: Array) -> bool:
    """Return whether targets are one-hot, and so equivalent to labels."""
    if t.ndim == 1 or np.count_nonzero(t) != len(t):
        return False
    return bool((t.max(axis=1) == 1).all())


class FastIterations:
    """Training by a compiled function that runs many iterations in each call.

    Parameters
    ----------
    network : Network
    stack : Stack
    optimizer : Optimizer
        An optimizer with a compiled rule.
    sets : list of (x, t)
        The training set and, optionally, a test set.
    batch_size : int
    rng : numpy.random.Generator, RandomState or the module numpy.random
    team : Team
    tuner : ThreadTuner
    prepared : dict
        Cache of converted data sets, shared by the `FastIterations` of one run.
    encodes : bool
        Whether to encode the sets: inputs by `kernels.mlp.encode` where that is faster, and one-hot
        targets as labels.
    """

    def __init__(
        self,
        network: Any,
        stack: Stack,
        optimizer: Optimizer,
        sets: list[Examples],
        batch_size: int,
        rng: Any,
        team: Team,
        tuner: ThreadTuner,
        prepared: dict[Any, Any],
        encodes: bool,
    ):
        dtype = stack.compiled.dtype
        if dtype not in prepared:
            inputs = [as_widenable(x.reshape(len(x), -1), dtype, "x") for x, _ in sets]
            targets = sets[0][1]
            if targets.ndim == 2:
                targets = as_kernel_array(targets, dtype, "t_train")
            prepared[dtype] = inputs, targets
        self._inputs, self._targets = prepared[dtype]
        self._sets, self._prepared = sets, prepared
        self._data: list[Array | EncodedData] = [*self._inputs]
        if encodes:
            units = stack.compiled.weights[0].shape[1]
            pays = [pays_codes(x, dtype, units) for x in self._inputs]
            if CODES not in prepared:
                codes = [
                    encode(x, team) if pay else None
                    for x, pay in zip(self._inputs, pays, strict=True)
                ]
                prepared[CODES] = codes, _is_one_hot(self._targets)
            codes, one_hot = prepared[CODES]
            self._data = [  # a callback may have changed the number of units
                c if c and pay else x for c, x, pay in zip(codes, self._inputs, pays, strict=True)
            ]
            if one_hot:
                self._targets = self._classes(0)
        self._batch_size, self._rng, self._tuner = batch_size, rng, tuner
        self._optimizer = optimizer
        params = network.params
        self._slots = [optimizer._slot(slot, params) for slot in optimizer.slots]
        assert optimizer.rule is not None  # see `make_iterations`
        self._trainer = MLPTrainer(
            stack.compiled.weights,
            stack.compiled.biases,
            stack.compiled.activations,
            batch_size,
            self._data[0],
            team,
            optimizer.rule,
            optimizer.hyperparameters(),
            [[state[key] for key in params] for state in self._slots],
            optimizer.iter,
            network.weight_decay,
        )

    def _classes(self, which: int) -> Array:
        """Return the class of each example of a set."""
        key = CLASSES, which
        if key not in self._prepared:
            t = self._sets[which][1]
            self._prepared[key] = t if t.ndim == 1 else t.argmax(axis=1)
        classes: Array = self._prepared[key]
        return classes

    def run(self, count: int) -> Iterator[list[float]]:
        """Run `count` iterations; yield the losses of each call of the compiled function."""
        n = len(self._targets)
        while count:
            threads, length = self._tuner.next()
            length = min(length, count)
            rows = draw_rows(self._rng, n, self._batch_size, length)
            labels = self._targets[rows] if self._targets.ndim == 1 else None
            targets = self._targets[rows] if labels is None else None
            begin = time.perf_counter()
            losses = self._trainer.train(rows, labels, targets, threads)
            self._tuner.record(threads, length, time.perf_counter() - begin)
            count -= length
            yield losses.tolist()

    def accuracy(self, which: int) -> float:
        """Return the accuracy on the training set (0) or the test set (1)."""
        return self._trainer.accuracy(self._data[which], self._classes(which))

    def sync_params(self) -> None:
        """Copy the trained parameters and state to the network and the optimizer."""
        self._trainer.store()
        self._optimizer.iter = self._trainer.iteration
        if self._optimizer.iter:
            for slot, state in zip(self._optimizer.slots, self._slots, strict=True):
                setattr(self._optimizer, slot, state)


def make_iterations(
    network: Any,
    stack: Stack | None,
    optimizer: Any,
    sets: list[Examples],
    batch_size: int,
    rng: Any,
    team: Team,
    tuner: ThreadTuner,
    prepared: dict[Any, Any],
    encodes: bool,
) -> FastIterations | None:
    """Return compiled iterations, or None if the fast path does not apply.

    Parameters
    ----------
    network, stack, optimizer, sets, batch_size, rng, team, tuner, prepared, encodes
        As for `FastIterations`; `stack` may be None.

    Returns
    -------
    FastIterations or None
    """
    if stack is None or not isinstance(optimizer, Optimizer) or not optimizer.follows_rule():
        return None
    arrays = list(network.params.values())
    if any(np.may_share_memory(a, b) for a, b in combinations(arrays, 2)):
        return None
    return FastIterations(
        network, stack, optimizer, sets, batch_size, rng, team, tuner, prepared, encodes
    )

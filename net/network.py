"""The class `Network`: a sequence of named layers, and a last layer that computes the loss."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import FLOAT64, as_real
from kernels._targets import check_targets
from net import archive, fast_path, structure
from net.conv_blocks import has_parameters, join_layers
from net.gradient import numerical_gradients
from net.layer_list import Layers, has_train_flg, name_layers, takes_train_flg
from net.layers import Layer, SoftmaxWithLoss
from net.parameters import LayerArrays
from net.validation import check_int, check_not_negative

Array = NDArray[Any]


class Network:
    """A sequence of named layers, and a last layer that computes the loss.

    Parameters
    ----------
    layers : mapping of str to layer, or iterable of layers
        Layers of `net` or your own layers (see `net.Layer`), in order. Layers without names are
        named by their class and number, such as ``Affine1``.
    last_layer : object, optional
        An object with ``forward(x, t)``, which returns the loss, and ``backward(dout)``; by default
        a new `SoftmaxWithLoss`.
    weight_decay : float, default 0
        ``lambda`` in the L2 penalty ``lambda / 2 * sum(W**2)``, summed over all parameters named W
        and added to the loss.

    Attributes
    ----------
    layers : Layers
        An OrderedDict, in which layers may be replaced, added and removed. An integer key gives
        the layer at that position.
    last_layer, lastLayer : object
        Two names of the same attribute.
    params : LayerArrays
        The parameters of all layers, ``W1 b1 W2 b2 ...``, shared with the layers. Assigning a
        mapping sets the parameters of the layers without copying the arrays.
    buffers : LayerArrays
        Arrays that are saved but not trained, such as the running mean of batch normalisation.
    weight_decay : float

    Raises
    ------
    TypeError
        If an element of `layers` is not a layer, or `last_layer` lacks a method.
    ValueError
        If a layer appears twice, or `weight_decay` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Affine, Network, Sigmoid
    >>> rng = np.random.default_rng(0)
    >>> network = Network(
    ...     [
    ...         Affine(rng.standard_normal((4, 3)), np.zeros(3)),
    ...         Sigmoid(),
    ...         Affine(rng.standard_normal((3, 2)), np.zeros(2)),
    ...     ]
    ... )
    >>> network
    Network(Affine1=Affine(4, 3), Sigmoid1=Sigmoid(), Affine2=Affine(3, 2))
    >>> sorted(network.gradient(np.eye(4), np.array([0, 1, 1, 0])))
    ['W1', 'W2', 'b1', 'b2']
    """

    def __init__(
        self,
        layers: Mapping[str, Layer] | Iterable[Layer],
        last_layer: Any = None,
        *,
        weight_decay: float = 0.0,
    ):
        named: Any = layers if isinstance(layers, Mapping) else name_layers(layers)
        self.layers: OrderedDict[str, Any] = Layers(named)
        self.last_layer = SoftmaxWithLoss() if last_layer is None else last_layer
        for name, layer in self.layers.items():
            if isinstance(layer, type) or not (isinstance(name, str) and isinstance(layer, Layer)):
                raise TypeError(
                    f"layers: expected objects with forward(x) and backward(dout), got {layer!r}"
                )
        if len({*map(id, self.layers.values())}) < len(self.layers):
            raise ValueError("layers: expected each layer once, got one of them twice")
        methods = [getattr(self.last_layer, name, None) for name in ("forward", "backward")]
        if isinstance(self.last_layer, type) or not all(map(callable, methods)):
            raise TypeError(
                "last_layer: expected an object with forward(x, t) and backward(dout), got "
                f"{last_layer!r}"
            )
        self.weight_decay = check_not_negative(weight_decay, "weight_decay")
        self._params = LayerArrays(self.layers)
        self._buffers = LayerArrays(self.layers, "buffers")
        self._units: list[Any] = []
        self._stack: fast_path.Stack | None = None

    @property
    def params(self) -> LayerArrays:
        """The parameters of all layers by name."""
        if self._params._layers is not self.layers:  # `layers` was rebound
            self._params = LayerArrays(self.layers)
        return self._params

    @params.setter
    def params(self, values: Mapping[str, ArrayLike]) -> None:
        params = self.params
        if values is params:
            return
        if values.keys() != params.keys():
            raise ValueError(f"params: expected {', '.join(params)}, got {', '.join(values)}")
        for key, value in values.items():
            params[key] = value

    @property
    def buffers(self) -> LayerArrays:
        """The arrays of all layers that are saved but not trained, by name."""
        if self._buffers._layers is not self.layers:
            self._buffers = LayerArrays(self.layers, "buffers")
        return self._buffers

    @property
    def lastLayer(self) -> Any:
        """The last layer, under the name that the lecture uses."""
        return self.last_layer

    @lastLayer.setter
    def lastLayer(self, layer: Any) -> None:
        self.last_layer = layer

    def __getstate__(self) -> dict[str, Any]:
        # The compiled functions of a copy must not read the arrays of the original.
        return {**self.__dict__, "_units": [], "_stack": None}

    def __repr__(self) -> str:
        parts = [f"{name}={layer!r}" for name, layer in self.layers.items()]
        if self.weight_decay:
            parts.append(f"weight_decay={self.weight_decay:g}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def predict(self, x: ArrayLike, train_flg: bool = False) -> Array:
        """Return the output of the layers: the logits of a batch, before softmax.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        train_flg : bool, default False
            Whether layers such as dropout run in training mode.

        Returns
        -------
        ndarray, shape (N, C)

        Raises
        ------
        TypeError, ValueError
            If `x` is not a batch of real numbers that fits the network.
        """
        out: Any = x
        self._units = join_layers(self.layers.values())
        for layer in self._units:
            if takes_train_flg(layer):
                out = layer.forward(out, train_flg=train_flg)
            else:
                out = layer.forward(out)
        logits: Array = out
        return logits

    def loss(self, x: ArrayLike, t: ArrayLike, train_flg: bool = False) -> float:
        """Return the loss of a batch: the mean cross-entropy in nats, plus the L2 penalty.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)
            Class indices, or one-hot or soft targets.
        train_flg : bool, default False
            Whether layers such as dropout run in training mode.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If `x` and `t` do not fit the network or each other, or the batch is empty.
        """
        stack = self.stack()
        if stack is not None:
            loss = fast_path.loss(stack, x, t)
        else:
            loss = self.last_layer.forward(self._output(x, train_flg), t)
        if self.weight_decay:
            squares = (float(np.vdot(W, W)) for W in self.params.named("W").values())
            loss += 0.5 * self.weight_decay * sum(squares)
        return loss

    def _output(self, x: ArrayLike, train_flg: bool) -> Array:
        """Call `predict`, without `train_flg` if no layer takes it: an override may lack it."""
        if any(map(takes_train_flg, self.layers.values())):
            return self.predict(x, train_flg=train_flg)
        return self.predict(x)

    def stack(self) -> fast_path.Stack | None:
        """Return the layers as a stack for the fast path, or None if it does not apply."""
        self._stack = fast_path.find_stack(self, self._stack, _METHODS)
        return self._stack

    def accuracy(self, x: ArrayLike, t: ArrayLike, batch_size: int | None = None) -> float:
        """Return the accuracy: the fraction of examples whose largest logit is the target's class.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)
            Class indices, or one-hot or soft targets, whose largest element gives the class.
        batch_size : int, optional
            Number of examples in each call of `predict`; by default all.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If `x` and `t` do not fit the network or each other, or there are no examples.
        """
        if batch_size is not None:
            check_int(batch_size, "batch_size", 1)
        stack = self.stack()
        if stack is not None:
            return stack.compiled.accuracy(x, t)
        x = np.atleast_1d(as_real(x, "x"))
        n = x.shape[0]
        size = batch_size or max(n, 1)
        logits = [self.predict(x[i : i + size]) for i in range(0, max(n, 1), size)]
        shape = (n, *np.shape(logits[0])[1:])
        if len(shape) != 2 or n == 0:
            raise ValueError(f"x: expected examples with logits (N, C), got {shape}")
        classes = _classes(t, shape)
        return float(np.mean(np.concatenate([y.argmax(axis=1) for y in logits]) == classes))

    def gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """Return the gradient of the loss in training mode, by back-propagation.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)

        Returns
        -------
        dict of str to ndarray
            Gradients with the keys and shapes of `params`, in new arrays.

        Raises
        ------
        TypeError, ValueError
            As `loss`.
        """
        stack = self.stack()
        if stack is not None:
            grads = fast_path.gradient(stack, x, t)
        else:
            grads = self._gradient_by_layers(x, t)
        if self.weight_decay:
            for key, W in self.params.named("W").items():
                grads[key] = grads[key] + W.dtype.type(self.weight_decay) * W
        return grads

    def _gradient_by_layers(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        if type(self).loss is Network.loss:
            self.last_layer.forward(self._output(x, True), t)
        elif has_train_flg(type(self).loss):
            self.loss(x, t, train_flg=True)
        else:  # a subclass that overrides `loss`
            self.loss(x, t)
        dout = self.last_layer.backward(1)
        units = list(self.layers.values())
        if type(self).predict is Network.predict:
            units = self._units  # the layers and fused blocks that `predict` called
        for i in range(len(units) - 1, -1, -1):
            dout = units[i].backward(dout)
            if dout is None:
                if any(has_parameters(unit) for unit in units[:i]):
                    raise ValueError(
                        f"{units[i]!r}: expected the gradient with respect to its input, for "
                        "layers before it have parameters; got None, as with input_gradient=False"
                    )
                break
        return self.params.gradients()

    def numerical_gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """Return the gradient of the loss by central differences, to verify `gradient`.

        The loss in training mode is evaluated with each parameter shifted up and down. For Affine,
        ReLU, Affine, compiled code in float64 recomputes only the values that depend on the
        parameter. For other networks `net.numerical_gradient` calls `loss` twice for each
        parameter.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)

        Returns
        -------
        dict of str to ndarray
            Gradients with the keys and shapes of `params`.

        Raises
        ------
        TypeError, ValueError
            As `loss`; and if a layer draws random numbers in training, as dropout does, because
            the loss is then not a function of the parameters.
        """
        for name, layer in self.layers.items():
            if getattr(layer, "dropout_ratio", 0):
                raise ValueError(
                    f"{name}: expected layers that draw no random numbers, got {layer!r}; set its "
                    "dropout_ratio to 0, so that the loss is a function of the parameters"
                )
        fast = fast_path.numerical_gradient(self.stack(), self.params, x, t)
        if fast is not None and not self.weight_decay:
            return fast
        flag = {"train_flg": True} if has_train_flg(type(self).loss) else {}
        return numerical_gradients(partial(self.loss, x, t, **flag), self.params, self.buffers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ``.npz`` file atomically.

        The file holds the parameters and buffers by name, and the classes and options of the
        layers. If writing fails, an existing file is not changed.

        Parameters
        ----------
        path : str or os.PathLike
            The exact file name; no extension is added.

        Raises
        ------
        OSError
            If the folder is missing or not writable, or the disk is full.
        TypeError
            If an option or a constructor's argument of a custom layer cannot be saved.
        """
        archive.write(path, structure.to_arrays(self, check=True))

    @classmethod
    def load(cls, path: str | os.PathLike[str], layers: Iterable[type[Any]] = ()) -> Self:
        """Read a network from a file that `save` wrote. Nothing is unpickled.

        Parameters
        ----------
        path : str or os.PathLike
        layers : iterable of type, optional
            Classes of layers other than those of `net`. Each class is called with the layer's
            parameters and options as keyword arguments.

        Returns
        -------
        Network
            A network of the saved class, with all layers, options, parameters and buffers.

        Raises
        ------
        OSError
            If the file is missing or cannot be read.
        ValueError
            If the file does not hold a network of this class, or a layer's class is unknown. The
            message names the file.
        """
        new: Self = structure.from_arrays(Network, cls, archive.read(path), os.fspath(path), layers)
        return new


_METHODS = {name: vars(Network)[name] for name in ("predict", "loss", "gradient", "accuracy")}


def _classes(t: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return the class of each target, after checking `t` against the shape of the logits."""
    labels, targets = check_targets(t, shape, FLOAT64)
    return labels if labels.size else targets.argmax(axis=1)

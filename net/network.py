"""A network: named layers in a row, and a last layer that gives the loss."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import FLOAT64, as_real
from kernels._targets import check_targets
from net import archive, fast_path, structure
from net.conv_blocks import has_parameters, join_layers
from net.gradient import numerical_gradient
from net.layer_list import Layers, has_train_flg, name_layers, takes_train_flg
from net.layers import Layer, SoftmaxWithLoss
from net.parameters import LayerArrays
from net.validation import check_int, check_not_negative

Array = NDArray[Any]


class Network:
    """Layers in a row, and a last layer that compares their output with the targets.

    Parameters
    ----------
    layers : mapping of str to layer, or iterable of layers
        In order; those of `net`, or your own (see `net.Layer`). Layers of a list are named by their
        class and number, such as ``Affine1``.
    last_layer : object, optional
        With ``forward(x, t)`` that returns the loss, and ``backward(dout)``; by default a new
        `SoftmaxWithLoss`.
    weight_decay : float, default 0
        ``lambda`` of ``loss += lambda / 2 * sum of W**2`` over all parameters named W.

    Attributes
    ----------
    layers : Layers
        An OrderedDict; replacing, adding and removing layers works. A number in place of a name
        gives the layer at that place.
    last_layer, lastLayer : object
        Two names of one attribute.
    params : LayerArrays
        The parameters of all layers, ``W1 b1 W2 b2 ...``, shared with the layers. Assigning a
        mapping copies no array: each is given to its layer.
    buffers : LayerArrays
        What layers save beside parameters, such as the running mean of batch normalisation.
    weight_decay : float

    Raises
    ------
    TypeError
        If something is no layer.
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
        """Arrays of the layers that are saved but not trained."""
        if self._buffers._layers is not self.layers:
            self._buffers = LayerArrays(self.layers, "buffers")
        return self._buffers

    @property
    def lastLayer(self) -> Any:
        """The last layer, by the lecture's name."""
        return self.last_layer

    @lastLayer.setter
    def lastLayer(self, layer: Any) -> None:
        self.last_layer = layer

    def __getstate__(self) -> dict[str, Any]:
        # A copy's compiled calls must not read the arrays of the original.
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
            Whether layers such as dropout behave as in training.

        Returns
        -------
        ndarray, shape (N, C)

        Raises
        ------
        TypeError, ValueError
            If `x` is no batch of real numbers for this network.
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
        """Return the loss of a batch: the mean cross-entropy in nats, and the weight decay's part.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)
            Class indices, or one-hot or soft targets.
        train_flg : bool, default False
            Whether layers such as dropout behave as in training.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If `x` or `t` does not fit the network or the other, or the batch is empty.
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
        """Call `predict`, which may be that of a subclass without the second argument."""
        if any(map(takes_train_flg, self.layers.values())):
            return self.predict(x, train_flg=train_flg)
        return self.predict(x)

    def stack(self) -> fast_path.Stack | None:
        """Return what compiled code stands in for, or None where the layers have to compute."""
        self._stack = fast_path.find_stack(self, self._stack, _METHODS)
        return self._stack

    def accuracy(self, x: ArrayLike, t: ArrayLike, batch_size: int | None = None) -> float:
        """Return the share of a data set whose largest logit is the target's class.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)
            Class indices, or one-hot or soft targets, of which the largest counts.
        batch_size : int, optional
            How many examples go through the layers at a time; by default all.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If `x` or `t` does not fit the network or the other, or there are no examples.
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
        """Return the gradient of the loss in training by back-propagation.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)

        Returns
        -------
        dict of str to ndarray
            With the keys and shapes of `params`; new arrays each time.

        Raises
        ------
        TypeError, ValueError
            As `loss`.
        """
        stack = self.stack()
        if stack is not None:
            grads = dict(zip(self.params, fast_path.gradient(stack, x, t), strict=True))
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
        else:  # a subclass with a loss of its own
            self.loss(x, t)
        dout = self.last_layer.backward(1)
        units = list(self.layers.values())
        if type(self).predict is Network.predict:
            units = self._units  # as `predict` went through them
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
        """Return the gradient of the loss by central differences, to check `gradient` with.

        The loss in training is evaluated at every shifted parameter. For Affine, ReLU, Affine this
        is done in compiled code and float64, computing anew what the parameter reaches; otherwise
        by `net.numerical_gradient`, which calls `loss` twice for each parameter.

        Parameters
        ----------
        x : array_like, shape (N, ...)
        t : array_like, shape (N,) or (N, C)

        Returns
        -------
        dict of str to ndarray
            With the keys and shapes of `params`.

        Raises
        ------
        TypeError, ValueError
            As `loss`; and if a layer draws random numbers in training, as dropout does, for then
            the loss is not a function of the parameters.
        """
        for name, layer in self.layers.items():
            if getattr(layer, "dropout_ratio", 0):
                raise ValueError(
                    f"{name}: expected layers that draw no random numbers, got {layer!r}, with "
                    "which each call of loss gives another value; set its dropout_ratio to 0"
                )
        fast = fast_path.numerical_gradient(self.stack(), self.params, x, t)
        if fast is not None and not self.weight_decay:
            return fast
        buffers = {key: np.copy(value) for key, value in self.buffers.items() if value is not None}

        def loss(_: Array) -> float:
            return Network.loss(self, x, t, train_flg=True)

        try:
            return {key: numerical_gradient(loss, value) for key, value in self.params.items()}
        finally:
            self.buffers.update(buffers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ``.npz`` file, whole or not at all.

        The file holds the parameters and buffers by name, and which layers there are with which
        options.

        Parameters
        ----------
        path : str or os.PathLike
            Exactly this name; no ending is added.

        Raises
        ------
        OSError
            If the folder is missing or not writable, or the disk is full.
        """
        archive.write(path, structure.to_arrays(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str], layers: Iterable[type[Any]] = ()) -> Self:
        """Read a network that `save` wrote. Nothing in the file is unpickled.

        Parameters
        ----------
        path : str or os.PathLike
        layers : iterable of type, optional
            Classes of your own that the network has as layers. They are called with their
            parameters and options as keyword arguments.

        Returns
        -------
        Network
            Of the class that was saved, with all layers, options, parameters and buffers.

        Raises
        ------
        OSError
            If the file is missing or cannot be read.
        ValueError
            If it does not hold a network of this class, or a layer is not known: the message names
            the file.
        """
        new: Self = structure.from_arrays(Network, cls, archive.read(path), os.fspath(path), layers)
        return new


_METHODS = {name: vars(Network)[name] for name in ("predict", "loss", "gradient", "accuracy")}


def _classes(t: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return the class of each target beside logits of a shape."""
    labels, targets = check_targets(t, shape, FLOAT64)
    return labels if labels.size else targets.argmax(axis=1)

"""The lecture's network: Affine, ReLU, Affine, and softmax with cross-entropy."""

from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kernels._arrays import FLOAT32, FLOAT64, as_real
from kernels._targets import check_targets
from kernels.finite import two_layer_numerical_gradient
from kernels.fused import accuracy
from net import archive
from net.gradient import STEP, numerical_gradient
from net.layers import Affine, Relu, SoftmaxWithLoss
from net.options import Random, finite, float_dtype, generator, whole_number

Array = NDArray[Any]

_PLACES = {
    "W1": ("Affine1", "W"),
    "b1": ("Affine1", "b"),
    "W2": ("Affine2", "W"),
    "b2": ("Affine2", "b"),
}


class Parameters(MutableMapping[str, Array]):
    """The parameters of a network's layers by name: ``W1 b1 W2 b2``.

    It holds nothing itself. Reading gives the layer's own array, so changing it in place changes
    the layer; assigning an array of the same shape gives it to the layer, in the layer's dtype.
    """

    def __init__(self, layers: "OrderedDict[str, Any]"):
        self._layers = layers

    def __getitem__(self, key: str) -> Array:
        layer, name = _PLACES[key]
        value: Array = getattr(self._layers[layer], name)
        return value

    def __setitem__(self, key: str, value: ArrayLike) -> None:
        if key not in _PLACES:
            raise KeyError(f"{key!r}: expected one of {', '.join(_PLACES)}")
        current = self[key]
        if value is current:  # the end of `params[key] -= ...`
            return
        new = as_real(value, key)
        if new.shape != current.shape:
            raise ValueError(f"{key}: expected shape {current.shape}, got {new.shape}")
        layer, name = _PLACES[key]
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            setattr(self._layers[layer], name, new.astype(current.dtype, copy=False))

    def __delitem__(self, key: str) -> None:
        raise TypeError("a network's parameters cannot be removed; assign new values instead")

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)

    def copy(self) -> dict[str, Array]:
        """Return a plain dictionary of the layers' arrays, as ``dict.copy`` would."""
        return dict(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


class TwoLayerNet:
    """Affine, ReLU, Affine, softmax with cross-entropy: the lecture's network.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        Elements of a sample, hidden units, classes: 784, 50, 10 in the lecture.
    weight_init_std : float, default 0.01
        Standard deviation of the initial weights. Biases start at 0.
    dtype : {float64, float32}, default float64
        Of parameters, activations and gradients.
    rng : numpy.random.Generator, RandomState, int or None
        What draws the weights, `W1` then `W2`; an int is the seed of a new Generator. None draws
        as the lecture does, from NumPy's global state.

    Attributes
    ----------
    params : Parameters
        ``W1 (D, H), b1 (H,), W2 (H, C), b2 (C,)``, shared with the layers.
    layers : OrderedDict
        ``Affine1 Relu1 Affine2``; replacing one by another layer works.
    lastLayer : SoftmaxWithLoss

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, the dtype is no float32 or float64, or
        `weight_init_std` is no finite number from 0.

    Notes
    -----
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan (2016), chapter 5.

    Examples
    --------
    >>> import numpy as np
    >>> from net import TwoLayerNet
    >>> net = TwoLayerNet(input_size=4, hidden_size=3, output_size=2, rng=0)
    >>> x, t = np.eye(4), np.array([0, 1, 1, 0])
    >>> grads = net.gradient(x, t)
    >>> for key in ("W1", "b1", "W2", "b2"):
    ...     net.params[key] -= 0.1 * grads[key]
    >>> net.predict(x).shape
    (4, 2)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float = 0.01,
        *,
        dtype: DTypeLike = np.float64,
        rng: Random = None,
    ):
        d = whole_number(input_size, "input_size", 1)
        h = whole_number(hidden_size, "hidden_size", 1)
        c = whole_number(output_size, "output_size", 1)
        kind, std = float_dtype(dtype), finite(weight_init_std, "weight_init_std")
        if std < 0:
            raise ValueError(f"weight_init_std: expected a number from 0, got {std}")
        draw = _normal(rng)
        W1 = (std * draw((d, h))).astype(kind, copy=False)
        W2 = (std * draw((h, c))).astype(kind, copy=False)
        self.layers: OrderedDict[str, Any] = OrderedDict(
            Affine1=Affine(W1, np.zeros(h, kind)),
            Relu1=Relu(),
            Affine2=Affine(W2, np.zeros(c, kind)),
        )
        self.lastLayer: Any = SoftmaxWithLoss()
        self.params = Parameters(self.layers)

    def predict(self, x: ArrayLike) -> Array:
        """Return the logits of a batch: the last layer's output before softmax.

        Parameters
        ----------
        x : array_like, shape (N, input_size) or (N, ...)

        Returns
        -------
        ndarray, shape (N, output_size)

        Raises
        ------
        TypeError, ValueError
            If `x` is no batch of real numbers for this network.
        """
        out: Any = x
        for layer in self.layers.values():
            out = layer.forward(out)
        logits: Array = out
        return logits

    def loss(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the mean cross-entropy of a batch, in nats.

        Parameters
        ----------
        x : array_like, shape (N, input_size) or (N, ...)
        t : array_like, shape (N,) or (N, output_size)
            Class indices, or one-hot or soft targets.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If `x` or `t` does not fit the network or the other, or the batch is empty.
        """
        loss: float = self.lastLayer.forward(self.predict(x), t)
        return loss

    def accuracy(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the share of a batch whose largest logit is the target's class.

        Parameters
        ----------
        x : array_like, shape (N, input_size) or (N, ...)
        t : array_like, shape (N,) or (N, output_size)
            Class indices, or one-hot or soft targets, of which the largest counts.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If `x` or `t` does not fit the network or the other, or the batch is empty.
        """
        x = as_real(x, "x")
        fused = self.is_plain() and x.ndim > 1 and x[:1].size == self.params["W1"].shape[0]
        y = None if fused else self.predict(x)
        shape = x.shape[:1] + self.params["b2"].shape if y is None else y.shape
        if len(shape) != 2 or shape[0] == 0:
            raise ValueError(f"x: expected a batch with logits (N, C), not empty, got {shape}")
        labels, targets = check_targets(t, shape, FLOAT64)
        classes = labels if labels.size else targets.argmax(axis=1)
        if y is None:
            return accuracy(list(self.params.values()), x.reshape(x.shape[0], -1), classes)
        return float(np.mean(y.argmax(axis=1) == classes))

    def numerical_gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """Return the gradient of the loss by central differences, to check `gradient` with.

        The loss is evaluated at every shifted parameter. For the network as constructed this is
        done in compiled code and float64, computing anew what the parameter reaches; otherwise by
        `net.numerical_gradient`, which calls `loss` twice for each parameter.

        Parameters
        ----------
        x : array_like, shape (N, input_size) or (N, ...)
        t : array_like, shape (N,) or (N, output_size)

        Returns
        -------
        dict of str to ndarray
            With the keys and shapes of `params`.

        Raises
        ------
        TypeError, ValueError
            As `loss`.
        """
        if self.is_plain():
            x = as_real(x, "x")
            batch = x.reshape(x.shape[0], -1) if x.ndim > 2 and x.size else x
            values = list(self.params.values())
            grads = two_layer_numerical_gradient(batch, as_real(t, "t"), values, STEP)
            return {
                key: grad.astype(value.dtype, copy=False)
                for grad, (key, value) in zip(grads, self.params.items(), strict=True)
            }

        def loss(_: Array) -> float:
            return self.loss(x, t)

        return {key: numerical_gradient(loss, value) for key, value in self.params.items()}

    def is_plain(self) -> bool:
        """Tell whether this is the network that the constructor made, but for the values.

        Returns
        -------
        bool
            False if a layer or method was replaced or added, or for a subclass.
        """
        fresh = TwoLayerNet(1, 1, 1, rng=0)
        parts = [self, self.lastLayer, *self.layers.values()]
        likes = [fresh, fresh.lastLayer, *fresh.layers.values()]
        return (
            list(self.layers) == list(fresh.layers)
            and all(
                type(a) is type(b) and vars(a).keys() == vars(b).keys()
                for a, b in zip(parts, likes, strict=True)
            )
            and self._has_plain_parameters()
        )

    def _has_plain_parameters(self) -> bool:
        """Tell whether the parameters fit together, and are four arrays and not views of one."""
        arrays = list(self.params.values())
        if not all(isinstance(a, np.ndarray) and a.flags.writeable for a in arrays):
            return False
        W1, _, W2, _ = shapes = [a.shape for a in arrays]
        return (
            len(W1) == len(W2) == 2
            and shapes == [W1, W1[1:], (W1[1], W2[1]), W2[1:]]
            and {a.dtype for a in arrays} in ({FLOAT32}, {FLOAT64})
            and not any(np.may_share_memory(a, b) for a, b in combinations(arrays, 2))
        )

    def gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """Return the gradient of the loss by back-propagation.

        Parameters
        ----------
        x : array_like, shape (N, input_size) or (N, ...)
        t : array_like, shape (N,) or (N, output_size)

        Returns
        -------
        dict of str to ndarray
            With the keys and shapes of `params`; new arrays each time.

        Raises
        ------
        TypeError, ValueError
            As `loss`.
        """
        self.loss(x, t)
        dout = self.lastLayer.backward(1)
        first, *rest = self.layers.values()
        for layer in reversed(rest):
            dout = layer.backward(dout)
        if type(first) is Affine:
            first.backward_parameters(dout)  # nobody reads the gradient of the network's input
        else:
            first.backward(dout)
        return {
            key: getattr(self.layers[layer], f"d{name}") for key, (layer, name) in _PLACES.items()
        }

    def save(self, path: archive.Path_) -> None:
        """Write the parameters to an ``.npz`` file, whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike
            Exactly this name; no ending is added.

        Raises
        ------
        OSError
            If the folder is missing or not writable, or the disk is full.
        """
        archive.write(path, dict(self.params))

    @classmethod
    def load(cls, path: archive.Path_) -> Self:
        """Read a network that `save` wrote. Nothing in the file is unpickled.

        Parameters
        ----------
        path : str or os.PathLike

        Returns
        -------
        TwoLayerNet
            With the saved parameters and their dtype.

        Raises
        ------
        OSError
            If the file is missing or cannot be read.
        ValueError
            If it does not hold a network's parameters: the message names it.
        """
        return cls.from_arrays(archive.read(path), path)

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], path: archive.Path_) -> Self:
        """Make a network of the parameters read from a file.

        Parameters
        ----------
        arrays : dict of str to ndarray
            With the keys ``W1 b1 W2 b2``, and perhaps others.
        path : str or os.PathLike
            Where they come from, for messages.

        Returns
        -------
        TwoLayerNet

        Raises
        ------
        ValueError
            If a parameter is missing, or shapes or dtypes do not fit together.
        """
        found = {key: arrays[key] for key in _PLACES if key in arrays}
        shapes = {key: a.shape for key, a in found.items()}
        W1, W2 = shapes.get("W1", ()), shapes.get("W2", ())
        kinds = {a.dtype for a in found.values()}
        if (
            len(W1) != 2
            or len(W2) != 2
            or shapes != {"W1": W1, "b1": W1[1:], "W2": (W1[1], W2[1]), "b2": W2[1:]}
            or 0 in W1 + W2
            or kinds not in ({np.dtype(np.float32)}, {np.dtype(np.float64)})
        ):
            raise ValueError(
                f"{path}: expected a network's parameters W1 (D, H), b1 (H,), W2 (H, C), b2 (C,), "
                f"all float32 or all float64, got "
                + (", ".join(f"{k} {a.shape} of {a.dtype}" for k, a in arrays.items()) or "nothing")
            )
        network = cls(W1[0], W1[1], W2[1], dtype=kinds.pop(), rng=0)
        network.params.update(found)
        return network


def _normal(rng: Random) -> Any:
    """Return a function that draws an array of standard normal numbers."""
    if rng is None:
        return lambda shape: np.random.randn(*shape)
    return generator(rng).standard_normal

"""The course's convolutional networks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from net import archive
from net.initialization import draw_normal
from net.layers import Affine, Convolution, Dropout, Layer, Pooling, Relu
from net.network import Network
from net.validation import Random, check_dtype, check_int, check_not_negative

Array = NDArray[Any]
ConvParam = Mapping[str, int]


class _ConvNet(Network):
    """Base class of the convolutional networks: evaluation in batches, parameter files."""

    def accuracy(self, x: ArrayLike, t: ArrayLike, batch_size: int | None = 100) -> float:
        """Return the accuracy: the fraction of examples whose largest logit is the target's class.

        Parameters
        ----------
        x : array_like, shape (N, C, H, W)
        t : array_like, shape (N,) or (N, classes)
        batch_size : int, default 100
            Number of examples in each call of `predict`.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            As `Network.accuracy`.
        """
        return super().accuracy(x, t, batch_size)

    def save_params(self, file_name: str | os.PathLike[str] = "params.npz") -> None:
        """Write the parameters to an ``.npz`` file, as arrays by key.

        Parameters
        ----------
        file_name : str or os.PathLike

        Raises
        ------
        OSError
            If the folder is missing or not writable, or the disk is full.
        """
        archive.write(file_name, {key: np.asarray(value) for key, value in self.params.items()})

    def load_params(self, file_name: str | os.PathLike[str] = "params.npz") -> None:
        """Read the parameters from a file that `save_params` or `save` wrote.

        Nothing is unpickled.

        Parameters
        ----------
        file_name : str or os.PathLike

        Raises
        ------
        OSError
            If the file is missing or cannot be read.
        ValueError
            If a parameter is missing or has another shape. Nothing is changed in that case.
        """
        arrays = archive.read(file_name)
        for key, value in self.params.items():
            found = arrays.get(key)
            if found is None or found.shape != value.shape or found.dtype.kind != "f":
                got = "no such array" if found is None else f"{found.shape} of {found.dtype}"
                raise ValueError(
                    f"{os.fspath(file_name)}: expected {key} {value.shape} of floats, got {got}"
                )
        for key in self.params:
            self.params[key] = arrays[key]


def _image(input_dim: Any) -> tuple[int, int, int]:
    if not isinstance(input_dim, tuple | list) or len(input_dim) != 3:
        raise ValueError(f"input_dim: expected (channels, height, width), got {input_dim!r}")
    c, h, w = (check_int(n, f"input_dim[{i}]", 1) for i, n in enumerate(input_dim))
    return c, h, w


def _conv_param(param: Any, name: str) -> tuple[int, int, int, int]:
    """Return the number and size of the filters, the padding and the stride."""
    keys = ("filter_num", "filter_size", "pad", "stride")
    if not isinstance(param, Mapping) or param.keys() != set(keys):
        raise ValueError(f"{name}: expected a dict with {', '.join(keys)}, got {param!r}")
    number, size, pad, stride = (
        check_int(param[key], f"{name}[{key!r}]", 0 if key == "pad" else 1) for key in keys
    )
    return number, size, pad, stride


def _convolved(n: int, size: int, pad: int, stride: int, name: str) -> int:
    if n + 2 * pad < size:
        raise ValueError(
            f"{name}: expected a filter no larger than the padded image, got {size} and "
            f"{n} + 2 * {pad}"
        )
    return (n + 2 * pad - size) // stride + 1


class SimpleConvNet(_ConvNet):
    """A convolutional network with one convolution and two affine layers.

    The layers are convolution, ReLU, pooling, Affine, ReLU, Affine, and softmax with cross-entropy.

    Parameters
    ----------
    input_dim : (int, int, int), default (1, 28, 28)
        Channels, height and width of an image.
    conv_param : dict, optional
        ``filter_num`` (30), ``filter_size`` (5), ``pad`` (0) and ``stride`` (1) of the convolution.
    hidden_size : int, default 100
    output_size : int, default 10
        Number of classes.
    weight_init_std : float, default 0.01
        Standard deviation of the initial weights. Biases start at 0.
    dtype : {float64, float32}, default float64
        Dtype of parameters, activations and gradients.
    rng : numpy.random.Generator, RandomState, int or None
        Source of random numbers for the weights, `W1` to `W3`. An int is the seed of a new
        Generator. None draws from NumPy's global state, as the course does.

    Attributes
    ----------
    params : LayerArrays
        ``W1 (FN, C, FH, FW), b1, W2, b2, W3, b3``, shared with the layers.
    layers : OrderedDict
        ``Conv1 Relu1 Pool1 Affine1 Relu2 Affine2``
    last_layer : SoftmaxWithLoss

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value.

    Notes
    -----
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan (2016), chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> from net import SimpleConvNet
    >>> network = SimpleConvNet((1, 8, 8), {"filter_num": 3, "filter_size": 3, "pad": 1,
    ...                                     "stride": 1}, hidden_size=5, output_size=2, rng=0)
    >>> network.predict(np.zeros((4, 1, 8, 8))).shape
    (4, 2)
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (1, 28, 28),
        conv_param: ConvParam | None = None,
        hidden_size: int = 100,
        output_size: int = 10,
        weight_init_std: float = 0.01,
        *,
        dtype: DTypeLike = np.float64,
        rng: Random = None,
    ):
        kind, std = check_dtype(dtype), check_not_negative(weight_init_std, "weight_init_std")
        channels, height, width = _image(input_dim)
        if conv_param is None:
            conv_param = {"filter_num": 30, "filter_size": 5, "pad": 0, "stride": 1}
        filters, size, pad, stride = _conv_param(conv_param, "conv_param")
        hidden = check_int(hidden_size, "hidden_size", 1)
        classes = check_int(output_size, "output_size", 1)
        h, w = (_convolved(n, size, pad, stride, "conv_param") for n in (height, width))
        if min(h, w) < 2:
            raise ValueError(
                f"conv_param: expected at least 2 x 2 positions for the pooling, got {h} x {w}"
            )
        shapes = [
            (filters, channels, size, size),
            (filters * (h // 2) * (w // 2), hidden),
            (hidden, classes),
        ]
        W1, W2, W3 = draw_normal(shapes, [std] * 3, kind, rng)
        super().__init__(
            {
                "Conv1": Convolution(
                    W1, np.zeros(filters, kind), stride, pad, input_gradient=False
                ),
                "Relu1": Relu(),
                "Pool1": Pooling(2, 2, stride=2),
                "Affine1": Affine(W2, np.zeros(hidden, kind)),
                "Relu2": Relu(),
                "Affine2": Affine(W3, np.zeros(classes, kind)),
            }
        )


_DEEP_FILTERS = ((16, 1), (16, 1), (32, 1), (32, 2), (64, 1), (64, 1))  # number of filters, padding


class DeepConvNet(_ConvNet):
    """A convolutional network: six convolutions in three pooled blocks, two affine layers.

    Dropout follows each affine layer.

    Parameters
    ----------
    input_dim : (int, int, int), default (1, 28, 28)
        Channels, height and width of an image.
    conv_param_1, ..., conv_param_6 : dict, optional
        ``filter_num`` (16, 16, 32, 32, 64, 64), ``filter_size`` (3), ``pad`` (1, 1, 1,
        2, 1, 1) and ``stride`` (1) of each convolution.
    hidden_size : int, default 50
    output_size : int, default 10
        Number of classes.
    dtype : {float64, float32}, default float64
        Dtype of parameters, activations and gradients.
    rng : numpy.random.Generator, RandomState, int or None
        Source of random numbers for the weights, `W1` to `W8`, which have He's standard
        deviation. An int is the seed of a new Generator. None draws from NumPy's global state, as
        the course does.

    Attributes
    ----------
    params : LayerArrays
        ``W1 b1 ... W8 b8``, shared with the layers.
    layers : OrderedDict
        ``Conv1 Relu1 Conv2 Relu2 Pool1 ... Affine1 Relu7 Dropout1 Affine2 Dropout2``; also
        indexed by number, as in ``network.layers[0]``.
    last_layer : SoftmaxWithLoss

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value.

    Notes
    -----
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan (2016), chapter 8. After K. Simonyan and
    A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from net import DeepConvNet
    >>> network = DeepConvNet(rng=0)
    >>> network.predict(np.zeros((2, 1, 28, 28))).shape
    (2, 10)
    >>> network.layers[0] is network.layers["Conv1"]
    True
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (1, 28, 28),
        conv_param_1: ConvParam | None = None,
        conv_param_2: ConvParam | None = None,
        conv_param_3: ConvParam | None = None,
        conv_param_4: ConvParam | None = None,
        conv_param_5: ConvParam | None = None,
        conv_param_6: ConvParam | None = None,
        hidden_size: int = 50,
        output_size: int = 10,
        *,
        dtype: DTypeLike = np.float64,
        rng: Random = None,
    ):
        kind = check_dtype(dtype)
        channels, h, w = _image(input_dim)
        hidden = check_int(hidden_size, "hidden_size", 1)
        classes = check_int(output_size, "output_size", 1)
        given = (
            *(conv_param_1, conv_param_2, conv_param_3),
            *(conv_param_4, conv_param_5, conv_param_6),
        )
        shapes: list[tuple[int, ...]] = []
        strides, pads = [], []
        for i, (param, (number, pad)) in enumerate(zip(given, _DEEP_FILTERS, strict=True), 1):
            name = f"conv_param_{i}"
            if param is None:
                param = {"filter_num": number, "filter_size": 3, "pad": pad, "stride": 1}
            filters, size, pad, stride = _conv_param(param, name)
            shapes.append((filters, channels, size, size))
            strides.append(stride)
            pads.append(pad)
            channels = filters
            h, w = (_convolved(n, size, pad, stride, name) for n in (h, w))
            if i % 2 == 0:
                h, w = h // 2, w // 2
                if min(h, w) < 1:
                    raise ValueError(
                        f"{name}: expected at least 2 x 2 positions for the pooling after it"
                    )
        shapes += [(channels * h * w, hidden), (hidden, classes)]
        inputs = [int(np.prod(s[1:])) if len(s) == 4 else s[0] for s in shapes]
        weights = draw_normal(shapes, [float(np.sqrt(2.0 / n)) for n in inputs], kind, rng)
        layers: dict[str, Layer] = {}
        for i in range(1, 7):
            W = weights[i - 1]
            layers[f"Conv{i}"] = Convolution(
                W, np.zeros(len(W), kind), strides[i - 1], pads[i - 1], input_gradient=i > 1
            )
            layers[f"Relu{i}"] = Relu()
            if i % 2 == 0:
                layers[f"Pool{i // 2}"] = Pooling(2, 2, stride=2)
        layers["Affine1"] = Affine(weights[6], np.zeros(hidden, kind))
        layers["Relu7"] = Relu()
        layers["Dropout1"] = Dropout(0.5)
        layers["Affine2"] = Affine(weights[7], np.zeros(classes, kind))
        layers["Dropout2"] = Dropout(0.5)
        super().__init__(layers)

    def loss(self, x: ArrayLike, t: ArrayLike, train_flg: bool = True) -> float:
        """Return the loss of a batch, by default in training mode, as in the course.

        Parameters
        ----------
        x : array_like, shape (N, C, H, W)
        t : array_like, shape (N,) or (N, classes)
        train_flg : bool, default True

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            As `Network.loss`.
        """
        return super().loss(x, t, train_flg)

"""The course's fully connected networks of any depth, without and with regularisation."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from net.initialization import draw_normal, layer_std
from net.layers import Affine, BatchNormalization, Dropout, Relu, Sigmoid
from net.network import Network
from net.validation import Random, check_dtype, check_finite, check_int

_ACTIVATIONS = {"relu": Relu, "sigmoid": Sigmoid}


class MultiLayerNet(Network):
    """A fully connected network: affine layers, activations, softmax with cross-entropy.

    Parameters
    ----------
    input_size : int
        Number of features.
    hidden_size_list : sequence of int
        Number of units of each hidden layer, such as ``[100, 100]``; may be empty.
    output_size : int
        Number of classes.
    activation : {'relu', 'sigmoid'}, default 'relu'
        Activation after each hidden layer.
    weight_init_std : float or str, default 'relu'
        Standard deviation of the initial weights: a number; or 'relu' or 'he' for ``sqrt(2 / n)``,
        'sigmoid' or 'xavier' for ``sqrt(1 / n)``, where n is the number of inputs of the layer.
        Biases start at 0.
    weight_decay_lambda : float, default 0
        ``lambda`` in the L2 penalty ``lambda / 2 * sum(W**2)``, summed over all weights W and added
        to the loss.
    dtype : {float64, float32}, default float64
        Dtype of parameters, activations and gradients.
    rng : numpy.random.Generator, RandomState, int or None
        Source of random numbers for the weights, `W1` first. An int is the seed of a new Generator.
        None draws from NumPy's global state, as the course does.

    Attributes
    ----------
    params : LayerArrays
        ``W1 b1 W2 b2 ...``, shared with the layers.
    layers : OrderedDict
        ``Affine1 Activation_function1 Affine2 ...``
    last_layer : SoftmaxWithLoss

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value.

    Notes
    -----
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan (2016), chapter 6.

    Examples
    --------
    >>> import numpy as np
    >>> from net import MultiLayerNet
    >>> network = MultiLayerNet(4, [5, 3], 2, rng=0)
    >>> list(network.params)
    ['W1', 'b1', 'W2', 'b2', 'W3', 'b3']
    >>> network.predict(np.eye(4)).shape
    (4, 2)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0,
        *,
        dtype: DTypeLike = np.float64,
        rng: Random = None,
    ):
        self._build(
            (input_size, hidden_size_list, output_size),
            activation,
            weight_init_std,
            weight_decay_lambda,
            dtype,
            rng,
        )

    def _build(
        self,
        sizes: tuple[Any, Any, Any],
        activation: str,
        weight_init_std: float | str,
        weight_decay_lambda: float,
        dtype: DTypeLike,
        rng: Random,
        dropout_ratio: float | None = None,
        batch_norm: bool = False,
    ) -> None:
        kind = check_dtype(dtype)
        if not isinstance(activation, str) or activation.lower() not in _ACTIVATIONS:
            raise ValueError(f"activation: expected 'relu' or 'sigmoid', got {activation!r}")
        if not isinstance(sizes[1], Sequence | np.ndarray) or isinstance(sizes[1], str):
            raise TypeError(f"hidden_size_list: expected a list of integers, got {sizes[1]!r}")
        hidden = [check_int(h, f"hidden_size_list[{i}]", 1) for i, h in enumerate(sizes[1])]
        units = [check_int(sizes[0], "input_size", 1), *hidden,
                 check_int(sizes[2], "output_size", 1)]  # fmt: skip
        shapes = list(pairwise(units))
        stds = [layer_std(weight_init_std, inputs) for inputs, _ in shapes]
        layers: dict[str, Any] = {}
        for i, W in enumerate(draw_normal(shapes, stds, kind, rng), 1):
            n = W.shape[1]
            layers[f"Affine{i}"] = Affine(W, np.zeros(n, kind), input_gradient=i > 1)
            if i == len(shapes):
                break
            if batch_norm:
                layers[f"BatchNorm{i}"] = BatchNormalization(np.ones(n, kind), np.zeros(n, kind))
            layers[f"Activation_function{i}"] = _ACTIVATIONS[activation.lower()]()
            if dropout_ratio is not None:
                layers[f"Dropout{i}"] = Dropout(dropout_ratio)
        Network.__init__(self, layers, weight_decay=weight_decay_lambda)


class MultiLayerNetExtend(MultiLayerNet):
    """A `MultiLayerNet` with batch normalisation and dropout.

    Parameters
    ----------
    input_size, hidden_size_list, output_size, activation, weight_init_std, weight_decay_lambda
        As for `MultiLayerNet`.
    use_dropout : bool, default False
        Whether a `Dropout` follows each activation.
    dropout_ration : float, default 0.5
        Fraction of units that are set to 0 in training. The spelling is the course's.
    use_batchnorm : bool, default False
        Whether a `BatchNormalization` precedes each activation.
    dtype, rng
        As for `MultiLayerNet`.

    Attributes
    ----------
    params : LayerArrays
        ``W1 b1 gamma1 beta1 W2 b2 ...``, shared with the layers.
    layers : OrderedDict
        ``Affine1 BatchNorm1 Activation_function1 Dropout1 Affine2 ...``
    last_layer : SoftmaxWithLoss

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value.

    Notes
    -----
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan (2016), chapter 6.

    Examples
    --------
    >>> from net import MultiLayerNetExtend
    >>> network = MultiLayerNetExtend(4, [5], 2, use_dropout=True, use_batchnorm=True, rng=0)
    >>> list(network.layers)
    ['Affine1', 'BatchNorm1', 'Activation_function1', 'Dropout1', 'Affine2']
    >>> list(network.params)
    ['W1', 'b1', 'gamma1', 'beta1', 'W2', 'b2']
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0,
        use_dropout: bool = False,
        dropout_ration: float = 0.5,
        use_batchnorm: bool = False,
        *,
        dtype: DTypeLike = np.float64,
        rng: Random = None,
    ):
        self._build(
            (input_size, hidden_size_list, output_size),
            activation,
            weight_init_std,
            weight_decay_lambda,
            dtype,
            rng,
            check_finite(dropout_ration, "dropout_ration") if use_dropout else None,
            bool(use_batchnorm),
        )

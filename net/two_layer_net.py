"""The lecture's network: Affine, ReLU, Affine, and softmax with cross-entropy."""

from collections import OrderedDict

import numpy as np
from numpy.typing import DTypeLike

from net.initialization import draw_normal
from net.layers import Affine, Relu
from net.network import Network
from net.validation import Random, check_dtype, check_int, check_not_negative


class TwoLayerNet(Network):
    """The lecture's network: Affine, ReLU, Affine, softmax with cross-entropy.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        Numbers of features, hidden units and classes: 784, 50, 10 in the lecture.
    weight_init_std : float, default 0.01
        Standard deviation of the initial weights. Biases start at 0.
    dtype : {float64, float32}, default float64
        Dtype of parameters, activations and gradients.
    rng : numpy.random.Generator, RandomState, int or None
        Source of random numbers for the weights, `W1` then `W2`. An int is the seed of a new
        Generator. None draws from NumPy's global state, as the lecture does.

    Attributes
    ----------
    params : LayerArrays
        ``W1 (D, H), b1 (H,), W2 (H, C), b2 (C,)``, shared with the layers.
    layers : OrderedDict
        ``Affine1 Relu1 Affine2``; a layer may be replaced by another.
    lastLayer : SoftmaxWithLoss

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, `dtype` is not float32 or float64, or `weight_init_std`
        is not a finite number of at least 0.

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
        d = check_int(input_size, "input_size", 1)
        h = check_int(hidden_size, "hidden_size", 1)
        c = check_int(output_size, "output_size", 1)
        kind, std = check_dtype(dtype), check_not_negative(weight_init_std, "weight_init_std")
        W1, W2 = draw_normal([(d, h), (h, c)], [std, std], kind, rng)
        super().__init__(
            OrderedDict(
                Affine1=Affine(W1, np.zeros(h, kind), input_gradient=False),
                Relu1=Relu(),
                Affine2=Affine(W2, np.zeros(c, kind)),
            )
        )

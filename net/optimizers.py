"""The optimizers of the course, whose update rules are in :mod:`kernels.optimizers`."""

from net.optimizer import Array, Optimizer
from net.validation import check_share

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "Optimizer", "RMSprop"]


class SGD(Optimizer):
    """Stochastic gradient descent: ``p -= lr g``; see `kernels.sgd_update`.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> from net.optimizers import SGD
    >>> params = {"W": np.array([1.0, 2.0]), "x": 3.0}
    >>> SGD(lr=0.5).update(params, {"W": np.array([2.0, 2.0]), "x": 4.0})
    >>> params
    {'W': array([0., 1.]), 'x': 1.0}
    """

    options = ("lr",)
    rule = "sgd"
    lr: float

    def __init__(self, lr: float = 0.01):
        super().__init__(lr=lr)


class Momentum(Optimizer):
    """Momentum: ``v = momentum v - lr g; p += v``; see `kernels.momentum_update`.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        Fraction of the velocity that is kept in each update, from 0 to 1.

    Attributes
    ----------
    v : dict of ndarray or None
        Velocities.
    """

    options = ("lr", "momentum")
    slots = ("v",)
    rule = "momentum"
    lr: float
    momentum: float
    v: dict[str, Array] | None

    def __init__(self, lr: float = 0.01, momentum: float = 0.9):
        super().__init__(lr=lr, momentum=check_share(momentum, "momentum"))


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient; see `kernels.nesterov_update`.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        Fraction of the velocity that is kept in each update, from 0 to 1.

    Attributes
    ----------
    v : dict of ndarray or None
        Velocities.
    """

    options = ("lr", "momentum")
    slots = ("v",)
    rule = "nesterov"
    lr: float
    momentum: float
    v: dict[str, Array] | None

    def __init__(self, lr: float = 0.01, momentum: float = 0.9):
        super().__init__(lr=lr, momentum=check_share(momentum, "momentum"))


class AdaGrad(Optimizer):
    """AdaGrad: ``h += g^2; p -= lr g / (sqrt(h) + 1e-7)``; see `kernels.adagrad_update`.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.

    Attributes
    ----------
    h : dict of ndarray or None
        Sums of squared gradients.
    """

    options = ("lr",)
    slots = ("h",)
    epsilon = 1e-7
    rule = "adagrad"
    lr: float
    h: dict[str, Array] | None

    def __init__(self, lr: float = 0.01):
        super().__init__(lr=lr)


class RMSprop(Optimizer):
    """RMSprop: AdaGrad with a moving average of squared gradients; see `kernels.rmsprop_update`.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    decay_rate : float, default 0.99
        Fraction of the moving average that is kept in each update, from 0 to 1.

    Attributes
    ----------
    h : dict of ndarray or None
        Moving averages of squared gradients.
    """

    options = ("lr", "decay_rate")
    slots = ("h",)
    epsilon = 1e-7
    rule = "rmsprop"
    lr: float
    decay_rate: float
    h: dict[str, Array] | None

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99):
        super().__init__(lr=lr, decay_rate=check_share(decay_rate, "decay_rate"))


class Adam(Optimizer):
    """Adam: momentum and RMSprop with bias correction; see `kernels.adam_update`.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    beta1, beta2 : float, default 0.9 and 0.999
        Exponential decay rates of the moment estimates, from 0 to less than 1.

    Attributes
    ----------
    m, v : dict of ndarray or None
        First and second moment estimates of the gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from net.optimizers import Adam
    >>> optimizer, params = Adam(lr=0.5), {"W": np.array([1.0])}
    >>> optimizer.update(params, {"W": np.array([1e9])})
    >>> params, optimizer.iter
    ({'W': array([0.5])}, 1)
    >>> optimizer
    Adam(lr=0.5, beta1=0.9, beta2=0.999)
    """

    options = ("lr", "beta1", "beta2")
    slots = ("m", "v")
    epsilon = 1e-7
    rule = "adam"
    lr: float
    beta1: float
    beta2: float
    m: dict[str, Array] | None
    v: dict[str, Array] | None

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999):
        super().__init__(
            lr=lr,
            beta1=check_share(beta1, "beta1", below_one=True),
            beta2=check_share(beta2, "beta2", below_one=True),
        )


OPTIMIZERS = {
    kind.__name__.lower(): kind for kind in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam)
}
"""The optimizers by their names in lower case, as the course's `Trainer` takes them."""

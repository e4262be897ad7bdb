"""Checks of the arguments of training, before a run starts."""

from pathlib import Path
from typing import Any

import numpy as np

from kernels._arrays import as_real, compute_dtype
from kernels._targets import check_targets
from net.distributed import Examples
from net.layers import SoftmaxWithLoss
from net.network import Network
from net.optimizers import SGD
from net.validation import check_finite


def check_network(network: Any) -> None:
    """Check that `network` is a `Network` with writable parameters.

    Parameters
    ----------
    network : Network

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(network, Network):
        raise TypeError(f"network: expected a Network, got {network!r}")
    for key, value in network.params.items():
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            raise ValueError(
                f"network.params[{key!r}]: expected an array that can be changed, got a read-only "
                "one; assign a copy of it"
            )


LEARNING_RATE = 0.1
"""Default learning rate of `train`, as in the lecture."""


def check_optimizer(optimizer: Any, learning_rate: float) -> Any:
    """Return the optimizer of a run: `SGD` if only a learning rate is given.

    Parameters
    ----------
    optimizer : Optimizer or None
    learning_rate : float

    Returns
    -------
    Optimizer

    Raises
    ------
    TypeError, ValueError
    """
    rate = check_finite(learning_rate, "learning_rate")
    if optimizer is None:
        return SGD(rate)
    if rate != LEARNING_RATE:
        raise ValueError(
            f"learning_rate: expected either this or an optimizer with its own lr, got both: "
            f"{learning_rate!r} and {optimizer!r}"
        )
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(
            f"optimizer: expected an object with update(params, grads), such as Adam(), got "
            f"{optimizer!r}"
        )
    return optimizer


def check_resume(resume: Any, path: Path | None, optimizer: Any) -> bool | str:
    """Check the arguments for checkpoints, and return whether to resume.

    Parameters
    ----------
    resume : bool or 'auto'
    path : Path or None
        The checkpoint.
    optimizer : Optimizer

    Returns
    -------
    bool or 'auto'

    Raises
    ------
    TypeError, ValueError
    """
    if not (isinstance(resume, bool | np.bool_) or resume == "auto"):
        raise ValueError(f"resume: expected True, False or 'auto', got {resume!r}")
    if resume and path is None:
        raise ValueError("resume: expected a checkpoint to resume from, got checkpoint=None")
    if path is not None and not (hasattr(optimizer, "state") and hasattr(optimizer, "set_state")):
        raise TypeError(
            "checkpoint: expected an optimizer with state() and set_state(state, params), such as "
            f"a subclass of net.Optimizer, got {optimizer!r}"
        )
    return resume if resume == "auto" else bool(resume)


def check_examples(network: Network, x: Any, t: Any, which: str, minimum: int) -> Examples:
    """Check that a data set fits the network, and return it as arrays.

    Parameters
    ----------
    network : Network
    x : array_like, shape (N, ...)
    t : array_like, shape (N,) or (N, C)
    which : {'train', 'test'}
        Name of the data set, for error messages.
    minimum : int
        Minimum number of examples.

    Returns
    -------
    x, t : ndarray

    Raises
    ------
    TypeError, ValueError
    """
    if x is None or t is None:
        raise ValueError(f"x_{which}, t_{which}: expected both or neither, got one")
    x, t = as_real(x, f"x_{which}"), as_real(t, f"t_{which}")
    if x.ndim < 2 or x.shape[0] < minimum or t.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"x_{which}, t_{which}: expected (N, ...) and (N,) or (N, C) with N at least {minimum},"
            f" got {x.shape} and {t.shape}"
        )
    if not len(x):  # an empty shard of one rank
        return x, t
    stack = network.stack()
    if stack is not None and x[0].size == stack.affines[0].W.shape[0]:
        logits: tuple[int, ...] = 1, stack.affines[-1].W.shape[1]  # without compiling a kernel
    else:
        logits = np.shape(network.predict(x[:1]))
    if type(network.last_layer) is SoftmaxWithLoss:
        if len(logits) != 2:
            raise ValueError(f"network: expected logits (N, C), got {logits} for one example")
        first = next(iter(network.params.values()), np.zeros(0))
        check_targets(t, (x.shape[0], logits[1]), compute_dtype(np.asarray(first)))
    return x, t

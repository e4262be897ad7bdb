"""Validation of a classifier's parameters in `fit`."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from kernels.mlp import IDENTITY, RELU, SIGMOID

ACTIVATIONS = {"identity": int(IDENTITY), "logistic": int(SIGMOID), "relu": int(RELU)}


def _one_of(*names: str) -> tuple[str, Callable[[Any], Any]]:
    words = ", ".join(map(repr, names[:-1])) + (" or " if names[1:] else "") + repr(names[-1])
    return words, lambda value: isinstance(value, str) and value in names


def _number(words: str, low: float, high: float, kind: Any = Real) -> Any:
    flags = (bool, np.bool_)
    return words, lambda v: isinstance(v, kind) and not isinstance(v, flags) and low <= v <= high


_LARGEST, _TINY, _BELOW_ONE = np.finfo(float).max, np.nextafter(0, 1), np.nextafter(1, 0)
_INTEGER = _number("an integer from 1", 1, _LARGEST, Integral)
_POSITIVE = _number("a finite number above 0", _TINY, _LARGEST)
_FROM_ZERO = _number("a finite number from 0", 0, _LARGEST)
_SHARE = _number("a number from 0, less than 1", 0, _BELOW_ONE)
_FLAG = "True or False", lambda value: isinstance(value, bool | np.bool_)

_EXPECTED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "hidden_layer_sizes": (
        "an integer from 1 or a sequence of them",
        lambda value: all(map(_INTEGER[1], np.atleast_1d(np.asarray(value, object)))),
    ),
    "activation": _one_of(*ACTIVATIONS),
    "solver": _one_of("adam", "sgd"),
    "alpha": _FROM_ZERO,
    "batch_size": (
        "'auto' or an integer from 1",
        lambda value: _INTEGER[1](value) or (isinstance(value, str) and value == "auto"),
    ),
    "learning_rate": _one_of("constant"),
    "learning_rate_init": _POSITIVE,
    "max_iter": _INTEGER,
    "shuffle": _FLAG,
    "tol": _FROM_ZERO,
    "verbose": (
        "True, False or an integer from 0",
        lambda v: isinstance(v, int | np.integer) and v >= 0,
    ),
    "warm_start": _FLAG,
    "momentum": _number("a number from 0 to 1", 0, 1),
    "nesterovs_momentum": _FLAG,
    "early_stopping": _FLAG,
    "validation_fraction": _SHARE,
    "beta_1": _SHARE,
    "beta_2": _SHARE,
    "epsilon": _POSITIVE,
    "n_iter_no_change": _number("an integer from 1, or infinity", 1, np.inf),
}


def check_parameters(estimator: Any) -> None:
    """Check the parameters of a classifier.

    Parameters
    ----------
    estimator : MLPClassifier

    Raises
    ------
    ValueError
        If a parameter is out of range or not supported.
    """
    for name, (words, is_valid) in _EXPECTED.items():
        value = getattr(estimator, name)
        if not is_valid(value):
            message = f"{name}: expected {words}, got {value!r}"
            if name in ("activation", "solver", "learning_rate") and isinstance(value, str):
                message += "; scikit-learn's MLPClassifier supports other values"
            raise ValueError(message)

"""The protocol of a layer, and helpers shared by the layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import as_real, compute_dtype

Array = NDArray[Any]


@runtime_checkable
class Layer(Protocol):
    """Interface of a layer in a network: `forward` and `backward`.

    A user-defined layer needs no base class. These attributes are optional:

    ``parameters``
        Names of the trainable attributes, such as ``("W", "b")``. `backward` stores the gradient
        of each in the attribute of that name prefixed by ``d``, such as ``dW``.
    ``buffers``
        Names of the arrays that are saved with the parameters but not trained.
    ``options``
        Names of the attributes that are arguments of the constructor, and are saved.

    `forward` is called with ``train_flg=True`` or ``False`` if it takes that argument.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Layer
    >>> class Scale:
    ...     parameters = ("scale",)
    ...     def __init__(self, scale):
    ...         self.scale = np.array(scale)
    ...     def forward(self, x):
    ...         self.x = x
    ...         return self.scale * x
    ...     def backward(self, dout):
    ...         self.dscale = np.sum(dout * self.x)
    ...         return self.scale * dout
    >>> isinstance(Scale(2.0), Layer)
    True
    """

    def forward(self, x: Any) -> Any:
        """Return the output for a batch, and store the values that `backward` needs."""

    def backward(self, dout: Any) -> Any:
        """Return the gradient with respect to the input, and set the parameters' gradients."""


def require_forward(layer: Any, name: str) -> Any:
    """Return an attribute that `forward` sets; raise RuntimeError if it is None."""
    value = getattr(layer, name)
    if value is None:
        raise RuntimeError(
            f"{type(layer).__name__}.backward: expected a call of forward first, got none"
        )
    return value


def as_parameter(a: ArrayLike, name: str, ndim: int, dtype: np.dtype[Any] | None = None) -> Array:
    """Convert to an array of parameters; an array of the right dtype is not copied."""
    a = as_real(a, name)
    if a.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, got shape {a.shape}")
    with np.errstate(over="ignore", under="ignore"):  # beyond float32's range: inf or 0
        return a.astype(dtype or compute_dtype(a), copy=False)


class Later:
    """A lazily evaluated value, computed when it is first read.

    Parameters
    ----------
    compute : callable
        Function without arguments that returns the value.
    """

    def __init__(self, compute: Callable[[], Any]):
        self._compute: Callable[[], Any] | None = compute
        self._value: Any = None

    @property
    def value(self) -> Any:
        """Value, computed by the first access."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_is, (self.value,)


def _as_it_is(value: Any) -> Any:
    return value


class MaybeLater:
    """Descriptor of an attribute that may be set to a `Later`; reading it returns the value."""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type[Any]) -> Any:
        if layer is None:
            return self
        value = layer.__dict__.get(self._name)
        if isinstance(value, Later):
            value = layer.__dict__[self._name] = value.value
        return value

    def __set__(self, layer: Any, value: Any) -> None:
        layer.__dict__[self._name] = value

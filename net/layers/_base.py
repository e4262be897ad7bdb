"""The protocol of a layer, and what the layers share."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._arrays import as_real, compute_dtype

Array = NDArray[Any]


@runtime_checkable
class Layer(Protocol):
    """What a network needs of a layer: `forward` and `backward`.

    A layer of your own needs no base class. More attributes are read where it has them:

    ``parameters``
        Names of the attributes that are trained, such as ``("W", "b")``. The gradient of each is
        in the attribute with a ``d`` before its name after `backward`.
    ``buffers``
        Names of the arrays that are saved with the parameters but not trained.
    ``options``
        Names of the attributes that are arguments of the constructor, and are saved.

    `forward` is called with ``train_flg=True`` or ``False`` where it takes that argument.

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
        """Return the output for a batch, and keep what `backward` needs."""

    def backward(self, dout: Any) -> Any:
        """Return the gradient with respect to the input, and set those of the parameters."""


def require_forward(layer: Any, name: str) -> Any:
    """Return what `forward` left in an attribute, or raise RuntimeError."""
    value = getattr(layer, name)
    if value is None:
        raise RuntimeError(
            f"{type(layer).__name__}.backward: expected a call of forward before it, got none"
        )
    return value


def as_parameter(a: ArrayLike, name: str, ndim: int, dtype: np.dtype[Any] | None = None) -> Array:
    """Return an array of parameters, itself where it already is one, so that it stays shared."""
    a = as_real(a, name)
    if a.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, got shape {a.shape}")
    with np.errstate(over="ignore", under="ignore"):  # what float32 cannot hold is infinite or 0
        return a.astype(dtype or compute_dtype(a), copy=False)


class Later:
    """A value that is computed when it is first read.

    Parameters
    ----------
    compute : callable
        Without arguments.
    """

    def __init__(self, compute: Callable[[], Any]):
        self._compute: Callable[[], Any] | None = compute
        self._value: Any = None

    @property
    def value(self) -> Any:
        """The value."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_is, (self.value,)


def _as_it_is(value: Any) -> Any:
    return value


class MaybeLater:
    """An attribute of a layer to which a `Later` may be assigned: reading it gives the value."""

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

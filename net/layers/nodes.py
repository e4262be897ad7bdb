"""Nodes of a computational graph: addition and multiplication."""

from numbers import Number
from typing import Any

import numpy as np

from kernels._arrays import as_real, format_shapes
from net.layers._base import require_forward


class Add:
    """Addition node of a computational graph: ``x + y``, of scalars or arrays.

    Examples
    --------
    >>> from net import Add
    >>> node = Add()
    >>> node.forward(200, 450)
    650
    >>> node.backward(1.1)
    (1.1, 1.1)
    """

    def __repr__(self) -> str:
        return "Add()"

    def forward(self, x: Any, y: Any) -> Any:
        """Return ``x + y``."""
        x, y = _operands(x=x, y=y)
        return x + y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to `x` and `y`: `dout` for both."""
        (dout,) = _operands(dout=dout)
        return dout * 1, dout * 1


class Mul:
    """Multiplication node of a computational graph: ``x * y``, of scalars or arrays.

    Attributes
    ----------
    x, y : scalar or ndarray, or None
        Last inputs.

    Examples
    --------
    >>> from net import Mul
    >>> node = Mul()
    >>> node.forward(100, 2)
    200
    >>> node.backward(1.5)
    (3.0, 150.0)
    """

    def __init__(self) -> None:
        self.x: Any = None
        self.y: Any = None

    def __repr__(self) -> str:
        return "Mul()"

    def forward(self, x: Any, y: Any) -> Any:
        """Return ``x * y``."""
        self.x, self.y = _operands(x=x, y=y)
        return self.x * self.y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to `x` and `y`: ``dout * y`` and ``dout * x``."""
        dout, x, y = _operands(
            dout=dout, x=require_forward(self, "x"), y=require_forward(self, "y")
        )
        return dout * y, dout * x


def _operands(**operands: Any) -> tuple[Any, ...]:
    """Return numbers unchanged and other operands as arrays; check that the shapes broadcast."""
    checked: tuple[Any, ...] = tuple(
        a if isinstance(a, Number) and not isinstance(a, complex | np.generic) else as_real(a, name)
        for name, a in operands.items()
    )
    try:
        np.broadcast_shapes(*[np.shape(a) for a in checked])
    except ValueError:
        raise ValueError(
            f"expected shapes that broadcast, got {format_shapes(**operands)}"
        ) from None
    return checked

"""Substitutes for addresses of compiled code and of memory, used if compilation is disabled."""

from typing import Any

import numpy as np

_code: list[tuple[Any, ...]] = []


def plain_code_address(*what: Any) -> int:
    """Return an integer that identifies a Python function in place of a code address."""
    if what not in _code:
        _code.append(what)
    return _code.index(what) + 1  # 0 means: no code


def plain_code(address: int) -> tuple[Any, ...]:
    """Return the arguments of the `plain_code_address` call that returned `address`."""
    return _code[int(address) - 1]


def plain_array(address: int, shape: Any, steps: Any, dtype: Any) -> Any:
    """Return a view of the memory at an address; `steps` are the strides in elements."""
    shape, steps = [int(n) for n in shape], [int(n) for n in steps]
    if 0 in shape:
        return np.empty(shape, dtype)
    size = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    memory = (np.ctypeslib.as_ctypes_type(dtype) * size).from_address(int(address))
    flat = np.frombuffer(memory, dtype)
    return np.lib.stride_tricks.as_strided(flat, shape, [n * flat.itemsize for n in steps])

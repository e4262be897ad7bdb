"""What stands for compiled code and for memory at an address where compilation is off."""

from typing import Any

import numpy as np

_code: list[tuple[Any, ...]] = []


def plain_code_address(*what: Any) -> int:
    """Stand for the address of compiled code where compilation is off."""
    if what not in _code:
        _code.append(what)
    return _code.index(what) + 1  # 0 stands for what is not compiled


def plain_code(address: int) -> tuple[Any, ...]:
    """Return what was given to `plain_code_address`."""
    return _code[int(address) - 1]


def plain_array(address: int, shape: Any, steps: Any, dtype: Any) -> Any:
    """Return an array at an address; `steps` along its axes are in elements."""
    shape, steps = [int(n) for n in shape], [int(n) for n in steps]
    if 0 in shape:
        return np.empty(shape, dtype)
    size = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    memory = (np.ctypeslib.as_ctypes_type(dtype) * size).from_address(int(address))
    flat = np.frombuffer(memory, dtype)
    return np.lib.stride_tricks.as_strided(flat, shape, [n * flat.itemsize for n in steps])

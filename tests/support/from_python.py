"""Calls from Python of functions that only compiled code calls."""

from kernels._compiler import njit


def callable_from_python(function):
    """Compile a function that is decorated with `inner` for calls from Python."""
    return njit(getattr(function, "py_func", function), cache=False)

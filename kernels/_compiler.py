"""Compilation of kernels in fewer steps than by Numba's default.

By default, Numba optimises and translates each function to machine code, even if only other
compiled functions call it. They do not use that machine code: the function's code before the
translation is linked into each caller, and optimised and translated there. Also by default, the
functions of a module are optimised one by one before the module is optimised as a whole, which
includes the same passes.

* A `LinkedCompiler` leaves both to the callers. It compiles functions that only compiled code uses.
* A `KernelCompiler` omits the passes over single functions. It compiles the other kernels.

Together they halve the time that LLVM takes.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False

import gc
import os
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import numba
import numba.extending
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

from kernels._cache import KernelCache, warn_once

config: Any = numba.config


class _KernelLibrary(JITCodeLibrary):
    """Code that is optimised as a whole only."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class _LinkedLibrary(_KernelLibrary):
    """Code that is only linked into other libraries."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        return 0

    @property
    def codegen(self) -> Any:
        """Numba stores a function's environment in its machine code through this attribute."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: callers do not store the environments of linked functions.

        So such a function may raise constant messages only, and not print arrays.
        """


class KernelCompiler(Compiler):
    """Numba's compiler with a library that is optimised as a whole only."""

    library_class: type[JITCodeLibrary] = _KernelLibrary

    def compile_extra(self, func: FunctionType) -> Any:
        """Compile a function without garbage collection, which would take 7 % of the time."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collects:
                gc.enable()

    def define_pipelines(self) -> Any:
        """Return Numba's own passes, which fill the library of this class."""
        # Machine code refers to functions by name and number. Numba counts them in each process,
        # but code from the cache may be of several: closures of one factory would be mixed up.
        self.state.func_id.unique_id = int.from_bytes(os.urandom(8), "little")
        codegen = self.state.targetctx.codegen()
        self.state.library = self.library_class(codegen, self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return super().define_pipelines()


class LinkedCompiler(KernelCompiler):
    """Numba's compiler for a function without machine code of its own."""

    library_class = _LinkedLibrary


def njit(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a kernel: `numba.njit` with a disk cache that `SOURCE_HASH` invalidates.

    Parameters
    ----------
    function : callable, optional
        The function, when the decorator is used without parentheses.
    **options
        As for `numba.njit`; ``cache`` is true unless given.

    Returns
    -------
    callable
        Numba's dispatcher, or a decorator that makes one.
    """
    if function is None:
        return partial(njit, **options)
    cache = options.pop("cache", True)
    options.setdefault("no_cfunc_wrapper", True)  # kernels are never called as C functions
    options.setdefault("pipeline_class", KernelCompiler)
    kernel: Any = numba.njit(**options)(function)
    if cache and not config.DISABLE_JIT:
        try:
            kernel._cache = KernelCache(function)
        except RuntimeError as error:  # no folder is writable
            warn_once(f"Compiled kernels cannot be cached ({error})")
    return kernel


def by_address(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a function that is called through its address, without a wrapper for Python.

    The wrapper would take up to a sixth of the compilation. A call from Python raises a TypeError.

    Parameters
    ----------
    function, **options
        As for `njit`; ``nogil`` is true.

    Returns
    -------
    callable
        Numba's dispatcher, or a decorator that makes one.
    """
    if function is None:
        return partial(by_address, **options)
    kernel = njit(function, nogil=True, no_cpython_wrapper=True, **options)
    if not config.DISABLE_JIT:
        # Without the wrapper, the entry point for calls from Python is address 0. So overloads are
        # recorded in `overloads` alone, and a call from Python reaches _refuse_call.
        kernel.add_overload = partial(_keep_overload, kernel.overloads)
        kernel._compile_for_args = partial(_refuse_call, function.__qualname__)
    return kernel


def inner(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a function that only compiled code uses, as a part of each function that uses it.

    It has neither machine code nor cached code of its own. A call from Python raises a TypeError.
    Its errors must have constant messages.

    Parameters
    ----------
    function, **options
        As for `njit`; ``nogil`` is true.

    Returns
    -------
    callable
        Numba's dispatcher, or a decorator that makes one.
    """
    return by_address(function, cache=False, pipeline_class=LinkedCompiler, **options)


def _keep_overload(overloads: dict[Any, Any], cres: Any) -> None:
    overloads[tuple(cres.signature.args)] = cres


def _refuse_call(name: str, *args: Any, **kwargs: Any) -> None:
    raise TypeError(f"{name}: expected a call from compiled code, got one from Python")


# Compiled code of these two is a part of each caller, like that of `inner`.
_LINKED = {"pipeline_class": LinkedCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
overload = partial(numba.extending.overload, jit_options=_LINKED)
"""Define a public function for compiled code: `numba.extending.overload`."""
register_jitable = numba.extending.register_jitable(**_LINKED)
"""Let compiled code call a function, which Python calls as it is."""

"""Where compiled kernels are kept on disk, and when what is kept counts as stale.

Numba keeps a compiled function under the content of the one file that defines it. Code inlined
from another file is not part of that key, so after an edit in a helper, or a new version installed
over an old one, plain ``@numba.njit(cache=True)`` goes on running the old code. Here the key is the
content of all of this package's sources:

* `njit`, the decorator of every kernel, keeps compiled code together with `STAMP` and compiles
  anew when the stamp differs. Trouble with the disk costs time and one warning, never a result.
* `_Stamped` adds `STAMP` to the key of a user's own cached functions that call these kernels,
  since they hold a copy of the kernels' code. Other cached functions are left alone.

Kernels are kept in ``NUMBA_CACHE_DIR``, else in ``njitnet`` below ``XDG_CACHE_HOME`` or the
platform's folder for a user's caches, so that nothing of theirs stays in ``site-packages`` when the
package is uninstalled; where that is not writable, Numba's own order holds: ``__pycache__`` beside
the source, then Numba's folder below the user's caches. A user's own functions are kept where Numba
keeps them.

On a terminal and in a notebook, the first compilation says what is going on: it takes seconds.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False

import hashlib
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import numba
from numba.core.caching import (
    CacheImpl,
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

F = TypeVar("F", bound=Callable[..., Any])

config: Any = numba.config
_PACKAGE = __name__.rpartition(".")[0]

# Settings that change the machine code and that Numba leaves out of its key. They go into ours, so
# that a run under NUMBA_BOUNDSCHECK=1 neither uses nor spoils what an ordinary run has kept. (The
# processor's name and features are in Numba's key.)
_SETTINGS = (
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DISABLE_INTEL_SVML",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
)

_warned = False
_announced = False


def _hash_sources(folder: Path) -> str:
    """Return one digest of the names and contents of all Python files below a folder."""
    digest = hashlib.sha256()
    archive = next((path for path in folder.parents if path.is_file()), None)
    if archive is not None:  # imported from a zip file
        digest.update(archive.read_bytes())
    for path in sorted(path for path in folder.rglob("*.py") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# Taken once, before the other modules are imported: it has to tell what this process runs.
SOURCE_HASH = _hash_sources(Path(__file__).parent)


def _warn_once(problem: str) -> None:
    """Say once in a process that compiled kernels are not kept, and what to do about it."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{problem}. Results are not affected, but kernels are compiled again when they are "
            "next needed. To keep them, set NUMBA_CACHE_DIR to a folder with room that you may "
            "write in.",
            RuntimeWarning,
            stacklevel=3,
        )


def _announce_once(folder: str) -> None:
    """Tell the user in front of a terminal or a notebook, once, why the first call takes long."""
    global _announced
    if _announced:
        return
    _announced = True
    if "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty()):
        print(
            "njitnet: compiling kernels, once for each kind of array; what is compiled is kept in "
            f"{folder}",
            file=sys.stderr,
        )


class _HashedResult(CompileResultCacheImpl):
    """Compiled code on disk, with the stamp of the sources it was made from, and a checksum.

    The stamp is in the data file, not only in the index: Numba writes the index first, so for a
    moment, or for ever when the process is killed in between, a new index names old data. The
    checksum is there because machine code with a wrong bit would be run.
    """

    def reduce(self, cres: Any) -> Any:
        code = dumps(super().reduce(cres))
        return SOURCE_HASH, hashlib.sha256(code).digest(), code

    def rebuild(self, target_context: Any, data: Any) -> Any:
        stamp, checksum, code = data
        if stamp != SOURCE_HASH:
            return None  # as if it were not there
        if hashlib.sha256(code).digest() != checksum:
            raise ValueError("a wrong checksum")
        loaded = super().rebuild(target_context, pickle.loads(code))
        # Whoever calls a function with a parallel region has, when it comes from the cache itself,
        # to start the threads first. Numba tells the caller so through the callee's library, but
        # forgets it where the callee was loaded: the caller would then jump to address 0.
        loaded.library._reload_init.update(loaded.reload_init)
        return loaded


class _KeyedFiles(IndexDataCacheFile):
    """Numba's files, with its key for the code beside the code.

    Two processes that at the same moment keep what they compiled for two dtypes may give both files
    one name: the index then has the one dtype, and its file the other's code.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        kept = super().load(key)
        return kept[1] if kept is not None and kept[0] == key else None


class _KernelCache(FunctionCache):
    """Numba's cache of one function, with our stamp, in which no trouble on disk is fatal."""

    _impl_class = _HashedResult

    def __init__(self, py_func: Callable[..., Any]):
        super().__init__(py_func)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _KeyedFiles(self._cache_path, self._impl.filename_base, stamp)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        settings = tuple(str(getattr(config, name, None)) for name in _SETTINGS)
        return super()._index_key(sig, codegen), settings

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        loaded = None
        try:
            loaded = super().load_overload(sig, target_context)
        except (AttributeError, ImportError):  # kept by a version with other classes
            with suppress(Exception):
                self.flush()
        except Exception as error:  # unpickling a damaged file may raise anything
            _warn_once(f"The compiled kernels in {self.cache_path} cannot be read ({error!r})")
            with suppress(Exception):
                self.flush()  # a fresh index, so that the next process finds good files
        if loaded is None:  # Numba compiles it next
            _announce_once(os.path.dirname(self.cache_path))
        return loaded

    def has(self, sig: Any, codegen: Any) -> bool:
        """Tell whether code is kept for a signature, without reading it."""
        with suppress(Exception):  # of an index that cannot be read
            return self._index_key(sig, codegen) in self._cache_file._load_index()
        return False

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, a folder that went away, a damaged index
            _warn_once(f"Compiled kernels cannot be kept in {self.cache_path} ({error!r})")


def njit(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a kernel: `numba.njit`, with what it compiles kept on disk under our stamp.

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
    cache = options.pop("cache", True)
    options.setdefault("no_cfunc_wrapper", True)  # nobody takes kernels as C functions

    def decorate(py_func: F) -> F:
        kernel: Any = numba.njit(**options)(py_func)
        if cache and not config.DISABLE_JIT:
            try:
                kernel._cache = _KernelCache(py_func)
            except RuntimeError as error:  # no folder is writable: Numba alone would stop here
                _warn_once(f"Compiled kernels cannot be kept ({error})")
        compiled: F = kernel
        return compiled

    return decorate if function is None else decorate(function)


def inner(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile what compiled code alone calls, without an entry for calls from Python.

    The entry would take up to a sixth of the compilation. A call from Python raises a TypeError.

    Parameters
    ----------
    function, **options
        As for `njit`; ``nogil`` is true.

    Returns
    -------
    callable
        Numba's dispatcher, or a decorator that makes one.
    """

    def decorate(py_func: F) -> F:
        kernel: Any = njit(nogil=True, no_cpython_wrapper=True, **options)(py_func)
        if not config.DISABLE_JIT:
            # Numba would jump to address 0: it does not learn of what was compiled, and asks here.
            kernel.add_overload = partial(_keep_overload, kernel.overloads)
            kernel._compile_for_args = partial(_refuse_call, py_func.__qualname__)
        compiled: F = kernel
        return compiled

    return decorate if function is None else decorate(function)


def _keep_overload(overloads: dict[Any, Any], cres: Any) -> None:
    overloads[tuple(cres.signature.args)] = cres


def has_to_compile(kernel: Any, sig: tuple[Any, ...]) -> bool:
    """Tell whether a kernel will be compiled for a signature, and then be kept on disk."""
    cache = getattr(kernel, "_cache", None)
    return isinstance(cache, _KernelCache) and not cache.has(sig, kernel.targetctx.codegen())


def _refuse_call(name: str, *args: Any, **kwargs: Any) -> None:
    raise TypeError(f"{name}: expected a call by compiled code, got one by Python")


def _is_ours(module: str | None) -> bool:
    return module is not None and (module == _PACKAGE or module.startswith(f"{_PACKAGE}."))


def _uses_package(py_func: FunctionType) -> bool:
    """Tell whether a function is ours, or its module has one of our modules or functions."""
    names = [py_func.__module__]
    for value in list(py_func.__globals__.values()):
        if isinstance(value, ModuleType):
            names.append(value.__name__)
        elif isinstance(value, FunctionType | Dispatcher):
            names.append(value.__module__)
    return any(map(_is_ours, names))


class _UserCacheLocator(UserWideCacheLocator):
    """A cache locator for kernels: our folder below the user's caches, not Numba's."""

    def __init__(self, py_func: FunctionType, py_file: str):
        super().__init__(py_func, py_file)
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # the specification has others ignored
            base = "" if sys.platform in ("win32", "darwin") else os.path.expanduser("~/.cache")
        folder = os.path.join(base, "njitnet") if base else AppDirs("njitnet", False).user_cache_dir
        self._cache_path = os.path.join(folder, self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> Any:
        return super().from_function(py_func, py_file) if _is_ours(py_func.__module__) else None


class _SourceHashLocator:
    """A cache locator for functions that use the package: others' folders, with our stamp added."""

    others: tuple[Any, ...] = (
        UserProvidedCacheLocator,
        _UserCacheLocator,
        *CacheImpl._locator_classes,
    )

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> Any:
        """Return where a function is kept, or None if it is no concern of ours."""
        if not _uses_package(py_func):
            return None
        for other in cls.others:
            locator = other.from_function(py_func, py_file)
            if locator is not None:
                locator.get_source_stamp = partial(tuple, [locator.get_source_stamp(), SOURCE_HASH])
                return locator
        return None


_locators: list[Any] = CacheImpl._locator_classes
_locators.insert(0, _SourceHashLocator)

"""On-disk cache of compiled kernels, invalidated by a hash of the package's sources.

Numba's cache key of a function is the content of the file that defines the function. It does not
cover code inlined from other files. After an edit in a helper, or after an upgrade,
``@numba.njit(cache=True)`` would continue to run the old code. Here the key is the content of all
sources of this package:

* `KernelCache`, the cache of every kernel, stores `SOURCE_HASH` with the compiled code, and ignores
  code with another hash. A disk error causes a compilation and one warning, never a failure.
* `_SourceHashLocator` adds `SOURCE_HASH` to the key of a user's cached functions that call these
  kernels, because they contain the kernels' code. Other cached functions are not affected.

Kernels are cached in ``NUMBA_CACHE_DIR``, else in ``njitnet`` below ``XDG_CACHE_HOME`` or the
platform's user cache folder, so that uninstalling the package leaves no cache files in
``site-packages``. If that folder is not writable, Numba's own order applies: ``__pycache__`` beside
the source, then Numba's folder below the user cache folder. A user's own functions are cached where
Numba caches them.

The first compilation takes seconds, and prints a message on a terminal or in a notebook.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False

import hashlib
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

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

config: Any = numba.config
_PACKAGE = __name__.rpartition(".")[0]

# Settings that change the machine code but are not part of Numba's key. This module's key includes
# them, so a run under NUMBA_BOUNDSCHECK=1 neither uses nor overwrites the code of a normal run.
# (The processor's name and features are part of Numba's key.)
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
    """Return a digest of the names and contents of all Python files below a folder."""
    digest = hashlib.sha256()
    archive = next((path for path in folder.parents if path.is_file()), None)
    if archive is not None:  # imported from a zip file
        digest.update(archive.read_bytes())
    for path in sorted(path for path in folder.rglob("*.py") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# Computed once, before the other modules are imported, to describe the code that is running.
SOURCE_HASH = _hash_sources(Path(__file__).parent)


def warn_once(problem: str) -> None:
    """Warn once per process that compiled kernels are not cached, and how to fix the problem."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{problem}. Results are not affected, but kernels are compiled again when they are "
            "next needed. To cache them, set NUMBA_CACHE_DIR to a writable folder with free "
            "space.",
            RuntimeWarning,
            stacklevel=3,
        )


def _announce_once(folder: str) -> None:
    """Print once, on a terminal or in a notebook, that the first call compiles kernels."""
    global _announced
    if _announced:
        return
    _announced = True
    if "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty()):
        print(
            "njitnet: compiling kernels, once for each kind of array; compiled code is cached in "
            f"{folder}",
            file=sys.stderr,
        )


@cache
def _load_array_functions() -> None:
    """Load Numba's array functions, without SciPy.

    Numba loads them before it runs or compiles anything. It then imports SciPy's BLAS, if it can,
    which takes 0.25 s. Here it only learns whether SciPy is installed. Compiled code that calls
    BLAS, as `np.dot` does, imports it anyway.
    """
    from numba.np import linalg

    imports_blas = getattr(linalg, "ensure_blas", None)
    if imports_blas is None:  # in a version of Numba that this code does not know
        return
    linalg.ensure_blas = _require_scipy
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = imports_blas


def _require_scipy() -> None:
    if find_spec("scipy") is None:
        raise ImportError("SciPy is not installed")


class _HashedResult(CompileResultCacheImpl):
    """Compiled code on disk, with the hash of the sources and a checksum.

    The hash is in the data file, not only in the index. Numba writes the index first, so a new
    index may name an old data file until the data is written, or permanently if the process is
    killed in between. The checksum prevents damaged machine code from being run.
    """

    def reduce(self, cres: Any) -> Any:
        code = dumps(super().reduce(cres))
        return SOURCE_HASH, hashlib.sha256(code).digest(), code

    def rebuild(self, target_context: Any, data: Any) -> Any:
        stamp, checksum, code = data
        if stamp != SOURCE_HASH:
            return None  # a cache miss
        if hashlib.sha256(code).digest() != checksum:
            raise ValueError("a wrong checksum")
        loaded = super().rebuild(target_context, pickle.loads(code))
        # A caller of a function with a parallel region must start the threads when the caller is
        # loaded from the cache. Numba records this in the callee's library, but not if the callee
        # was loaded from the cache as well: the caller would then jump to address 0.
        loaded.library._reload_init.update(loaded.reload_init)
        return loaded


class _KeyedFiles(IndexDataCacheFile):
    """Numba's cache files, with the index key stored in the data file as well.

    Two processes that save code for two dtypes at the same time may choose the same file name. The
    index then lists one dtype, and the file has the code for the other dtype.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        kept = super().load(key)
        return kept[1] if kept is not None and kept[0] == key else None


class KernelCache(FunctionCache):
    """Numba's cache of one function, with `SOURCE_HASH` in the key; no disk error is fatal."""

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
        _load_array_functions()
        try:
            loaded = super().load_overload(sig, target_context)
        except (AttributeError, ImportError):  # saved by a version with other classes
            with suppress(Exception):
                self.flush()
        except Exception as error:  # unpickling a damaged file may raise anything
            warn_once(f"The compiled kernels in {self.cache_path} cannot be read ({error!r})")
            with suppress(Exception):
                self.flush()  # a new index, so that the next process finds valid files
        if loaded is None:  # Numba compiles the function next
            _announce_once(os.path.dirname(self.cache_path))
        return loaded

    def has(self, sig: Any, codegen: Any) -> bool:
        """Return whether the index lists code for a signature; the code is not read."""
        with suppress(Exception):  # the index cannot be read
            return self._index_key(sig, codegen) in self._cache_file._load_index()
        return False

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, a deleted folder, a damaged index
            warn_once(f"Compiled kernels cannot be cached in {self.cache_path} ({error!r})")


def has_to_compile(kernel: Any, sig: tuple[Any, ...]) -> bool:
    """Return whether a kernel is cached on disk, but not yet for this signature."""
    cache = getattr(kernel, "_cache", None)
    return isinstance(cache, KernelCache) and not cache.has(sig, kernel.targetctx.codegen())


def _is_ours(module: str | None) -> bool:
    return module is not None and (module == _PACKAGE or module.startswith(f"{_PACKAGE}."))


def _uses_package(py_func: FunctionType) -> bool:
    """Return whether a function is in this package, or its module imports from this package."""
    names = [py_func.__module__]
    for value in list(py_func.__globals__.values()):
        if isinstance(value, ModuleType):
            names.append(value.__name__)
        elif isinstance(value, FunctionType | Dispatcher):
            names.append(value.__module__)
    return any(map(_is_ours, names))


class _UserCacheLocator(UserWideCacheLocator):
    """Cache locator for kernels: the folder ``njitnet`` below the user cache folder."""

    def __init__(self, py_func: FunctionType, py_file: str):
        super().__init__(py_func, py_file)
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # the specification says to ignore relative paths
            base = "" if sys.platform in ("win32", "darwin") else os.path.expanduser("~/.cache")
        folder = os.path.join(base, "njitnet") if base else AppDirs("njitnet", False).user_cache_dir
        self._cache_path = os.path.join(folder, self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> Any:
        return super().from_function(py_func, py_file) if _is_ours(py_func.__module__) else None


class _SourceHashLocator:
    """Cache locator for functions that use this package; adds `SOURCE_HASH` to another locator."""

    others: tuple[Any, ...] = (
        UserProvidedCacheLocator,
        _UserCacheLocator,
        *CacheImpl._locator_classes,
    )

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> Any:
        """Return the locator of a function, or None if the function does not use this package."""
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

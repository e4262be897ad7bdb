"""What is installed: the version of njitnet, and the package `kernels`, which is checked on import.

`net` imports this module before any that needs other packages.
"""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any


def get_version() -> str:
    """Return the version of the installed distribution, or ``"unknown"``."""
    try:
        return version("njitnet")
    except PackageNotFoundError:
        return "unknown"


def _source(spec: Any) -> str:
    """Return the source of a package, which may be in a zip file, or an empty string."""
    if hasattr(spec.loader, "get_source"):
        with suppress(ImportError, OSError, SyntaxError, UnicodeDecodeError):
            return spec.loader.get_source(spec.name) or ""
    return ""


def _check_kernels() -> None:
    """Raise ImportError if the importable package `kernels` is not that of njitnet."""
    spec = find_spec("kernels")
    if spec is None:
        found = "none"
    elif spec.origin is None:  # uninstalling the other distribution removed the file
        found = f"one without its __init__.py, in {list(spec.submodule_search_locations or ())}"
    elif "affine_forward" not in _source(spec):
        found = f"another one, {spec.origin}"
    else:
        return
    raise ImportError(
        f"net: expected the package 'kernels' of njitnet, got {found}. The distribution 'kernels' "
        "of Hugging Face has the same import name, and the two write over each other's files. Use "
        "an environment without it: pip uninstall kernels, then install njitnet again with "
        "--force-reinstall --no-deps"
    )


_check_kernels()

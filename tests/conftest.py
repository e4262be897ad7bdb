"""Fixtures of the tests: random numbers, dtypes, memory layouts, thread counts, MNIST."""

import pkgutil
import signal
from importlib import import_module

import numba
import numpy as np
import pytest
from hypothesis import settings
from numba.core.dispatcher import Dispatcher
from support import exhaustive

settings.register_profile(
    "njitnet",
    deadline=None,  # the first example may compile
    derandomize=True,  # the same examples everywhere
    database=None,
    max_examples=60,
    print_blob=True,
)
settings.load_profile("njitnet")

collect_ignore = ["fuzz", "support"]  # programs; those in fuzz need atheris: docs/reliability.md


# A background job of a shell ignores Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    for marker in (
        "small: small enough to run as plain Python, without Numba",
        "slow: left out of `make test`, and run by `make test-slow`",
        "exhaustive: long, and run by `make test-exhaustive` alone",
        "explores: draws fewer cases in `make test`",
    ):
        config.addinivalue_line("markers", marker)
    exhaustive.quick = config.option.markexpr in exhaustive.EXPRESSIONS


def pytest_terminal_summary(terminalreporter, config):
    if exhaustive.quick:
        other = "make test" if config.option.markexpr.startswith("slow") else "make test-slow"
        terminalreporter.write_line(
            f"left out: other tests, run by {other}; tests marked exhaustive and nine of ten drawn "
            "cases, run by make test-exhaustive"
        )


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def mnist():
    """Return MNIST with class indices: ``(x_train, t_train), (x_test, t_test)``, read-only."""
    from net import load_mnist

    data = load_mnist(normalize=True)
    for part in data:
        for array in part:
            array.setflags(write=False)
    return data


# ---------------------------------------------------------------- memory layouts
def _blank(shape, like):
    """Return an array filled with values that must never be read."""
    return np.full(shape, np.nan if like.dtype.kind == "f" else 99, like.dtype)


def _every_second(a):
    view = _blank([2 * n for n in a.shape], a)[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def _padded(a):
    """Return a copy whose last axis is contiguous, with gaps between the rows."""
    view = _blank([*a.shape[:-1], a.shape[-1] + 3], a)[..., : a.shape[-1]]
    view[...] = a
    return view


def _reversed(a):
    back = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[back])[back]


def _read_only(a):
    a = a.copy()
    a.setflags(write=False)
    return a


def _unaligned(a):
    view = np.ndarray(a.shape, a.dtype, np.empty(a.nbytes + 1, np.uint8), offset=1)
    view[...] = a
    assert a.itemsize == 1 or a.size == 0 or not view.flags.aligned
    return view


def _amid(a):
    """Return a C-contiguous copy between memory that must never be read."""
    view = _blank(a.size + 64, a)[32 : 32 + a.size].reshape(a.shape)
    view[...] = a
    return view


LAYOUTS = {
    "amid": _amid,
    "fortran": np.asfortranarray,
    "every_second": _every_second,
    "padded": _padded,
    "reversed": _reversed,
    "read_only": _read_only,
    "unaligned": _unaligned,
}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    """Return a function that copies an array into a memory layout."""
    return LAYOUTS[request.param]


@pytest.fixture
def compiles_nothing():
    """Return a function that checks that ``f`` compiles nothing new after ``warm`` has run."""
    import kernels

    found = pkgutil.walk_packages(kernels.__path__, "kernels.")
    modules = [import_module(module.name) for module in found]
    dispatchers = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    }

    def specialisations():
        return {(d.py_func.__qualname__, str(s)) for d in dispatchers for s in d.signatures}

    def check(warm, f):
        warm()
        before = specialisations()
        assert before
        f()
        assert specialisations() - before == set()

    return check


# ---------------------------------------------------------------- threads
@pytest.fixture
def bits_on_threads():
    """Return a function that gives the bytes of ``f()`` on 1 thread and, thrice, on 2 and more."""
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    before = numba.get_num_threads()

    def bits(result):
        results = result if isinstance(result, tuple) else (result,)
        return [np.asarray(r).tobytes() for r in results]

    def run(f):
        numba.set_num_threads(1)
        one, others = bits(f()), []
        for threads in range(2, min(numba.config.NUMBA_NUM_THREADS, 8) + 1):
            numba.set_num_threads(threads)
            others += [bits(f()) for _ in range(3)]
        return one, others

    yield run
    numba.set_num_threads(before)

"""The disk cache is never stale, and errors of the disk are never fatal.

Each test runs separate processes on a copy of the package with two additional modules: a kernel,
and a helper that Numba inlines into it from another file.
"""

import importlib
import itertools
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import kernels
from kernels.softmax import _largest

pytestmark = pytest.mark.slow

ROOT = Path(kernels.__file__).parents[1]

HELPER = """
from kernels._compiler import njit

@njit
def scaled(x):
    return {factor} * x
"""

KERNEL = """
from numba.extending import overload
from kernels._compiler import njit
from kernels.probe_helper import scaled

@njit
def probe(x, i):
    return scaled(x[i]) + 1.0

def public(x, i):
    return probe(x, i)

@overload(public)
def _jit_public(x, i):
    return lambda x, i: probe(x, i)
"""

SCRIPT = """
import json

import numba
import numpy as np

{before}
from kernels.probe import probe

def loaded(function):
    return sum(function.stats.cache_hits.values())

x = np.ones(3)
answer = {{"probe": probe(x, 0), "probe loaded": loaded(probe)}}
{after}
print(json.dumps(answer))
"""

# User modules in plain Numba: their imports, and their calls.
CALLERS = {
    "kernel": ("from kernels.probe import probe", "probe(x, 0)"),
    "function": ("from kernels.probe import public", "public(x, 0)"),
    "module": ("import kernels.probe", "kernels.probe.public(x, 0)"),
    "none": ("", "x[0]"),
}
CALLER = """
import numba
{imported}

@numba.njit(cache=True)
def caller(x):
    return {call}
"""
CALL = """
for name in {names}:
    caller = __import__("by_" + name).caller
    answer[name] = [caller(x), loaded(caller)]
"""


class Install:
    """A copy of the package, a script that uses it, and folders for Numba's cache."""

    def __init__(self, folder):
        self.folder = folder
        self.package = folder / "site" / "kernels"
        self.cache = folder / "cache"
        self.home = folder / "home"
        self.environment = {"NUMBA_CACHE_DIR": str(self.cache)}
        shutil.copytree(
            Path(kernels.__file__).parent,
            self.package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (self.package / "probe.py").write_text(KERNEL)
        self.edit_helper(2.0)

    def edit_helper(self, factor):
        (self.package / "probe_helper.py").write_text(HELPER.format(factor=factor))

    def block_pycache(self):
        """Make caching in the package's folder impossible, even for root."""
        (self.package / "__pycache__").write_text("no folder")

    def execute(self, code, name="", *, python=sys.executable, **environment):
        """Run Python code; return its output, parsed as JSON, and its warnings."""
        script = self.folder / f"script{name}.py"
        if not script.exists() or script.read_text() != code:
            script.write_text(code)  # older Numba compares the file's time
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PYTHON"))}
        done = subprocess.run(
            [python, "-W", "always", script],
            env=inherited
            | {
                "HOME": str(self.home),
                "XDG_CACHE_HOME": str(self.home / ".cache"),
                "PYTHONPATH": str(self.package.parent),
                # Python's cache compares size and seconds, and these edits are faster.
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            | self.environment
            | environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        warnings = [line for line in done.stderr.splitlines() if "RuntimeWarning: " in line]
        return json.loads(done.stdout), warnings

    def run(self, name="", *, before="", after="", **how):
        """Execute the script; ``loaded`` counts the functions loaded from disk."""
        return self.execute(SCRIPT.format(before=before, after=after), name, **how)

    def kept(self, pattern):
        """Return the cache files of the probing kernel."""
        return sorted(self.cache.rglob(f"probe.probe-*.{pattern}"))


@pytest.fixture
def install(tmp_path):
    return Install(tmp_path)


def test_a_second_process_compiles_nothing(install):
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    (kept,) = install.kept("nbc")
    written = kept.stat().st_mtime_ns
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("place", ["NUMBA_CACHE_DIR", "the user's caches", "beside the source"])
def test_an_edited_helper_in_another_file_is_seen(install, place):
    if place != "NUMBA_CACHE_DIR":
        install.environment.clear()
    if place == "beside the source":
        install.home.write_text("no folder")
    assert install.run()[0]["probe"] == 3.0
    install.edit_helper(4.0)
    assert install.run() == ({"probe": 5.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 5.0, "probe loaded": 1}, [])


@pytest.mark.exhaustive
def test_an_edited_helper_is_seen_whatever_decides_the_folder(install):
    """A user may set other cache locators, which bypass the locator of `kernels`."""
    install.environment["NUMBA_CACHE_LOCATOR_CLASSES"] = "UserProvidedCacheLocator"
    assert install.run()[0]["probe"] == 3.0
    install.edit_helper(4.0)
    assert install.run()[0]["probe"] == 5.0


@pytest.mark.exhaustive
def test_a_users_cached_functions_follow_the_kernels_they_call(install, tmp_path):
    """The user's other functions stay cached, also for plain Numba."""
    for name, (imported, call) in CALLERS.items():
        (tmp_path / f"by_{name}.py").write_text(CALLER.format(imported=imported, call=call))
    after = CALL.format(names=list(CALLERS))

    def expect(result, loaded, *, others_loaded):
        answer, _ = install.run(after=after)
        expected = {name: [result, loaded] for name in CALLERS} | {"none": [1.0, others_loaded]}
        assert {name: answer[name] for name in CALLERS} == expected

    expect(3.0, 0, others_loaded=0)
    install.edit_helper(4.0)
    expect(5.0, 0, others_loaded=1)
    expect(5.0, 1, others_loaded=1)

    plain = "import json\nimport numpy as np\nfrom by_none import caller\n"
    plain += "print(json.dumps([caller(np.ones(3)), sum(caller.stats.cache_hits.values())]))"
    assert install.execute(plain) == ([1.0, 1], [])


def make_wheel(package, folder, version):
    """Write the package as a wheel, the form in which pip replaces one version by another."""
    info = f"probe_kernels-{version}.dist-info"
    wheel = folder / f"probe_kernels-{version}-py3-none-any.whl"
    members = {
        f"kernels/{path.relative_to(package).as_posix()}": path.read_text()
        for path in package.rglob("*.py")
    }
    members[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: probe-kernels\nVersion: {version}\n"
    )
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return wheel


NO_PACKAGE = """
import json
try:
    import kernels
except ImportError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.exhaustive
def test_a_version_installed_over_another_runs_its_own_code(install, tmp_path):
    pytest.importorskip("pip")
    wheels = []
    for version, factor in [("1.0", 2.0), ("2.0", 4.0)]:
        install.edit_helper(factor)
        wheels.append(make_wheel(install.package, tmp_path, version))
    shutil.rmtree(install.package)

    # A separate environment, which uses Numba from this one.
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    borrowed = {
        Path(importlib.import_module(name).__file__).parents[1] for name in ["numba", "numpy"]
    }
    Path(site.strip(), "borrowed.pth").write_text("\n".join(map(str, borrowed)))

    # The user's cache folder, and Python's cache with its default settings.
    install.environment = {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet"]
    for wheel, expected in zip(wheels, [3.0, 5.0], strict=True):
        subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
        assert install.run(python=python) == ({"probe": expected, "probe loaded": 0}, [])
        assert install.run(python=python) == ({"probe": expected, "probe loaded": 1}, [])

    # Compiled code does not make an uninstalled package importable.
    subprocess.run([*pip, "uninstall", "--yes", "probe-kernels"], check=True)
    assert not Path(site.strip(), "kernels").exists()
    assert "No module named 'kernels'" in install.execute(NO_PACKAGE, python=python)[0]


def test_old_data_under_a_new_index_is_not_run(install):
    """The state between Numba's two writes, visible to other processes, or left by a kill."""
    install.run()
    old = {path: path.read_bytes() for path in install.kept("nbc")}
    install.edit_helper(4.0)
    install.run()
    for path, content in old.items():
        path.write_bytes(content)
    assert install.run() == ({"probe": 5.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 5.0, "probe loaded": 1}, [])


def test_what_another_version_kept_is_replaced_without_a_word(install):
    """The old index may name classes that no longer exist."""
    before = """
import collections
import kernels.probe_helper as helper
helper.Gone = collections.namedtuple("Gone", "a", module="kernels.probe_helper")
"""
    install.run(before=before, after="probe(helper.Gone(1.0), 0)")
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])


def test_code_for_another_dtype_is_not_run(install):
    """If two processes cache code for two dtypes at once, the index may name the wrong data."""
    before = "import numpy\nnumpy.ones = lambda n, ones=numpy.ones: ones(n, {})"
    install.run(before=before.format("numpy.float32"))
    other = {path: path.read_bytes() for path in install.kept("nbc")}
    shutil.rmtree(install.cache)
    install.run()
    for path, content in other.items():
        assert path.exists()
        path.write_bytes(content)
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])


AT_ONCE = """
import kernels
for dtype in np.roll([np.float32, np.float64], {i}):
    x = np.linspace(-1, 1, 40_000).astype(dtype)  # long enough for several threads
    out, mask = kernels.relu_forward(x)
    assert (out == np.maximum(x, 0)).all() and (mask == (x <= 0)).all()
    assert probe(x, 0) == -1
answer["relu loaded"] = loaded(kernels.relu._forward)
"""


@pytest.mark.exhaustive
def test_four_processes_compile_at_once(install):
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda i: install.run(i, after=AT_ONCE.format(i=i)), range(4))
    for answer, warnings in runs:
        assert answer["probe"] == 3.0
        assert warnings == []
    install.run(after=AT_ONCE.format(i=0))  # may find that the code of one dtype was lost
    answer, warnings = install.run(after=AT_ONCE.format(i=0))
    assert (answer["probe loaded"], answer["relu loaded"], warnings) == (1, 2, [])


@pytest.mark.exhaustive
def test_settings_that_change_the_code_have_entries_of_their_own(install):
    after = "try:\n    answer['past the end'] = probe(x, 10**6) and 0\n"
    after += "except IndexError as error:\n    answer['past the end'] = str(error)"
    install.run()
    checked, _ = install.run(after=after, NUMBA_BOUNDSCHECK="1")
    assert checked["probe loaded"] == 0
    assert "out of bounds" in checked["past the end"]
    assert install.run()[0]["probe loaded"] == 1
    assert install.run(NUMBA_BOUNDSCHECK="1")[0]["probe loaded"] == 1


def test_where_nothing_can_be_kept_kernels_work_from_memory(install, tmp_path):
    install.block_pycache()
    install.home.write_text("no folder")
    install.environment["NUMBA_CACHE_DIR"] = str(install.home / "cache")
    for _ in range(2):
        answer, (warning,) = install.run()
        assert answer == {"probe": 3.0, "probe loaded": 0}
        assert "set NUMBA_CACHE_DIR to a writable folder" in warning


@pytest.mark.parametrize("variable", [True, False], ids=["XDG_CACHE_HOME", "HOME"])
def test_kernels_are_kept_in_the_users_cache_folder(install, variable):
    """Nothing is written beside the sources, where uninstalling would leave it."""
    install.environment.clear()
    if not variable:
        install.environment["XDG_CACHE_HOME"] = ""
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])
    (kept,) = install.home.rglob("probe.probe-*.nbc")
    assert "njitnet" in kept.parts
    assert not variable or kept.is_relative_to(install.home / ".cache" / "njitnet")
    assert not list(install.package.rglob("*.nb?"))


def test_where_the_users_cache_folder_is_not_writable_others_serve(install):
    install.environment.clear()
    install.home.write_text("no folder")
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])
    assert len(list(install.package.glob("__pycache__/probe.probe-*.nbc"))) == 1


# A compilation of seconds is announced once in a terminal, and not to programs.
FRONT = {
    "terminal": ("sys.stderr.isatty = lambda: True", True),
    "notebook": ("sys.modules['ipykernel'] = sys", True),
    "program": ("", False),
    "no stderr": ("sys.stderr = None", False),
}


@pytest.mark.parametrize(("front", "told"), FRONT.values(), ids=FRONT)
def test_the_first_compilation_is_announced(install, front, told):
    install.environment.clear()
    code = f"""
import io, json, sys
import numpy as np
sys.stderr = io.StringIO()
stream = sys.stderr
{front}
from kernels.probe import probe
before = stream.getvalue()
for dtype in (np.float32, np.float64):
    probe(np.ones(3, dtype), 0)
print(json.dumps([before, stream.getvalue()]))
"""
    (before, after), _ = install.execute(code)
    assert before == ""  # importing compiles nothing
    folder = install.home / ".cache" / "njitnet"
    expected = "njitnet: compiling kernels, once for each kind of array; compiled code is cached "
    assert after == (f"{expected}in {folder}\n" if told else "")
    (_, after), _ = install.execute(code)
    assert after == ""  # nothing was compiled


@pytest.fixture
def mount():
    """Return a function that mounts a file system on a folder for the test, where allowed."""
    folders = []

    def mount(folder, *options):
        command = ["mount", *map(str, options), folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("may not mount here")
        folders.append(folder)

    yield mount
    for folder in folders:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.exhaustive
def test_on_a_read_only_disk_the_users_cache_folder_serves(install, mount):
    site = install.package.parent
    mount(site, "--bind", site)
    subprocess.run(["mount", "-o", "remount,bind,ro", site], check=True)
    install.environment.clear()
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])


def test_a_disk_without_room_costs_one_warning(install, mount):
    install.cache.mkdir()
    mount(install.cache, "-t", "tmpfs", "-o", "size=16k", "tmpfs")
    for _ in range(2):
        answer, (warning,) = install.run(after=AT_ONCE.format(i=0))
        assert answer["probe"] == 3.0
        assert "No space left on device" in warning
        assert "set NUMBA_CACHE_DIR to a writable folder" in warning


def flip(content, i):
    return content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]


@pytest.mark.exhaustive
def test_a_damaged_file_costs_one_warning_and_is_mended(install):
    install.run()
    damages = {
        "emptied": lambda content: b"",
        "cut short": lambda content: content[: len(content) // 2],
        "garbage": lambda content: b"x" * 99,
        "one bit": lambda content: flip(content, len(content) // 2),
    }
    for suffix, (name, damage) in itertools.product(["nbi", "nbc"], damages.items()):
        if (suffix, name) == ("nbi", "one bit"):
            continue  # may be another valid index
        (path,) = install.kept(suffix)
        path.write_bytes(damage(path.read_bytes()))
        answer, warnings = install.run()
        assert answer == {"probe": 3.0, "probe loaded": 0}, (suffix, name)
        assert len(warnings) == 1, (suffix, name)
        assert "cannot be read" in warnings[0], (suffix, name)
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])


def test_a_full_disk_costs_one_warning(install):
    resource = pytest.importorskip("resource")
    limits = (1000, resource.RLIM_INFINITY)  # bytes in a file, for this process and at most
    before = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, {limits})"
    answer, (warning,) = install.run(before=before)
    assert answer["probe"] == 3.0
    assert "cannot be cached" in warning
    assert install.run() == ({"probe": 3.0, "probe loaded": 0}, [])
    assert install.run() == ({"probe": 3.0, "probe loaded": 1}, [])


def test_a_kernel_for_compiled_code_alone_refuses_python(rng):
    row = rng.random(3)
    for _ in range(2):  # also once it has been compiled
        with pytest.raises(TypeError, match=r"_largest: expected .* got"):
            _largest(row)
        kernels.softmax(row)


def test_without_compilation_kernels_are_plain_functions(install):
    code = "from kernels.probe import probe\nprint(probe([1.0], 0))"
    assert install.execute(code, NUMBA_DISABLE_JIT="1") == (3.0, [])


def test_every_kernel_is_kept_under_the_stamp():
    """Every kernel uses `KernelCache`; one made by `numba.njit` itself would not be hashed."""
    names = [name for _, name, _ in pkgutil.walk_packages(kernels.__path__, "kernels.")]
    found = {
        f"{value.py_func.__module__}.{value.py_func.__qualname__}": type(value._cache).__name__
        for module in map(importlib.import_module, names)
        for value in vars(module).values()
        if isinstance(value, Dispatcher) and value.py_func.__module__.startswith("kernels.")
    }
    assert found
    assert {name: kind for name, kind in found.items() if kind == "FunctionCache"} == {}


@pytest.mark.exhaustive
def test_loaded_callee_with_a_parallel_region(tmp_path):
    """A caller compiled after its parallel callee was loaded from the cache starts the threads."""
    root = Path(kernels.__file__).parent.parent
    script = (
        "import numpy as np, kernels\n"
        "kernels.affine_backward(np.ones((200, 200)), np.ones((200, 300)), np.ones((300, 200)))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run():
        command = [sys.executable, "-W", "error", "-c", script]
        subprocess.run(command, cwd=root, env=environment, check=True, timeout=280)

    run()
    callers = list(tmp_path.rglob("affine._backward-*"))
    assert callers
    for file in callers:
        file.unlink()
    run()  # compiles the caller beside the loaded callee
    assert list(tmp_path.rglob("affine._backward-*"))
    run()  # loads both


@pytest.mark.exhaustive
def test_imported_from_a_zip_file(tmp_path):
    """Cached code is invalidated by the content of the archive."""
    seen = []
    for factor in (1, 2):
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for package in ("kernels", "net"):
                for path in sorted((ROOT / package).rglob("*.py")):
                    text = path.read_text()
                    if path.name == "relu.py":
                        text = text.replace("else x[i]", f"else {factor} * x[i]")
                    archive.writestr(str(path.relative_to(ROOT)), text)
        program = "import kernels, net; print(net.TwoLayerNet, kernels.relu_forward([3.0])[0])"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(tmp_path / "all.zip"),
                "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout.split()[-1])
    assert seen == ["[3.]", "[6.]"]


@pytest.mark.skipif(find_spec("scipy") is None, reason="SciPy is not installed")
def test_scipy_is_imported_for_blas_only():
    program = (
        "import sys, numba, numpy as np, kernels\n"
        "kernels.relu_forward(np.ones(3))\n"
        "assert 'scipy.linalg' not in sys.modules\n"
        "a = np.arange(4.0).reshape(2, 2)\n"
        "for f in (np.dot, np.kron):\n"
        "    compiled = numba.njit(lambda x: f(x, x))\n"
        "    np.testing.assert_array_equal(compiled(a), f(a, a))\n"
        "assert 'scipy.linalg' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

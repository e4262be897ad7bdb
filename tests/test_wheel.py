"""The wheel is complete, declares its dependencies, and works in a read-only folder."""

import ast
import os
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels", "net")
COMES_WITH = {"llvmlite": "numba", "PIL": "matplotlib"}  # docs/dependencies.md

pytestmark = pytest.mark.timeout(240)


def run(command, **options):
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def sources():
    """Return the files of both packages by their names in the wheel, without Python's cache."""
    return {
        path.relative_to(ROOT).as_posix(): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # Without build isolation, the installed hatchling is used, and no network is needed.
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder]
    run([sys.executable, "-m", "pip", *build, ROOT])
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


def test_it_holds_the_packages_and_both_licenses(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        entries = archive.read(f"{info}/entry_points.txt").decode()
        for name, path in sources().items():
            assert archive.read(name) == path.read_bytes(), name
        for name in ("LICENSE", "net/data/LICENSE"):
            assert archive.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()
    assert {name for name in names if not name.startswith(f"{info}/")} == set(sources())
    assert {"kernels/py.typed", "net/py.typed", "net/data/LICENSE"} <= names
    assert len([name for name in names if name.startswith("net/data/") and ".gz" in name]) == 4
    assert "njitnet = net.__main__:run" in entries


def test_it_declares_whatever_it_imports(metadata):
    required = {
        requirement.split(">")[0]
        for requirement in metadata.get_all("Requires-Dist")
        if "extra ==" not in requirement
    }
    imported = set()
    for name, path in sources().items():
        if name.endswith(".py"):
            here = set()
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    here |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    here.add(node.module.split(".")[0])
            extra = {"mpi4py"} if name == "net/process_group.py" else set()
            if name.startswith("net/sklearn/"):
                extra = {"sklearn", "scipy"}
            imported |= here - extra
    others = imported - sys.stdlib_module_names - set(PACKAGES)
    assert {COMES_WITH.get(name, name) for name in others} == required
    for extra in ("mpi4py", "scikit-learn"):
        assert any(
            extra in each and "extra ==" in each for each in metadata.get_all("Requires-Dist")
        )


TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])

import kernels, net
from net import TwoLayerNet, load_mnist, train

for module in (kernels, net):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
(x_train, t_train), (x_test, t_test) = load_mnist()
assert (x_train.shape, x_test.shape) == ((60_000, 784), (10_000, 784))
network = TwoLayerNet(784, 50, 10, rng=0)
history = train(network, x_train, t_train, x_test[:100], t_test[:100], iterations=30, rng=0)
assert history.train_loss_list[-1] < history.train_loss_list[0]
print("trained", len(history.train_loss_list))
"""


@pytest.fixture
def installed(wheel, tmp_path):
    """Install the wheel with pip in a folder, then make the folder read-only."""
    site = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--no-compile", "--target", site]
    run([sys.executable, "-m", "pip", "install", *options, wheel])
    paths = [site, *site.rglob("*")]
    # Root may write whatever the permissions are. A file of this name also keeps root from creating
    # the folder in which Python and Numba would cache compiled code.
    for folder in paths:
        if folder.is_dir():
            (folder / "__pycache__").write_text("no folder")
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield site
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.exhaustive
def test_it_works_from_another_folder_on_read_only_files(installed, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in installed.rglob("*")}
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    home.mkdir()
    unwanted = ("NUMBA_", "PYTHON", "XDG_", "MPL")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    where = {"cwd": elsewhere, "env": environment | {"HOME": str(home)}}

    # Isolated mode: neither this folder nor an environment variable leads to the sources.
    isolated = [sys.executable, "-I", "-W", "error", "-c", TRAIN, installed]
    assert run(isolated, **where) == "trained 30\n"
    kept = [path for path in home.rglob("*.nbc") if path.is_file()]
    assert kept  # compiled kernels are in the user's cache folder

    where["env"] = where["env"] | {"PYTHONPATH": str(installed)}
    help_text = run([sys.executable, "-m", "net", "--help"], **where)
    assert "njitnet" in help_text
    version = run([sys.executable, installed / "bin" / "njitnet", "--version"], **where)
    assert version.split()[:1] == ["njitnet"]
    assert {path: path.stat().st_mtime_ns for path in installed.rglob("*")} == before

"""airspeed velocity measures each commit's own code, publishes pages, and runs the suite."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import browser

from benchmarks.tracking import pages
from kernels import _cache, _compiler

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

pytest.importorskip("asv")
pytest.importorskip("virtualenv")

ASV = [sys.executable, "-m", "asv"]
PACKAGES = sorted({str(Path(module.__file__).parents[1]) for module in (np, pytest)})

PROJECT = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "probe"
version = "1.0"
""",
    "probe/__init__.py": "",
    "probe/_cache.py": Path(_cache.__file__).read_text(),
    "probe/_compiler.py": Path(_compiler.__file__).read_text().replace("kernels.", "probe."),
    "probe/helper.py": """
from probe._compiler import njit

@njit
def scaled(x):
    return 2.0 * x
""",
    "probe/kernel.py": """
from probe._compiler import njit
from probe.helper import scaled

@njit
def kernel(x):
    return scaled(x) + 1.0
""",
    # asv removes from the benchmarks' path all that is not in their environment.
    "benchmarks/__init__.py": f"import sys\nsys.path += {PACKAGES}\n",
    "benchmarks/bench_probe.py": """
from probe.kernel import kernel

def track_result():
    return kernel(1.0)

def track_result_of_another_process():
    return kernel(1.0) + 100.0 * sum(kernel.stats.cache_hits.values())
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a separate project."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def run(folder):
    """Return a function that runs a program in that folder, without a network."""
    borrowed = folder / "borrowed"  # asv requires `wheel`, which nothing here needs
    (borrowed / "wheel-1.0.dist-info").mkdir(parents=True)
    (borrowed / "wheel-1.0.dist-info" / "METADATA").write_text("Name: wheel\nVersion: 1.0\n")
    unwanted = ("NUMBA_", "GIT_", "PIP_", "ASV_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | {
        "HOME": str(folder),  # asv and git keep settings there
        "USERPROFILE": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # pip and asv find their dependencies where this process found them.
        "ASV_PYTHONPATH": os.pathsep.join([str(borrowed), *PACKAGES]),
    }
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "probe", f"GIT_{who}_EMAIL": "probe@localhost"}

    def run(*command, **variables):
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def measured(run, folder):
    """Make twelve commits, the last six with another helper; asv measures two of them.

    Return all commits, the two measured commits, and the output of asv.
    """
    settings = [
        line for line in (ROOT / "asv.conf.json").read_text().splitlines() if "//" not in line
    ]
    settings = json.loads("\n".join(settings))
    settings |= {"project": "probe", "results_dir": "results", "matrix": {}}
    project = PROJECT | {"asv.conf.json": json.dumps(settings), ".gitignore": ".asv\nborrowed\n"}
    for name, text in project.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    run("git", "init", "--quiet", "--initial-branch=main")
    commits = []
    for i in range(12):
        factor = "2.0" if i < 6 else "4.0"
        helper = folder / "probe" / "helper.py"
        helper.write_text(PROJECT["probe/helper.py"].replace("2.0", factor))
        run("git", "add", "--all", ":!results")
        date = f"2026-01-{i + 1:02}T12:00:00Z"
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        run("git", "commit", "--quiet", "--allow-empty", "-m", f"times {factor}", **dates)
        commits.append(run("git", "rev-parse", "HEAD").strip())
    two = commits[5:7]
    (folder / "two.txt").write_text("\n".join(two))
    run(*ASV, "machine", "--yes")
    return commits, two, run(*ASV, "run", "--show-stderr", "HASHFILE:two.txt")


def results(folder):
    """Return asv's results by commit."""
    read = (json.loads(path.read_text()) for path in folder.glob("results/*/*-virtualenv-*.json"))
    return {result["commit_hash"]: result for result in read}


@pytest.mark.exhaustive
def test_asv_measures_the_code_of_each_commit(run, folder, measured):
    """Two commits differ in a helper in another file than the kernel that is measured."""
    _, two, log = measured
    values = {
        commit: {name.rpartition(".")[2]: row[0][0] for name, row in result["results"].items()}
        for commit, result in results(folder).items()
        if commit in two
    }
    # One process compiled, the other loaded its code.
    assert values == {
        commit: {"track_result": value, "track_result_of_another_process": value + 100}
        for commit, value in zip(two, [3.0, 5.0], strict=True)
    }, log
    assert "track_result" in run(*ASV, "compare", *two)


@pytest.fixture(scope="module")
def published(run, folder, measured):
    """Publish the twelve commits, each with the results of the measured one with its helper."""
    commits, two, _ = measured
    for path in list(folder.glob("results/*/*-virtualenv-*.json")):
        result = json.loads(path.read_text())
        same = commits[:6] if result["commit_hash"] == two[0] else commits[6:]
        for commit in same:
            seconds = int(run("git", "show", "-s", "--format=%ct", commit))
            copy = result | {"commit_hash": commit, "date": 1000 * seconds}
            path.with_name(commit[:8] + path.name[8:]).write_text(json.dumps(copy))
    machine = next(folder.glob("results/*/machine.json")).parent.name
    other = folder / "results" / "another-machine"  # its results must not be in the curves
    shutil.copytree(folder / "results" / machine, other)
    for path in other.glob("*-virtualenv-*.json"):
        path.write_text(path.read_text().replace("3.0", "7.5"))
    code = f"""
from pathlib import Path
from asv.config import Config
from benchmarks.tracking import pages
pages.publish({machine!r}, [Path("results")], Config.load("asv.conf.json"))
"""
    # -P: the folder has another package of that name.
    run(sys.executable, "-P", "-c", code, PYTHONPATH=str(ROOT))
    return folder / ".asv" / "html"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Return the packages of the pages' scripts."""
    if not browser.CHROMIUM:
        pytest.skip("Chromium is not installed")
    try:
        return pages.fetch(tmp_path_factory.mktemp("scripts"))
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.exhaustive
def test_pages_need_no_other_server(published, scripts, measured, tmp_path):
    commits, _, _ = measured
    with browser.served(published) as (address, _):
        _, asked = browser.show(address, tmp_path)
    assert not all(url.startswith(address) for url in asked)  # unchanged pages

    pages.localise(published, scripts)
    shown = {
        "": ["track_result_of_another_process</div>", "flot-base"],
        "#bench_probe.track_result": ["flot-base", ">3.00<", ">5.00<"],  # the axis
        "#/regressions": [
            "bench_probe.track_result</a>",
            f"commits.html#{commits[6][:8]}",
            "1.67x",
        ],
        f"commits.html#{commits[6][:8]}": [f'id="{commits[6][:8]}"', "times 4.0"],
    }
    with browser.served(published) as (address, requests):
        for place, texts in shown.items():
            document, asked = browser.show(address + place, tmp_path)
            assert all(url.startswith(address) for url in asked), asked
            for text in texts:
                assert text in document, document
    assert {status for status, _ in requests} <= {200, 304}, requests


def test_pages_name_a_script_they_do_not_know(tmp_path):
    page = '<script src="https://elsewhere.example/new.js" integrity="sha256-0"></script>'
    (tmp_path / "index.html").write_text(page)
    with pytest.raises(ValueError, match=r"expected one of jquery.*, found new\.js"):
        pages.localise(tmp_path, tmp_path)


def test_pages_say_that_npm_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="expected npm"):
        pages.fetch(tmp_path)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git")
def test_what_asv_writes_is_not_tracked():
    """No results of other machines are in asv's folder: `asv compare` would refuse them."""
    folder = pages.configuration().results_dir
    for name in ("benchmarks.json", "machine/0123abcd-env.json"):
        command = ["git", "check-ignore", "--quiet", f"{folder}/{name}"]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert not pages.SHIPPED.is_relative_to(ROOT / folder)


def test_each_commit_has_a_folder_of_compiled_kernels():
    code = "import benchmarks, os; print(os.environ['NUMBA_CACHE_DIR'])"
    folders = {
        subprocess.check_output(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"ASV_ENV_DIR": "environment", "ASV_COMMIT": commit},
            text=True,
        ).strip()
        for commit in ("0123abcd", "4567cdef")
    }
    assert len(folders) == 2


def test_the_suite_needs_no_peer():
    """asv's environments have only njitnet's dependencies, and threadpoolctl."""
    code = (
        "import pkgutil, sys\n"
        "for name in ('sklearn', 'scipy', 'torch', 'jax', 'mpi4py', 'asv', 'pytest'):\n"
        "    sys.modules[name] = None\n"
        "import benchmarks\n"
        "for module in pkgutil.walk_packages(benchmarks.__path__, 'benchmarks.'):\n"
        "    __import__(module.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asv works on a repository")
def test_asv_accepts_the_suite():
    """asv imports every module, and compares the parameters with the functions' arguments."""
    done = subprocess.run(
        [*ASV, "check", "--environment", "existing"],
        cwd=ROOT,
        env=os.environ | {"ASV_PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "No problems found" in done.stdout

"""airspeed velocity measures each commit's own code, and the suite is one that it can run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels import _cache

ROOT = Path(__file__).parents[1]

pytest.importorskip("asv")
pytest.importorskip("virtualenv")

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
    "probe/helper.py": """
from probe._cache import njit

@njit
def scaled(x):
    return 2.0 * x
""",
    "probe/kernel.py": """
from probe._cache import njit
from probe.helper import scaled

@njit
def kernel(x):
    return scaled(x) + 1.0
""",
    # asv clears the path of benchmarks of all that did not come with their environment.
    "benchmarks/__init__.py": f"import sys\nsys.path += {PACKAGES}\n",
    "benchmarks/bench_probe.py": """
from probe.kernel import kernel

def track_result():
    return kernel(1.0)

def track_result_of_another_process():
    return kernel(1.0) + 100.0 * sum(kernel.stats.cache_hits.values())
""",
}


@pytest.fixture
def run(tmp_path):
    """Run a program in a project of its own, with nothing to be had from a network."""
    borrowed = tmp_path / "borrowed"  # asv asks for `wheel`, which nothing here needs
    (borrowed / "wheel-1.0.dist-info").mkdir(parents=True)
    (borrowed / "wheel-1.0.dist-info" / "METADATA").write_text("Name: wheel\nVersion: 1.0\n")
    unwanted = ("NUMBA_", "GIT_", "PIP_", "ASV_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | {
        "HOME": str(tmp_path),  # asv and git keep settings there
        "USERPROFILE": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # pip and asv find what they need where this process found it.
        "ASV_PYTHONPATH": os.pathsep.join([str(borrowed), *PACKAGES]),
    }
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "probe", f"GIT_{who}_EMAIL": "probe@localhost"}

    def run(*command):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def test_asv_measures_the_code_of_each_commit(run, tmp_path):
    """Two commits differ in a helper in another file than the kernel that is measured."""
    settings = [
        line for line in (ROOT / "asv.conf.json").read_text().splitlines() if "//" not in line
    ]
    settings = json.loads("\n".join(settings)) | {"project": "probe"}
    project = PROJECT | {"asv.conf.json": json.dumps(settings), ".gitignore": ".asv\nborrowed\n"}
    for name, text in project.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    run("git", "init", "--quiet", "--initial-branch=main")
    commits = []
    for factor in ("2.0", "4.0"):
        helper = tmp_path / "probe" / "helper.py"
        helper.write_text(PROJECT["probe/helper.py"].replace("2.0", factor))
        run("git", "add", ".")
        run("git", "commit", "--quiet", "--message", f"times {factor}")
        commits.append(run("git", "rev-parse", "HEAD").strip())

    asv = [sys.executable, "-m", "asv"]
    run(*asv, "machine", "--yes")
    log = run(*asv, "run", "--show-stderr", "ALL")

    measured = {}
    for path in (tmp_path / ".asv" / "results").glob("*/*-virtualenv-*.json"):
        result = json.loads(path.read_text())
        measured[result["commit_hash"]] = {
            name.rpartition(".")[2]: row[0][0] for name, row in result["results"].items()
        }
    # One process compiled, the other loaded what the first one left.
    assert measured == {
        commit: {"track_result": value, "track_result_of_another_process": value + 100}
        for commit, value in zip(commits, [3.0, 5.0], strict=True)
    }, log
    assert "track_result" in run(*asv, "compare", *commits)


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


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asv works on a repository")
def test_asv_accepts_the_suite():
    """It imports every module, and compares the parameters with what the functions take."""
    done = subprocess.run(
        [sys.executable, "-m", "asv", "check", "--environment", "existing"],
        cwd=ROOT,
        env=os.environ | {"ASV_PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "No problems found" in done.stdout

"""`import net` reports a package `kernels` of another distribution in the same place."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOREIGN = '"""Download compute kernels."""\nfrom kernels.layer import kernelize\n'


def install_ours(folder):
    for name in ("kernels", "net"):
        ignored = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)


def install_theirs(folder):
    """Overwrite files of the same name and no others, as pip does."""
    kernels = folder / "kernels"
    kernels.mkdir(exist_ok=True)
    (kernels / "__init__.py").write_text(FOREIGN)
    (kernels / "layer.py").write_text("def kernelize(model):\n    return model\n")


def uninstall_theirs(folder):
    for name in ("__init__.py", "layer.py"):
        (folder / "kernels" / name).unlink()


def uninstall_ours_but_net(folder):
    shutil.rmtree(folder / "kernels")


def python(folder, code, *options):
    # Without the environment's packages, where an installed njitnet would be found instead.
    return subprocess.run(
        [
            sys.executable,
            *options,
            "-c",
            f"import sys; sys.path.insert(0, {str(folder)!r}); {code}",
        ],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


HISTORIES = {
    "theirs after ours": ([install_ours, install_theirs], "another one, "),
    "theirs after ours, and gone": (
        [install_ours, install_theirs, uninstall_theirs],
        "one without its __init__.py",
    ),
    "theirs before ours, and gone": (
        [install_theirs, install_ours, uninstall_theirs],
        "one without its __init__.py",
    ),
    "none": ([install_ours, uninstall_ours_but_net], "none"),
}


@pytest.mark.parametrize(("steps", "found"), HISTORIES.values(), ids=HISTORIES)
def test_what_is_missing_is_told(tmp_path, steps, found):
    for step in steps:
        step(tmp_path)
    for code in ("import net", "from net import TwoLayerNet", "import net.__main__"):
        # Without the environment's packages, where an installed njitnet would be found instead.
        done = python(tmp_path, code, "-S")
        assert done.returncode == 1
        error = done.stderr.splitlines()[-1]
        assert error.startswith("ImportError: net: expected the package 'kernels' of njitnet, got ")
        assert found in error
        assert "pip uninstall kernels" in error
        assert "--force-reinstall" in error


def test_ours_after_theirs_works(tmp_path):
    install_theirs(tmp_path)
    install_ours(tmp_path)
    code = "import kernels, net.layers; print(kernels.__file__, net.__file__, kernels.softmax)"
    done = python(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path)) == 2

"""The examples of the documentation run, and each ends in its picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.exhaustive import exhaustive

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


QUICK = "initial_weights"


@pytest.mark.parametrize(
    "example",
    [path if path.stem == QUICK else exhaustive(path, id=path.stem) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_example(example, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", example],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= 3
    with Image.open(tmp_path / f"{example.stem}.png") as picture:
        picture.load()
        assert len(picture.convert("L").getcolors()) > 10

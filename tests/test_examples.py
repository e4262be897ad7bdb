"""The examples of the documentation run, and each writes its picture."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.exhaustive import exhaustive

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "docs" / "examples" / "output"
NOTEBOOKS = ROOT / "docs" / "examples" / "notebooks"
PICTURES = ROOT / "docs" / "images" / "examples"
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
QUICK = ("initial_weights", "gradient_check")


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_notebook(example, render):
    """The notebook has the code of the script, and the saved output and pictures."""
    path = NOTEBOOKS / f"{example.stem}.ipynb"
    text = path.read_text(encoding="utf-8")
    assert text == render.notebook(example.stem), "run python docs/render_examples.py"
    title, code, *pictures = json.loads(text)["cells"]
    assert example.read_text(encoding="utf-8").rstrip().endswith(code["source"].removesuffix(";"))
    assert title["source"].splitlines()[0] in example.read_text(encoding="utf-8")
    assert pictures


def test_every_example_is_shown():
    page = (ROOT / "docs" / "examples" / "index.md").read_text(encoding="utf-8")
    for path in [*EXAMPLES, *PICTURES.glob("*.png"), *NOTEBOOKS.glob("*.ipynb")]:
        assert f"{path.name})" in page, path.name


@pytest.mark.parametrize(
    "example",
    [path if path.stem in QUICK else exhaustive(path, id=path.stem) for path in EXAMPLES],
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
    shown = (OUTPUT / f"{example.stem}.txt").read_text(encoding="utf-8")
    assert len(done.stdout.splitlines()) == len(shown.splitlines()) >= 3
    drawn = sorted(tmp_path.glob("*.png"))
    assert f"{example.stem}.png" in [path.name for path in drawn]
    for path in drawn:
        assert (PICTURES / path.name).is_file(), path.name
        with Image.open(path) as picture:
            picture.load()
            assert len(picture.convert("L").getcolors()) > 10

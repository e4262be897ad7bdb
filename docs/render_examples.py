"""Run the examples; save their output, their pictures at a reduced size, and notebooks.

``python docs/render_examples.py`` runs all examples; with names as arguments, it runs only those.
"""

import ast
import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

DOCS = Path(__file__).parent
EXAMPLES, PICTURES = DOCS / "examples", DOCS / "images" / "examples"
OUTPUT, NOTEBOOKS = EXAMPLES / "output", EXAMPLES / "notebooks"
WIDTH, COLORS = 1000, 128


def keep(name: str, folder: Path, output: str) -> None:
    """Write the output of an example, and its pictures in `folder`, to the documentation."""
    (OUTPUT / f"{name}.txt").write_text(output, encoding="utf-8")
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            small = picture.convert("RGB")
        small.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        small.quantize(COLORS, dither=Image.Dither.NONE).save(PICTURES / path.name, optimize=True)


def notebook(name: str) -> str:
    """Return the notebook of an example: its code, with the saved output and pictures."""
    script = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    title, *body = ast.parse(script).body
    assert isinstance(title, ast.Expr)
    code = "".join(script.splitlines(keepends=True)[body[0].lineno - 1 :]).rstrip()
    text = (OUTPUT / f"{name}.txt").read_text(encoding="utf-8")
    cells = [
        _cell("markdown", f"{ast.literal_eval(title.value)}\n\nIt needs `njitnet`."),
        # Without the semicolon, a picture that the last line returns is shown twice.
        _cell("code", f"{code};", {"output_type": "stream", "name": "stdout", "text": text}),
    ]
    show = "from IPython.display import Image\n\n"
    for picture in sorted(_drawn(body)):
        image = base64.b64encode((PICTURES / picture).read_bytes()).decode()
        shown = {"output_type": "display_data", "metadata": {}, "data": {"image/png": image}}
        cells.append(_cell("code", f'{show}Image("{picture}")', shown))
        show = ""
    for number, cell in enumerate(cells):
        cell["id"] = f"{name}-{number}".replace("_", "-")
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": cells,
        "metadata": {"kernelspec": python, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _drawn(body: list[ast.stmt]) -> set[str]:
    """Return the names of the pictures that a script writes."""
    constants = [
        node.value for tree in body for node in ast.walk(tree) if isinstance(node, ast.Constant)
    ]
    return {value for value in constants if isinstance(value, str) and value.endswith(".png")}


def _cell(kind: str, source: str, *outputs: Any) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": source}
    return {**cell, "execution_count": None, "outputs": outputs} if kind == "code" else cell


def main(names: list[str]) -> None:
    """Run the named examples, or all examples if `names` is empty."""
    for name in names or sorted(path.stem for path in EXAMPLES.glob("*.py")):
        with TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, EXAMPLES / f"{name}.py"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            keep(name, Path(folder), done.stdout)
        (NOTEBOOKS / f"{name}.ipynb").write_text(notebook(name), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])

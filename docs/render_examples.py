"""Run the examples and keep what they print and draw, the pictures smaller, for the pages.

``python docs/render_examples.py`` runs all, with names behind it those.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

DOCS = Path(__file__).parent
WIDTH, COLORS = 1000, 32


def keep(name: str, folder: Path, output: str) -> None:
    """Write the output of an example, and its picture from a folder, into the documentation."""
    texts, pictures = DOCS / "examples" / "output", DOCS / "images" / "examples"
    texts.mkdir(exist_ok=True)
    pictures.mkdir(exist_ok=True)
    (texts / f"{name}.txt").write_text(output, encoding="utf-8")
    with Image.open(folder / f"{name}.png") as picture:
        small = picture.convert("RGB")
        small.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        small.quantize(COLORS, dither=Image.Dither.NONE).save(
            pictures / f"{name}.png", optimize=True
        )


def main(names: list[str]) -> None:
    """Run the named examples, or all."""
    for name in names or sorted(path.stem for path in (DOCS / "examples").glob("*.py")):
        with TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, DOCS / "examples" / f"{name}.py"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            keep(name, Path(folder), done.stdout)
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])

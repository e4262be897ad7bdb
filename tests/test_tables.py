"""The two table programs run, on small work, and put their tables where they belong."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from math import isfinite
from pathlib import Path

import pytest

from benchmarks import _peers, affine, training

ROOT = Path(__file__).parents[1]
PEERS = _peers.installed(["numpy", "torch", "jax"])

# In a process of its own: PyTorch and JAX start threads, and other tests fork.
AFFINE = """
import numpy as np
from benchmarks import _libraries, _peers, affine

_peers.settle = lambda: 0.0  # the times do not matter here
operations = [*_libraries.PASSES, *_libraries.ELEMENTWISE]
rows = [
    affine.Row(name, dtype, (6, 5, 4) if name in _libraries.PASSES else (6, 5))
    for name in operations
    for dtype in affine.DTYPES
]
threads = sorted({1, _libraries.all_threads()})
contestants, limits = affine.measure(rows, threads, rounds=1, duration=1e-4)

# They all compute the same: the first result, or the only one.
for row in rows:
    arrays = _libraries.arguments(row.operation, row.shape, row.dtype)
    results = {}
    for library in contestants:
        if row.operation in library.operations:
            with library.limit(threads[-1]):
                call = library.operations[row.operation](*map(library.convert, arrays))
                result = call()
            first = result[0] if isinstance(result, tuple) else result
            results[library.name] = np.asarray(first)
    for name, result in results.items():
        assert result.dtype == row.dtype or result.ndim == 0, (row, name)
        np.testing.assert_allclose(result, results["ours"], rtol=1e-4, err_msg=f"{row} {name}")

print(" ".join(library.name for library in contestants))
print(affine.as_text(rows, limits))
print("---")
print(affine.as_markdown(rows, limits))
"""


def run(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def finite_numbers(text):
    """Every number in a text, of which there are some; and nothing that is none."""
    assert not re.search(r"\b(nan|inf)\b", text), text
    numbers = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d*)?(?![\w.])", text)]
    assert numbers
    assert all(map(isfinite, numbers))
    return numbers


def test_affine():
    names, _, rest = run("-c", AFFINE).partition("\n")
    assert names.split() == ["ours", *PEERS]
    text, _, markdown = rest.partition("---\n")
    for operation in ("affine_forward, float32", "affine_backward, float64", "relu_forward (6, 5)"):
        assert operation in text
    finite_numbers(text)
    assert markdown.count("\n| 6, 5, 4 |") == 1
    finite_numbers(markdown)


def test_affine_command_line(monkeypatch, tmp_path, capsys):
    """Without PyTorch and JAX, as where they are not installed."""
    page = tmp_path / "performance.md"
    page.write_text("<!-- table:affine -->\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(_peers, "PAGE", page)
    real = _peers.installed
    monkeypatch.setattr(
        _peers, "installed", lambda *names: [n for n in real(*names) if n not in ("torch", "jax")]
    )
    arguments = ["--quick", "--shape", "3", "4", "5", "--dtype", "float32", "--threads", "1"]
    affine.main([*arguments, "--docs", "--rounds", "1"])
    text = capsys.readouterr().out
    assert text.count("(3, 4, 5)") == 2
    assert "numpy" in text
    assert not re.search("float64|torch|jax", text)
    assert "| 3, 4, 5 |" in page.read_text(encoding="utf-8")


def test_training():
    whole = training.Job("train", threads=1, iterations=4, of=4)
    part = replace(whole, who="numpy", iterations=2)
    jobs = [whole, part, *(replace(part, who=name) for name in PEERS if name != "numpy")]
    tables = training.measure(jobs, [], 1, cache=os.environ.get("NUMBA_CACHE_DIR", ""))
    for entry in tables.main:
        assert isfinite(entry.seconds())
        assert entry.seconds() > 0
        assert entry.memory() > 0
        assert entry.process().process >= sum(entry.start().values())
    assert 0 <= tables.ours("float32").best().accuracy <= 1
    tables.cold["float32"] = tables.main[0].best()
    tables.sizes = [replace(entry, job=replace(entry.job, hidden=7)) for entry in tables.main[:2]]
    text, markdown = training.as_text(tables), training.as_markdown(tables)
    for table in (text, markdown):
        finite_numbers(table)
        for job in jobs:
            assert training.CONTESTANTS[job.who].title in table
    assert "7 hidden units" in markdown


@pytest.mark.parametrize("quick", [True, False])
def test_training_jobs(quick):
    """Ours do the whole job, and each dtype has a NumPy beside it."""
    jobs = training.main_jobs(10_000, quick)
    assert {job.iterations for job in jobs if job.who in ("train", "layers")} == {10_000}
    assert jobs[0].evaluations(10_000) == 17
    for dtype in ("float32", "float64"):
        assert {job.who for job in jobs if job.dtype == dtype} >= {"train", "numpy"}
    sizes = training.size_jobs(10_000, quick)
    assert {job.who for job in sizes} == {"train", "numpy"}


def test_fill(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(
        "a\n<!-- table:x -->\nold\n<!-- end -->\nb\n<!-- table:y -->\n<!-- end -->\nc\n"
    )
    _peers.fill("x", "| 1 |\n| \\1 |\n", file)
    _peers.fill("y", "new", file)
    for _ in range(2):
        assert file.read_text() == (
            "a\n<!-- table:x -->\n| 1 |\n| \\1 |\n<!-- end -->\n"
            "b\n<!-- table:y -->\nnew\n<!-- end -->\nc\n"
        )
        _peers.fill("y", "new", file)


def test_fill_without_a_place(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"expected <!-- table:x --> .* once, found it 0 times"):
        _peers.fill("x", "new", file)
    assert file.read_text() == "nothing\n"


def test_the_page_has_the_places():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in ("affine", "training"):
        assert re.search(rf"<!-- table:{name} -->\n.*?<!-- end -->", text, re.DOTALL)


def test_text():
    assert _peers.plain(["", "a"], [["x", 1], ["yy", 10]]) == "     a\nx    1\nyy  10"
    assert _peers.markdown(["", "a"], [["x", 1]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    numbers = [0.0123, 1, 99.9, 1234.5, None]
    assert [_peers.number(n) for n in numbers] == ["0.0123", "1.00", "99.9", "1234", "-"]

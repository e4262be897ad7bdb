"""The tables are computed and written to their places; all libraries agree."""

import os
import re
import subprocess
import sys
from math import isfinite
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _jobs, _report, _timing, scaling, tables
from benchmarks._numpy import Net
from benchmarks._operations import OPERATIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHAPES = {"affine": (6, 5, 4), "convolution": (2, 3, 8, 8, 4, 3), "max": (2, 3, 8, 8)}

# In a separate process: PyTorch and JAX start threads, and other tests fork.
AGREE = """
import numpy as np
from benchmarks._operations import OPERATIONS, operation_calls

SHAPES = {shapes}
for name in OPERATIONS:
    if name.endswith("update"):
        continue
    shape = SHAPES.get(name.partition("_")[0], (6, 5))
    for dtype in ("float32", "float64"):
        results = {{}}
        for library, call in operation_calls(name, shape, dtype).items():
            result = call()
            first = result[0] if isinstance(result, (tuple, list)) else result
            results[library] = np.asarray(first)
        for library, result in results.items():
            expected = results["njitnet"]
            case = name, library
            assert result.dtype == dtype or result.ndim == 0, case
            np.testing.assert_allclose(result, expected, 1e-4, 1e-5, err_msg=str(case))
        print(name, dtype, *results)
"""


def finite_numbers(text):
    """Return the numbers in a text; check that there are some, and that all are finite."""
    assert not re.search(r"\b(nan|inf)\b", text), text
    numbers = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d*)?(?![\w.])", text)]
    assert numbers
    assert all(map(isfinite, numbers))


def test_libraries_agree_on_the_kernels():
    done = subprocess.run(
        [sys.executable, "-c", AGREE.format(shapes=SHAPES)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        name, _, *libraries = line.split()
        assert {"njitnet", "numpy"} <= set(libraries), line
        for library in ("torch", "jax"):
            if getattr(OPERATIONS[name], library) and _report.installed(library):
                assert any(each.startswith(library) for each in libraries), line


def weights(network):
    return [np.asarray(p, np.float64).ravel() for p in network.params.values()]


@pytest.mark.parametrize("case", _jobs.CASES[1:7], ids=lambda case: case["name"])
def test_numpy_trains_as_the_network_does(case):
    case = _jobs.Case(**{**case, "dtype": "float64", "data": "synthetic"})
    network, (x, t) = case.network(), (a[:20] for a in _jobs.load("synthetic")[:2])
    net, optimizer = Net(network, case.optimizer, case.lr), case.own_optimizer()
    x = x.astype(np.float64)
    for _ in range(3):
        optimizer.update(network.params, network.gradient(x, t))
        net.step(x, t)
    for ours, theirs in zip(weights(network), net.params.values(), strict=True):
        np.testing.assert_allclose(theirs.ravel(), ours, rtol=1e-8, atol=1e-10)
    assert net.loss(x, t) == pytest.approx(network.loss(x, t))
    assert net.accuracy(x, t) == network.accuracy(x, t)


def test_numpy_convolves_as_the_network_does():
    job = _jobs.ConvNet("SimpleConvNet", "float64")
    network, x, t = job.network(), job.x[:5], job.t[:5]
    net = Net(network, "SGD", 0.1)
    found = net.gradient(x, t)
    for key, gradient in network.gradient(x, t).items():
        np.testing.assert_allclose(found[key], gradient, rtol=1e-9, atol=1e-12)


def test_the_lectures_loop_in_numpy_is_the_lectures():
    job = _jobs.LectureLoop("float64", "synthetic")
    network = _jobs.two_layer_net("float64")
    other = Net(network, "SGD", 0.1)
    x, t = (a[:10] for a in job.train)
    ours, theirs = network.gradient(x, t), other.gradient(x.astype(np.float64), t)
    for key, gradient in ours.items():
        np.testing.assert_allclose(theirs[key], gradient, rtol=1e-9, atol=1e-14)
    assert other.loss(x, t) == pytest.approx(network.loss(x, t))
    assert other.accuracy(x, t) == network.accuracy(x, t)


@pytest.fixture
def without_peers(monkeypatch):
    """Run as if PyTorch and JAX were not installed, without the wait for an idle machine."""
    real = _report.installed

    def installed(*names):
        return not {"torch", "jax"} & set(names) and real(*names)

    for module in ("_report", "_operations", "_jobs"):
        monkeypatch.setattr(f"benchmarks.{module}.installed", installed)
    monkeypatch.setattr(_timing, "settle", lambda: None)


def test_a_table_is_written(without_peers, monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table:affine -->\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(tables, "DOCS", page)
    monkeypatch.setattr(tables, "AFFINE", [(3, 4, 5)])
    tables.main(["affine", "--rounds", "1", "--docs"])
    for text in (capsys.readouterr().out, page.read_text(encoding="utf-8")):
        assert "forward 3, 4, 5" in text
        assert "NumPy" in text
        finite_numbers(text)
    assert "By `python -m benchmarks.tables affine`" in page.read_text(encoding="utf-8")


def test_training_is_measured(without_peers, monkeypatch):
    small = {"name": "small", "batch": 2, "data": "synthetic"}
    monkeypatch.setattr(_jobs, "CASES", (small,))
    table = tables.train(tables.Options(rounds=1))
    assert len(table.rows) == 1
    name, ours, numpy, torch, jax, peak = table.rows[0]
    assert (name, torch, jax) == ("small", "-", "-")
    finite_numbers(f"{ours} {numpy} {peak}")


def test_starts_are_measured(monkeypatch):
    """Starts are measured with an empty cache, and with one that another process has filled."""
    caches = []
    monkeypatch.setattr(tables.subprocess, "run", lambda *_, env, **__: caches.append(env))
    table = tables.start(tables.Options(rounds=2))
    for _, empty, warm in table.rows:
        finite_numbers(f"{empty} {warm}")
    used = [env["NUMBA_CACHE_DIR"] for env in caches]
    assert max(map(used.count, used)) == 3 * len(table.rows)  # the first warms up
    assert len(set(used)) == 1 + sum(empty != "-" for _, empty, _ in table.rows) > 3


def test_contestants_take_turns(monkeypatch):
    monkeypatch.setattr(_timing, "settle", lambda: None)
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("njitnet", "script")}
    row = _timing.measure(calls, 3, per=10, njitnet=(1,))
    assert order == [*["njitnet"] * 2, *["script"] * 2, *["njitnet", "script"] * 3]
    assert [len(samples) for samples in row.seconds.values()] == [3, 3]
    row = _timing.Row({("njitnet", 1): [2.0, 1.0], ("torch, a", 1): [4.0], ("torch, b", 2): [3.0]})
    assert (row.best("torch"), row.ratio("torch"), row.threads("torch")) == (3.0, 3.0, 2)
    assert row.peers() == ["torch"]
    assert row.ratio("jax") is None


@pytest.mark.parametrize("arguments", [["nothing"], ["affine", "--rounds", "0"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit):
        tables.main(arguments)
    assert re.search(r"expected .*, got ", capsys.readouterr().err)


def test_the_pages_have_the_places():
    for names, path in ((tables.TABLES, tables.DOCS), (["scaling"], scaling.DOCS)):
        text = path.read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"<!-- table:{name} -->\n.*?<!-- end -->", text, re.DOTALL), name


def test_fill(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(
        "a\n<!-- table:x -->\nold\n<!-- end -->\nb\n<!-- table:y -->\n<!-- end -->\nc\n"
    )
    _report.fill("x", "| 1 |\n| \\1 |\n", file)
    _report.fill("y", "new", file)
    for _ in range(2):
        assert file.read_text() == (
            "a\n<!-- table:x -->\n| 1 |\n| \\1 |\n<!-- end -->\n"
            "b\n<!-- table:y -->\nnew\n<!-- end -->\nc\n"
        )
        _report.fill("y", "new", file)


def test_fill_without_a_place(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"expected <!-- table:x --> .* once, found it 0 times"):
        _report.fill("x", "new", file)
    assert file.read_text() == "nothing\n"


def test_text():
    assert _report.plain(["", "a"], [["x", 1], ["yy", 10]]) == "     a\nx    1\nyy  10"
    assert _report.markdown(["", "a"], [["x", 1]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    numbers = [0.0123, 1, 99.9, 1234.5, None]
    assert [_report.number(n) for n in numbers] == ["0.0123", "1.00", "99.9", "1234", "-"]


@pytest.mark.exhaustive
def test_instructions_are_counted():
    """`benchmarks.vectorisation` finds each kernel by its name."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vectorisation"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"^(\S.*?) {2,}(\d+) +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    vectors = {name: sum(map(int, numbers[:3])) for name, *numbers in counts}
    assert len(vectors) == 7
    assert vectors["micro-kernel"] > 50
    # ReLU's gradient is a selection, without arithmetic.
    assert all(count for name, count in vectors.items() if name != "relu backward"), vectors
    assert (
        len(re.findall(r"^(micro-kernel|plain loops|NumPy) +\d+$", done.stdout, re.MULTILINE)) == 3
    )

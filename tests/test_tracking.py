"""The gate on asv's results, the plot of the history, and the detection of wrong kernels."""

import itertools
import json
import re
import subprocess
from inspect import isabstract

import numpy as np
import pytest

pytest.importorskip("asv")

from benchmarks import _operations, bench_kernels
from benchmarks.tracking import check, history, pages


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a repository with one commit of one file, as the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in check.os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "file").write_text("old")
    (tmp_path / ".gitignore").write_text("ignored")
    who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    for command in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "first")):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_working_tree_becomes_a_commit(repository):
    assert check.working_tree() == check.git("rev-parse", "HEAD")
    for name in ("file", "new", "ignored"):
        (repository / name).write_text("changed")
    before = check.git("status", "--porcelain")
    commit = check.working_tree()
    assert check.git("show", f"{commit}:file") == check.git("show", f"{commit}:new") == "changed"
    assert "ignored" not in check.git("ls-tree", "--name-only", commit).split()
    assert check.git("rev-parse", f"{commit}^") == check.git("rev-parse", "HEAD")
    assert check.git("status", "--porcelain") == before == "M file\n?? new"


def test_gate_goes_by_the_fastest_samples(monkeypatch, capsys):
    """A row that was slow only in the first rounds is measured again, and is no regression."""
    monkeypatch.setattr(check, "RESULTS", "there are none")
    samples = {
        "base": {"slow": 1.0, "same": 1.0, "noisy (1)": 1.0, "failed": 1.0},
        "head": {"slow": 1.2, "same": 1.05, "noisy (1)": 1.5},
    }
    measured = []

    def measure(base, head, rows, rounds, append=False):
        measured.append((list(rows), append))
        if append:
            samples["head"]["noisy (1)"] = 1.0

    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr(check, "fastest", samples.get)
    assert check.slower("base", "head", 3) == {"failed": np.inf, "slow": 1.2}
    assert measured == [(check.ROWS, False), ([r"^noisy\ \(1\)$", "^slow$"], True)]
    assert "1.05" in capsys.readouterr().out


def test_gate_ends_with_what_is_slower(repository, monkeypatch):
    monkeypatch.setattr(check, "ROOT", repository)
    check.main([])  # measures nothing, because nothing changed
    (repository / "file").write_text("new")
    found = {"row": 1.2}
    monkeypatch.setattr(check, "slower", lambda *commits_and_rounds: found)
    with pytest.raises(SystemExit, match="row"):
        check.main([])
    found.clear()
    check.main([])


@pytest.mark.parametrize("operation", _operations.OPERATIONS)
def test_a_wrong_kernel_shows(operation, monkeypatch):
    right, update = _operations.ours(operation), operation in bench_kernels.UPDATES

    def wrong(*arguments):
        found = right(*arguments)
        if update:
            arguments[0][...] *= 1.01
            return None
        parts = found if isinstance(found, tuple) else (found,)
        parts = tuple(np.multiply(1.01, part) for part in parts)
        return parts if isinstance(found, tuple) else parts[0]

    size = 50 if update else bench_kernels.BATCHES[0] + 2
    shape = bench_kernels.shape(operation, size) if operation not in bench_kernels.OF_IMAGES else (
        (2, 3, 8, 8) if operation.startswith("max") else (2, 3, 8, 8, 4, 3))  # fmt: skip
    assert _operations.difference(operation, shape, "float32") < 1e-5
    monkeypatch.setattr(_operations, "ours", lambda operation: wrong)
    assert _operations.difference(operation, shape, "float32") > 1e-3


def test_gate_measures_rows_that_there_are():
    """Each expression of the gate matches a row of the suite."""
    from benchmarks import bench_network

    rows = []
    for module in (bench_kernels, bench_network):
        for name, found in vars(module).items():
            if hasattr(found, "time_call") and not isabstract(found):
                rows += [
                    f"{module.__name__.partition('.')[2]}.{name}.time_call"
                    f"({', '.join(map(repr, values))})"
                    for values in itertools.product(*found.params)
                ]
    assert len(rows) > 100
    for expression in check.ROWS:
        assert any(re.search(expression, row) for row in rows), expression


def test_history_is_drawn(tmp_path):
    found = {f"{i:040}": dict.fromkeys(history.JOBS, 0.5 + i) for i in range(3)}
    del found["0" * 40]["DeepConvNet"]  # a commit that had no such job
    history.draw(found, tmp_path / "images" / "history.png")
    assert (tmp_path / "images" / "history.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected results of two or more commits, found 0"):
        history.draw({}, tmp_path / "none.png")


def test_labels_lie_apart():
    assert history.spread([1.0, 1.1, 1.2, 5.0], 1.0) == [1.0, 2.0, 3.0, 5.0]


def test_history_of_the_project_is_there(tmp_path):
    """The shipped results have ratios of more than one commit; larger is faster."""
    machine = next(pages.SHIPPED.glob("*/machine.json")).parent.name
    assert pages.collect(machine, tmp_path / "results", [pages.SHIPPED]) > 1
    found = history.speedups(tmp_path / "results", machine)
    assert len(found) > 1
    assert max(of["Train"] for of in found.values() if "Train" in of) > 1


def test_kept_results_leave_other_descriptions(tmp_path):
    for name, known in (("new", {"a": 1, "b": 2}), ("old", {"b": 0, "c": 3})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "benchmarks.json").write_text(json.dumps(known))
    (tmp_path / "new" / "here").mkdir()
    (tmp_path / "new" / "here" / "0-env.json").write_text("{}")
    for folder in ("old", "none"):
        history.keep(tmp_path / "new", tmp_path / folder)
        assert (tmp_path / folder / "here" / "0-env.json").exists()
    found = [json.loads((tmp_path / f / "benchmarks.json").read_text()) for f in ("old", "none")]
    assert found == [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}]


def test_quick_results_are_left_out(tmp_path):
    result = {
        "result_columns": ["result", "params", "stats_repeat"],
        "results": {
            "quick": [[1.0, 2.0], [["a", "b"]], [1, 1]],
            "measured": [[1.0, 2.0], [["a", "b"]], [10, None]],
            "tracked": [[3.0], []],
        },
    }
    assert list(pages.without_quick(result)["results"]) == ["measured", "tracked"]
    (tmp_path / "one" / "here").mkdir(parents=True)
    (tmp_path / "one" / "benchmarks.json").write_text("{}")
    (tmp_path / "one" / "here" / "machine.json").write_text('{"machine": "here"}')
    (tmp_path / "one" / "here" / "0-env.json").write_text(json.dumps(result))
    assert pages.collect("here", tmp_path / "pages", [tmp_path / "none", tmp_path / "one"]) == 1
    kept = json.loads((tmp_path / "pages" / "here" / "0-env.json").read_text())
    assert list(kept["results"]) == ["measured", "tracked"]
    assert pages.collect("elsewhere", tmp_path / "other", [tmp_path / "one"]) == 0


def test_libraries_without_results_are_left_out(tmp_path):
    nan = float("nan")
    result = {
        "result_columns": ["result", "params", "stats_repeat"],
        "results": {"ratio": [[0.5, nan, None, nan], [["numpy", "torch"], ["32", "64"]], []]},
    }
    (tmp_path / "one" / "here").mkdir(parents=True)
    benchmark = {"params": [["numpy", "torch", "jax"], ["32", "64"]]}
    (tmp_path / "one" / "benchmarks.json").write_text(
        json.dumps({"ratio": benchmark, "of an older version": benchmark, "version": 2})
    )
    (tmp_path / "one" / "here" / "machine.json").write_text('{"machine": "here"}')
    (tmp_path / "one" / "here" / "0-env.json").write_text(json.dumps(result))
    pages.collect("here", tmp_path / "pages", [tmp_path / "one"])
    found = json.loads((tmp_path / "pages" / "benchmarks.json").read_text())
    assert found == {"ratio": {"params": [["numpy"], ["32"]]}, "version": 2}


def test_links_to_commits_lead_somewhere(repository, tmp_path):
    commit = check.git("rev-parse", "HEAD")
    pages.write_commits(tmp_path / "commits.html", [commit], 8)
    page = (tmp_path / "commits.html").read_text(encoding="utf-8")
    assert f'<pre id="{commit[:8]}">' in page
    assert "first" in page

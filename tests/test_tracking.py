"""The gate judges what asv measured, the history draws it, and a wrong kernel shows."""

import subprocess

import numpy as np
import pytest

pytest.importorskip("asv")

from benchmarks import bench_correctness
from benchmarks.tracking import check, history, trial


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit of one file, as the working directory."""
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
    """A row that was slow in the first rounds only is measured again, and is none."""
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
    check.main([])  # nothing changed, so nothing is measured
    (repository / "file").write_text("new")
    found = {"row": 1.2}
    monkeypatch.setattr(check, "slower", lambda *commits_and_rounds: found)
    with pytest.raises(SystemExit, match="row"):
        check.main([])
    found.clear()
    check.main([])


@pytest.mark.parametrize("plant", trial.PLANTS)
def test_trial_finds_where_to_plant(plant):
    file, before, _ = trial.PLANTS[plant]
    assert before in (check.ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("operation", bench_correctness.OPERATIONS)
def test_a_wrong_kernel_shows(operation, monkeypatch):
    right = bench_correctness.OPERATIONS[operation].kernel

    def wrong(*arguments):
        found = right(*arguments)
        parts = found if isinstance(found, tuple) else (found,)
        parts = tuple(np.multiply(1.01, part) for part in parts)
        return parts if isinstance(found, tuple) else parts[0]

    assert bench_correctness.difference(operation, 3, "float32") < 1e-5
    monkeypatch.setattr(bench_correctness.OPERATIONS[operation], "kernel", staticmethod(wrong))
    assert bench_correctness.difference(operation, 3, "float32") > 1e-3


def test_history_is_drawn(tmp_path):
    found = {f"{i:040}": dict.fromkeys(history.JOBS, 0.5 + i) for i in range(3)}
    history.draw(found, tmp_path / "images" / "history.png")
    assert (tmp_path / "images" / "history.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected results of two or more commits, found 0"):
        history.draw({}, tmp_path / "none.png")

"""Comparison of the working tree's speed with a commit: ``python -m benchmarks.tracking.check``.

``asv continuous`` measures both in interleaved rounds, on one thread. asv compares medians, which
vary with other load on the machine. This script compares the fastest samples over all rounds, which
vary less. A row that is slower is measured a second time, and counts only if it is still slower by
the samples of both measurements together.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import inf

from asv.commands.compare import unroll_result
from asv.commands.continuous import Continuous
from asv.config import Config
from asv.results import iter_results

from benchmarks import _report
from benchmarks._report import ROOT

RESULTS = ".asv/check"
FACTOR = 1.1
_ROW = r"^bench_kernels\.\w+\.time_call"
ROWS = [
    _ROW + r"\('(affine|relu|sigmoid|softmax)\w*', 1000, 'float32', '1'\)$",
    _ROW + r"\('(affine|softmax)\w*', 100, 'float64', '1'\)$",
    _ROW + r"\('conv\w+', '64x8x8 64x3x3', 'float32', '1'\)$",
    r"^bench_network\.Method\.time_call\('(gradient|accuracy)', 'float32', '1'\)$",
    r"^bench_network\.Train\.time_call\('float32', '1', 'sparse'\)$",
]
"""Patterns of the measured rows: for each kernel one limited by its loops, for some the overhead.

The data of larger batches exceed the L2 cache. The caches beyond L2 are shared with other programs,
and the times of such rows differ by 20 % from one process to the next.
"""


def git(*arguments: str, **environment: str) -> str:
    """Return the output of a git command."""
    return subprocess.run(
        ["git", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()


def working_tree() -> str:
    """Commit the working tree, including new files, and return the hash; HEAD if nothing changed.

    The working tree and the index are not modified. The commit is on no branch, so git removes it
    eventually.
    """
    who = {
        f"GIT_{who}_{what}": "check"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        git("read-tree", "HEAD", **index)
        git("add", "--all", **index)
        tree = git("write-tree", **index)
    if tree == git("rev-parse", "HEAD^{tree}"):
        return git("rev-parse", "HEAD")
    return git("commit-tree", tree, "-p", "HEAD", "-m", "Working tree", **who)


def measure(base: str, head: str, rows: Sequence[str], rounds: int, append: bool = False) -> None:
    """Measure two commits with ``asv continuous``; `rows` are regular expressions.

    With `append`, samples are added to the existing ones.
    """
    settings = Config.load(str(ROOT / "asv.conf.json"))
    settings.results_dir = RESULTS
    Continuous.run(
        settings,
        base=base,
        branch=head,
        bench=list(rows),
        attribute={"rounds": rounds},
        factor=FACTOR,
        record_samples=True,
        append_samples=append,
        interleave_rounds=True,
    )


def fastest(commit: str) -> dict[str, float]:
    """Return the fastest sample in seconds of each row of a commit, without rows that failed."""
    found = {}
    for result in iter_results(RESULTS):
        if result.commit_hash == commit:
            for name in result.get_all_result_keys():
                params = result.get_result_params(name)
                samples = result.get_result_samples(name, params)
                found |= {row: min(s) for row, s in unroll_result(name, params, samples) if s}
    return found


def ratios(base: str, head: str) -> dict[str, float]:
    """Return the fastest sample of `head` divided by that of `base`; inf if `head` failed."""
    before, after = fastest(base), fastest(head)
    found = {row: after.get(row, inf) / seconds for row, seconds in before.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def slower(base: str, head: str, rounds: int) -> dict[str, float]:
    """Measure two commits; return the ratios of the rows that became slower."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    measure(base, head, ROWS, rounds)
    found = ratios(base, head)
    suspects = [f"^{re.escape(row)}$" for row, ratio in found.items() if FACTOR < ratio < inf]
    if suspects:
        measure(base, head, suspects, rounds, append=True)
        found = ratios(base, head)
    if not found:
        raise RuntimeError(f"asv measured nothing of {base}: see its messages above")
    print("\nThe fastest of all samples, after by before:")
    lines = [[row, f"{ratio:.2f}"] for row, ratio in found.items()]
    print(_report.plain(["row", "ratio"], lines))
    return {row: ratio for row, ratio in found.items() if ratio > FACTOR}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the two commits, and exit with status 1 if a row became slower."""
    summary = str(__doc__).partition("\n")[0]
    prog = "python -m benchmarks.tracking.check"
    parser = argparse.ArgumentParser(prog=prog, description=summary)
    parser.add_argument("--base", default="HEAD", help="compare with this commit (default: HEAD)")
    parser.add_argument("--rounds", type=int, default=4, help="of each row, default: 4")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"argument --rounds: expected 1 or more, got {options.rounds}")
    os.chdir(ROOT)
    base, head = git("rev-parse", f"{options.base}^{{commit}}"), working_tree()
    if base == head:
        print(f"Nothing differs from {options.base}. Another commit: --base HEAD~1")
        return
    neighbours = _report.Neighbours()
    found = slower(base, head, options.rounds)
    print(neighbours.report())
    if found:
        sys.exit(f"Slower by more than {FACTOR - 1:.0%}: {', '.join(found)}")
    print(f"Nothing is slower by more than {FACTOR - 1:.0%}.")


if __name__ == "__main__":
    main()

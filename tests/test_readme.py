"""README and documentation are correct: examples run, and the named commands exist.

The Korean pages have the same code and commands: ``test_docs.py``. The examples of
``docs/scaling.md`` need MPI and run in ``test_ranks.py``.
"""

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import FENCE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        DOCS / "start.md",
        *sorted((DOCS / "tutorial").glob("*.md")),
        *sorted((DOCS / "howto").glob("*.md")),
    ]
    if path.name != "index.md"
}
TEXT = PAGES["README.md"]
ALL_PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
INSTALL = [["pip", "install", f".{extra}"] for extra in ("", "[mpi]", "[sklearn]")]
DEVELOP = ["pip", "install", "-e", ".[dev]"]  # as the Makefile does
EXAMPLES = {
    f"{page}-{number}": code
    for page, text in PAGES.items()
    for number, (language, code) in enumerate(FENCE.findall(text))
    if language == "python"
}


def commands(text):
    """Return the command lines in shell blocks, and those of this project in the text."""
    lines = [
        line
        for language, block in FENCE.findall(text)
        if language == "sh"
        for line in block.splitlines()
    ]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    ours = [span for span in spans if re.match(r"(make|njitnet|python -m) ", span)]
    return [words for line in lines + ours if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("code", EXAMPLES.values(), ids=EXAMPLES)
def test_example(code, tmp_path, monkeypatch, capsys):
    """Run each example as a separate file; long training is cut to 20 iterations.

    If the comment after a print begins with a number or a bracket, it is the output.
    """
    script = tmp_path / "example.py"
    script.write_text(re.sub(r"\b10_?000\b", "20", code), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
    expected = re.findall(r"^print\(.*\)  # ([\d(\[].*)", code, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in expected] == expected


def check_options(arguments, shown):
    for word in arguments:
        if re.match(r"--[a-z]|predict$", word):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", shown), word


@pytest.fixture(scope="module")
def shown():
    """Return the help of the command."""
    return "".join(
        subprocess.check_output(
            [sys.executable, "-m", "net", *which, "--help"], cwd=ROOT, text=True
        )
        for which in ([], ["predict"])
    )


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_there(page, shown):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    kinds = set()
    for command, *arguments in commands(PAGES[page]):
        program = Path(command).name
        kinds.add(program)
        if program == "make":
            for word in arguments:
                if word.startswith("ARGS="):
                    check_options(word.removeprefix("ARGS=").split(), shown)
                else:
                    assert re.search(rf"^{word}:", makefile, re.MULTILINE), word
        elif program == "njitnet":
            check_options(arguments, shown)
        elif program == "mpiexec":
            assert arguments[2] == "njitnet"
            check_options(arguments[3:], shown)
        elif program.startswith("python") and arguments[0] != "-m":
            assert (ROOT / arguments[0]).is_file(), arguments[0]
        elif program.startswith("python"):
            assert importlib.util.find_spec(arguments[1]), arguments[1]
        else:
            assert [program, *arguments] in (*INSTALL, DEVELOP)
    if page == "README.md":
        assert kinds == {"make", "njitnet", "pip", "python", "python3"}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """Links within the project exist, including GitHub's anchors of headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        there = page.parent.joinpath(target) if target else page
        assert there.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            names = [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
            assert heading in names, f"{target}#{heading}"


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 150

"""What the README shows works: its examples run, and the commands it names are there."""

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEVELOP = ["pip", "install", "-e", ".[dev]"]  # as the Makefile does
EXAMPLES = [code for language, code in FENCE.findall(TEXT) if language == "python"]


def commands():
    """Every command line in a block for the shell, and in the text if it is one of ours."""
    lines = [
        line
        for language, block in FENCE.findall(TEXT)
        if language == "sh"
        for line in block.splitlines()
    ]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", TEXT))
    ours = [span for span in spans if re.match(r"(make|njitnet|python -m) ", span)]
    return [words for line in lines + ours if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(code, tmp_path, monkeypatch, capsys):
    """Each by itself, as a file; what trains for long does so for 20 iterations.

    Where the comment behind a print begins with a number, that is what it prints.
    """
    script = tmp_path / "example.py"
    script.write_text(re.sub(r"\b10_?000\b", "20", code), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
    expected = re.findall(r"^print\(.*\)  # ([\d(].*)", code, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in expected] == expected


def check_options(arguments, shown):
    for word in arguments:
        if re.match(r"--[a-z]|predict$", word):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", shown), word


def test_commands_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = "".join(
        subprocess.check_output(
            [sys.executable, "-m", "net", *which, "--help"], cwd=ROOT, text=True
        )
        for which in ([], ["predict"])
    )
    kinds = set()
    for command, *arguments in commands():
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
        elif program.startswith("python"):
            assert arguments[0] == "-m"
            assert importlib.util.find_spec(arguments[1]), arguments[1]
        else:
            assert [program, *arguments] in (["pip", "install", "."], DEVELOP)
    assert kinds == {"make", "njitnet", "pip", "python", "python3"}


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target

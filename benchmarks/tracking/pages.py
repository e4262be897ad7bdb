"""Self-contained pages of asv's results: ``python -m benchmarks.tracking.pages``.

``asv publish`` plots the results of all machines, and those of ``--quick``, in one curve. Its
``index.html`` loads jQuery, Flot, Bootstrap and others from three servers, and commits have no
pages. This script passes the results of one machine to it, copies the scripts from npm packages
into the pages, and adds a page with the commits in the format of ``git show``.
"""

import argparse
import html
import json
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from asv.commands.publish import Publish
from asv.config import Config

from benchmarks.tracking.check import ROOT, git

SHIPPED = ROOT / "benchmarks" / "results"
"""Results of the project's machine; other results are in asv's folder, which git ignores."""
PACKAGES = Path(__file__).with_name("package.json")

SCRIPTS = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "jquery-flot/jquery.flot.js",
    "jquery.flot.time.min.js": "jquery-flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "jquery-flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "jquery-flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
"""File in the npm packages, by the last part of the URL in asv's page."""

ELSEWHERE = re.compile(
    r'(<(?:script|link)\b[^>]*?\b(?:src|href)=")https?://[^"]*/([^"/]+)"([^>]*)>'
)
CHECKS = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


def fetch(folder: Path) -> Path:
    """Install the packages with npm in a folder, and return their ``node_modules``."""
    npm = shutil.which("npm")
    if not npm:
        raise RuntimeError("expected npm, which installs the pages' scripts; install Node.js")
    shutil.copy(PACKAGES, folder)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"npm could not install {', '.join(packages())}:\n{done.stdout}")
    return folder / "node_modules"


def packages() -> dict[str, str]:
    """Return the versions of the npm packages by name."""
    found: dict[str, str] = json.loads(PACKAGES.read_text(encoding="utf-8"))["dependencies"]
    return found


def localise(folder: Path, node_modules: Path) -> None:
    """Copy the scripts to the pages, and replace their URLs by local paths."""
    index = folder / "index.html"

    def here(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        if name not in SCRIPTS:
            raise ValueError(f"{index}: expected one of {', '.join(SCRIPTS)}, found {name}")
        (folder / "vendor").mkdir(exist_ok=True)
        shutil.copy(node_modules / SCRIPTS[name], folder / "vendor" / name)
        return f'{before}vendor/{name}"{CHECKS.sub("", after)}>'

    index.write_text(ELSEWHERE.sub(here, index.read_text(encoding="utf-8")), encoding="utf-8")


def configuration() -> Any:
    """Return asv's settings."""
    return Config.load(str(ROOT / "asv.conf.json"))


def without_quick(result: dict[str, Any]) -> dict[str, Any]:
    """Return asv's results of a commit without single-sample timings, those of ``--quick``."""
    column = result["result_columns"].index("stats_repeat")

    def quick(row: list[Any]) -> bool:
        repeats = [n for n in (row[column] if len(row) > column else None) or [] if n is not None]
        return bool(repeats) and max(repeats) <= 1

    kept = {name: row for name, row in result["results"].items() if not quick(row)}
    return result | {"results": kept}


def measured_values(name: str, results: Sequence[dict[str, Any]]) -> list[set[str]]:
    """Return, for each parameter of a benchmark, the set of values with measurements."""
    found: list[set[str]] = []
    for row in (result["results"][name] for result in results if name in result["results"]):
        values, params = row[0] or [], row[1]
        found = found or [set() for _ in params]
        for value, combination in zip(values, product(*params), strict=False):
            if value is not None and value == value:  # neither failed nor skipped
                for seen, each in zip(found, combination, strict=False):
                    seen.add(each)
    return found


def collect(machine: str, folder: Path, sources: Sequence[Path]) -> int:
    """Merge the results of a machine from several sources; later sources take precedence.

    Benchmarks and parameters without measurements, such as those of another version or of a library
    that is not installed, are left out. Returns the number of results, one for each commit and
    environment.
    """
    (folder / machine).mkdir(parents=True)
    results, benchmarks = {}, {}
    for source in sources:
        if not (source / machine / "machine.json").exists():
            continue
        shutil.copy(source / machine / "machine.json", folder / machine)
        benchmarks |= json.loads((source / "benchmarks.json").read_text(encoding="utf-8"))
        for path in (source / machine).glob("*-*.json"):
            results[path.name] = without_quick(json.loads(path.read_text(encoding="utf-8")))
    measured = {name for result in results.values() for name in result["results"]}
    benchmarks = {
        name: benchmark
        for name, benchmark in benchmarks.items()
        if name in measured or not isinstance(benchmark, dict)
    }
    for name, benchmark in benchmarks.items():
        if isinstance(benchmark, dict) and (found := measured_values(name, [*results.values()])):
            benchmark["params"] = [
                [value for value in values if value in seen]
                for values, seen in zip(benchmark["params"], found, strict=False)
            ]
    for name, result in results.items():
        (folder / machine / name).write_text(json.dumps(result), encoding="utf-8")
    (folder / "benchmarks.json").write_text(json.dumps(benchmarks), encoding="utf-8")
    return len(results)


def write_commits(page: Path, commits: Sequence[str], length: int) -> None:
    """Write a page with ``git show`` of each commit, at the anchors that asv's links refer to."""
    shown = [
        f'<pre id="{commit[:length]}">{html.escape(git("show", "--stat", commit))}</pre>'
        for commit in commits
    ]
    head = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>Commits</title>"
    style = "<style>pre { padding: 1em } pre:target { background: #ffc }</style>"
    page.write_text("\n".join([head, style, *shown]), encoding="utf-8")


def publish(machine: str, sources: Sequence[Path], settings: Any) -> None:
    """Write the pages of one machine."""
    settings.show_commit_url = "commits.html#"
    with tempfile.TemporaryDirectory() as folder:
        settings.results_dir = folder + "/results"
        if not collect(machine, Path(settings.results_dir), sources):
            names = sorted({p.parent.name for s in sources for p in s.glob("*/machine.json")})
            raise ValueError(
                f"expected a machine with results, {' or '.join(names)}, got {machine}"
            )
        Publish.run(settings, pull=False)
    index = json.loads((Path(settings.html_dir) / "index.json").read_text(encoding="utf-8"))
    commits = list(index["revision_to_hash"].values())
    write_commits(Path(settings.html_dir) / "commits.html", commits, settings.hash_length)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages of a machine, by default this one, or the project's if it has no results."""
    prog = "python -m benchmarks.tracking.pages"
    parser = argparse.ArgumentParser(prog=prog, description=str(__doc__).partition("\n")[0])
    settings = configuration()
    own, shipped = ROOT / settings.results_dir, next(SHIPPED.glob("*/machine.json")).parent.name
    default = platform.node() if (own / platform.node()).is_dir() else shipped
    parser.add_argument("--machine", default=default, help=f"whose results (default: {default})")
    machine = parser.parse_args(arguments).machine
    publish(machine, [SHIPPED, own], settings)
    with tempfile.TemporaryDirectory() as scripts:
        localise(Path(settings.html_dir), fetch(Path(scripts)))
    print(f"{settings.html_dir}: what {machine} measured; all scripts are beside the pages")


if __name__ == "__main__":
    main()

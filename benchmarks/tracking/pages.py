"""Make asv's pages independent of other servers: ``python -m benchmarks.tracking.pages``.

``asv publish`` writes an ``index.html`` that takes jQuery, Flot, Bootstrap and others from three
servers. This puts the same scripts, as npm packages have them, beside the page and points to those.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
"""By the last part of the address in asv's page, the file in the packages."""

ELSEWHERE = re.compile(
    r'(<(?:script|link)\b[^>]*?\b(?:src|href)=")https?://[^"]*/([^"/]+)"([^>]*)>'
)
CHECKS = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


def fetch(folder: Path) -> Path:
    """Install the packages with npm.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Path
        The folder that has the packages.

    Raises
    ------
    RuntimeError
        If npm is not there, or cannot get them.
    """
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
    """Return the packages and their versions."""
    found: dict[str, str] = json.loads(PACKAGES.read_text(encoding="utf-8"))["dependencies"]
    return found


def localise(html: Path, node_modules: Path) -> None:
    """Put the scripts into the pages, and let the pages refer to them.

    Parameters
    ----------
    html : Path
        What ``asv publish`` wrote.
    node_modules : Path

    Raises
    ------
    ValueError
        If the page refers to something that no package here has.
    """
    index = html / "index.html"

    def here(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        if name not in SCRIPTS:
            raise ValueError(f"{index}: expected one of {', '.join(SCRIPTS)}, found {name}")
        (html / "vendor").mkdir(exist_ok=True)
        shutil.copy(node_modules / SCRIPTS[name], html / "vendor" / name)
        return f'{before}vendor/{name}"{CHECKS.sub("", after)}>'

    index.write_text(ELSEWHERE.sub(here, index.read_text(encoding="utf-8")), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do it for a folder.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.
    """
    summary = str(__doc__).partition("\n")[0]
    prog = "python -m benchmarks.tracking.pages"
    parser = argparse.ArgumentParser(prog=prog, description=summary)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".asv/html"))
    folder = parser.parse_args(arguments).folder
    with tempfile.TemporaryDirectory() as scripts:
        localise(folder, fetch(Path(scripts)))
    print(f"{folder}: all scripts are beside the pages")


if __name__ == "__main__":
    main()

"""The documentation site is built without warnings, and is self-contained."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import browser
from support.pages import FENCE

import kernels
import net

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SPHINX = ("sphinx", "numpydoc", "pydata_sphinx_theme", "myst_parser")
KOREAN = {
    "README.md": "README.ko.md",
    "docs/start.md": "docs/ko/start.md",
    **{
        f"docs/tutorial/{name}.md": f"docs/ko/tutorial/{name}.md"
        for name in ("backpropagation", "learning", "convolution")
    },
}
needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    missing = [name for name in SPHINX if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra docs is not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-q"]
    done = subprocess.run(
        [*command, "-d", folder / "doctrees", DOCS, folder / "html"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_everything_public_has_a_page(site):
    for package in (kernels, net):
        for name in package.__all__:
            page = site / "reference" / "generated" / f"{package.__name__}.{name}.html"
            assert f'id="{package.__name__}.{name}"' in page.read_text(encoding="utf-8"), name


def test_pages_name_no_other_host(site):
    """A browser fetches nothing from other hosts; links to them are allowed."""
    fetched = re.compile(
        r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"(\w+:)?//", re.S
    )
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        assert not fetched.search(page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_pages_name_their_language(site):
    for page, language in (("start.html", "en"), ("ko/start.html", "ko")):
        text = (site / page).read_text(encoding="utf-8")
        assert re.search(rf'<html[^>]* lang="{language}"', text), page


@needs_chromium
@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("index.html", "Start in five minutes"),
        ("tutorial/backpropagation.html", "<math"),
        ("ko/tutorial/backpropagation.html", "연쇄법칙"),
        ("ko/tutorial/learning.html", "가중치 감소"),
        ("examples/index.html", "convolution_mistakes.png"),
        ("reference/generated/kernels.affine_forward.html", "affine_forward"),
        ("search.html?q=affine_forward", "reference/generated/kernels.affine_forward.html"),
    ],
)
def test_in_a_browser(site, page, text, tmp_path):
    with browser.served(site) as (address, requests):
        document, asked = browser.show(address + page, tmp_path)
    assert text in document
    assert requests
    assert [(code, path) for code, path in requests if code >= 400] == []
    elsewhere = {url for url in asked if not url.startswith((address, "data:"))}
    assert elsewhere == set()


def outline(path):
    """Return the structure shared by two languages: headings, code, pictures, formulas, lists."""
    text = path.read_text(encoding="utf-8")
    code = []
    for language, block in FENCE.findall(text):
        directive, _, argument = language.partition(" ")
        if argument:
            code.append((directive, Path(path.parent, argument).resolve(), block))
        elif language == "sh":  # comments after commands are translated
            code.append((language, re.sub(r"(?<=\S) +# .*", "", block)))
        else:
            code.append((language, block))
    rest = FENCE.sub("", text)
    pictures = re.findall(r"!\[.+?\]\((.*?)\)", rest)
    return {
        "headings": [len(marks) for marks in re.findall(r"^(#+) ", rest, re.MULTILINE)],
        "code": code,
        "pictures": [Path(path.parent, picture).resolve() for picture in pictures],
        "formulas": re.findall(r"\$.+?\$", rest),
        "list items": re.findall(r"^(-|\d\.) ", rest, re.MULTILINE),
        "table rows": len(re.findall(r"^\|", rest, re.MULTILINE)),
    }


@pytest.mark.parametrize("english", KOREAN)
def test_both_languages_say_the_same(english):
    pages = ROOT / english, ROOT / KOREAN[english]
    here, there = map(outline, pages)
    assert here["headings"]
    assert here == there
    for page, other in (pages, pages[::-1]):
        top = page.read_text(encoding="utf-8").split("\n\n")[1]
        links = re.findall(r"\]\(([^)#]+)\)", top)
        assert [page.parent.joinpath(link).resolve() for link in links] == [other]
    assert len(re.findall(r"[가-힣]", pages[1].read_text(encoding="utf-8"))) > 300


def test_every_korean_page_is_compared():
    pages = {path.relative_to(ROOT).as_posix() for path in (DOCS / "ko").rglob("*.md")}
    assert pages - set(KOREAN.values()) == {"docs/ko/index.md"}  # the list of the others
    for page, other in (("index.md", "ko/index.md"), ("ko/index.md", "../index.md")):
        assert f"]({other})" in (DOCS / page).read_text(encoding="utf-8")


def test_pictures_are_small():
    pictures = [path for path in (DOCS / "images").rglob("*") if path.is_file()]
    large = {p.name for p in pictures if p.stat().st_size > 100_000} - {"scaling.png"}
    assert pictures
    assert large == set()


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    (latest, *_) = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    (cited,) = re.findall(r"^version: (.*)", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert version == latest == cited

"""Sphinx configuration; ``make docs`` builds the documentation."""

import os
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "njitnet"
author = "the authors of njitnet"
_settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
release = version = _settings["project"]["version"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["njitnet.css"]
default_role = "autolink"  # of text between single backticks
nitpicky = False

autosummary_generate = True
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the section on parameters describes the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"njitnet {release}"
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"start": [], "examples/index": []}  # pages without subpages
html_theme_options = {
    "logo": {"text": "njitnet"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}

# Formulas are MathML, which browsers render without scripts, fonts or a network.
html_math_renderer = "mathml"


def _visit_math(self, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _visit_math_block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _write_help(app) -> None:
    """Write the output of ``--help`` for the page on the command."""
    from net.cli.parser import predict_parser, train_parser

    os.environ["COLUMNS"] = "90"
    folder = Path(app.srcdir, "reference", "generated")
    folder.mkdir(exist_ok=True)
    for name, parser in (("train", train_parser()), ("predict", predict_parser())):
        (folder / f"{name}.txt").write_text(parser.format_help(), encoding="utf-8")


def _set_language(app, page, template, context, tree) -> None:
    """Set the language of a page, from which browsers choose fonts."""
    if page.startswith("ko/"):
        context["language"] = "ko"


def setup(app) -> None:
    """Register the math renderer and the event handlers."""
    app.connect("html-page-context", _set_language)
    app.connect("builder-inited", _write_help)
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))

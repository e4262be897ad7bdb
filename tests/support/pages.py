"""Parsing of Markdown pages: code blocks and Sphinx directives."""

import re

FENCE = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""Language or directive, with its argument, and content."""

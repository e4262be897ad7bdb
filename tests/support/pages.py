"""Pages in Markdown: their blocks of code and the directives of Sphinx."""

import re

FENCE = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""Language or directive, with its argument, and content."""

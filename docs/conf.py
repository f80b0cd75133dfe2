"""Sphinx: the pages of this folder, and the reference that is generated from the code."""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.chdir(HERE.parent)  # `vbon --help` and the schema are read as from a checkout
os.environ.pop("VBON_METHODS", None)  # the reference is of this package alone

from generate import write_reference  # noqa: E402

from vbon import __version__  # noqa: E402

write_reference(HERE / "reference" / "_generated")

project, author, release = "vbon", "The vbon authors", __version__
copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "reference/_generated"]

# Links and anchors within the pages are errors where they lead nowhere; what libraries document
# elsewhere is not looked up, since a build has no network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!vbon\b).*"), ("py:.*", r"vbon\.types\.Numeric")]
linkcheck_retries = 2
smartquotes = False  # words of the code stay as they are, to be searched for

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes are in the docstrings' arguments
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "vbon"
html_show_sphinx = False


def setup(app):
    """Let links to Markdown outside of this folder lead to the file: it is no page of these."""
    app.connect("source-read", _to_files)


def _to_files(app, docname, source):
    folder = (HERE / docname).parent

    def told(link):
        target = (folder / link[1]).resolve()
        return link[0] if target.is_relative_to(HERE) else f"](path:{link[1]})"

    source[0] = re.sub(r"\]\(([\w./-]+\.md)\)", told, source[0])

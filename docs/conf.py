"""Settings of Sphinx: `./dev docs` builds docs/ into build/docs, and a warning is an error."""

from __future__ import annotations

import json
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import memchannel

project = "memchannel"
author = "The memchannel developers"
version = release = memchannel.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = True
# That each page is in a toctree is a test (tests/test_docs.py).
suppress_warnings = ["toc.not_included"]

myst_heading_anchors = 4  # links as [text](page.md#heading), which code hosts know as well
myst_links_external_new_tab = False

default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings name the types, and overloads are for type checkers
maximum_signature_line_length = 88
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Unknown and misspelt sections, and parameters that do not go with the signature.
numpydoc_validation_checks = {"GL06", "GL07", "GL08", "PR02", "PR03", "PR06", "PR07", "PR10", "RT04"}

html_theme = "furo"
html_title = f"memchannel {version}"
html_static_path = ["_static"]
html_css_files = ["memchannel.css"]
html_copy_source = False
html_show_copyright = False


def leave_as_code(
    _app: Sphinx, _env: BuildEnvironment, node: nodes.Element, content: nodes.TextElement
) -> nodes.TextElement | None:
    """Show what is no public name of memchannel as code, without a link.

    That is a parameter, or something of another library, to whose pages a build without network cannot link.
    """
    target: str = node.get("reftarget", "")
    module, *names = target.split(".")
    public = module == "memchannel" and not any(name.startswith("_") for name in names)
    if public or target in memchannel.__all__:
        return None
    return content if node.get("refdomain") == "py" else None


def leave_out_private_bases(_app: Sphinx, _name: str, _obj: Any, _options: Any, bases: list[Any]) -> None:
    """Name the bases that somebody may catch."""
    bases[:] = [base for base in bases if not getattr(base, "__name__", "").startswith("_")]


def mend_signature(
    _app: Sphinx, what: str, _name: str, obj: Any, _options: Any, arguments: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Show types that nobody calls without parentheses, and all else as Sphinx read it.

    numpydoc would take the text signatures of C as they are, and show ``close($self, /)`` as ``close(/)``.
    """
    if what == "class" and obj.__name__ in {"ArrayView", "CrossInterpreterView", "StringView"}:
        return ("", None)
    return None if arguments is None else (arguments, returned)


def trim_examples(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Leave out the empty line that ends the output of an example for doctest."""
    source[0] = re.sub(r"\n\n```$", "\n```", source[0], flags=re.MULTILINE)


def insert_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the cells of a notebook, all but its title, where a page of the gallery names it."""
    if (found := re.search(r"<!-- cells: (\S+) -->", source[0])) is None:
        return
    path = (app.srcdir / page).parent / found[1]
    app.env.note_dependency(path, docname=page)
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"````ipython3\n{text}\n````")
    parts[0] = parts[0].partition("\n")[2]
    cells = re.sub(r"\]\((?:\.\./)*docs/", "](../", "\n\n".join(parts))
    cells = re.sub(r"\]\((?:\.\./)*(\w+)\.ipynb\)", r"](\1.md)", cells)
    source[0] = source[0].replace(found[0], cells)


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", trim_examples)
    app.connect("source-read", insert_notebook)
    app.connect("autodoc-process-bases", leave_out_private_bases)
    app.connect("missing-reference", leave_as_code)
    app.connect("autodoc-process-signature", mend_signature, priority=400)

"""What README.md and docs/ refer to is there: pages, public names, error messages, commands, files."""

from __future__ import annotations

import importlib
import json
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("gallery/*.md"))]
MODULES = ["memchannel", *(f"memchannel.{name}" for name in ("errors", "exceptions", "images"))]
MODULES += [f"memchannel.{name}" for name in ("interpreters", "statistics", "testing")]


# ---- tables of contents


def listed_pages() -> Iterator[str]:
    """Give what the toctrees of the index and of the reference list, globs among them."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.M | re.S):
        yield from (line for line in block.split() if not line.startswith(":"))
    block = (DOCS / "api" / "index.rst").read_text().partition(".. toctree::")[2]
    yield from (f"api/{name}" for name in re.findall(r"^   (\w[\w-]*)$", block, re.MULTILINE))


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = list(listed_pages())
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.*[dt]")} - {"index"}
    missing = [page for page in sorted(pages) if not any(fnmatchcase(page, entry) for entry in listed)]
    assert not missing, f"name these pages in a toctree of docs/index.md: {missing}"


def test_every_notebook_has_a_page_in_the_gallery() -> None:
    notebooks = [path for path in (CHECKOUT / "notebooks").rglob("*.ipynb") if ".ipynb_" not in str(path)]
    assert len(notebooks) >= 8
    for notebook in notebooks:
        page = (DOCS / "gallery" / f"{notebook.stem}.md").read_text()
        title = "".join(json.loads(notebook.read_text())["cells"][0]["source"]).splitlines()[0]
        assert page.splitlines()[0] == title
        assert f"\n<!-- cells: ../../{notebook.relative_to(CHECKOUT)} -->\n" in page


# ---- reference


def documented_names() -> Iterator[str]:
    """Give the full names that the directives of autodoc and of the domain describe in docs/api."""
    for page in sorted((DOCS / "api").glob("*.rst")):
        module = ""
        described = ""
        for line in page.read_text().splitlines():
            if found := re.match(r"\.\. (current|py:|auto)?module:: (\S+)", line):
                described = module = found[2]
            elif found := re.match(r"\.\. (?:auto|py:)\w+:: ([\w.]+)", line):
                name = found[1]
                described = name if name.startswith("memchannel.") else f"{module}.{name}"
                yield described
            elif found := re.match(r"   :members: (.+)", line):
                yield from (f"{described}.{name.strip()}" for name in found[1].split(","))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    described = set(documented_names())
    # What the extra `dask` is needed for is described by hand.
    located = (pydoc.locate(name) for name in described if ".dask." not in name)
    there = {id(found) for found in located if found is not None}
    public = importlib.import_module(module)
    missing = [
        name
        for name in public.__all__
        if f"{module}.{name}" not in described and id(getattr(public, name)) not in there
    ]
    assert not missing, f"add to a page of docs/api: {missing}"


# ---- error messages


def quoted_messages() -> list[tuple[str, str]]:
    """Give each message that troubleshooting quotes as a heading, and what the examples below it print."""
    sections = re.split(r"^##+ ", (DOCS / "troubleshooting.md").read_text(), flags=re.MULTILINE)
    found = []
    for section in sections:
        heading, _, body = section.partition("\n")
        if heading.startswith("`"):
            examples = "".join(re.findall(r"^```python\n(.*?)^```", body, re.MULTILINE | re.DOTALL))
            lines = (line for line in examples.splitlines() if not line.startswith((">>>", "...   ")))
            found.append((heading.strip("`"), "\n".join(lines)))
    return found


def texts_of_sources() -> str:
    """Join all sources, and the parts of strings that are written one after the other."""
    files = [*(CHECKOUT / "python").rglob("*.py"), *(CHECKOUT / "src").rglob("*.[ch]pp")]
    return re.sub(r'"\s*f?"', "", "\n".join(path.read_text() for path in files))


def parts(message: str) -> list[str]:
    return [part for one in message.split("...") if (part := one.strip(" :("))]


def test_quoted_messages_are_real() -> None:
    quoted, sources = quoted_messages(), texts_of_sources()
    assert len(quoted) > 30
    invented = [
        message
        for message, printed in quoted
        if not all(part in printed for part in parts(message))
        and not all(part in sources for part in parts(message))
    ]
    assert not invented, f"neither printed by their example nor in the sources: {invented}"


# ---- commands and files


def words_after(command: str) -> set[str]:
    """Give the words that follow a command in code: in backticks, and in blocks that are no Python."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```(?:console|sh|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for code in [*blocks, *re.findall(r"`([^`\n]+)`", text)]:
            found |= set(re.findall(rf"^{re.escape(command)} ([a-z][a-z-]*)", code, re.MULTILINE))
    return found


def test_commands_of_the_checkout_exist() -> None:
    usage = subprocess.run([CHECKOUT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  ([a-z][a-z-]*) ", usage, re.MULTILINE)) | {"help"}
    assert {"test", "docs"} <= words_after("./dev") <= known


def help_of(*command: str) -> str:
    asked = [sys.executable, "-m", "memchannel", *command, "--help"]
    plain = {**os.environ, "PYTHON_COLORS": "0"}
    return subprocess.run(asked, capture_output=True, text=True, check=True, env=plain).stdout


def test_commands_of_memchannel_exist() -> None:
    usage = help_of()
    known = set(re.findall(r"^ +([a-z][a-z-]*) ", usage, re.MULTILINE))
    assert {"map", "doctor"} <= words_after("memchannel") <= known


@pytest.mark.parametrize("command", ["map", "doctor", "demo", "bench"])
def test_help_on_the_page_of_the_command_line_is_what_it_says(command: str) -> None:
    page = (DOCS / "command-line.md").read_text()
    block = re.search(rf"^## memchannel {command}\n.*?^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    # Releases of Python break lines at other places.
    assert block[1].split() == help_of(command).split(), (
        f"paste what this prints: COLUMNS=100 memchannel {command} --help"
    )


def test_files_that_pages_name_exist() -> None:
    # channel-behaviours.md and packages.md name files of other projects.
    own = [page for page in PAGES if page.name not in {"channel-behaviours.md", "packages.md"}]
    text = "\n".join(re.sub(r"--report \S+", "", page.read_text()) for page in own)
    folders = "tests|benchmarks|src|docs|notebooks|python"
    named = set(re.findall(rf"`(?:python )?((?:{folders})/[\w./-]*\w)", text))
    missing = sorted(name for name in named if not (CHECKOUT / name).exists())
    assert len(named) > 20
    assert missing == []


def test_links_of_pages_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []

"""The examples of README.md, of docs/ and of docstrings, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
WITHOUT_EXAMPLES = {"changelog.md", "contributing.md"}
PAGES = [CHECKOUT / "README.md"]
PAGES += [page for page in sorted((CHECKOUT / "docs").glob("*.md")) if page.name not in WITHOUT_EXAMPLES]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = sorted(
    ".".join(path.relative_to(CHECKOUT / "python").with_suffix("").parts)
    for path in (CHECKOUT / "python").rglob("*.py")
    if ">>> " in path.read_text()
)


# Each in a process of its own: examples show counts of the whole process.
RUN = """
import doctest, importlib, sys
if sys.argv[1].endswith(".md"):
    failed, attempted = doctest.testfile(sys.argv[1], module_relative=False, optionflags=doctest.ELLIPSIS)
else:
    failed, attempted = doctest.testmod(importlib.import_module(sys.argv[1]))
sys.exit(failed or not attempted)
"""


def run_python(*arguments: str | Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page(page: Path, tmp_path: Path) -> None:
    """Each page is one session: what a block defines, the later ones use."""
    blocks = BLOCK.findall(page.read_text())
    assert blocks, "a page without an example"
    plain = [block for block in blocks if ">>> " not in block]
    if plain:
        script = tmp_path / "example.py"
        script.write_text("\n".join(plain))
        run_python(script, folder=tmp_path)
    if len(plain) < len(blocks):
        run_python("-c", RUN, page, folder=tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str, tmp_path: Path) -> None:
    run_python("-c", RUN, name.removesuffix(".__init__"), folder=tmp_path)

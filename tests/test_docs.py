"""The examples of README.md, of docs/ and of docstrings, run as they stand there."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = sorted(
    ".".join(path.relative_to(CHECKOUT / "python").with_suffix("").parts)
    for path in (CHECKOUT / "python").rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page(page: Path, tmp_path: Path) -> None:
    """Each page is one session: what a block defines, the later ones use."""
    text = page.read_text()
    blocks = BLOCK.findall(text)
    assert blocks, "a page without an example"
    plain = [block for block in blocks if ">>> " not in block]
    if plain:
        script = tmp_path / "example.py"
        script.write_text("\n".join(plain))
        done = subprocess.run(
            [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
    if len(plain) < len(blocks):
        failed, attempted = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
        assert failed == 0
        assert attempted > 0


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert failed == 0
    assert attempted > 0

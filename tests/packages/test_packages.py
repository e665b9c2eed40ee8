"""Every package of the table, used in two interpreters of a child process.

The packages are those of the extra `packages`; all must be installed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memchannel import images
from memchannel.images._packages import PACKAGES

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "packages.md"
USABLE = sorted(name for name, package in PACKAGES.items() if not package.refused)


@pytest.mark.slow
@pytest.mark.parametrize("name", USABLE)
def test_package(name: str) -> None:
    result = images.probe(name, timeout=280)
    assert result.ok, f"{result.reason}\n{result.output}"
    assert result.checked
    assert result.images or name in {"dask", "xarray"}, (
        "it has extension modules of its own or of what it uses"
    )


def test_the_table_in_the_documentation_is_complete() -> None:
    rows = re.findall(
        r"^\| `(\w+)`(?: \((\S+)\))? \| (works|limit|refused)\b", DOCUMENT.read_text(), re.MULTILINE
    )
    table = {name: (distribution or name, state) for name, distribution, state in rows}
    expected = {
        name: (package.distribution, "refused" if package.refused else "limit" if package.limit else "works")
        for name, package in PACKAGES.items()
    }
    assert table == expected

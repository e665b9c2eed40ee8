"""docs/channel-behaviours.md: what it says of the tests here is so."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
LIST = TESTS.parent / "docs" / "channel-behaviours.md"
ROW = re.compile(r"^\| (?P<behaviour>.+?) \| (?P<sources>.+?) \| (?P<here>.+) \|$", re.MULTILINE)
# One test of a source: a line of a file, or a name in, or a file without lines.
SOURCE = re.compile(r"(?P<file>[\w./]+\.(?:rs|py|go))(?::(?P<lines>\d+(?:,\d+)*))?")


def rows() -> list[re.Match[str]]:
    """Find the rows of all tables, without their headings."""
    return [row for row in ROW.finditer(LIST.read_text()) if row["behaviour"] != "behaviour"]


def sources(row: re.Match[str]) -> list[str]:
    """List the tests of other projects that a row names."""
    found = []
    for entry in row["sources"].split("; "):
        name = re.match(r"`(\w+)` ", entry)
        for source in SOURCE.finditer(entry):
            lines = (source["lines"] or (name[1] if name else "")).split(",")
            found += [f"{source['file']}:{line}" for line in lines]
    return found


def test_named_tests_exist() -> None:
    named = {match for row in rows() for match in re.findall(r"`(test_\w+\.py)::(\w+)`", row["here"])}
    assert len(named) > 50, "the list is read"
    for file in {file for file, _ in named}:
        functions = {
            node.name
            for node in ast.walk(ast.parse((TESTS / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert {name for one, name in named if one == file} <= functions, file


def test_each_behaviour_holds_or_says_why_not() -> None:
    for row in rows():
        if row["here"].startswith("**Differs**: "):
            assert re.search(r"`[\w-]+(/[\w-]+)+\.\w+:\d+`", row["here"]), f"{row['behaviour']}: no line"
        else:
            assert re.fullmatch(r"`test_\w+\.py::test_\w+`(, `test_\w+\.py::test_\w+`)*", row["here"]), row[0]


def test_at_most_one_in_ten_differs() -> None:
    named = [(source, row["here"].startswith("**Differs**")) for row in rows() for source in sources(row)]
    repeated = [source for source, count in Counter(source for source, _ in named).items() if count > 1]
    assert repeated == []
    different = sum(differs for _, differs in named)
    assert different * 10 <= len(named)
    stated = re.search(r"(\d+) in all, of which (\d+) differ here", LIST.read_text().replace("\n", " "))
    assert stated
    assert (int(stated[1]), int(stated[2])) == (len(named), different)

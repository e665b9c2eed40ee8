"""Tables in the docs that a run writes, as of what happens to each kind of array (docs/arrays.md).

With MEMCHANNEL_WRITE_TABLES=1 in the environment a test that makes a table writes it instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import memchannel

DOCUMENT = Path(__file__).parent.parent / "docs" / "arrays.md"


def elements(obj: Any) -> Any:
    """Return an array over what an object exports, or a copy if it gives none."""
    if isinstance(obj, np.ndarray):
        return obj
    data = getattr(getattr(obj, "array", None), "_data", None)  # of a nullable column of pandas
    if isinstance(data, np.ndarray):
        return data
    try:
        return np.asarray(memoryview(obj))
    except TypeError:
        exports = hasattr(obj, "__array_interface__") or hasattr(obj, "__array__")
        return np.asarray(obj) if exports else np.from_dlpack(obj)


def outcome(channel: Any, obj: Any) -> str:
    """Send an object to ourselves; say by address and by the count of copied bytes what happened."""
    copied = memchannel.stats().bytes_copied
    try:
        channel.send(obj)
    except (TypeError, BufferError) as exc:
        return f"refused ({type(exc).__name__})"
    got = channel.recv()
    copied = memchannel.stats().bytes_copied - copied
    place = elements(obj)  # kept, so that no copy can be made where it was
    if isinstance(got, memchannel.CrossInterpreterView):
        with got:
            where: Any = got.obj
            where = where.address
    else:
        where = elements(got).__array_interface__["data"][0]
    same = where == place.__array_interface__["data"][0]
    if isinstance(got, np.ma.MaskedArray) and copied:
        return f"zero copy, mask copied ({type(got).__name__})"
    return f"{'zero copy' if same and not copied else 'copy'} ({type(got).__name__})"


class Table:
    """The lines of the table of that name in a document, to be read and replaced."""

    def __init__(self, document: Path, name: str) -> None:
        self.document = document
        self._text = document.read_text(encoding="utf-8")
        match = re.search(rf"<!-- table: {name} -->\n\n(.*?)\n\n<!-- end -->", self._text, re.DOTALL)
        assert match is not None, f"{document} has no table {name!r}"
        self._place = match.span(1)
        self.lines = match[1].splitlines()

    def write(self, lines: list[str]) -> None:
        """Replace the lines."""
        start, stop = self._place
        text = self._text[:start] + "\n".join(lines) + self._text[stop:]
        self.document.write_text(text, encoding="utf-8")


def check_table(name: str, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Compare outcomes, by row and column, with the table of that name in the document, or write it."""
    columns = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(cells[one] for one in columns)} |" for row, cells in rows.items()]
    table = Table(DOCUMENT, name)
    if os.environ.get("MEMCHANNEL_WRITE_TABLES"):
        table.write(lines)
    else:
        assert table.lines == lines, "run with MEMCHANNEL_WRITE_TABLES=1 to write what is so now"

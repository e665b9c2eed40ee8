"""Reports that scripts write: runs in a JSON file, and a Markdown page beside it that shows them."""

from __future__ import annotations

import datetime
import json
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from source_commit import source_commit

Run = dict[str, Any]
Added = Callable[[list[Run]], list[Run]]
"""Gives the runs of a report together with another one."""


def origin() -> Run:
    """Say with what a run is made: Python, commit, date. To be asked before it, as sources may change."""
    debug = " debug" if sysconfig.get_config_var("Py_DEBUG") else ""
    return {
        "python": f"CPython {sys.version.split()[0]}{debug}",
        "commit": source_commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def update_report(
    path: Path, added: Callable[[list[Run]], list[Run]], page: Callable[[list[Run]], str]
) -> None:
    """Add to the runs at `path`, without its suffix, and write both files."""
    data = path.with_suffix(".json")
    runs = added(json.loads(data.read_text()) if data.exists() else [])
    data.write_text(json.dumps(runs, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(runs))


def replacing(new: Run) -> Added:
    """Put the run of a Python in the place of the one before."""

    def added(runs: list[Run]) -> list[Run]:
        kept = [one for one in runs if one["python"] != new["python"]]
        return sorted([*kept, new], key=lambda one: str(one["python"]))

    return added


def table(columns: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """Write the lines of a Markdown table; `columns` with commas between them."""
    names = columns.split(", ")
    return [_row(names), "|" + "---|" * len(names), *map(_row, rows)]


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def told(run: Run) -> tuple[str, str, str]:
    """Give the first cells of a run's row: Python, commit, date."""
    return run["python"], run["commit"], run["date"]

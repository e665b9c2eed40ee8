"""Writes measured figures into docs/packages.md; run by itself, the table of packages.

    python tests/packages/figures.py                # try every package of the table, and write it
    python tests/packages/figures.py numpy scipy    # print the rows of some
    python tests/packages/figures.py --costs FILE   # write what memchannel bench images --json FILE measured

The document holds sections between `<!-- figures: NAME -->` and `<!-- end -->`. Scripts replace them, hands
do not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path

from memchannel import images
from memchannel.images._packages import PACKAGES, Package

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "packages.md"
SECTION = r"(<!-- figures: {} -->\n)(.*?)(<!-- end -->)"


def read(name: str) -> str:
    """Return the text of a section of the document."""
    match = re.search(SECTION.format(re.escape(name)), DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    if match is None:
        raise ValueError(f"{DOCUMENT} has no section of figures named {name!r}")
    return match[2]


def write(name: str, text: str) -> None:
    """Replace the text of a section of the document."""
    read(name)
    document = DOCUMENT.read_text(encoding="utf-8")
    new = re.sub(
        SECTION.format(re.escape(name)),
        lambda match: f"{match[1]}\n{text.strip()}\n\n{match[3]}",
        document,
        flags=re.DOTALL,
    )
    DOCUMENT.write_text(new, encoding="utf-8")


def put_rows(name: str, key: list[str], rows: list[list[str]]) -> None:
    """Replace a table's rows that begin with the cells of `key` by `key` and each of `rows`."""
    lines = read(name).strip().splitlines()
    start = f"| {' | '.join(key)} |"
    new = [f"{start} {' | '.join(row)} |" for row in rows]
    kept = sorted([line for line in lines[2:] if not line.startswith(start)] + new)
    write(name, "\n".join([*lines[:2], *kept]))


def build() -> str:
    """Return this Python's version, and that it is a debug build if it is one."""
    return platform.python_version() + (" (debug build)" if hasattr(sys, "gettotalrefcount") else "")


def machine() -> str:
    """Return where figures were measured, as the end of a sentence."""
    return f"CPython {build()}, {platform.system()} {platform.machine()}, {os.process_cpu_count()} processors"


def row(name: str, package: Package, result: images.ProbeResult) -> str:
    """Return a package's row of the table; a package that does not do what the table says is an error."""
    title = f"`{name}`" if package.distribution == name else f"`{name}` ({package.distribution})"
    if package.refused:
        return f"| {title} | refused | | | | | | {package.refused} |"
    if not (result.ok and result.checked):
        raise RuntimeError(f"{name}: {result.reason or 'no computation is known for it'}\n{result.output}")
    assert result.plain_seconds is not None
    assert result.second_seconds is not None
    assert result.private_bytes is not None
    cells = [
        title,
        "limit" if package.limit else "works",
        result.version or "",
        f"{result.plain_seconds * 1000:.0f}",
        f"{result.second_seconds * 1000:.0f}",
        f"{result.private_bytes / 2**20:.1f}",
        f"{result.mappings}",
        package.limit,
    ]
    return f"| {' | '.join(cells)} |"


def table(names: list[str]) -> str:
    """Try packages, twice, so that the second time finds all files in memory, and return the table."""
    rows = []
    for name in names:
        if not PACKAGES[name].refused:
            images.probe(name)
        rows.append(row(name, PACKAGES[name], images.probe(name)))
        print(rows[-1], flush=True)
    head = [
        "| package | state | version | plain import, ms | further import, ms | MiB written | mappings | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([f"Measured with {machine()}.", "", *head, *rows])


def costs(path: Path) -> str:
    """Return the table of the figures of `memchannel bench images`, alone or with others."""
    result = json.loads(path.read_text(encoding="utf-8"))
    about = result["machine"]
    debug = " (debug build)" if about["debug"] else ""
    lines = [
        f"Measured with CPython {about['python']}{debug}, NumPy {about['numpy']}, {about['system']}, "
        f"{about['cores']} processors; load before the run {about['load']}.",
        "",
        "| | | median | ratio | to reach |",
        "|---|---|---|---|---|",
    ]
    for figure in (one for one in result["figures"] if one["scenario"].startswith("images.")):
        value, unit = figure["median"], figure["unit"]
        shown = f"{value * 1000:.1f} ms" if unit == "s" else f"{value:,.1f} {unit}".rstrip()
        ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.2f}"
        reach = "" if figure["reach"] is None else f"{figure['reach']:,g}"
        lines.append(f"| {figure['name']} | {figure['side']} | {shown} | {ratio} | {reach} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="*", choices=[*PACKAGES, []])
    parser.add_argument("--costs", type=Path, metavar="FILE", help="write the table of costs from this")
    options = parser.parse_args()
    if options.costs is not None:
        write("costs", costs(options.costs))
        return
    names = options.packages
    text = table(names or list(PACKAGES))
    if not names:
        write("packages", text)


if __name__ == "__main__":
    main()

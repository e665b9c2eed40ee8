"""Tests that other libraries ship, run with a few edits in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def edited(source: Path, edits: Mapping[str, str], optional: Mapping[str, str], target: Path) -> None:
    """Copy a file of tests; edits that find nothing fail unless they are optional."""
    text = source.read_text(encoding="utf-8")
    for pattern, new in {**edits, **optional}.items():
        text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
        assert count or pattern in optional, f"{source} has no {pattern} any more"
    target.write_text(text, encoding="utf-8")


def outcomes(folder: Path, *arguments: str) -> tuple[set[str], set[str], str]:
    """Run pytest there; give the names of what passed and of what did not, and its report."""
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"^(PASSED|FAILED|ERROR) \w+\.py::(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    passed = {name for outcome, name in found if outcome == "PASSED"}
    return passed, {name for outcome, name in found if outcome != "PASSED"}, done.stdout + done.stderr

"""Some random interleavings of imports, computations and closes; docs/packages.md has the figures of more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "packages" / "interleavings.py"


def interleave(first: int, count: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--first", str(first), "--count", str(count)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@pytest.mark.parametrize("first", [0, 3, 6, 9])
def test_interpreters_import_compute_and_close_in_any_order(first: int) -> None:
    done = interleave(first, 3)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.match(r"3 programs, 0 failed: ", done.stdout)

"""A sample of NumPy's own tests inside isolated interpreters; docs/packages.md has the figures of all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "packages" / "suite.py"
CORE = "numpy._core.tests"


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_what_passes_in_the_main_interpreter_passes_in_two_others_at_once() -> None:
    groups = [
        f"{CORE}.test_casting_unittests,{CORE}.test_regression,numpy.fft",
        f"{CORE}.test_ufunc,{CORE}.test_errstate,{CORE}.test_indexing",
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--at-once", *groups],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    counts = [int(number) for number in re.findall(r": (\d+) tests in", done.stdout)]
    assert len(counts) == 2
    assert counts[0] == counts[1] > 2000

"""Running the command line, in this process and as a user does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memchannel
from memchannel.cli import main


def files() -> set[str]:
    return {path.name for path in Path().iterdir() if path.name != "__pycache__"}


def fails(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str) -> None:
    """Run the command line, which must end with `status`, one line of error, and no new file."""
    before = files()
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith(f"memchannel {arguments[0]}: error: ")
    assert re.search(message, last), last
    if status == 2:
        assert len(err.splitlines()) == 1
    assert files() == before


def run_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memchannel", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=child_environment(),
        **options,
    )


def child_environment() -> dict[str, str]:
    """The children find memchannel where this process found it."""
    package = str(Path(memchannel.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

"""Which sources a report was written from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def source_commit() -> str:
    """Name the commit; MEMCHANNEL_COMMIT does where there is no git, as in root folders."""
    if given := os.environ.get("MEMCHANNEL_COMMIT"):
        return given
    here = str(Path(__file__).parent)
    git = ["git", "-c", "safe.directory=*", "-C", here]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

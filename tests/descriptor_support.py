"""What the tests of files and sockets in messages share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import memchannel
from channel_support import wait_until


def descriptors_of(target: Any) -> int:
    """Count this process's descriptors of a file (path), or of what an open descriptor is one of (int)."""
    wanted = os.stat(target)
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(int(name))
        except OSError:  # that of the listing itself
            continue
        count += (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
    return count


@contextmanager
def none_left(path: Path) -> Iterator[None]:
    """Check that a file is open nowhere in the process, nor any descriptor on its way."""
    before = memchannel.stats().descriptors
    yield
    gc.collect()
    wait_until(lambda: descriptors_of(path) == 0, f"closing all descriptors of {path}")
    assert memchannel.stats().descriptors == before

"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(
    path: Path, ending: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
) -> Iterator[Path]:
    """Give a temporary file that becomes `path` if the block ends well, and vanishes if it does not.

    The temporary file stands in the same directory: only there is `os.replace` atomic. Its name does not grow
    with that of `path`, which may be as long as a name can be.

    Parameters
    ----------
    path : Path
        A regular file, which keeps its permissions, or nothing yet.
    ending : callable, optional
        Makes what surrounds the last step, in which the file gets its name.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield temporary
        with ending():
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, temporary)
            _write_through(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_through(path: Path) -> None:
    """Have the content on the disk before the name is: a power failure leaves the old file or the new one."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

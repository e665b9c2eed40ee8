"""What the commands share: how they fail, how they write files, how they print figures."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

FAILURE = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports


class CommandError(Exception):
    """Ends the command with one line on stderr.

    Parameters
    ----------
    message : str
        What was wrong, with which value, and what to do.
    status : int
        Exit status: `USAGE` when the command line or the input is wrong, `FAILURE` when the work failed.
    """

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


def positive_int(text: str) -> int:
    """Parse an integer above zero, for argparse."""
    return _int_from(text, 1)


def natural_int(text: str) -> int:
    """Parse an integer from zero on, for argparse."""
    return _int_from(text, 0)


def _int_from(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return value


def default_workers() -> int:
    """How many interpreters a pool starts if not told: one for each CPU that this process may use."""
    return os.process_cpu_count() or 1


def check_destination(path: Path) -> None:
    """Refuse a file that could not be written, before hours of work are spent on it.

    Raises
    ------
    CommandError
        `path` is a directory, or its directory is missing or not writable.
    """
    folder = path.parent
    if path.is_dir():
        raise CommandError(f"cannot write {str(path)!r}: it is a directory; name a file in it")
    if not folder.is_dir():
        raise CommandError(
            f"cannot write {str(path)!r}: there is no directory {str(folder)!r}; make it first"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"cannot write {str(path)!r}: no permission to make files in {str(folder)!r}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file that becomes `path` if the block ends well, and vanishes if it does not.

    The temporary file stands in the same directory: only there is `os.replace` atomic.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def format_bytes(count: float) -> str:
    """Print a number of bytes with three digits and a decimal unit: ``"123 MB"``."""
    if abs(count) < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} TB"


def print_table(rows: list[tuple[str, str]]) -> None:
    """Print labels and values in two columns on stdout."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label:<{width}}  {value}".rstrip())

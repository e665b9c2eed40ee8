"""What the commands share: how they fail, how they write files, how they print figures."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from memchannel import _files

FAILURE = 1
USAGE = 2
SIGNALLED = 128  # and the number of the signal, what a shell reports
INTERRUPTED = SIGNALLED + signal.SIGINT
OUTPUT_CLOSED = SIGNALLED + signal.SIGPIPE


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


def worker_count(text: str) -> int:
    """Parse a number of interpreters, for argparse."""
    count = positive_int(text)
    most = _most_threads()
    if count > most:
        raise argparse.ArgumentTypeError(
            f"{text!r} interpreters need a thread each, and this system has at most {most}"
        )
    return count


def _most_threads() -> int:
    """Read how many threads Linux can tell apart; 2^22 at most (include/linux/threads.h, PID_MAX_LIMIT)."""
    try:
        return int(Path("/proc/sys/kernel/pid_max").read_text())
    except (OSError, ValueError):
        return 1 << 22


def default_workers() -> int:
    """How many interpreters a pool starts if not told: one for each CPU that this process may use."""
    return os.process_cpu_count() or 1


def check_destination(path: Path) -> Path:
    """Refuse a file that could not be written, before hours of work are spent on it.

    Returns
    -------
    Path
        The file itself, where `path` is a symbolic link: the link stays.

    Raises
    ------
    CommandError
        `path` is no regular file, is read-only, or is where the command's own text goes; or its directory is
        missing or not writable.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        status = None
    except (OSError, ValueError) as error:
        raise _unwritable(path, getattr(error, "strerror", None) or str(error)) from error
    target = Path(os.path.realpath(path))
    if status is not None:
        _check_replaceable(path, status)
    folder = target.parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise _unwritable(path, f"there is no directory {str(folder)!r}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission to make files in {str(folder)!r}")
    return target


_KINDS = {
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def kind_of_file(status: os.stat_result) -> str:
    """Name the kind of what is there and no regular file."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")


def _check_replaceable(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _unwritable(path, "it is a directory; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise _unwritable(path, f"it is {kind_of_file(status)}; name a regular file")
    for descriptor, name in ((1, "output"), (2, "error")):
        with contextlib.suppress(OSError):  # closed
            if os.path.samestat(os.fstat(descriptor), status):
                raise _unwritable(path, f"standard {name} goes there; name another file")
    if not os.access(path, os.W_OK):
        raise _unwritable(path, "it is read-only; make it writable, or remove it")


def _unwritable(path: Path, why: str, status: int = USAGE) -> CommandError:
    return CommandError(f"cannot write {str(path)!r}: {why}", status)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a `CommandError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error), FAILURE) from error


def replacing(path: Path) -> contextlib.AbstractContextManager[Path]:
    """Give a temporary file that becomes `path`, see `memchannel._files.replacing`.

    Parameters
    ----------
    path : Path
        As `check_destination` returned it.
    """
    return _files.replacing(path, lambda: writing(path))


class OutputClosedError(Exception):
    """Whoever read standard output does not read any more."""


def say(text: object = "") -> None:
    """Print a line on standard output.

    Raises
    ------
    OutputClosedError
        It is a pipe that nobody reads.
    CommandError
        It cannot be written, e.g. because the disk is full.
    """
    with telling():
        print(text, flush=True)


def complain(text: str) -> None:
    """Print a line on standard error, if there is one and it can be written: the status tells anyway."""
    if sys.stderr is not None:  # print() would take standard output
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Turn what writing to standard output raises into what ends the command."""
    try:
        yield
    except BrokenPipeError as error:
        _discard_output()
        raise OutputClosedError from error
    except OSError as error:
        _discard_output()
        raise CommandError(f"cannot write to standard output: {error.strerror}", FAILURE) from error


def _discard_output() -> None:
    """Let the interpreter's last flush succeed, which would complain once more (library/signal.html)."""
    with contextlib.suppress(OSError):  # not a file of the system
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


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
        say(f"{label:<{width}}  {value}".rstrip())

"""The command line: ``memchannel`` or ``python -m memchannel``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import memchannel
from memchannel.cli import _bench, _demo, _doctor, _map, _signals
from memchannel.cli._colours import painted
from memchannel.cli._common import (
    INTERRUPTED,
    OUTPUT_CLOSED,
    SIGNALLED,
    CommandError,
    OutputClosedError,
    complain,
    telling,
)

__all__ = ["main"]

DESCRIPTION = (
    "Run a Python function over one array in several interpreters of one process, without copying it."
)

EPILOG = """\
examples:
  memchannel map heights.npy numpy:median                  the median of each block
  memchannel map heights.npy filters:smooth -o out.npy     smooth() in ./filters.py, into a file
  memchannel demo                                          a real job, serially and in parallel
  memchannel doctor scipy                                  whether SciPy works in interpreters here

memchannel COMMAND --help tells more. The exit status is 0; 1 when the work failed; 2 when the command line or
its input is wrong; 130 after Ctrl-C; 128 and its number after another signal.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0, 1 when the work failed, 2 when the command line or its input is wrong,
        130 after Ctrl-C, 129 and 143 after SIGHUP and SIGTERM, 141 when nobody reads the output any more.

    Raises
    ------
    SystemExit
        The arguments cannot be parsed (status 2), or ask for help or the version (status 0).
    """
    name = "memchannel"
    try:
        args = _parser().parse_args(argv)
        name = f"memchannel {args.command}"
        with _signals.raised():
            status: int = args.run(args)
    except CommandError as error:
        complain(f"{name}: {painted('error:', 'bad', sys.stderr)} {error}")
        return error.status
    except OutputClosedError:
        return OUTPUT_CLOSED
    except _signals.EndedBySignal as ended:
        complain(f"{name}: {_signals.WORDS[ended.number]}")
        return SIGNALLED + ended.number
    except KeyboardInterrupt:
        complain(f"{name}: interrupted")
        return INTERRUPTED
    return status


class _Parser(argparse.ArgumentParser):
    """Help and version that cannot be written end the command like all its output; argparse ignores it."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
            return
        with telling():
            file.write(message)
            file.flush()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="memchannel",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"memchannel {memchannel.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (_map, _demo, _bench, _doctor):
        command.add_parser(commands)
    return parser

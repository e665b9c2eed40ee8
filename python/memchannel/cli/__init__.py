"""The command line: ``memchannel`` or ``python -m memchannel``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import memchannel
from memchannel.cli import _demo, _doctor, _map
from memchannel.cli._common import INTERRUPTED, CommandError

__all__ = ["main"]

DESCRIPTION = (
    "Run a Python function over one array in several interpreters of one process, without copying it."
)


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
        130 after Ctrl-C.

    Raises
    ------
    SystemExit
        The arguments cannot be parsed (status 2), or ask for help or the version (status 0).
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except CommandError as error:
        print(f"memchannel {args.command}: error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"memchannel {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memchannel",
        description=DESCRIPTION,
        epilog="memchannel COMMAND --help tells more, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"memchannel {memchannel.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (_map, _demo, _doctor):
        command.add_parser(commands)
    return parser

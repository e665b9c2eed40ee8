"""Colours on terminals, and nowhere else."""

from __future__ import annotations

import os
from typing import TextIO

_CODES = {"good": "32", "bad": "1;31", "heading": "1"}  # ECMA-48, Select Graphic Rendition


def wanted(stream: TextIO | None) -> bool:
    """Whether text for the stream may be coloured.

    The variables and their order are CPython's (Lib/_colorize.py, can_colorize): ``PYTHON_COLORS``,
    ``NO_COLOR``, ``FORCE_COLOR``, ``TERM``, then whether the stream is a terminal.
    """
    asked = os.environ.get("PYTHON_COLORS")
    if asked in ("0", "1"):
        return asked == "1"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def painted(text: str, kind: str, stream: TextIO | None) -> str:
    """Give the text as it is to be written to the stream: coloured, if that is wanted.

    Parameters
    ----------
    kind : {"good", "bad", "heading"}
        What it stands for.
    """
    return f"\033[{_CODES[kind]}m{text}\033[0m" if wanted(stream) else text

"""Imports of libraries that come with an extra."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from typing import Any


def require(name: str, least: tuple[int, ...], *, extra: str) -> Any:
    """Import a library.

    Raises
    ------
    ImportError
        If it is not installed, or older than `least`: it names the extra.
    """
    wanted = f"{name} {'.'.join(map(str, least))} or newer is needed"
    mend = f"pip install --upgrade 'memchannel[{extra}]'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"{wanted} and not installed: {mend}", name=name) from None
    found = tuple(int(number) for number in re.findall(r"\d+", version)[: len(least)])
    if found < least:
        raise ImportError(f"{wanted}, and {version} is installed: {mend}", name=name)
    return importlib.import_module(name)

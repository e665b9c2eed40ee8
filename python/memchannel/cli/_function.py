"""``MODULE:FUNCTION`` on the command line -> the function."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from memchannel.cli._common import FAILURE, CommandError


def load_function(text: str) -> Callable[..., Any]:
    """Import ``MODULE`` and return its attribute ``FUNCTION`` (dots reach into classes and objects).

    The current directory is put in front of ``sys.path``, which the workers' interpreters take over.

    Raises
    ------
    CommandError
        The text has another form, the module cannot be found, its code raises (the traceback is printed),
        or it has no such function.
    """
    module_name, colon, path = text.partition(":")
    names = [*module_name.split("."), *path.split(".")]
    if not colon or module_name.endswith(".py") or not all(name.isidentifier() for name in names):
        raise CommandError(
            f"{text!r} names no function; write MODULE:FUNCTION with the module as in an import, "
            "e.g. numpy:median, or filters:smooth for smooth() in filters.py"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _import(module_name)
    for index, name in enumerate(path.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError:
            holder = ".".join([module_name, *path.split(".")[:index]])
            raise CommandError(f"{holder!r} has no {name!r}{_resembling(found, name)}") from None
    if not callable(found):
        raise CommandError(
            f"{text!r} is of type {type(found).__name__!r}, not a function; name one that takes a block"
        )
    function: Callable[..., Any] = found
    return function


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the named one imports is missing: the fault is in there, and shown as such.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            traceback.print_exc()
            raise CommandError(f"importing {name!r} failed: {error}", FAILURE) from error
        raise CommandError(
            f"there is no module {name!r} in {os.getcwd()!r} or elsewhere on sys.path; "
            "run the command where it is, or put its directory into PYTHONPATH"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        traceback.print_exc()
        raise CommandError(f"importing {name!r} failed: {type(error).__name__}: {error}", FAILURE) from error


def _resembling(holder: Any, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, dir(holder), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""

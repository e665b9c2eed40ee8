"""Checks of arguments: what is wrong is said with the parameter, the value and what is allowed."""

from __future__ import annotations

import math
import operator
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["checked_arguments", "checked_name", "checked_packages", "deadline", "integer"]


def integer(
    parameter: str, value: Any, *, least: int, rule: str = "", optional: bool = False, most: int = sys.maxsize
) -> int:
    """Return an integer of at least `least`; more than `most` is as good as that.

    Parameters
    ----------
    rule : str, optional
        The words for `least`, where the standard library has its own.
    optional : bool, optional
        Whether the caller takes None as well.

    Raises
    ------
    TypeError, ValueError
        It is none, or too small.
    """
    try:
        number = operator.index(value)
    except TypeError:
        kind = "an integer or None" if optional else "an integer"
        raise TypeError(f"{parameter} must be {kind}, not {value!r}") from None
    if number < least:
        raise ValueError(f"{parameter} must be {rule or f'>= {least}'}, not {number}")
    return min(number, most)


def deadline(parameter: str, seconds: Any) -> float | None:
    """Return when so many seconds are over, by `time.monotonic`; None for None.

    Raises
    ------
    TypeError, ValueError, OverflowError
        It is no number, nan, or more than can be waited for.
    """
    if seconds is None:
        return None
    try:
        end: float = time.monotonic() + seconds
        too_long = seconds > threading.TIMEOUT_MAX
    except TypeError:
        raise TypeError(f"{parameter} must be a number of seconds or None, not {seconds!r}") from None
    except OverflowError:  # an int that is no float
        too_long = seconds > 0
        end = 0.0
    if too_long:
        raise OverflowError(
            f"{parameter} must be at most {threading.TIMEOUT_MAX} seconds, not {seconds!r}; None is for ever"
        )
    if math.isnan(end):
        raise ValueError(f"{parameter} must be a number of seconds or None, not nan")
    return end


def checked_name(value: Any) -> str | None:
    """Return what can be the name of a channel and of threads; None for None.

    Raises
    ------
    TypeError, ValueError
        It is no text, or text that C cannot hold.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"name must be a str or None, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"name must have no lone surrogates, unlike {value!r}") from None
    if "\0" in value:
        raise ValueError(f"name must have no null characters, unlike {value!r}")
    return value


def checked_packages(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Return names of packages; whether there are such is asked when they are needed.

    Raises
    ------
    TypeError, ValueError
        One is no name of a package.
    """
    from memchannel import images

    for name in names:
        images._check_name(name)
    return names


def checked_arguments(parameter: str, value: Any, function: Callable[..., Any] | None) -> tuple[Any, ...]:
    """Return the arguments that a function, if there is one, is to be called with.

    Raises
    ------
    TypeError
        They cannot be iterated over.
    """
    if function is None:
        return ()
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{parameter} must be a tuple of arguments, not {value!r}") from None

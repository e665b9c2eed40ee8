"""At the end of the process: what daemon threads still run in other interpreters is stopped.

CPython crashes when it ends while a daemon thread runs Python code in another interpreter.
"""

from __future__ import annotations

import _interpreters
import contextlib
import enum
import functools
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from memchannel import _core
from memchannel._leftover import leftover_threads

__all__ = ["hold_up_daemons", "hold_up_from_now_on", "stop_running"]

LIMIT = 1.0
"""Seconds after which the process ends all the same: C calls and others' waits, `time.sleep`, go on."""

AGAIN = 0.25
"""Seconds after which it is raised once more, so that most of what cleans up is left in peace."""

_ending_processes: set[int] = set()
"""This one, if it ends: a child that is forked now does not."""
_rounds = itertools.count(1)
_this_thread = threading.local()


def _runs_or_ends(number: int) -> bool:
    if _interpreters.is_running(number) or _core._is_ending(number):
        return True
    return bool(leftover_threads(number, pauses=(0,)))


class _Use(enum.Enum):
    NONE = 0
    RUN = 1
    MAKING = 2
    """Or closing."""


def _use(number: int) -> _Use:
    try:
        # Nobody closes it by way of memchannel while it is looked into.
        runs = _core._closing(number, functools.partial(_runs_or_ends, number))
    except _interpreters.InterpreterError:  # it has ended; or it runs after all
        with contextlib.suppress(_interpreters.InterpreterError):
            return _Use.RUN if _interpreters.is_running(number) else _Use.NONE
        return _Use.NONE
    except RuntimeError:  # another thread is at it
        return _Use.MAKING
    return _Use.RUN if runs else _Use.NONE


def _those_in_use(numbers: Collection[int]) -> dict[int, _Use]:
    return _core._without_drops(
        lambda: {number: use for number in numbers if (use := _use(number)) is not _Use.NONE}
    )


def hold_up_from_now_on() -> None:
    """Begin to hold up daemon threads, and to keep quiet what they raise as things are taken from them.

    CPython, too, prints nothing of them once the main interpreter is torn down (Lib/threading.py,
    Thread._bootstrap).
    """
    _ending_processes.add(os.getpid())
    threading.excepthook = functools.partial(_tell_unless_ending, threading.excepthook)


def _ends() -> bool:
    return bool(_ending_processes) and os.getpid() in _ending_processes


def _tell_unless_ending(hook: Callable[[threading.ExceptHookArgs], object], args: Any) -> None:
    if not (_ends() and args.thread is not None and args.thread.daemon):
        hook(args)


def stop_running(numbers: Collection[int]) -> Collection[int]:
    """Raise SystemExit in what runs in these interpreters, again if need be, and wait for its end.

    Returns those where it went on.
    """
    in_use = _those_in_use(numbers)  # this may take a second itself, where many threads take turns
    begin = time.monotonic()
    pause, times, number_of_round = 0.0001, 0, 0
    try:
        while in_use:
            passed = time.monotonic() - begin
            if passed > LIMIT:
                break
            if passed >= times * AGAIN:
                times += 1
                number_of_round = next(_rounds)
            for number, use in in_use.items():
                # CPython 3.13 aborts where one that was stopped amid its set-up is ended: rather wait.
                if use is _Use.RUN or passed > LIMIT / 2:
                    # Each time: it may have come to a thread that only visits.
                    _core._stop(number, number_of_round)
            time.sleep(pause)
            pause = min(2 * pause, 0.01)
            in_use = _those_in_use(in_use)
    finally:
        for number in numbers:
            _core._stop_no_more(number)
    return in_use.keys()


def hold_up_daemons() -> None:
    """End a daemon thread that goes into another interpreter, or comes back, while those are stopped.

    By SystemExit, so that it gives back what it has locked: callbacks of `atexit` may wait for that. If it
    goes on and comes again, it never returns: CPython, too, lets daemon threads never come back into an
    interpreter that is finalizing.
    """
    if not _ends():
        return
    thread = threading.current_thread()
    if not thread.daemon:
        return
    # In a thread that C code made SystemExit might end the process there and then.
    ends_by_exception = not isinstance(thread, threading._DummyThread)
    # On its way out it may come here from `finally` blocks.
    leaves = isinstance(sys.exception(), SystemExit)
    if ends_by_exception and (leaves or not getattr(_this_thread, "was_ended", False)):
        _this_thread.was_ended = True
        raise SystemExit
    threading.Event().wait()

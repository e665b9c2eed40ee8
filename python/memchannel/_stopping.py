"""At the end of the process: what daemon threads still run in other interpreters is stopped.

CPython crashes when it ends while a daemon thread runs Python code in another interpreter.
"""

from __future__ import annotations

import _interpreters
import contextlib
import functools
import itertools
import os
import threading
import time
from collections.abc import Collection

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


def _is_in_use(number: int) -> bool:
    try:
        # Nobody closes it by way of memchannel while it is looked into.
        return bool(_core._closing(number, functools.partial(_runs_or_ends, number)))
    except _interpreters.InterpreterError:  # it has ended; or it runs after all
        with contextlib.suppress(_interpreters.InterpreterError):
            return bool(_interpreters.is_running(number))
        return False
    except RuntimeError:  # another thread makes or closes it
        return True


def _those_in_use(numbers: Collection[int]) -> list[int]:
    return _core._without_drops(lambda: [number for number in numbers if _is_in_use(number)])


def hold_up_from_now_on() -> None:
    """Begin to hold up daemon threads."""
    _ending_processes.add(os.getpid())


def stop_running(numbers: Collection[int]) -> None:
    """Raise SystemExit in what runs in these interpreters, again if need be, and wait for its end."""
    begin = time.monotonic()
    left, pause, times, number_of_round = list(numbers), 0.0001, 0, 0
    try:
        while left := _those_in_use(left):
            passed = time.monotonic() - begin
            if passed > LIMIT:
                break
            if passed >= times * AGAIN:
                times += 1
                number_of_round = next(_rounds)
            for number in left:  # each time: it may have come to a thread that only visits
                _core._stop(number, number_of_round)
            time.sleep(pause)
            pause = min(2 * pause, 0.01)
    finally:
        for number in numbers:
            _core._stop_no_more(number)


def hold_up_daemons() -> None:
    """End a daemon thread that goes into another interpreter, or comes back from one, while those are stopped.

    By SystemExit, so that it gives back what it has locked: callbacks of `atexit` may wait for that. If it comes
    again, it never returns: CPython, too, lets daemon threads never come back into an interpreter that is
    finalizing.
    """
    if not _ending_processes or os.getpid() not in _ending_processes:
        return
    thread = threading.current_thread()
    if not thread.daemon:
        return
    # In a thread that C code made SystemExit might end the process there and then.
    if not isinstance(thread, threading._DummyThread) and not getattr(_this_thread, "was_ended", False):
        _this_thread.was_ended = True
        raise SystemExit
    threading.Event().wait()

"""At the end of the process: what daemon threads still run in other interpreters is stopped.

CPython crashes when it ends while a daemon thread runs Python code in another interpreter.
"""

from __future__ import annotations

import _interpreters
import contextlib
import threading
import time
from collections.abc import Collection

from memchannel import _core
from memchannel._leftover import leftover_threads

__all__ = ["hold_up_daemons", "stop_running"]

LIMIT = 1.0
"""Seconds after which the process ends all the same: C calls and others' waits, `time.sleep`, go on."""

AGAIN = 0.25
"""Seconds after which it is raised once more, so that most of what cleans up is left in peace."""

_has_begun = threading.Event()


def _runs(number: int) -> bool:
    try:
        return _interpreters.is_running(number) or bool(leftover_threads(number, pauses=(0,)))
    except _interpreters.InterpreterError:  # it has ended; or it runs after all
        with contextlib.suppress(_interpreters.InterpreterError):
            return bool(_interpreters.is_running(number))
        return False


def stop_running(numbers: Collection[int]) -> None:
    """Raise SystemExit in what runs in these interpreters, again if need be, and wait for its end."""
    _has_begun.set()
    begin = time.monotonic()
    left, pause, times = list(numbers), 0.0001, 0
    try:
        while left := [number for number in left if _runs(number)]:
            passed = time.monotonic() - begin
            if passed > LIMIT:
                break
            if passed >= times * AGAIN:
                times += 1
                for number in left:
                    _core._stop(number)
            time.sleep(pause)
            pause = min(2 * pause, 0.01)
    finally:
        for number in numbers:
            _core._stop_no_more(number)


def hold_up_daemons() -> None:
    """Never return, in a daemon thread that comes back from another interpreter while that is stopped.

    CPython, too, lets daemon threads never come back into an interpreter that is finalizing.
    """
    if _has_begun.is_set() and threading.current_thread().daemon:
        threading.Event().wait()

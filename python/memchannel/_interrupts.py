"""Ctrl-C at a moment when it does no harm."""

from __future__ import annotations

import _interpreters
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["interrupts_deferred"]


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Deliver SIGINT at the end of the block, not amid it.

    CPython runs signal handlers between any two instructions of the main thread of the main interpreter
    (Python/ceval_gil.c, _Py_HandlePending), so KeyboardInterrupt may take away what a call has just returned.
    """
    handler = None
    # Elsewhere current_thread() makes an object for a thread of ours, which ends with noise (cpython#130522).
    if _is_main_interpreter() and threading.current_thread() is threading.main_thread():
        import signal  # late: new interpreters do without it

        handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # nobody is interrupted here, or somebody who does without Python
        yield
        return
    came: list[tuple[Any, ...]] = []

    def keep(*arguments: Any) -> None:
        came.append(arguments)

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        # A signal that came by now is served first, by keep() (Modules/signalmodule.c, signal_signal_impl).
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[-1])


def _is_main_interpreter() -> bool:
    return bool(_interpreters.get_current()[0] == _interpreters.get_main()[0])

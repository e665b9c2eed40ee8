"""Ctrl-C at a moment when it does no harm."""

from __future__ import annotations

import _interpreters
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["interrupts_deferred"]


@contextlib.contextmanager
def interrupts_deferred(*, others: bool = False) -> Iterator[None]:
    """Deliver SIGINT at the end of the block, not amid it; and `others` that have a handler, too.

    CPython runs signal handlers between any two instructions of the main thread of the main interpreter
    (Python/ceval_gil.c, _Py_HandlePending), so KeyboardInterrupt may take away what a call has just returned.
    """
    # Elsewhere current_thread() makes an object for a thread of ours, which ends with noise (cpython#130522).
    if not (_is_main_interpreter() and threading.current_thread() is threading.main_thread()):
        yield
        return
    import signal  # late: new interpreters do without it

    handlers: dict[int, Any] = {}
    for number in signal.valid_signals() if others else {signal.SIGINT}:
        # Not SIG_DFL, nor somebody's who does without Python.
        if callable(handler := signal.getsignal(number)):
            handlers[number] = handler
    came: dict[int, tuple[Any, ...]] = {}

    def keep(*arguments: Any) -> None:
        came[arguments[0]] = arguments

    def deliver(number: int) -> None:
        # A signal that came by now is served first, by keep() (Modules/signalmodule.c, signal_signal_impl).
        signal.signal(number, handlers[number])
        if number in came:
            handlers[number](*came[number])

    with contextlib.ExitStack() as stack:  # whatever a handler raises, the others come to their turn
        for handled in handlers:
            stack.callback(deliver, handled)
            signal.signal(handled, keep)
        yield


def _is_main_interpreter() -> bool:
    return bool(_interpreters.get_current()[0] == _interpreters.get_main()[0])

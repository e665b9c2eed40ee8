"""Signals that end the process end a command as Ctrl-C does: cleanly."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

WORDS = {signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal is gone"}


class EndedBySignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP came.

    A KeyboardInterrupt, so that whatever waits, runs in other interpreters or is half written is dealt with
    as after Ctrl-C.

    Attributes
    ----------
    number : int
        Which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Raise `EndedBySignal` in the block when such a signal comes; a second one ends the process at once.

    A signal that somebody ignores (``nohup``) or handles stays theirs.
    """
    former: list[signal.Signals] = []

    def give_back() -> None:
        while former:
            signal.signal(former.pop(), signal.SIG_DFL)

    def end(number: int, frame: FrameType | None) -> None:
        give_back()
        raise EndedBySignal(number)

    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(ValueError):  # in another interpreter there are no handlers
            for number in WORDS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, end)
                    former.append(number)
    try:
        yield
    finally:
        give_back()

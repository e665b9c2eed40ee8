"""Steps with handles: interpreters are listed while others end, forgotten, and closed by two threads."""

from __future__ import annotations

import _interpreters
import contextlib
import threading

from registry import State, operation

from memchannel import interpreters
from memchannel.interpreters import Interpreter


def _list(times: int) -> None:
    for _ in range(times):
        interpreters.list_all()


@operation("list")
def _list_in_thread(state: State, a: int, b: int) -> None:
    thread = threading.Thread(target=_list, args=(1 + b % 300,))
    state.threads.append(thread)
    thread.start()


@operation("list in")
def _list_in(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        source = f"from memchannel import interpreters\nfor _ in range({b % 30}): interpreters.list_all()"
        interpreters.run(other, source).check()


@operation("forget")
def _forget(state: State, a: int, b: int) -> None:
    if not state.others:
        return
    handles = [state.others.pop(a % len(state.others))]
    state.forgotten.add(handles[0].id)
    if b % 2:  # and the last one goes in a thread
        thread = threading.Thread(target=handles.clear)
        state.threads.append(thread)
        thread.start()


def _close(other: Interpreter) -> None:
    # Views are out, or the other thread closes it, or has closed it.
    with contextlib.suppress(BufferError, RuntimeError, _interpreters.InterpreterError):
        interpreters.close(other)


@operation("close twice")
def _close_twice(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        threads = [threading.Thread(target=_close, args=(other,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if other.id not in {one.id for one in interpreters.list_all()}:
            state.others.remove(other)

"""Sends and receives in asyncio: coroutines over `_core.AsyncCall` and one event descriptor per loop.

A call that has to wait stands in the channel's line like any other. Whoever settles it writes to the event
descriptor of its loop, unless the loop has been told and has not looked yet; the loop, which watches the
descriptor among its other ones, completes the future that the coroutine awaits. Only then, back in the
coroutine, the message is taken out of the channel: a call that is cancelled at any time before has taken
nothing.

Waking a loop on another core costs some ten times a turn of it. So where answers have come soon of late
(`src/core/spin.hpp`), the call, already in line, first lets the loop turn once and then looks for its message
for up to 20 us, unless the loop has something else to do.

A call that need not wait does not wait, as in asyncio's own queues. But another thread may fill or empty the
channel: a task that is always served at once would keep its loop from timers and cancellation for ever, so it
gives the loop a turn now and then (the cooperative budget of Rust's tokio).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import types
import weakref
from collections.abc import Generator
from typing import Any

from memchannel import _core
from memchannel.errors import EndOfChannel

_making = threading.RLock()  # each thread may run a loop

os.register_at_fork(after_in_child=_making._at_fork_reinit)  # type: ignore[attr-defined]

_NOTHING = object()

# True once in so many calls: time to see whose they are. A prime, so that loops of several threads that take
# turns are all seen. A cycle, since a message that is there costs little more than a count in Python.
_time_to_see = itertools.cycle([False] * 126 + [True]).__next__
_seen: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


class _SignalWatch:
    """Ctrl-C for a loop on the main thread, but in a subinterpreter.

    CPython runs signal handlers in the main interpreter only, and the loop's own wait does not know of ours.
    So while something waits in the loop, the C handler writes to a pipe of the loop's, which then visits the
    main interpreter; the KeyboardInterrupt of the handlers there leaves the loop as it would leave any code.
    """

    def __init__(self) -> None:
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # while there are users: the loop's table is weak
        self._pipe = (-1, -1)
        self._previous = -1

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._users == 0:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # may fail: there is nothing to stop yet
        self._users += 1
        if self._users == 1:
            try:
                self._loop = loop
                self._previous = _core._set_wakeup_fd(self._pipe[1])
                loop.add_reader(self._pipe[0], self._serve)
                _core._serve_signals()  # those that came before
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        self._users -= 1
        if self._users == 0 and self._loop is not None:
            _core._set_wakeup_fd(self._previous)
            if not self._loop.is_closed():
                self._loop.remove_reader(self._pipe[0])
            for fd in self._pipe:
                os.close(fd)
            self._loop = None

    def _serve(self) -> None:
        os.read(self._pipe[0], 4096)
        _core._serve_signals()


class _LoopState:
    """What an event loop needs for calls that wait in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.notifier = _core.Notifier()
        self.signals = _SignalWatch() if _core._signals_are_elsewhere() else None
        # The callbacks of the next turn (Lib/asyncio/base_events.py, BaseEventLoop._ready). asyncio does not
        # promise them: a loop without them never looks, and none that serves signals by _SignalWatch does.
        # Only whether there are any: they lead to the loop, which the table of states must not keep.
        self.looks = self.signals is None and hasattr(loop, "_ready")
        loop.add_reader(self.notifier.fileno(), _deliver, self.notifier)


_states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = weakref.WeakKeyDictionary()


def _deliver(notifier: _core.Notifier) -> None:
    for future in notifier.drain():
        if not future.done():
            future.set_result(None)


def _state_of(loop: asyncio.AbstractEventLoop) -> _LoopState:
    state = _states.get(loop)
    if state is None:
        with _making:
            # Loops have no hook for their end: descriptors of closed ones go when the next one comes.
            for other in [other for other in _states if other.is_closed()]:
                del _states[other]
            state = _states[loop] = _LoopState(loop)
    return state


@types.coroutine
def _turn() -> Generator[None]:
    """Let the loop do what is ready, once."""
    yield


async def _give_way() -> None:
    """Let the loop turn, before anything is taken, if the running task was seen before."""
    task = asyncio.current_task()
    if task in _seen:
        await _turn()
    elif task is not None:
        _seen.add(task)


async def _settled(call: _core.AsyncCall, loop: asyncio.AbstractEventLoop, state: _LoopState) -> None:
    """Wait until the call can be finished."""
    if not call.start():
        return
    try:
        if state.looks and call.may_be_soon():
            await _turn()
            if call.look(not loop._ready):  # type: ignore[attr-defined]
                return
        future = loop.create_future()
        if not call.wait(future):
            return
        if state.signals is not None:
            state.signals.start(loop)
        try:
            await future
        finally:
            if state.signals is not None:
                state.signals.stop()
    except BaseException:
        call.cancel()
        raise


async def _completed(end: _core._End, *arguments: Any, options: tuple[bool, ...] = ()) -> Any:
    loop = asyncio.get_running_loop()
    state = _state_of(loop)
    call = _core.AsyncCall(end, state.notifier, *arguments)
    while True:
        await _settled(call, loop, state)
        result = call.finish(*options)
        if result is not call:
            return result


async def recv_async(end: _core.RecvChannel[Any]) -> Any:
    """Receive the next message."""
    if _time_to_see():
        await _give_way()
    value = end.recv_nowait(_NOTHING)
    if value is not _NOTHING:
        return value
    return await _completed(end)


async def recv_async_as(end: _core.RecvChannel[Any], copy: bool, as_view: bool) -> Any:
    """Receive the next message with an option."""
    if _time_to_see():
        await _give_way()
    value = end.recv_nowait(_NOTHING, copy=copy, as_view=as_view)
    if value is not _NOTHING:
        return value
    return await _completed(end, options=(copy, as_view))


async def next_async(end: _core.RecvChannel[Any]) -> Any:
    """Receive the next message of an ``async for``."""
    if _time_to_see():
        await _give_way()
    try:
        value = end.recv_nowait(_NOTHING)
        return await _completed(end) if value is _NOTHING else value
    except EndOfChannel:
        raise StopAsyncIteration from None


async def send_async(end: _core.SendChannel[Any], obj: object, by_value: bool) -> None:
    """Send an object."""
    if _time_to_see():
        await _give_way()
    await _completed(end, obj, by_value)

"""Sends and receives in asyncio: coroutines over `_core.AsyncCall` and one event descriptor per loop.

A call that has to wait stands in the channel's line like any other. Whoever settles it writes to the event
descriptor of its loop, unless the loop has been told and has not looked yet; the loop, which watches the
descriptor among its other ones, completes the future that the coroutine awaits. Only then, back in the
coroutine, the message is taken out of the channel: a call that is cancelled at any time before has taken
nothing.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

from memchannel import _core
from memchannel.errors import EndOfChannel

_notifiers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _core.Notifier] = weakref.WeakKeyDictionary()
_making = threading.Lock()  # each thread may run a loop

_NOTHING = object()


def _deliver(notifier: _core.Notifier) -> None:
    for future in notifier.drain():
        if not future.done():
            future.set_result(None)


def _notifier_of(loop: asyncio.AbstractEventLoop) -> _core.Notifier:
    notifier = _notifiers.get(loop)
    if notifier is None:
        with _making:
            # Loops have no hook for their end: descriptors of closed ones go when the next one comes.
            for other in [other for other in _notifiers if other.is_closed()]:
                del _notifiers[other]
            notifier = _core.Notifier()
            loop.add_reader(notifier.fileno(), _deliver, notifier)
            _notifiers[loop] = notifier
    return notifier


async def _settled(call: _core.AsyncCall, loop: asyncio.AbstractEventLoop, *options: bool) -> Any:
    while True:
        future = loop.create_future()
        if call.start(future):
            try:
                await future
            except BaseException:
                call.cancel()
                raise
        result = call.finish(*options)
        if result is not call:
            return result


async def recv_async(end: _core.RecvChannel[Any], copy: bool, as_view: bool) -> Any:
    """Receive the next message."""
    value = end.recv_nowait(_NOTHING, copy=copy, as_view=as_view)
    if value is not _NOTHING:
        return value
    loop = asyncio.get_running_loop()
    return await _settled(_core.AsyncCall(end, _notifier_of(loop)), loop, copy, as_view)


async def next_async(end: _core.RecvChannel[Any]) -> Any:
    """Receive the next message of an ``async for``."""
    try:
        return await recv_async(end, False, False)
    except EndOfChannel:
        raise StopAsyncIteration from None


async def send_async(end: _core.SendChannel[Any], obj: object) -> None:
    """Send an object."""
    loop = asyncio.get_running_loop()
    await _settled(_core.AsyncCall(end, _notifier_of(loop), obj), loop)

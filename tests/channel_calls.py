"""Calls on channels that tests make in any interpreter: what they need imports without NumPy."""

from __future__ import annotations

import time
from typing import Any

from memchannel import Channel, EndOfChannel, MemChannel

_NOTHING = object()

type Event = tuple[float, float, Any]
"""When a call began, when it ended, and the message."""


def parcel(kind: type[Any], number: int) -> Any:
    """Make something with a number in it that this kind of channel takes."""
    if kind is MemChannel:
        return number.to_bytes(8, "little")
    if kind is Channel:
        return number
    import numpy as np

    return np.array([number])


def unpack(received: Any) -> int:
    """Return the number of a received parcel, and give its memory back."""
    if isinstance(received, memoryview):
        with received:
            return int.from_bytes(received, "little")
    return received if isinstance(received, int) else int(received[0])


class Both:
    """Two ends that were opened by id."""

    def __init__(self, recv: Any, send: Any) -> None:
        self.ends = (recv, send)


def perform(channel: Any, kind: type[Any], method: str, *arguments: Any) -> Any:
    """Do what the machines ask for, in the interpreter that calls this."""
    recv, send = channel.ends
    try:
        match method, arguments:
            case "send_nowait", (number,):
                return send.send_nowait(parcel(kind, number))
            case "send_many", (numbers,):
                return send.send_many([parcel(kind, number) for number in numbers], timeout=0)
            case "recv_nowait", ():
                value = recv.recv_nowait(_NOTHING)
                return None if value is _NOTHING else unpack(value)
            case "recv_many", (limit,):
                return [unpack(value) for value in recv.recv_many(limit, timeout=0)]
            case _:
                return (recv if arguments == ("recv",) else send).close()
    except Exception as exc:
        return type(exc).__name__


def record_sends(end: Any, who: int, count: int) -> list[Event]:
    """Send distinct messages and note when."""
    events: list[Event] = []
    for number in range(count):
        begin = time.monotonic()
        end.send((who, number))
        events.append((begin, time.monotonic(), (who, number)))
    return events


def record_receives(end: Any) -> list[Event]:
    """Receive until the channel ends and note when."""
    events: list[Event] = []
    while True:
        begin = time.monotonic()
        try:
            value = end.recv()
        except EndOfChannel:
            return events
        events.append((begin, time.monotonic(), value))

"""A trace in Chrome's trace event format.

The format: "Trace Event Format", the Catapult project (chromium.googlesource.com/catapult,
``docs/trace-event-format.md``). Perfetto reads it too, and asks that slices of one thread nest (its page
"Writing TrackEvent Protos Synthetically").
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from memchannel._activity import flows

if TYPE_CHECKING:
    from memchannel._trace import Trace, TraceEvent

__all__ = ["chrome_events", "write"]

_INSTANTS = {"lent", "returned", "abandoned", "submit"}
_CATEGORIES = {
    **dict.fromkeys(("send", "recv"), "message"),
    **dict.fromkeys(("lent", "returned", "abandoned", "switch"), "memory"),
    **dict.fromkeys(("submit", "task", "run"), "task"),
    "wait": "wait",
}


def _us(ns: int) -> float:
    return ns / 1000


def process_of(interpreter: int) -> int:
    """Give an interpreter's process a number: from 1, viewers take 0 for the system's idle one."""
    return interpreter + 1


class _Tracks:
    """The numbers of threads: a thread that worked in two interpreters is two tracks."""

    def __init__(self, trace: Trace) -> None:
        self._numbers: dict[tuple[int, int], int] = {}
        for event in trace.events:
            self._numbers.setdefault((event.interpreter, event.thread), len(self._numbers) + 1)

    def place(self, event: TraceEvent) -> dict[str, int]:
        number = self._numbers[event.interpreter, event.thread]
        return {"pid": process_of(event.interpreter), "tid": number}

    def metadata(self, trace: Trace) -> Iterator[dict[str, Any]]:
        for interpreter in trace.interpreters:
            name = f"interpreter {interpreter}" + (" (main)" if interpreter == 0 else "")
            place = {"pid": process_of(interpreter), "tid": 0}
            yield {"ph": "M", "name": "process_name", **place, "args": {"name": name}}
            yield {"ph": "M", "name": "process_sort_index", **place, "args": {"sort_index": interpreter}}
        names = trace.threads
        for (interpreter, thread), number in self._numbers.items():
            name = f"{names.get(thread) or 'thread'} ({thread})"
            place = {"pid": process_of(interpreter), "tid": number}
            yield {"ph": "M", "name": "thread_name", **place, "args": {"name": name}}


def _title(event: TraceEvent) -> str:
    match event.kind:
        case "wait":
            return f"wait: {event.name}"
        case "task" | "submit":
            return event.name or event.kind
        case "switch":
            return f"switch to interpreter {event.owner}"
        case "run":
            return event.name or "run"
        case _:
            return event.kind


def _details(event: TraceEvent) -> dict[str, Any]:
    known: dict[str, Any] = {
        "channel": event.channel,
        "primitive": event.primitive,
        "owner": event.owner,
        "messages": event.messages if event.kind in ("send", "recv") else None,
        "bytes": event.nbytes or None,
        "side": event.side or None,
        "entry_us": _us(event.entry) or None,
        "back_us": _us(event.back) or None,
    }
    if event.kind in ("wait", "task"):
        known["ok"] = event.ok
    if event.id:
        known["id"] = f"{event.id:#x}"  # as text: JavaScript's numbers have 53 bits
    return {name: value for name, value in known.items() if value is not None}


def _slice(event: TraceEvent, tracks: _Tracks) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ph": "X",
        "name": _title(event),
        "cat": _CATEGORIES[event.kind],
        "ts": _us(event.begin),
        **tracks.place(event),
        "args": _details(event),
    }
    if event.kind in _INSTANTS:
        made.update(ph="i", s="t", name=event.kind)
        if event.name:
            made["args"]["function"] = event.name
    else:
        made["dur"] = _us(event.end - event.begin)
    return made


def _arrows(trace: Trace, tracks: _Tracks) -> Iterator[dict[str, Any]]:
    for number, (send, recv) in enumerate(flows(trace), 1):
        arrow = {"name": "message", "cat": "message", "id": number}
        yield {**arrow, "ph": "s", "ts": _us(send.begin), **tracks.place(send)}
        # Bound to the slice around it ("bp": "e"): within it, and not before the send.
        at = max(send.begin, recv.begin, recv.end - 1)
        yield {**arrow, "ph": "f", "bp": "e", "ts": _us(at), **tracks.place(recv)}


def chrome_events(trace: Trace) -> Iterator[dict[str, Any]]:
    """Yield what goes into the file's ``traceEvents``."""
    tracks = _Tracks(trace)
    yield from tracks.metadata(trace)
    for event in trace.events:
        yield _slice(event, tracks)
    yield from _arrows(trace, tracks)


def write(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write the file, an event on each line."""
    about = {"seconds": trace.seconds, "dropped": trace.dropped, "limit": trace.limit}  # may raise: no file
    with open(os.fspath(path), "w", encoding="utf-8") as file:
        file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": [\n')
        for number, event in enumerate(chrome_events(trace)):
            file.write((",\n" if number else "") + json.dumps(event))
        file.write("\n]}\n")

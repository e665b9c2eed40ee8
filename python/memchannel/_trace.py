"""Recording what all interpreters of the process do, and when."""

from __future__ import annotations

import _interpreters
import operator
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from memchannel import _core
from memchannel._spans import KINDS, RUN, WAIT

if TYPE_CHECKING:
    from types import CapsuleType, TracebackType  # the lookup of the first loads _socket

    from matplotlib.axes import Axes

    from memchannel._trace_summary import TraceSummary

__all__ = ["Trace", "TraceEvent", "trace"]

_DEFAULT_LIMIT = 1_000_000
_MOST = 2**40  # far above what fits into memory
_PACKED = struct.Struct("=4q3Q2I3B")
_SIDES = {0: "", 1: "recv", 2: "send", 3: "both"}
_NUMBERS = {side: number for number, side in _SIDES.items()}


class TraceEvent(NamedTuple):
    """One thing that happened."""

    kind: str
    """``"send"``, ``"recv"``: a message, or several of one call; a wait in the call is an event of its own.
    ``"lent"``, ``"returned"``, ``"abandoned"``: memory; the last one as its owner had ended before.
    ``"switch"``: a thread was attached to the owner of some memory, to give it back, and came home.
    ``"wait"``: a call was parked.
    ``"submit"``, ``"task"``: of a pool; a task also travels as a message.
    ``"run"``: an interpreter executed code that another one gave it, or made another one; of the one that
    records, what the recording thread did from start to stop."""
    begin: int
    """In ns since the trace was started."""
    end: int
    """The same as `begin` for what has no length."""
    interpreter: int
    """On whose behalf."""
    thread: int
    """The thread's native id."""
    name: str
    """Of a wait: the call (``"recv"``, ``"Lock.acquire"``, ...). Of a task and its submission: the function,
    empty if the task was not run. Of a run: ``"run"``, ``"new interpreter"``, or ``"trace"``."""
    channel: int | None
    """The channel; for memory the one over which it was lent first."""
    primitive: int | None
    """The lock, event, ... that was waited for."""
    id: int
    """The same for the send and the recv of a message (of several: the first one's), for a task and its
    submission, or for lent memory and its return; 0 if it began before the trace."""
    messages: int
    """How many, of a send or recv; otherwise 1."""
    nbytes: int
    """Bytes of the messages or of the memory."""
    owner: int | None
    """The interpreter that the memory belongs to, or that was switched to."""
    entry: int
    """Of a switch: how long the thread waited for the owner to let it in, in ns."""
    back: int
    """Of a switch: how long it then took to come home, in ns."""
    side: str
    """Of a wait: which side of the channel."""
    ok: bool
    """False for waits that gave up, and tasks that raised."""


class _Recorded(NamedTuple):
    """What a recording holds, unpacked."""

    began: int
    duration: int
    dropped: int
    threads: dict[int, str]
    events: list[TraceEvent]


def _event(fields: tuple[int, ...], thread: int, began: int, names: list[str]) -> TraceEvent:
    begin, end, interpreter, other, thing, number, amount, name, count, kind, side, ok = fields
    word = KINDS[kind]
    switch = word == "switch"
    primitive = word == "wait" and not side
    return TraceEvent(
        kind=word,
        begin=begin - began,
        end=end - began,
        interpreter=interpreter,
        thread=thread,
        name=names[name],
        channel=None if primitive else thing or None,
        primitive=(thing or None) if primitive else None,
        id=0 if switch else number,
        messages=count,
        nbytes=0 if switch else amount,
        owner=None if other < 0 else other,
        entry=number if switch else 0,
        back=amount if switch else 0,
        side=_SIDES[side],
        ok=bool(ok),
    )


def _named_submissions(events: list[TraceEvent]) -> list[TraceEvent]:
    """Give submissions the names of the functions that the tasks turned out to be."""
    names = {event.id: event.name for event in events if event.kind == "task" and event.id}
    return [
        event._replace(name=names.get(event.id, "")) if event.kind == "submit" else event for event in events
    ]


def _thread_names() -> dict[int, str]:
    return {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id is not None}


class Trace:
    """What `memchannel.trace` gives: records between `start` and `stop`, or in a ``with`` block.

    Parameters
    ----------
    limit : int, optional
        How many events are kept at most, the first ones; later ones are counted as `dropped`. An event takes
        about 80 bytes.

    Raises
    ------
    TypeError
        If `limit` is no integer.
    ValueError
        If it is not positive.
    """

    def __init__(self, limit: int = _DEFAULT_LIMIT) -> None:
        try:
            self._limit = operator.index(limit)
        except TypeError:
            raise TypeError(f"limit must be an integer, not {limit!r}") from None
        if not 1 <= self._limit <= _MOST:
            raise ValueError(f"limit must be from 1 to {_MOST} events, not {limit!r}")
        self._recording: CapsuleType | None = None
        self._stopped = False
        self._packed: tuple[int, int, int, list[str], list[tuple[int, str, bytes]]] | None = None
        self._recorded: _Recorded | None = None
        self._names: dict[int, str] = {}
        self._process = self._thread = self._interpreter = 0
        self._parked: list[Any] = []
        self._stopped_at = 0
        self._lock = threading.RLock()

    # ---- recording

    def start(self) -> Self:
        """Begin to record, in all interpreters and threads of the process.

        Raises
        ------
        RuntimeError
            A trace is recording already, here or in another interpreter; or this one was started before.
        """
        if self._recording is not None:
            raise RuntimeError("this trace was started before: make a new one with memchannel.trace()")
        self._names = _thread_names()
        self._process, self._thread = os.getpid(), threading.get_native_id()
        self._interpreter = _interpreters.get_current()[0]
        self._recording = _core._trace_start(self._limit)
        return self

    def stop(self) -> None:
        """Record no more. Once stopped, and in a forked child, which is not recorded, it does nothing.

        Raises
        ------
        RuntimeError
            It was never started.
        """
        if self._recording is None:
            raise RuntimeError("this trace was not started: call start(), or use it in a with statement")
        if not self._stopped and self._process == os.getpid():
            _core._trace_stop(self._recording)
            # Afterwards: what was recorded is not among them. The clock first: no wait may seem too late.
            self._stopped_at = time.monotonic_ns()
            self._parked = _core._waits()
            self._names.update(_thread_names())
        self._stopped = True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # ---- what was recorded

    @property
    def _all(self) -> _Recorded:
        with self._lock:
            if self._recorded is None:
                if self._recording is None:
                    raise RuntimeError("this trace was not started: there is nothing to show")
                if self._packed is None:  # kept: the core gives it once, and unpacking may be interrupted
                    self._packed = _core._trace_read(self._recording)
                self._recorded = self._unpack(*self._packed)
                self._packed = None
            return self._recorded

    def _unpack(
        self, began: int, ended: int, dropped: int, names: list[str], logs: list[tuple[int, str, bytes]]
    ) -> _Recorded:
        threads = {self._thread: self._names.get(self._thread, "")}
        events = []
        for thread, label, packed in logs:
            threads[thread] = self._names.get(thread, label)
            events += [_event(fields, thread, began, names) for fields in _PACKED.iter_unpack(packed)]
        events += list(self._unfinished_waits(began, ended, events))
        events.append(
            _event(
                (began, ended, self._interpreter, -1, 0, 0, 0, len(names), 1, RUN, 0, 1),
                self._thread,
                began,
                [*names, "trace"],
            )
        )
        events.sort(key=lambda event: (event.begin, -event.end))
        return _Recorded(began, ended - began, dropped, threads, _named_submissions(events))

    def _unfinished_waits(self, began: int, ended: int, recorded: list[TraceEvent]) -> Iterator[TraceEvent]:
        last: dict[tuple[int, int], int] = {}  # when the thread's last event was over
        for event in recorded:
            key = event.interpreter, event.thread
            last[key] = max(last.get(key, 0), event.end)
        for interpreter, thread, name, targets, seconds, _ in self._parked:
            # How long it has waited is told by a later look at the clock than `_stopped_at`.
            begin = max(began + last.get((interpreter, thread), 0), self._stopped_at - round(seconds * 1e9))
            if begin >= ended or name.endswith("_async"):  # of an event loop: no thread waits
                continue
            thing, side = targets[0] if len(targets) == 1 else (0, None)
            fields = (begin, ended, interpreter, -1, thing, 0, 0, 0, 1, WAIT, _NUMBERS[side or ""], 1)
            yield _event(fields, thread, began, [name])

    @property
    def events(self) -> list[TraceEvent]:
        """All events, by their beginning.

        Raises
        ------
        RuntimeError
            It is still recording, was not started, or belongs to the parent of this process.
        """
        return self._all.events

    @property
    def seconds(self) -> float:
        """How long was recorded."""
        return self._all.duration / 1e9

    @property
    def dropped(self) -> int:
        """How many events came after the limit and were not kept."""
        return self._all.dropped

    @property
    def limit(self) -> int:
        """How many events are kept at most."""
        return self._limit

    @property
    def threads(self) -> dict[int, str]:
        """The names of threads, by their native ids."""
        return dict(self._all.threads)

    @property
    def interpreters(self) -> list[int]:
        """The ids of all interpreters that did something."""
        return sorted({event.interpreter for event in self.events})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file for https://ui.perfetto.dev or ``chrome://tracing``, in Chrome's trace event format.

        Each interpreter is shown as a process, with its threads; arrows lead from the send of a message to
        its recv. Times are in microseconds since the start, by the monotonic clock.

        Raises
        ------
        OSError
            The file cannot be written.
        RuntimeError
            See `events`.
        """
        from memchannel._chrome_trace import write

        write(self, path)

    def summary(self) -> TraceSummary:
        """Add up how long each interpreter was busy, waited or was idle, and what it sent and lent."""
        from memchannel._trace_summary import summarize

        return summarize(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a timeline, with one row for each interpreter.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where; a new figure by default, which also shows how many interpreters were busy at a time.

        Returns
        -------
        matplotlib.axes.Axes
            The timeline's.

        Raises
        ------
        ImportError
            There is no matplotlib.
        """
        from memchannel._timeline import plot

        return plot(self, ax)

    def __repr__(self) -> str:
        if self._recording is None:
            return f"<Trace, not started, limit={self._limit}>"
        if not self._stopped:
            return f"<Trace, recording, limit={self._limit}>"
        if self._process != os.getpid():
            return "<Trace of the parent process>"
        lost = f", {self.dropped} dropped" if self.dropped else ""
        return f"<Trace of {self.seconds:.3f} s, {len(self.events)} events{lost}>"

    def _repr_html_(self) -> str | None:
        if not self._stopped or self._process != os.getpid():
            return None  # the repr says why
        from memchannel._timeline_html import timeline_html

        return timeline_html(self)

    def __reduce__(self) -> Any:
        raise TypeError("a trace belongs to the interpreter that made it: save() it, or send its events")


def trace(limit: int = _DEFAULT_LIMIT) -> Trace:
    """Record what all interpreters do: messages, lent memory, switches, waits and tasks.

    One trace records at a time, for the whole process, whichever interpreter started it. It ends with the
    interpreter that started it. A forked child is not recorded.

    Parameters
    ----------
    limit : int, optional
        How many events are kept at most, the first ones. What comes later is counted, see `Trace.dropped`.
        Each thread reserves room for 64 events at a time.

    Returns
    -------
    Trace
        Use it in a ``with`` statement, or call its `start` and `stop`.

    Raises
    ------
    TypeError, ValueError
        `limit` is no integer, or not positive.

    Examples
    --------
    >>> import memchannel
    >>> channel = memchannel.MemChannel()
    >>> with memchannel.trace() as t:
    ...     channel.send(b"spam")
    ...     channel.recv().release()
    >>> [event.kind for event in t.events if event.kind in ("send", "recv")]
    ['send', 'recv']
    """
    return Trace(limit)

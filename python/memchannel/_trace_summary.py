"""What a trace adds up to."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from memchannel._activity import Activity, activities, concurrency, total
from memchannel._display import Table

if TYPE_CHECKING:
    import rich.table

    from memchannel._trace import Trace

__all__ = ["InterpreterSummary", "TraceSummary", "summarize"]


_COLUMNS = ("interpreter", "busy", "waiting", "for owners", "idle", "tasks", "sent", "received", "lent")


class InterpreterSummary(NamedTuple):
    """One interpreter in the course of a trace; times in seconds."""

    interpreter: int
    busy: float
    """Some thread of it was in a task or a run, and did not wait."""
    waiting: float
    """It was not busy, and some thread of it waited."""
    for_owners: float
    """Of threads that gave memory back: until the owner let them in, and until they were home again."""
    idle: float
    """Neither busy nor waiting."""
    tasks: int
    """Tasks of pools that it ran."""
    sent: int
    """Messages."""
    received: int
    bytes_lent: int
    imbalance: float | None
    """By how much its time in tasks differs from the mean of those that ran any: 0.5 is half as much again.
    None if it ran none."""


class TraceSummary(NamedTuple):
    """What a trace adds up to; ``str()`` of it is a table, and so is what notebooks and rich show."""

    seconds: float
    """How long was recorded."""
    interpreters: list[InterpreterSummary]
    """By id."""
    parallelism: float
    """How many interpreters were busy at a time, on average over the time when any was."""
    serial: float
    """The part of that time when only one was, from 0 to 1."""
    imbalance: float | None
    """By how much the longest time in tasks exceeds the mean; None if no tasks were run."""
    events: int
    dropped: int
    """Events that came after the limit: what is said here is of those before."""

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                str(one.interpreter),
                *(f"{value:.3f} s" for value in (one.busy, one.waiting, one.for_owners, one.idle)),
                *map(str, (one.tasks, one.sent, one.received)),
                f"{one.bytes_lent / 1e6:.1f} MB",
            )
            for one in self.interpreters
        ]

    def _words(self) -> list[str]:
        balance = "" if self.imbalance is None else f", imbalance {self.imbalance:.0%}"
        lines = [
            f"{self.seconds:.3f} s; {self.parallelism:.2f} busy at a time, only one for {self.serial:.0%} "
            f"of the busy time{balance}"
        ]
        if self.dropped:
            lines.append(f"{self.dropped} events came after the limit and were dropped")
        return lines

    def __str__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        return "\n".join(lines + self._words())

    def _table(self) -> Table:
        return Table(". ".join(self._words()), _COLUMNS, self._rows())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def __rich__(self) -> rich.table.Table:
        return self._table().__rich__()


def summarize(trace: Trace) -> TraceSummary:
    """See `Trace.summary`."""
    found = activities(trace)
    in_tasks = {
        number: sum(task.end - task.begin for task in one.tasks) for number, one in found.items() if one.tasks
    }
    mean = sum(in_tasks.values()) / len(in_tasks) if in_tasks else 0
    by_call: Counter[tuple[int, str]] = Counter()
    lent: Counter[int] = Counter()
    for event in trace.events:
        by_call[event.interpreter, event.kind] += event.messages
        if event.kind == "lent":
            lent[event.interpreter] += event.nbytes
    rows = []
    for number, one in found.items():
        busy, waiting = total(one.busy), total(one.waiting)
        rows.append(
            InterpreterSummary(
                interpreter=number,
                busy=busy / 1e9,
                waiting=waiting / 1e9,
                for_owners=total(one.for_owners) / 1e9,
                idle=max(0.0, trace.seconds - (busy + waiting) / 1e9),
                tasks=len(one.tasks),
                sent=by_call[number, "send"],
                received=by_call[number, "recv"],
                bytes_lent=lent[number],
                imbalance=in_tasks[number] / mean - 1 if mean and number in in_tasks else None,
            )
        )
    parallelism, serial = _parallelism(found)
    return TraceSummary(
        seconds=trace.seconds,
        interpreters=rows,
        parallelism=parallelism,
        serial=serial,
        imbalance=max(in_tasks.values()) / mean - 1 if mean else None,
        events=len(trace.events),
        dropped=trace.dropped,
    )


def _parallelism(found: dict[int, Activity]) -> tuple[float, float]:
    steps = concurrency(one.busy for one in found.values())
    some = one = work = 0
    for (begin, count), (end, _) in itertools.pairwise(steps):
        if count:
            some += end - begin
            work += count * (end - begin)
        if count == 1:
            one += end - begin
    return (work / some, one / some) if some else (0.0, 0.0)

"""What the events of a trace say of each interpreter: when it was busy, and when it waited."""

from __future__ import annotations

import bisect
import operator
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from memchannel._trace import Trace, TraceEvent

__all__ = ["Activity", "Flow", "Span", "activities", "concurrency", "flows", "total"]

type Span = tuple[int, int]
"""Begin and end, in ns since the trace was started."""


class Activity(NamedTuple):
    """One interpreter in the course of a trace. Spans are in order and do not overlap."""

    tasks: list[TraceEvent]
    """Tasks of pools that it ran."""
    busy: list[Span]
    """A thread of it was in a task or a run, and did not wait."""
    waiting: list[Span]
    """Not busy, and a thread of it waited: for a message, a result, a lock, another interpreter."""
    for_owners: list[Span]
    """A thread of it was about to enter, or to come back from, an interpreter whose memory it gave back."""


class Flow(NamedTuple):
    """A message, or several of one call, on their way from one call to another."""

    send: TraceEvent
    recv: TraceEvent


def union(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that overlap or touch; those without length are left out."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if begin == end:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def subtract(spans: list[Span], others: list[Span]) -> list[Span]:
    """Cut `others` out of `spans`; both as `union` gives them."""
    left: list[Span] = []
    first = 0
    for begin, end in spans:
        while first < len(others) and others[first][1] <= begin:
            first += 1
        at, other = begin, first
        while other < len(others) and others[other][0] < end:
            low, high = others[other]
            if low > at:
                left.append((at, low))
            at = max(at, high)
            other += 1
        if at < end:
            left.append((at, end))
    return left


def total(spans: Iterable[Span]) -> int:
    """Add up the lengths."""
    return sum(end - begin for begin, end in spans)


def _visits(event: TraceEvent) -> list[Span]:
    """Both waits of a switch."""
    return [(event.begin, event.begin + event.entry), (event.end - event.back, event.end)]


class _Thread:
    """What one thread did for one interpreter."""

    def __init__(self) -> None:
        self.inside: list[Span] = []
        self.runs: list[Span] = []
        self.waits: list[Span] = []
        self.switches: list[Span] = []
        self.for_owners: list[Span] = []

    def add(self, event: TraceEvent) -> None:
        span = event.begin, event.end
        if event.kind in ("task", "run"):
            self.inside.append(span)
            if event.kind == "run":
                self.runs.append(span)
        elif event.kind == "wait":
            self.waits.append(span)
        elif event.kind == "switch":
            self.switches.append(span)
            self.for_owners += _visits(event)

    def runs_within(self, runs: list[Span]) -> list[Span]:
        """Tell which of another interpreter's runs, on the same thread, were started from here."""
        own = union(self.runs)
        found = []
        for begin, end in runs:
            at = bisect.bisect_right(own, begin, key=operator.itemgetter(0)) - 1
            if at >= 0 and end <= own[at][1] and own[at] != (begin, end):
                found.append((begin, end))
        return found


def activities(trace: Trace) -> dict[int, Activity]:
    """Tell what each interpreter did, by its id.

    What the thread that records does between start and stop counts as busy but for its waits. So do runs
    and tasks; of runs that began before the trace or ended after it, only the tasks are known.
    """
    # By interpreter and thread.
    threads: dict[int, dict[int, _Thread]] = defaultdict(lambda: defaultdict(_Thread))
    tasks: dict[int, list[TraceEvent]] = defaultdict(list)
    for event in trace.events:
        threads[event.interpreter][event.thread].add(event)
        if event.kind == "task":
            tasks[event.interpreter].append(event)
    foreign: dict[int, list[tuple[int, list[Span]]]] = defaultdict(list)
    for interpreter, own in threads.items():
        for number, thread in own.items():
            if thread.runs:
                foreign[number].append((interpreter, thread.runs))
    return {
        interpreter: _activity(interpreter, threads[interpreter], tasks[interpreter], foreign)
        for interpreter in sorted(threads)
    }


def _activity(
    interpreter: int,
    threads: dict[int, _Thread],
    tasks: list[TraceEvent],
    foreign: dict[int, list[tuple[int, list[Span]]]],
) -> Activity:
    busy: list[Span] = []
    waits: list[Span] = []
    for_owners: list[Span] = []
    for number, thread in threads.items():
        elsewhere = [
            span
            for other, runs in foreign[number]
            if other != interpreter
            for span in thread.runs_within(runs)
        ]
        away = union([*thread.waits, *thread.switches, *elsewhere])
        busy += subtract(union(thread.inside), away)
        waits += [*thread.waits, *thread.for_owners, *elsewhere]
        for_owners += thread.for_owners
    worked = union(busy)
    return Activity(tasks, worked, subtract(union(waits), worked), union(for_owners))


def concurrency(busy: Iterable[list[Span]]) -> list[tuple[int, int]]:
    """Count the spans that go on at a time: from when on, and how many."""
    changes: dict[int, int] = defaultdict(int)
    for spans in busy:
        for begin, end in spans:
            changes[begin] += 1
            changes[end] -= 1
    steps = [(0, 0)]
    for at in sorted(changes):
        if not changes[at]:
            continue
        step = (at, steps[-1][1] + changes[at])
        if at == steps[-1][0]:
            steps[-1] = step
        else:
            steps.append(step)
    return steps


def flows(trace: Trace) -> list[Flow]:
    """Find which call received what which call sent. What one side of was not recorded is left out."""
    sends = sorted((event for event in trace.events if event.kind == "send" and event.id), key=_number)
    found = []
    for recv in trace.events:
        if recv.kind != "recv" or not recv.id:
            continue
        low = _first_reaching(sends, recv.id)
        while low < len(sends) and sends[low].id < recv.id + recv.messages:
            found.append(Flow(sends[low], recv))
            low += 1
    return found


def _number(event: TraceEvent) -> int:
    return event.id


def _first_reaching(sends: list[TraceEvent], number: int) -> int:
    """Find the first of the calls, in the order of their messages, whose messages reach up to the number."""
    low, high = 0, len(sends)
    while low < high:
        middle = (low + high) // 2
        if sends[middle].id + sends[middle].messages <= number:
            low = middle + 1
        else:
            high = middle
    return low

"""What is going on: snapshots of channels, of the whole process, and of blocked calls."""

from __future__ import annotations

from typing import Literal, NamedTuple

from memchannel import _core, _display

__all__ = ["ChannelStatistics", "Statistics", "Wait", "dump_waits", "stats"]


class ChannelStatistics(NamedTuple):
    """A snapshot of one channel."""

    queued: int
    """Messages sent and not received yet."""
    waiting_receivers: int
    """Parked ``recv`` calls."""
    looking_receivers: int
    """``recv`` calls that look for a message for a moment, before they get in line."""
    waiting_senders: int
    """Parked ``send`` calls."""
    maxsize: int | None
    """Messages it holds at most; 0 for a rendezvous channel, None if unbounded."""
    sent: int
    """Messages ever sent."""
    received: int
    """Messages ever received."""
    receivers: list[int]
    """Interpreters associated with the receiving end."""
    senders: list[int]
    """Interpreters associated with the sending end."""
    receivers_on_the_way: int
    """Receiving ends in messages that nobody received yet."""
    senders_on_the_way: int
    """Sending ends in messages that nobody received yet."""
    subscribers: dict[int, int]
    """Messages that each end made by ``broadcast()`` has yet to receive, by its id."""
    broadcast: bool
    """Whether it is a broadcast channel, or an end of one."""
    receiving_over: bool
    """Whether sending raises BrokenChannelError."""
    sending_over: bool
    """Whether receivers get EndOfChannel once the channel is drained."""
    poisoned: bool
    """Whether the channel was poisoned."""

    def _repr_html_(self) -> str:
        return _display.html_of(self)

    def __rich__(self) -> object:
        return _display.rich_table_of(self)


class Statistics(NamedTuple):
    """A snapshot of the process, counted by the core."""

    live: int
    """Leases out, of interpreters that are alive."""
    lent: int
    """Leases ever made."""
    returned: int
    """Leases given back in their owner."""
    abandoned: int
    """Leases whose owner ended by force while they were out."""
    bytes_lent: int
    """Bytes ever lent."""
    bytes_copied: int
    """Bytes of arrays and other buffers ever copied by memchannel on the way between interpreters; not those
    that pickle writes into a message, such as a str's."""
    channels: int
    """Channels that somebody can reach."""
    waiting: int
    """Parked calls."""
    shared_buffers: int
    """Live blocks of memory that belong to no interpreter."""
    shared_bytes: int
    """Their bytes."""
    descriptors: int
    """Duplicated descriptors of files and sockets in messages that nobody received yet."""

    def _repr_html_(self) -> str:
        return _display.html_of(self)

    def __rich__(self) -> object:
        return _display.rich_table_of(self)


class Wait(NamedTuple):
    """One parked call."""

    interpreter: int
    """The interpreter that waits."""
    thread: int
    """Native id of the thread; of a call in an event loop: the loop's."""
    operation: str
    """``"recv"``, ``"send"``, ``"select"``, ``"recv_async"``, ``"close"``, ``"Lock.acquire"``, ..."""
    channel: int | None
    """The channel it waits for; None for several or none."""
    seconds: float
    """For how long it has waited."""
    timed: bool
    """Whether it ends by itself, at a timeout."""
    targets: tuple[tuple[int, str], ...]
    """Each channel that it waits for, and the side: ``"recv"`` or ``"send"``."""
    deadlock: int | None
    """Which of the sets it belongs to that can only wait for each other, numbered from 0; None: to none."""
    primitive: int | None = None
    """The `id` of the lock, event, ... that it waits for."""
    holder: tuple[int, int] | None = None
    """Who holds the lock that it waits for: an interpreter, and the native id of a thread."""


def stats() -> Statistics:
    """Return the core's counters; channels that only queued ends reach are collected first.

    Examples
    --------
    >>> import memchannel
    >>> memchannel.stats().live
    0
    """
    _core._collect_channels()
    return Statistics(*_core._stats())


def dump_waits() -> list[Wait]:
    """Tell which thread of which interpreter waits for what, and for how long, longest first.

    Calls that can only wait for each other have the same number in their field ``deadlock``. A call for a
    lock waits for the thread that took it. Of channels it is judged by association, the only thing that they
    know of their users: a set is named if each of its calls
    waits without a time limit, some interpreter is associated with the other side of every channel that it
    waits for, and every call that is parked in those interpreters, at least one in each, belongs to the set
    too. What the core does not see can still end such a wait: a thread of these interpreters that is running
    and not parked, and an interpreter that has not used its end yet. A call in an event loop is in no set:
    the loop goes on.

    Returns
    -------
    list of Wait
    """
    waits = [_wait(*known) for known in _core._waits()]
    waits.sort(key=lambda wait: -wait.seconds)
    sets = _sets_that_wait_for_each_other(waits)
    return [wait._replace(deadlock=sets.get(index)) for index, wait in enumerate(waits)]


def _wait(
    interpreter: int,
    thread: int,
    operation: str,
    targets: list[tuple[int, Literal["recv", "send"] | None]],
    seconds: float,
    timed: bool,
) -> Wait:
    sides = tuple((channel, side) for channel, side in targets if side)
    channel = sides[0][0] if len(sides) == len(targets) == 1 else None
    # What has no side is a primitive, or 0 where the call waits for neither.
    primitive = next((number for number, side in targets if not side and number), None)
    holder = None if primitive is None else _core._holder(primitive)
    return Wait(interpreter, thread, operation, channel, seconds, timed, sides, None, primitive, holder)


# Who could complete a call: an interpreter by any of its threads, or one thread, in whatever interpreter.
type _Agent = tuple[Literal["interpreter", "thread"], int]


def _agents_of(wait: Wait) -> set[_Agent]:
    """Return those as which the calling thread could complete others' calls."""
    return {("interpreter", wait.interpreter), ("thread", wait.thread)}


def _awaited_agents(wait: Wait) -> set[_Agent] | None:
    """Find those that could complete a call; None: others may appear, or it ends by itself."""
    if wait.timed or wait.operation.endswith("_async"):
        return None
    if wait.holder is not None:
        return {("thread", wait.holder[1])}
    awaited: set[_Agent] = set()
    for channel, side in wait.targets:
        try:
            now = _core.RecvChannel(channel).statistics()
        except ValueError:  # gone: the wait is over or about to be
            return None
        others = now.senders if side == "recv" else now.receivers
        if not others or (now.senders_on_the_way if side == "recv" else now.receivers_on_the_way):
            return None
        awaited.update(("interpreter", other) for other in others)
    return awaited or None


def _sets_that_wait_for_each_other(waits: list[Wait]) -> dict[int, int]:
    """Map the index of each call that is in such a set to the set's number."""
    awaited = {
        index: agents for index, wait in enumerate(waits) if (agents := _awaited_agents(wait)) is not None
    }
    calls_of: dict[_Agent, list[int]] = {}
    for index, wait in enumerate(waits):
        for agent in _agents_of(wait):
            calls_of.setdefault(agent, []).append(index)

    def is_stuck(agent: _Agent) -> bool:
        calls = calls_of.get(agent)
        return bool(calls) and all(call in awaited for call in calls or ())

    # The greatest set in which every call waits for nobody outside of it.
    while hopeful := [index for index in awaited if not all(map(is_stuck, awaited[index]))]:
        for index in hopeful:
            del awaited[index]

    numbers: dict[int, int] = {}
    for first in awaited:
        if first in numbers:
            continue
        number = len(set(numbers.values()))
        reached = [first]
        while reached:
            index = reached.pop()
            if index in numbers:
                continue
            numbers[index] = number
            mine = _agents_of(waits[index])
            reached += [call for other in awaited[index] for call in calls_of[other]]
            reached += [call for call in awaited if not mine.isdisjoint(awaited[call])]
    return numbers

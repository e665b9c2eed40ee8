"""What is going on: snapshots of channels, of the whole process, and of blocked calls."""

from __future__ import annotations

from typing import NamedTuple

from memchannel import _core

__all__ = ["ChannelStatistics", "Statistics", "Wait", "dump_waits", "stats"]


class ChannelStatistics(NamedTuple):
    """A snapshot of one channel."""

    queued: int
    """Messages sent and not received yet."""
    waiting_receivers: int
    """Parked ``recv`` calls."""
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
    receiving_over: bool
    """Whether sending raises BrokenChannelError."""
    sending_over: bool
    """Whether receivers get EndOfChannel once the channel is drained."""
    poisoned: bool
    """Whether the channel was poisoned."""


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
    """Bytes ever copied by memchannel on the way between interpreters."""
    channels: int
    """Channels that somebody can reach."""
    waiting: int
    """Parked calls."""
    shared_buffers: int
    """Live blocks of memory that belong to no interpreter."""
    shared_bytes: int
    """Their bytes."""


class Wait(NamedTuple):
    """One parked call."""

    interpreter: int
    """The interpreter that waits."""
    thread: int
    """Native id of the thread."""
    operation: str
    """``"recv"``, ``"send"``, ``"select"``, ``"close"``, ..."""
    channel: int | None
    """The channel it waits for; None for several or none."""
    seconds: float
    """For how long."""


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
    """Tell which thread of which interpreter waits for what, and for how long, longest first."""
    waits = [
        Wait(i, thread, verb, channel or None, seconds)
        for i, thread, verb, channel, seconds in _core._waits()
    ]
    return sorted(waits, key=lambda wait: -wait.seconds)

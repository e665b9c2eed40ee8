"""Broadcast: every subscriber gets every message, one lease serves all."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_calls import parcel, unpack
from channel_support import KINDS, Neighbour, Task, wait_until, waiting
from memchannel import (
    ArrayChannel,
    BrokenChannelError,
    Channel,
    ClosedChannelError,
    EndOfChannel,
    MemChannel,
    PoisonedChannelError,
    RecvChannel,
    SendChannel,
    list_all_channels,
)

pytestmark = pytest.mark.usefixtures("balanced")


def backlog(channel: Any) -> list[int]:
    """Return how far the subscribers are behind, in the order in which they came."""
    return list(channel.statistics().subscribers.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_subscriber_gets_every_message(kind: type[Any]) -> None:
    channel = kind()
    subscribers = [channel.broadcast() for _ in range(3)]
    channel.send(parcel(kind, 0))
    channel.send_many(parcel(kind, number) for number in range(1, 5))
    for end in subscribers:
        assert type(end) is RecvChannel
        assert [unpack(value) for value in end.recv_many(10)] == [0, 1, 2, 3, 4]
    assert channel.statistics().sent == 5
    assert channel.statistics().received == 15


def test_a_subscriber_gets_what_is_sent_from_then_on() -> None:
    channel: Channel[int] = Channel()
    early = channel.broadcast()
    channel.send(1)
    late = channel.broadcast()
    channel.send(2)
    assert early.recv_many(9) == [1, 2]
    assert late.recv_many(9) == [2]


def test_one_lease_serves_all_and_goes_back_after_the_last() -> None:
    channel = MemChannel()
    subscribers = [channel.broadcast() for _ in range(4)]
    memory = bytearray(b"shared")
    before = memchannel.stats()
    channel.send(memory)
    assert memchannel.stats().live == before.live + 1
    views = [end.recv() for end in subscribers[:3]]
    assert memchannel.stats().live == before.live + 1
    for view in views:
        view.release()
    with pytest.raises(BufferError):
        memory += b"!"
    with subscribers[3].recv() as last:
        assert last == memory
        assert memchannel.stats().lent == before.lent + 1
    assert memchannel.stats().live == before.live
    memory += b"!"


def test_arrays_of_all_subscribers_are_the_same_memory() -> None:
    channel = ArrayChannel()
    first, second = channel.broadcast(), channel.broadcast()
    array = np.arange(1000)
    channel.send(array)
    here, there = first.recv(), second.recv()
    pointers = {one.__array_interface__["data"][0] for one in (array, here, there)}
    assert len(pointers) == 1


def test_subscribers_in_other_interpreters(neighbours: list[Neighbour]) -> None:
    channel: Channel[Any] = Channel()
    ends = [channel.broadcast() for _ in neighbours]
    for one, end in zip(neighbours, ends, strict=True):
        one.do("end = RecvChannel(number)", number=end.id)
        one.start("[end.recv() for _ in range(3)]")
    for end in ends:
        wait_until(lambda end=end: end.statistics().waiting_receivers == 1)
    channel.send_many(["a", "b", ("c", 1.5)])
    for one in neighbours:
        assert one.result() == ["a", "b", ("c", 1.5)]
    assert channel.statistics().receivers == sorted(one.id for one in neighbours)
    assert channel.statistics().waiting_receivers == 0
    for one in neighbours:
        one.do("end.close(); del end")
    with pytest.raises(BrokenChannelError):
        channel.send(1)


def test_the_slowest_bounds_the_channel() -> None:
    channel: Channel[int] = Channel(maxsize=2)
    quick, slow = channel.broadcast(), channel.broadcast()
    channel.send(1)
    channel.send(2)
    assert quick.recv_many(9) == [1, 2]
    assert not channel.send_nowait(3)
    assert backlog(channel) == [0, 2]
    assert len(channel) == 2, "of a broadcast channel: for the slowest"
    sender = Task(channel.send, 3)
    wait_until(lambda: waiting(channel) == (0, 1))
    assert slow.recv() == 1
    sender.result()
    assert backlog(channel) == [1, 2]
    with pytest.raises(TimeoutError):
        channel.send(4, 0)


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_who_leaves_bounds_nothing(leave: str) -> None:
    channel = MemChannel(maxsize=1)
    stays, leaves = channel.broadcast(), channel.broadcast()
    memory = bytearray(b"x")
    channel.send(memory)
    with stays.recv():
        pass
    sender = Task(channel.send, b"y")
    wait_until(lambda: waiting(channel) == (0, 1))
    if leave == "close":
        leaves.close()
    else:
        del leaves
    sender.result()
    memory += b"!"
    with stays.recv() as view:
        assert bytes(view) == b"y"
    assert len(backlog(channel)) == 1


def test_batches_wait_for_the_slowest() -> None:
    channel: Channel[int] = Channel(maxsize=2)
    ends = [channel.broadcast() for _ in range(3)]
    sender = Task(channel.send_many, range(20))
    readers = [Task(lambda end=end: [end.recv() for _ in range(20)]) for end in ends]
    sender.result()
    for reader in readers:
        assert reader.result() == list(range(20))


def test_a_message_that_nobody_subscribed_to_is_dropped() -> None:
    channel = MemChannel(maxsize=1)
    end = channel.broadcast()
    del end
    memory = bytearray(b"x")
    for _ in range(3):
        channel.send(memory)
        channel.send_many([memory, memory])
        memory += b"!"
    assert channel.statistics().sent == 9
    end = channel.broadcast()
    channel.send(b"heard")
    with end.recv() as view:
        assert bytes(view) == b"heard"


def test_a_waiting_sender_goes_on_when_the_last_subscriber_is_dropped() -> None:
    channel = MemChannel(maxsize=1)
    end = channel.broadcast()
    channel.send(b"1")
    memory = [bytearray(b"2"), bytearray(b"3"), bytearray(b"4")]
    one, many = Task(channel.send, memory[0]), Task(channel.send_many, memory[1:])
    wait_until(lambda: waiting(channel) == (0, 2))
    del end
    one.result()
    many.result()
    assert channel.statistics().sent == 4
    gc.collect()
    for each in memory:
        each += b"!"


def test_when_all_subscribers_left_the_channel_is_broken() -> None:
    channel: Channel[int] = Channel()
    first, second = channel.broadcast(), channel.broadcast()
    first.close()
    channel.send(1)
    second.close()
    assert channel.statistics().receiving_over
    with pytest.raises(BrokenChannelError):
        channel.send(2)
    with pytest.raises(ClosedChannelError):
        channel.broadcast()


def test_subscribers_reach_the_end_after_draining() -> None:
    channel: Channel[int] = Channel()
    ends = [channel.broadcast() for _ in range(3)]
    readers = [Task(ends[1].recv), Task(ends[2].recv)]
    wait_until(lambda: waiting(channel) == (2, 0))
    channel.send(1)
    for reader in readers:
        assert reader.result() == 1
    waiter = Task(ends[1].recv)
    wait_until(lambda: waiting(channel) == (1, 0))
    channel.ends[1].close()
    with pytest.raises(EndOfChannel):
        waiter.result()
    assert list(ends[0]) == [1]
    with pytest.raises(EndOfChannel):
        ends[2].recv()


def test_poison_reaches_all_subscribers_from_any_end() -> None:
    for poisoner in range(3):
        channel = MemChannel()
        first, second = channel.broadcast(), channel.broadcast()
        memory = bytearray(b"x")
        channel.send(memory)
        with first.recv():
            pass
        reader = Task(first.recv)
        wait_until(lambda first=first: waiting(first) == (1, 0))
        (channel, first, second)[poisoner].poison(ValueError("bad"))
        with pytest.raises(PoisonedChannelError, match="bad"):
            reader.result()
        for call in (second.recv, channel.broadcast, lambda channel=channel: channel.send(b"")):
            with pytest.raises(PoisonedChannelError, match="bad"):
                call()
        memory += b"!"


def test_a_broadcast_channel_has_no_plain_receivers() -> None:
    channel: Channel[int] = Channel()
    end = channel.broadcast()
    for call in (
        channel.recv,
        channel.recv_nowait,
        lambda: channel.recv_many(1),
        lambda: next(channel),
        lambda: memchannel.select(channel),
        lambda: asyncio.run(_await(channel)),
    ):
        with pytest.raises(ValueError, match=r"is a broadcast channel: receive from an end"):
            call()
    channel.send(1)
    assert end.recv() == 1


async def _await(end: Any) -> Any:
    return await end.recv_async()


def test_a_used_channel_cannot_become_a_broadcast_channel() -> None:
    queued: Channel[int] = Channel()
    queued.send(1)
    used: Channel[int] = Channel()
    used.recv_nowait()
    handed: Channel[Any] = Channel()
    carrier: Channel[Any] = Channel()
    carrier.send(handed.ends[0])
    for channel in (queued, used, handed):
        with pytest.raises(ValueError, match="plain receivers already; broadcast on a new one"):
            channel.broadcast()
        assert not channel.statistics().broadcast
    assert queued.recv() == 1
    with pytest.raises(ValueError, match="is a rendezvous channel, which has one receiver for each message"):
        Channel(rendezvous=True).broadcast()
    closed: Channel[int] = Channel()
    closed.ends[0].close()
    with pytest.raises(ClosedChannelError):
        closed.broadcast()


def test_subscriptions_are_ends_of_their_own() -> None:
    channel: Channel[Any] = Channel(name="news")
    first, second = channel.broadcast(), channel.ends[1].broadcast()
    assert first != second
    assert first == RecvChannel(first.id)
    assert first.name == "news"
    assert first.statistics().broadcast
    with pytest.raises(ValueError, match=rf"which only receives; send to channel {channel.id}"):
        SendChannel(first.id)
    third = first.broadcast()
    channel.send(1)
    assert (first.recv(), second.recv(), third.recv()) == (1, 1, 1)
    pairs = [pair for pair in list_all_channels() if pair[0] in (first, second, third)]
    assert pairs == [(end, channel.ends[1]) for end in (first, second, third)]


def test_subscriptions_travel(neighbour: Neighbour) -> None:
    channel: Channel[Any] = Channel()
    neighbour.do("end = given", given=channel.broadcast())
    assert channel.statistics().receivers == [neighbour.id]
    channel.send({"a": 1})
    assert neighbour.do("end.recv()") == {"a": 1}
    carried: Channel[Any] = Channel()
    channel.send(carried)
    neighbour.do("inner = end.recv(); inner.send('inside')")
    assert carried.recv() == "inside"
    neighbour.do("end.close(); inner.close(); del end, inner, given")
    assert channel.statistics().receiving_over


def test_the_same_end_in_a_broadcast_for_all() -> None:
    channel: Channel[Any] = Channel()
    subscribers = [channel.broadcast() for _ in range(3)]
    inner: Channel[int] = Channel()
    channel.send(inner.ends[1])
    assert inner.statistics().senders_on_the_way == 1
    for number, end in enumerate(subscribers):
        end.recv().send(number)
    assert inner.statistics().senders_on_the_way == 0
    assert inner.recv_many(9) == [0, 1, 2]


def test_select_over_subscriptions() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    first, second = channel.broadcast(), channel.broadcast()
    assert memchannel.select((channel, 5), first)[1] is None
    assert {memchannel.select(first)[1], memchannel.select(second)[1]} == {5}
    channel.send(6)
    with pytest.raises(TimeoutError):
        memchannel.select((channel, 7), timeout=0)
    waiter = Task(memchannel.select, (channel, 7))
    wait_until(lambda: waiting(channel) == (0, 1))
    first.recv()
    second.recv()
    waiter.result()
    assert first.recv() == second.recv() == 7


def test_a_writable_block_is_not_broadcast() -> None:
    from memchannel.memory import WritableBlock

    channel: Channel[Any] = Channel()
    channel.broadcast()
    end = channel.broadcast()
    array = memchannel.zeros(10)
    for call in (channel.send, channel.send_nowait, lambda obj: channel.send_many([1, obj])):
        with pytest.raises(ValueError, match="a writable block has one receiver only"):
            call(WritableBlock(array))
    assert len(end) == 0
    plain: Channel[Any] = Channel()
    plain.send(WritableBlock(array))
    plain.recv()[:] = 1
    assert array.sum() == 10


def test_many_subscribers_and_senders_at_once() -> None:
    channel: Channel[Any] = Channel(maxsize=8)
    ends = [channel.broadcast() for _ in range(6)]
    readers = [Task(lambda end=end: [end.recv() for _ in range(400)]) for end in ends]
    senders = [
        Task(lambda who=who: [channel.send((who, number)) for number in range(100)]) for who in range(4)
    ]
    for sender in senders:
        sender.result()
    histories = [reader.result() for reader in readers]
    assert all(history == histories[0] for history in histories), "all see the same order"
    for who in range(4):
        assert [number for sender, number in histories[0] if sender == who] == list(range(100))

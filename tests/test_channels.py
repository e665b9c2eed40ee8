"""Channels and their ends within one interpreter: the methods, their errors, and what bad input leaves
behind."""

from __future__ import annotations

import copy
import math
import os
import pickle
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_calls import parcel, unpack
from channel_support import KINDS, Task, balanced, run_script, wait_until, waiting
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
    create_channel,
    list_all_channels,
)
from memchannel.statistics import ChannelStatistics

pytestmark = pytest.mark.usefixtures("balanced")

SHAPES: list[dict[str, Any]] = [{}, {"maxsize": 1}, {"maxsize": 3}, {"rendezvous": True}]
BUFFERED = SHAPES[:3]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_buffered = pytest.mark.parametrize("shape", BUFFERED, ids=str)


# ---- sending and receiving


@each_kind
@each_buffered
def test_what_is_sent_arrives(kind: type[Any], shape: dict[str, Any]) -> None:
    channel = kind(**shape)
    for number in (7, 8):
        channel.send(parcel(kind, number))
        assert unpack(channel.recv()) == number


@each_kind
def test_a_rendezvous_hands_over(kind: type[Any]) -> None:
    channel = kind(rendezvous=True)
    assert not channel.send_nowait(parcel(kind, 1))
    receiver = Task(lambda: unpack(channel.recv()))
    wait_until(lambda: waiting(channel) == (1, 0))
    assert channel.send_nowait(parcel(kind, 2))
    assert receiver.result() == 2
    sender = Task(channel.send, parcel(kind, 3))
    wait_until(lambda: waiting(channel) == (0, 1))
    assert len(channel) == 0
    assert unpack(channel.recv_nowait()) == 3
    sender.result()


@each_shape
def test_messages_come_in_order(shape: dict[str, Any]) -> None:
    channel: Channel[int] = Channel(**shape)
    sender = Task(lambda: [channel.send(number) for number in range(1000)])
    assert [channel.recv() for _ in range(1000)] == list(range(1000))
    sender.result()


def test_a_full_channel_makes_senders_wait() -> None:
    channel: Channel[int] = Channel(maxsize=2)
    channel.send(1)
    channel.send(2)
    assert not channel.send_nowait(3)
    sender = Task(channel.send, 3)
    wait_until(lambda: waiting(channel) == (0, 1))
    assert len(channel) == 2
    assert channel.recv() == 1
    sender.result()
    assert [channel.recv(), channel.recv()] == [2, 3]


def test_senders_are_served_in_the_order_in_which_they_came() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    channel.send(0)
    senders = []
    for number in range(1, 6):
        senders.append(Task(channel.send, number))
        wait_until(lambda number=number: waiting(channel) == (0, number))
    assert not channel.send_nowait(99), "nobody overtakes those who wait"
    assert [channel.recv() for _ in range(6)] == list(range(6))
    for sender in senders:
        sender.result()


def test_receivers_are_served_in_the_order_in_which_they_came() -> None:
    channel: Channel[int] = Channel()
    receivers = []
    for number in range(1, 6):
        receivers.append(Task(channel.recv))
        wait_until(lambda number=number: waiting(channel) == (number, 0))
    for number in range(5):
        channel.send(number)
        assert receivers[number].result() == number


def test_as_many_receivers_wake_as_there_are_messages() -> None:
    channel: Channel[int] = Channel()
    receivers = [Task(channel.recv) for _ in range(6)]
    wait_until(lambda: waiting(channel) == (6, 0))
    channel.send_many([0, 1])
    wait_until(lambda: channel.statistics().received == 2)
    assert waiting(channel) == (4, 0)
    assert len(channel) == 0
    channel.send_many([2, 3, 4, 5])
    assert sorted(receiver.result() for receiver in receivers) == list(range(6))


@each_shape
def test_timeouts_of_receivers(shape: dict[str, Any]) -> None:
    channel: Channel[int] = Channel(**shape)
    for timeout in (0, 0.0, 0.001, np.float64(0.001)):
        with pytest.raises(TimeoutError, match=rf"receiving on channel {channel.id} timed out"):
            channel.recv(timeout)
    with pytest.raises(TimeoutError):
        channel.recv(timeout=0)
    assert waiting(channel) == (0, 0)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_timeouts_of_senders_give_the_message_back(shape: dict[str, Any]) -> None:
    channel: MemChannel = MemChannel(**shape)
    for _ in range(shape.get("maxsize", 0)):
        channel.send(b"filler")
    memory = bytearray(b"mine")
    for timeout in (0, 0.001):
        with pytest.raises(TimeoutError, match="sending on channel"):
            channel.send(memory, timeout)
        memory += b"!"  # no lease is left: it can be resized
    assert waiting(channel) == (0, 0)
    channel.close()


def test_recv_nowait_returns_the_default_when_there_is_nothing() -> None:
    channel: Channel[Any] = Channel()
    marker = object()
    assert channel.recv_nowait() is None
    assert channel.recv_nowait(marker) is marker
    assert channel.recv_nowait(default=marker) is marker
    channel.send(None)
    assert channel.recv_nowait(marker) is None


def test_large_and_empty_messages() -> None:
    channel: Channel[Any] = Channel()
    for value in ("", b"", (), "é" * 100_000, list(range(100_000)), {"a": np.arange(5)}):
        channel.send(value)
        received = channel.recv()
        if isinstance(value, dict):
            assert received["a"].tolist() == [0, 1, 2, 3, 4]
        else:
            assert received == value


# ---- batches


@each_kind
def test_batches(kind: type[Any]) -> None:
    channel = kind()
    channel.send_many(parcel(kind, number) for number in range(10))
    assert [unpack(value) for value in channel.recv_many(4)] == [0, 1, 2, 3]
    assert [unpack(value) for value in channel.recv_many(limit=100)] == [4, 5, 6, 7, 8, 9]
    with pytest.raises(TimeoutError):
        channel.recv_many(1, 0)
    channel.send_many([])
    assert len(channel) == 0


def test_recv_many_waits_for_the_first_only() -> None:
    channel: Channel[int] = Channel()
    receiver = Task(channel.recv_many, 10)
    wait_until(lambda: waiting(channel) == (1, 0))
    channel.send_many([1, 2, 3])
    assert receiver.result() == [1, 2, 3]


def test_recv_many_leaves_what_others_were_promised() -> None:
    channel: Channel[int] = Channel()
    first, second = Task(channel.recv), Task(channel.recv)
    wait_until(lambda: waiting(channel) == (2, 0))
    channel.send_many([1, 2, 3, 4])
    received = channel.recv_many(10)
    assert len(received) == 2
    assert sorted([first.result(), second.result(), *received]) == [1, 2, 3, 4]


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_send_many_waits_for_room(shape: dict[str, Any]) -> None:
    channel: Channel[int] = Channel(**shape)
    sender = Task(channel.send_many, range(20))
    wait_until(lambda: waiting(channel) == (0, 1))
    received = []
    while len(received) < 20:
        received += channel.recv_many(6)
    assert received == list(range(20))
    sender.result()
    assert channel.statistics().sent == 20


def test_send_many_tells_how_many_went_out() -> None:
    channel: Channel[int] = Channel(maxsize=3)
    with pytest.raises(TimeoutError) as caught:
        channel.send_many(range(5), timeout=0.001)
    assert caught.value.sent == 3  # type: ignore[attr-defined]
    assert channel.recv_many(10) == [0, 1, 2]
    channel.send_many(range(3))
    waiter = Task(channel.send_many, range(10, 14))
    wait_until(lambda: waiting(channel) == (0, 1))
    assert channel.recv() == 0
    channel.ends[0].close()
    with pytest.raises(BrokenChannelError) as broken:
        waiter.result()
    assert broken.value.sent == 1  # type: ignore[attr-defined]


def test_send_many_sends_all_or_nothing() -> None:
    channel = MemChannel()
    memory = [bytearray(b"one"), bytearray(b"two")]
    before = memchannel.stats()
    with pytest.raises(TypeError):
        channel.send_many([*memory, object()])
    with pytest.raises(ZeroDivisionError):
        channel.send_many(memory[number // (number < 2)] for number in range(3))
    assert len(channel) == 0
    assert memchannel.stats().live == before.live
    for one in memory:
        one += b"!"


class Grudging:
    """Cannot be made again while `refuse` is set."""

    refuse = True

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return (Grudging.make, (self.number,))

    @staticmethod
    def make(number: int) -> Grudging:
        """Make it again, or not."""
        if Grudging.refuse:
            raise LookupError(f"number {number} refuses")
        return Grudging(number)


def test_a_batch_ends_before_what_cannot_be_made() -> None:
    channel: Channel[Any] = Channel()
    channel.send_many([1, np.arange(3), Grudging(2), 3, 4])
    before = memchannel.stats().live
    received = channel.recv_many(10)
    assert received[0] == 1
    assert received[1].tolist() == [0, 1, 2]
    assert len(channel) == 3
    assert memchannel.stats().live == before
    with pytest.raises(LookupError, match="number 2 refuses"):
        channel.recv_many(10)
    assert channel.recv_many(10) == [3, 4]
    assert channel.statistics().received == 5


def test_a_message_that_cannot_be_made_is_gone() -> None:
    channel: Channel[Any] = Channel()
    channel.send_many([(Grudging(1), np.arange(1000)), 2])
    with pytest.raises(LookupError, match="number 1 refuses"):
        channel.recv()
    assert memchannel.stats().live == 0
    assert channel.recv() == 2


class Interrupting:
    """Raises an interrupt when it is made again, once."""

    times = 1

    def __reduce__(self) -> Any:
        return (Interrupting.make, ())

    @staticmethod
    def make() -> str:
        """Make something else."""
        if Interrupting.times:
            Interrupting.times -= 1
            raise KeyboardInterrupt
        return "made"


@pytest.mark.parametrize("receive", ["recv", "recv_many", "next", "select", "subscription"])
def test_an_interrupt_while_objects_are_made_loses_nothing(receive: str) -> None:
    channel: Channel[Any] = Channel()
    end = channel.broadcast() if receive == "subscription" else channel.ends[0]
    channel.send_many([np.arange(3), Interrupting(), 2])
    Interrupting.times = 1
    calls = {
        "recv": end.recv,
        "subscription": end.recv,
        "recv_many": lambda: end.recv_many(10),
        "next": lambda: next(end),
        "select": lambda: memchannel.select(end),
    }
    received = []
    if receive not in ("recv_many",):
        received.append(end.recv())
    with pytest.raises(KeyboardInterrupt):
        calls[receive]()
    received += end.recv_many(10)
    assert received[0].tolist() == [0, 1, 2]
    assert received[1:] == ["made", 2]
    assert end.statistics().received == 3


# ---- ends


@each_kind
def test_a_channel_is_both_of_its_ends(kind: type[Any]) -> None:
    channel = kind(name="mine")
    recv, send = channel.ends
    assert isinstance(channel, RecvChannel)
    assert isinstance(channel, SendChannel)
    assert (type(recv), type(send)) == (RecvChannel, SendChannel)
    assert not isinstance(recv, SendChannel)
    assert channel.id == recv.id == send.id
    assert channel.name == recv.name == send.name == "mine"
    send.send(parcel(kind, 5))
    assert len(channel) == len(recv) == len(send) == 1
    assert unpack(recv.recv()) == 5
    assert bool(channel)
    assert bool(recv), "an empty channel is not false"


def test_ends_are_equal_by_channel_and_side() -> None:
    first, second = Channel[int](), Channel[int]()
    recv, send = first.ends
    assert recv == first.ends[0] == RecvChannel(first.id)
    assert send == SendChannel(first.id)
    assert hash(recv) == hash(RecvChannel(first.id))
    assert recv != send
    assert recv != first
    assert recv != second.ends[0]
    assert recv != first.id
    assert len({recv, first.ends[0], send, first, *second.ends}) == 5
    with pytest.raises(TypeError, match="not supported"):
        recv < send  # type: ignore[operator]  # noqa: B015


def test_create_channel_takes_what_the_classes_take() -> None:
    recv, send = create_channel()
    assert repr(recv) == f"<RecvChannel of MemChannel {send.id}, 0 queued>"
    recv, send = create_channel(Channel, 2, name="two")
    assert recv.statistics().maxsize == 2
    assert repr(send) == f"<SendChannel of Channel {send.id} 'two', 0 queued>"
    recv, send = create_channel(kind=ArrayChannel, rendezvous=True, release="deferred")
    assert recv.statistics().maxsize == 0
    for kind in (RecvChannel, int, "Channel", None):
        with pytest.raises(TypeError, match="kind must be MemChannel, ArrayChannel or Channel"):
            create_channel(kind)  # type: ignore[arg-type]


def test_list_all_channels_gives_the_reachable_ones_by_id() -> None:
    before = list_all_channels()
    channels = [Channel[int](name=str(number)) for number in range(3)]
    found = [pair for pair in list_all_channels() if pair not in before]
    assert found == [channel.ends for channel in channels]
    assert found[0][0].interpreters == []
    del channels[1], found
    assert [pair[0].name for pair in list_all_channels() if pair not in before] == ["0", "2"]


@pytest.mark.parametrize("kind", [RecvChannel, SendChannel])
def test_an_id_that_nobody_has(kind: Any) -> None:
    for number in (1_000_000, 0, -1, -(2**70), 2**63, 2**64 - 1, 2**64, 2**70):
        with pytest.raises(ValueError, match=f"^there is no channel {number}: it was never made, or nobody"):
            kind(number)
    for wrong in ("1", 1.0, None, b"1"):
        with pytest.raises(TypeError, match="must be int, not (str|float|None|bytes)"):
            kind(wrong)


def test_attributes_are_read_only() -> None:
    channel: Channel[int] = Channel()
    for end in (channel, *channel.ends):
        for name in ("id", "name", "closed", "interpreters", "anything"):
            with pytest.raises(AttributeError):
                setattr(end, name, 1)


def test_the_classes_cannot_be_subclassed() -> None:
    for kind in (*KINDS, RecvChannel, SendChannel):
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Mine", (kind,), {})


def test_ends_can_be_referenced_weakly() -> None:
    channel: Channel[int] = Channel()
    reference = weakref.ref(channel)
    assert reference() is channel
    del channel
    assert reference() is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_ends_pickle_within_the_process(protocol: int) -> None:
    for kind in KINDS:
        channel = kind(name="pickled")
        for end in (channel, *channel.ends):
            again = pickle.loads(pickle.dumps(end, protocol))
            assert again == end
            assert type(again) is type(end)
        assert copy.copy(channel) == copy.deepcopy(channel) == channel
        assert channel.interpreters == [], "a pickle does not associate"


def test_a_pickled_end_is_refused_by_another_process(tmp_path: Path) -> None:
    channel: Channel[int] = Channel()
    file = tmp_path / "end.pickle"
    file.write_bytes(pickle.dumps(channel.ends[0]))
    script = """if True:
        import pathlib, pickle, sys
        try:
            pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
        except RuntimeError as exc:
            print(exc)
    """
    output = run_script(script, str(file))
    assert "pickled in another process" in output
    assert "interpreters of one process only" in output


def test_a_pickled_end_of_a_channel_that_is_gone() -> None:
    channel: Channel[int] = Channel()
    data = pickle.dumps(channel)
    del channel
    with pytest.raises(ValueError, match="nobody holds an end of it"):
        pickle.loads(data)


def test_names_and_generic_aliases() -> None:
    assert Channel().name is None
    assert Channel(name="").name is None
    assert Channel(name="köln").name == "köln"
    with pytest.raises(TypeError):
        Channel(name=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="null"):
        Channel(name="a\0b")
    assert Channel[int]().recv_nowait() is None
    assert repr(RecvChannel[int]) == "memchannel.RecvChannel[int]"


def test_repr_and_rich_display() -> None:
    channel: Channel[int] = Channel(maxsize=5, name="<b>")
    channel.send(1)
    recv, send = channel.ends
    assert repr(channel) == f"<Channel {channel.id} '<b>', 1 queued>"
    assert repr(recv) == f"<RecvChannel of Channel {channel.id} '<b>', 1 queued>"
    html = recv._repr_html_()
    assert "&lt;RecvChannel of Channel" in html
    assert "<b>" not in html
    fields = dict(recv.__rich_repr__())
    assert fields["queued"] == fields["sent"] == 1
    assert fields["state"] == "open"
    send.close()
    assert dict(recv.__rich_repr__())["state"] == "sending side over"
    assert repr(recv) == f"<RecvChannel of Channel {channel.id} '<b>', 1 queued, sending side over>"
    assert repr(send) == f"<SendChannel of Channel {channel.id} '<b>', 1 queued, closed here>"
    assert repr(channel) == f"<Channel {channel.id} '<b>', 1 queued, sending side over>"
    recv.close()
    assert dict(recv.__rich_repr__())["state"] == "closed here"
    assert repr(channel) == f"<Channel {channel.id} '<b>', 0 queued, closed here>"
    subscriber = Channel[int]()
    end = subscriber.broadcast()
    assert dict(subscriber.__rich_repr__())["subscribers"] == {end.id: 0}
    subscriber.poison()
    assert dict(end.__rich_repr__())["state"] == "poisoned"
    assert repr(end) == f"<RecvChannel of Channel {end.id}, 0 queued, poisoned>"


def test_statistics() -> None:
    channel: Channel[int] = Channel(maxsize=4)
    assert channel.statistics() == ChannelStatistics(
        queued=0,
        waiting_receivers=0,
        looking_receivers=0,
        waiting_senders=0,
        maxsize=4,
        sent=0,
        received=0,
        receivers=[],
        senders=[],
        receivers_on_the_way=0,
        senders_on_the_way=0,
        subscribers={},
        broadcast=False,
        receiving_over=False,
        sending_over=False,
        poisoned=False,
    )
    channel.send_many([1, 2])
    channel.recv()
    now = channel.statistics()
    assert (now.queued, now.sent, now.received, now.receivers, now.senders) == (1, 2, 1, [0], [0])
    assert Channel().statistics().maxsize is None
    assert Channel(rendezvous=True).statistics().maxsize == 0
    assert memchannel.stats().channels >= 1


# ---- iteration and context managers


def test_iteration_ends_with_the_channel() -> None:
    channel: Channel[int] = Channel()
    recv, send = channel.ends
    send.send_many(range(5))
    assert next(recv) == 0
    send.close()
    assert list(recv) == [1, 2, 3, 4]
    assert list(recv) == []
    assert iter(recv) is recv
    with pytest.raises(TypeError):
        iter(send)  # type: ignore[call-overload]


def test_iteration_waits() -> None:
    channel: Channel[int] = Channel()
    reader = Task(list, channel.ends[0])
    for number in range(3):
        wait_until(lambda: waiting(channel) == (1, 0))
        channel.send(number)
    wait_until(lambda: waiting(channel) == (1, 0))
    channel.ends[1].close()
    assert reader.result() == [0, 1, 2]


def test_iteration_raises_what_is_no_end() -> None:
    channel: Channel[int] = Channel()
    channel.ends[0].close()
    with pytest.raises(ClosedChannelError):
        next(channel)
    other: Channel[int] = Channel()
    other.poison()
    with pytest.raises(PoisonedChannelError):
        list(other)


def test_context_managers_close() -> None:
    channel: Channel[int] = Channel()
    recv, send = channel.ends
    with send as inner:
        assert inner is send
        send.send(1)
    assert send.closed
    assert not recv.closed
    assert not channel.closed
    with pytest.raises(ZeroDivisionError), recv:
        1 / 0  # noqa: B018
    assert recv.closed
    assert channel.closed
    with Channel[int]() as both:
        both.send(1)
    assert both.closed


# ---- the end of a side


@each_kind
def test_receivers_drain_and_then_reach_the_end(kind: type[Any]) -> None:
    channel = kind()
    recv, send = channel.ends
    send.send(parcel(kind, 1))
    assert send.close() is True
    assert send.closed
    assert unpack(recv.recv()) == 1
    for call in (recv.recv, recv.recv_nowait, lambda: recv.recv(0), lambda: recv.recv_many(1)):
        with pytest.raises(EndOfChannel, match=rf"channel {channel.id} has ended"):
            call()
    assert issubclass(EndOfChannel, EOFError)


@each_kind
def test_senders_are_told_that_nobody_receives(kind: type[Any]) -> None:
    channel = kind()
    recv, send = channel.ends
    send.send(parcel(kind, 1))
    assert recv.close() is False, "closing counts even if the end was never used"
    assert len(channel) == 0
    for call in (send.send, send.send_nowait, lambda obj: send.send_many([obj])):
        with pytest.raises(BrokenChannelError, match=rf"channel {channel.id} has no receivers any more"):
            call(parcel(kind, 2))
    assert issubclass(BrokenChannelError, BrokenPipeError)


def test_a_closed_end_refuses() -> None:
    channel: Channel[int] = Channel()
    recv, send = channel.ends
    recv.close()
    send.close()
    for call in (recv.recv, recv.recv_nowait, lambda: recv.recv_many(1), lambda: next(recv)):
        with pytest.raises(ClosedChannelError, match="the receiving end of channel .* is closed"):
            call()
    for send_call in (send.send, send.send_nowait, lambda obj: send.send_many([obj])):
        with pytest.raises(ClosedChannelError, match="the sending end of channel .* is closed"):
            send_call(1)
    assert issubclass(ClosedChannelError, ValueError)
    assert recv.close() is False
    assert RecvChannel(channel.id).closed


def test_closing_wakes_ones_own_calls() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    channel.send(0)
    sender = Task(channel.send, 1)
    wait_until(lambda: waiting(channel) == (0, 1))
    channel.ends[1].close()
    with pytest.raises(ClosedChannelError):
        sender.result()
    other: Channel[int] = Channel()
    receiver = Task(other.recv)
    wait_until(lambda: waiting(other) == (1, 0))
    other.ends[0].close()
    with pytest.raises(ClosedChannelError):
        receiver.result()


def test_the_end_of_one_side_wakes_the_other() -> None:
    channel: Channel[int] = Channel()
    receivers = [Task(channel.recv) for _ in range(3)]
    wait_until(lambda: waiting(channel) == (3, 0))
    channel.ends[1].close()
    for receiver in receivers:
        with pytest.raises(EndOfChannel):
            receiver.result()
    other: Channel[int] = Channel(rendezvous=True)
    senders = [Task(other.send, number) for number in range(3)]
    wait_until(lambda: waiting(other) == (0, 3))
    other.ends[0].close()
    for sender in senders:
        with pytest.raises(BrokenChannelError):
            sender.result()


# ---- poison


def test_poison_reaches_present_and_future_calls() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    channel.send(0)
    sender = Task(channel.send, 1)
    wait_until(lambda: waiting(channel) == (0, 1))
    other: Channel[int] = Channel()
    receiver = Task(other.recv)
    wait_until(lambda: waiting(other) == (1, 0))
    reason = LookupError("no more")
    reason.add_note("really")
    for poisoned in (channel, other):
        poisoned.poison(reason)
    for task in (sender, receiver):
        with pytest.raises(PoisonedChannelError) as caught:
            task.result()
        cause = caught.value.__cause__
        assert type(cause) is LookupError
        assert cause is not reason, "a copy"
        assert cause.args == ("no more",)
        assert cause.__notes__ == ["really"]
    for call in (
        channel.recv,
        channel.recv_nowait,
        lambda: channel.recv_many(2),
        lambda: channel.send(1),
        lambda: channel.send_nowait(1),
        lambda: channel.send_many([1]),
        lambda: next(channel),
        lambda: memchannel.select(channel),
        lambda: memchannel.select((channel, 1)),
        channel.broadcast,
    ):
        with pytest.raises(
            PoisonedChannelError, match=rf"channel {channel.id} is poisoned: LookupError: no more"
        ):
            call()
    assert channel.statistics().poisoned
    assert issubclass(PoisonedChannelError, RuntimeError)


def test_poison_gives_leases_back() -> None:
    channel = MemChannel()
    memory = bytearray(b"lent")
    channel.send(memory)
    channel.poison()
    memory += b"!"
    assert len(channel) == 0
    with pytest.raises(PoisonedChannelError) as caught:
        channel.recv()
    assert caught.value.__cause__ is None


def test_only_the_first_poison_counts() -> None:
    channel: Channel[int] = Channel()
    channel.ends[0].poison(ValueError("first"))
    channel.ends[1].poison(exc=KeyError("second"))
    with pytest.raises(PoisonedChannelError, match="first"):
        channel.recv()
    for wrong in ("text", ValueError, 3):
        with pytest.raises(TypeError, match=r"poison\(\) takes an exception or None, not"):
            channel.poison(wrong)  # type: ignore[arg-type]


def test_poison_with_what_cannot_be_pickled() -> None:
    class Local(Exception):
        pass

    channel: Channel[int] = Channel()
    channel.poison(Local("here", threading.Lock()))
    with pytest.raises(PoisonedChannelError, match="here") as caught:
        channel.recv()
    assert caught.value.__cause__ is not None


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"maxsize": -1}, ValueError, r"maxsize must be >= 0 \(0: unbounded\), not -1"),
        ({"maxsize": 1.5}, TypeError, "maxsize must be an int, not float"),
        ({"maxsize": "3"}, TypeError, "maxsize must be an int, not str"),
        ({"maxsize": None}, TypeError, "maxsize must be an int, not NoneType"),
        ({"maxsize": True}, TypeError, "maxsize must be an int, not bool"),
        ({"maxsize": 10**30}, OverflowError, "maxsize must be an int of at most [0-9]+, not 10{30}; 0 is"),
        ({"maxsize": 3, "rendezvous": True}, ValueError, "holds no messages: maxsize must be 0, not 3"),
        ({"release": "lazy"}, ValueError, "release must be 'eager' or 'deferred', not 'lazy'"),
        ({"release": None}, TypeError, "release must be a str, not NoneType"),
        ({"name": 3}, TypeError, "name must be a str, not int"),
        ({"name": "a\0b"}, ValueError, r"name must have no null characters, unlike 'a\\x00b'"),
        ({"size": 3}, TypeError, "size"),
    ],
    ids=str,
)
@each_kind
def test_bad_arguments_of_the_classes(
    kind: type[Any], arguments: dict[str, Any], error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        kind(**arguments)
    with pytest.raises(error, match=text):
        create_channel(kind, **arguments)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (math.nan, ValueError),
        (-math.inf, ValueError),
        (math.inf, OverflowError),
        (1e300, OverflowError),
        (1 << 10000, OverflowError),
        (-1 << 10000, ValueError),
        ("1", TypeError),
        ([], TypeError),
        (1j, TypeError),
    ],
    ids=lambda value: f"{value:x}"[:9] if isinstance(value, int) else str(value),
)
def test_bad_timeouts(timeout: Any, error: type[Exception]) -> None:
    channel = MemChannel(maxsize=1)
    memory = bytearray(b"mine")
    calls = [
        lambda: channel.recv(timeout),
        lambda: channel.recv_many(1, timeout),
        lambda: channel.send(memory, timeout),
        lambda: channel.send_many([memory], timeout),
        lambda: memchannel.select(channel, timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(error, match="^timeout (must be|of|is too large)"):
            call()
    memory += b"!"
    assert len(channel) == 0


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        (0, ValueError),
        (-3, ValueError),
        (1.0, TypeError),
        ("3", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_bad_limits(limit: Any, error: type[Exception]) -> None:
    channel: Channel[int] = Channel()
    channel.send(1)
    with pytest.raises(error, match="limit must be"):
        channel.recv_many(limit)
    assert channel.recv_many(10**30) == [1]


def test_wrong_arguments_of_methods() -> None:
    channel: Channel[Any] = Channel()
    for call, text in [
        (lambda: channel.send(), r"send\(\) missing required argument 'obj'"),
        (lambda: channel.send(1, 2, 3), r"send\(\) takes at most 2 positional arguments \(3 given\)"),
        (lambda: channel.send(1, obj=2), r"send\(\) got multiple values for argument 'obj'"),
        (lambda: channel.send(1, wait=2), r"send\(\) got an unexpected keyword argument 'wait'"),
        (lambda: channel.recv(1, 2), r"recv\(\) takes at most 1 positional argument \(2 given\)"),
        (lambda: channel.recv(copy=True), "are for an ArrayChannel only"),
        (lambda: channel.recv_nowait(as_view=True), "are for an ArrayChannel only"),
        (lambda: channel.recv_async(as_view=True), "are for an ArrayChannel only"),
        (lambda: channel.recv_many(), r"recv_many\(\) missing required argument 'limit'"),
        (lambda: channel.send_many(), r"send_many\(\) missing required argument 'iterable'"),
        (lambda: channel.send_many(3), "not iterable"),
        (lambda: channel.close(1), "takes no arguments"),
    ]:
        with pytest.raises(TypeError, match=text):
            call()  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="exclude each other"):
        ArrayChannel().recv(copy=True, as_view=True)


def test_wrong_arguments_name_the_class() -> None:
    """The classes are called like functions, so their errors name them."""
    for made, text in [
        (lambda: Channel(size=1), r"^Channel\(\) got an unexpected keyword argument 'size'"),
        (lambda: ArrayChannel(1, True), r"^ArrayChannel\(\) takes at most 1 positional argument \(2 given\)"),
        (lambda: memchannel.MemChannel(1, 2), r"^MemChannel\(\) takes"),
        (lambda: RecvChannel(), r"^RecvChannel\(\) missing required argument 'id'"),
        (lambda: SendChannel(1, 2), r"^SendChannel\(\) takes at most 1 argument"),
        (lambda: RecvChannel(True), "the id of a channel must be int, not bool"),
        (lambda: memchannel.Barrier(), r"^Barrier\(\) missing required argument 'parties'"),
        (lambda: memchannel.Condition(None, 2), r"^Condition\(\) takes at most 1"),
        (lambda: memchannel.Counter(start=2), r"^Counter\(\) got an unexpected"),
        (lambda: memchannel.Semaphore(n=2), r"^Semaphore\(\) got an unexpected"),
        (lambda: memchannel.BoundedSemaphore(n=2), r"^BoundedSemaphore\(\) got an unexpected"),
    ]:
        with pytest.raises(TypeError, match=text):
            made()  # type: ignore[no-untyped-call]


class Refusing:
    """Fails half-way through its pickling, after an array was lent."""

    def __init__(self) -> None:
        self.array = np.arange(1000)

    def __reduce__(self) -> Any:
        return (tuple, ([self.array, Failing()],))


class Failing:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise OSError("the pickling fails")


@each_shape
def test_an_error_in_the_codec_sends_and_lends_nothing(shape: dict[str, Any]) -> None:
    channel: Channel[Any] = Channel(**shape)
    array = np.arange(1000)
    before = memchannel.stats()
    references = sys.getrefcount(array)
    for call in (
        lambda obj: channel.send(obj),
        lambda obj: channel.send_nowait(obj),
        lambda obj: channel.send_many([array, obj]),
        lambda obj: memchannel.select((channel, array), (channel, obj)),
    ):
        with pytest.raises(OSError, match="the pickling fails"):
            call((array, Refusing()))
        assert memchannel.stats().live == before.live
        assert len(channel) == 0
    assert sys.getrefcount(array) == references


def test_what_a_kind_does_not_take() -> None:
    memory, arrays = MemChannel(), ArrayChannel()
    for wrong in (3, [1, 2], None, object(), {"a": 1}):
        with pytest.raises(TypeError):
            memory.send(wrong)  # type: ignore[arg-type]
    for wrong in (3, [1, 2], "text", None, object()):
        with pytest.raises(TypeError):
            arrays.send(wrong)
    released = memoryview(b"x")
    released.release()
    with pytest.raises(ValueError, match="released"):
        memory.send(released)
    assert len(memory) == len(arrays) == 0


def test_ends_of_the_parent_are_useless_in_a_forked_child() -> None:
    script = """if True:
        import os, pickle, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import memchannel
        from memchannel import Channel, MemChannel, RecvChannel
        channel = Channel(name="ours"); memory = MemChannel(); memory.send(bytearray(b"x"))
        bound = Channel(maxsize=1); subscription = bound.broadcast()
        recv, send = channel.ends
        channel.send((recv, 1))
        data = pickle.dumps(recv)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                import asyncio
                calls = {
                    "recv": recv.recv, "recv_nowait": recv.recv_nowait, "recv_many": lambda:
                    recv.recv_many(1), "send": lambda: send.send(1), "send_nowait": lambda:
                    send.send_nowait(1), "send_many": lambda: send.send_many([1]), "close": recv.close,
                    "poison": send.poison, "broadcast": channel.broadcast, "statistics": recv.statistics,
                    "len": lambda: len(recv), "next": lambda: next(recv), "select": lambda:
                    memchannel.select(recv), "closed": lambda: recv.closed, "interpreters": lambda:
                    recv.interpreters, "pickle": lambda: pickle.dumps(recv), "ends": lambda: channel.ends,
                    "recv_async": recv.recv_async, "send_async": lambda: send.send_async(1),
                    "subscription": subscription.recv,
                }
                for name, call in calls.items():
                    try:
                        call()
                    except RuntimeError as exc:
                        assert "belongs to the parent process" in str(exc), (name, exc)
                        assert "make a new one" in str(exc)
                    else:
                        raise AssertionError(name)
                try:
                    pickle.loads(data)
                except RuntimeError as exc:
                    assert "pickled in another process" in str(exc)
                assert repr(recv) == f"<RecvChannel of Channel {recv.id} 'ours' of the parent process>"
                assert recv == channel.ends[0] if False else recv == recv
                assert memchannel.stats().channels == 0
                assert memchannel.list_all_channels() == []
                # What is made here works.
                fresh = Channel(); fresh.send((1, fresh)); assert fresh.recv()[0] == 1
                async def main():
                    return await fresh.recv_async()
                fresh.send("later"); assert asyncio.run(main()) == "later"
                del channel, memory, recv, send, subscription, bound
                status = 0
            finally:
                sys.stdout.flush(); sys.stderr.flush()
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        # The parent noticed nothing.
        assert recv.recv()[1] == 1 and len(memory) == 1
        with memory.recv() as view:
            assert bytes(view) == b"x"
        print("fine")
    """
    assert run_script(script) == "fine\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_forked_with_a_call_parked_lives() -> None:
    script = """if True:
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from memchannel import Channel, stats
        channel = Channel()
        thread = threading.Thread(target=channel.recv); thread.start()
        while not channel.statistics().waiting_receivers: pass
        child = os.fork()
        if child == 0:
            os._exit(0 if stats().waiting == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        channel.send(1); thread.join()
        print("fine")
    """
    assert run_script(script) == "fine\n"


def test_statistics_and_balance_are_not_blind() -> None:
    """The fixture that all these tests use does see what is left over."""
    channel = MemChannel()
    with pytest.raises(AssertionError), pytest.MonkeyPatch.context() as patch:
        patch.setattr("channel_support.HANG", 0.05)
        with balanced():
            channel.send(bytearray(1))
    channel.close()

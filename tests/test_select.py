"""select(): the first of several sends and receives, exactly one, fairly."""

from __future__ import annotations

import collections
import gc
import pickle
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_calls import parcel, unpack
from channel_support import Neighbour, Task, each_ending, wait_until, waiting
from memchannel import (
    ArrayChannel,
    BrokenChannelError,
    Channel,
    ClosedChannelError,
    EndOfChannel,
    MemChannel,
    PoisonedChannelError,
    select,
)

pytestmark = pytest.mark.usefixtures("balanced")


def test_the_ready_one_is_done() -> None:
    first, second = Channel[int](), Channel[int]()
    second.send(2)
    recv = second.ends[0]
    assert select(first, recv) == (recv, 2)
    assert select(first, recv)[0] is recv if second.send(3) is None else None
    first.send(1)
    end, value = select(first, second)
    assert end is first, "the object that was given"
    assert value == 1


def test_a_send_that_has_room_is_done() -> None:
    full: Channel[int] = Channel(maxsize=1)
    full.send(0)
    free: Channel[int] = Channel(maxsize=1)
    assert select((full, 1), (free.ends[1], 2)) == (free.ends[1], None)
    assert (full.recv_many(5), free.recv_many(5)) == ([0], [2])


def test_sends_and_receives_of_all_kinds_mix() -> None:
    memory, arrays, objects = MemChannel(), ArrayChannel(), Channel[Any](rendezvous=True)
    array = np.arange(4)
    end, value = select(memory, arrays, (objects, {"a": 1}), (arrays, array))
    assert (end, value) == (arrays, None)
    end, value = select(memory, arrays, (objects, {"a": 1}))
    assert end is arrays
    assert value.__array_interface__["data"] == (array.__array_interface__["data"][0], True)
    del value
    receiver = Task(objects.recv)
    wait_until(lambda: waiting(objects) == (1, 0))
    assert select(memory, (objects, {"a": 1})) == (objects, None)
    assert receiver.result() == {"a": 1}
    memory.send(b"last")
    assert unpack(select(memory)[1]) == int.from_bytes(b"last", "little")


def test_it_waits_for_the_first() -> None:
    channels = [Channel[int]() for _ in range(5)]
    full: Channel[int] = Channel(maxsize=1)
    full.send(0)
    chooser = Task(select, *channels, (full, 1))
    wait_until(lambda: all(waiting(channel) == (1, 0) for channel in channels))
    assert waiting(full) == (0, 1)
    channels[3].send(7)
    assert chooser.result() == (channels[3], 7)
    assert all(waiting(channel) == (0, 0) for channel in (*channels, full)), "it left all lines"
    assert full.recv_many(9) == [0]


def test_a_waiting_send_goes_on_when_there_is_room() -> None:
    full: Channel[int] = Channel(maxsize=1)
    full.send(0)
    rendezvous: Channel[int] = Channel(rendezvous=True)
    chooser = Task(select, (full, 1), (rendezvous, 2))
    wait_until(lambda: waiting(rendezvous) == (0, 1))
    assert full.recv() == 0
    assert chooser.result() == (full, None)
    assert full.recv() == 1
    assert rendezvous.recv_nowait() is None
    chooser = Task(select, (rendezvous, 3))
    assert rendezvous.recv() == 3
    chooser.result()


def test_timeouts() -> None:
    empty: Channel[int] = Channel()
    full = MemChannel(maxsize=1)
    full.send(b"")
    memory = bytearray(b"mine")
    for timeout in (0, 0.0, 0.001):
        with pytest.raises(TimeoutError, match=r"select\(\) timed out"):
            select(empty, (full, memory), timeout=timeout)
        memory += b"!"
    assert waiting(empty) == (0, 0)
    assert waiting(full) == (0, 0)
    full.close()


def test_bad_input() -> None:
    channel: Channel[Any] = Channel()
    recv, send = channel.ends
    with pytest.raises(ValueError, match=r"select\(\) of nothing would wait for ever"):
        select()
    for wrong in (3, None, send, (recv, 1), (send,), (send, 1, 2), [send, 1], "ab", (3, 4)):
        with pytest.raises(TypeError, match=r"takes receiving ends and \(sending end, object\) pairs"):
            select(recv, wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'wait'"):
        select(recv, wait=3)  # type: ignore[call-arg]
    memory = MemChannel()
    lent = bytearray(b"x")
    with pytest.raises(TypeError):
        select((memory, lent), (memory, 3))  # type: ignore[arg-type]
    lent += b"!"
    assert len(memory) == 0


def test_an_error_counts_as_done() -> None:
    silent: Channel[int] = Channel()
    ended: Channel[int] = Channel()
    ended.ends[1].close()
    with pytest.raises(EndOfChannel, match=f"channel {ended.id} has ended") as end:
        select(silent, ended)
    assert end.value.channel == ended.id
    broken: Channel[int] = Channel()
    broken.ends[0].close()
    with pytest.raises(BrokenChannelError, match=f"channel {broken.id}") as end_of_receivers:
        select(silent, (broken, 1))
    assert end_of_receivers.value.channel == broken.id
    closed: Channel[int] = Channel()
    closed.close()
    for case in (closed, (closed, 1)):
        with pytest.raises(ClosedChannelError) as closing:
            select(silent, case)
        assert closing.value.channel == closed.id
    poisoned: Channel[int] = Channel()
    poisoned.poison(ValueError("why"))
    for case in (poisoned, (poisoned, 1)):
        with pytest.raises(PoisonedChannelError, match="why") as poisoning:
            select(silent, case)
        assert poisoning.value.channel == poisoned.id


def test_an_error_names_its_channel_wherever_it_goes() -> None:
    """By this a loop over several streams knows which of them to leave out from then on."""
    streams = [Channel[int](maxsize=2) for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.ends[1].send(number)
        stream.ends[1].close()
    open_ends = {stream.ends[0].id: stream.ends[0] for stream in streams}
    received = []
    while open_ends:
        try:
            received.append(select(*open_ends.values())[1])
        except EndOfChannel as end:
            open_ends.pop(end.channel)  # type: ignore[arg-type]
    assert sorted(received) == [0, 1, 2]

    with pytest.raises(EndOfChannel) as raised:
        streams[0].ends[0].recv()
    errors: Channel[EndOfChannel] = Channel()
    errors.send(raised.value)
    assert errors.recv().channel == pickle.loads(pickle.dumps(raised.value)).channel == streams[0].id
    assert EndOfChannel("made by hand").channel is None
    news: Channel[int] = Channel()
    subscriber = news.broadcast()
    news.send(1)
    news.ends[1].close()
    assert subscriber.recv() == 1
    with pytest.raises(EndOfChannel) as last:
        subscriber.recv()
    assert last.value.channel == subscriber.id, "that of the end, not of what it listens to"


@each_ending
def test_what_happens_to_a_channel_while_it_is_selected(event: Any, error: type[Exception]) -> None:
    channel, other = Channel[int](), Channel[int]()
    chooser = Task(select, other, channel)
    wait_until(lambda: waiting(channel) == (1, 0))
    event(channel)
    with pytest.raises(error):
        chooser.result()
    assert waiting(other) == (0, 0)


def test_a_selected_send_whose_receivers_leave() -> None:
    full: Channel[int] = Channel(maxsize=1)
    full.send(0)
    chooser = Task(select, (full, 1), Channel[int]())
    wait_until(lambda: waiting(full) == (0, 1))
    full.ends[0].close()
    with pytest.raises(BrokenChannelError):
        chooser.result()


def test_the_same_channel_twice() -> None:
    channel: Channel[int] = Channel()
    recv = channel.ends[0]
    chooser = Task(select, recv, channel, recv)
    wait_until(lambda: waiting(channel) == (3, 0))
    channel.send_many([1, 2])
    assert chooser.result()[1] == 1
    assert channel.recv() == 2
    assert waiting(channel) == (0, 0)
    full: Channel[int] = Channel(rendezvous=True)
    chooser = Task(select, (full, 1), (full, 2))
    wait_until(lambda: waiting(full) == (0, 2))
    assert full.recv() in (1, 2)
    assert chooser.result() == (full, None)
    assert full.recv_nowait() is None


def test_a_call_does_not_meet_itself() -> None:
    rendezvous: Channel[int] = Channel(rendezvous=True)
    with pytest.raises(TimeoutError):
        select(rendezvous, (rendezvous, 1), timeout=0.001)
    chooser = Task(select, rendezvous, (rendezvous, 1))
    wait_until(lambda: waiting(rendezvous) == (1, 1))
    rendezvous.send(2)
    assert chooser.result() == (rendezvous, 2)
    both = [Task(select, rendezvous, (rendezvous, number)) for number in (3, 4)]
    outcomes = sorted([one.result()[1] for one in both], key=str)
    assert outcomes in ([3, None], [4, None])


def test_a_buffered_channel_with_both_sides_in_one_select() -> None:
    channel: Channel[int] = Channel(maxsize=1)
    assert select(channel, (channel, 1)) == (channel, None)
    assert select(channel, (channel, 2)) == (channel, 1)
    assert len(channel) == 0


def test_exactly_one_selector_takes_a_message() -> None:
    channels = [Channel[int]() for _ in range(3)]
    choosers = [Task(select, *channels) for _ in range(8)]
    wait_until(lambda: all(waiting(channel) == (8, 0) for channel in channels))
    for number in range(8):
        channels[number % 3].send(number)
    outcomes = [chooser.result() for chooser in choosers]
    assert sorted(value for _, value in outcomes) == list(range(8))
    assert all(channels[value % 3] is end for end, value in outcomes)
    assert all(len(channel) == 0 for channel in channels)
    assert all(waiting(channel) == (0, 0) for channel in channels)


def test_selectors_in_other_interpreters(neighbours: list[Neighbour]) -> None:
    channels = [Channel[int]() for _ in range(4)]
    numbers = [channel.id for channel in channels]
    for one in neighbours:
        one.do("ends = [RecvChannel(n) for n in numbers]", numbers=numbers)
        one.start("[select(*ends)[1] for _ in range(200)]")
    for number in range(200 * len(neighbours)):
        channels[number % 4].send(number)
    received = [number for one in neighbours for number in one.result()]
    assert sorted(received) == list(range(200 * len(neighbours)))
    for one in neighbours:
        one.do("[end.close() for end in ends]; del ends")


# Pearson's chi-squared for three degrees of freedom: 40 has a probability of 1e-8 for a fair choice.
CHI_SQUARED = 40.0


def chi_squared(counts: collections.Counter[int], cases: int) -> float:
    """Return Pearson's statistic of the counts against a uniform distribution."""
    expected = counts.total() / cases
    return sum((counts[case] - expected) ** 2 / expected for case in range(cases))


@pytest.mark.parametrize("sides", ["recv", "send", "mixed"])
def test_the_choice_among_ready_cases_is_uniform(sides: str) -> None:
    channels = [Channel[int]() for _ in range(4)]
    for channel in channels:
        channel.send_many(range(2000))
    sending = {"recv": (), "send": (0, 1, 2, 3), "mixed": (1, 3)}[sides]
    cases = [(channel, 0) if number in sending else channel for number, channel in enumerate(channels)]
    counts = collections.Counter(channels.index(select(*cases)[0]) for _ in range(2000))  # type: ignore[arg-type]
    assert chi_squared(counts, 4) < CHI_SQUARED, counts


@pytest.mark.parametrize("ready", [(0, 1, 2, 3), (0, 5, 10, 15), (2, 3, 13, 14)])
def test_the_choice_is_uniform_wherever_the_ready_ones_stand(ready: tuple[int, ...]) -> None:
    """Cases that are not ready give their share to all others, not to their neighbours."""
    channels = [Channel[int]() for _ in range(16)]
    for number in ready:
        channels[number].send_many(range(2000))
    counts = collections.Counter(ready.index(channels.index(select(*channels)[0])) for _ in range(2000))  # type: ignore[arg-type]
    assert chi_squared(counts, 4) < CHI_SQUARED, counts


def test_a_ready_case_is_not_hidden_by_a_busy_one() -> None:
    busy, rare = Channel[int](), Channel[int]()
    busy.send_many(range(10_000))
    rare.send(-1)
    assert any(select(busy, rare)[1] == -1 for _ in range(200)), "probability 2 ** -200 if fair"


def test_duplicates_of_a_channel_share_the_choice() -> None:
    channel, other = Channel[int](), Channel[int]()
    for one in (channel, other):
        one.send_many(range(4000))
    counts = collections.Counter(select(channel, channel, channel, other)[0] is channel for _ in range(2000))
    assert 1350 < counts[True] < 1650, counts


def test_many_selects_and_plain_calls_at_once() -> None:
    """Everything sent is received once, whichever way it goes (Go's TestSelectStress)."""
    channels = [
        Channel[Any](rendezvous=True),
        Channel[Any](rendezvous=True),
        Channel[Any](maxsize=2),
        Channel[Any](maxsize=3),
    ]
    each = 300

    def send_all(channel: Channel[Any], who: str) -> None:
        for number in range(each):
            channel.send((who, channel.id, number))

    def select_send(who: str) -> None:
        left = dict.fromkeys(channels, 0)
        while left:
            end, _ = select(*[(channel, (who, channel.id, number)) for channel, number in left.items()])
            left[end] += 1  # type: ignore[index]
            if left[end] == each:  # type: ignore[index]
                del left[end]  # type: ignore[arg-type]

    def receive_all(channel: Channel[Any]) -> list[Any]:
        return [channel.recv() for _ in range(each)]

    def select_receive() -> list[Any]:
        left = dict.fromkeys(channels, each)
        received = []
        while left:
            end, value = select(*left)
            received.append(value)
            left[end] -= 1  # type: ignore[index]
            if left[end] == 0:  # type: ignore[index]
                del left[end]  # type: ignore[arg-type]
        return received

    senders = [Task(send_all, channel, "plain") for channel in channels] + [Task(select_send, "select")]
    receivers = [Task(receive_all, channel) for channel in channels] + [Task(select_receive)]
    for sender in senders:
        sender.result()
    received = [message for receiver in receivers for message in receiver.result()]
    expected = [
        (who, channel.id, number)
        for who in ("plain", "select")
        for channel in channels
        for number in range(each)
    ]
    assert sorted(received) == sorted(expected)


def test_a_losing_send_lends_nothing() -> None:
    channel = MemChannel()
    full = MemChannel(maxsize=1)
    full.send(b"")
    channel.send(b"x")
    memory = bytearray(b"mine")
    end, value = select(channel, (full, memory))
    assert end is channel
    value.release()
    memory += b"!"
    chooser = Task(lambda: unpack(select(channel, (full, memory))[1]))
    wait_until(lambda: waiting(full) == (0, 1))
    with pytest.raises(BufferError):
        memory += b"!"
    channel.send(parcel(MemChannel, 3))
    assert chooser.result() == 3
    gc.collect()
    memory += b"!"
    full.close()


def test_a_select_over_many_channels() -> None:
    channels = [Channel[int]() for _ in range(500)]
    channels[321].send(1)
    assert select(*channels) == (channels[321], 1)
    chooser = Task(select, *channels)
    wait_until(lambda: waiting(channels[499]) == (1, 0))
    wait_until(lambda: waiting(channels[0]) == (1, 0))
    channels[123].send(2)
    assert chooser.result() == (channels[123], 2)


def test_it_shows_in_the_list_of_waits() -> None:
    first, second = Channel[int](), Channel[int](rendezvous=True)
    chooser = Task(select, first, (second, 1), timeout=60)
    wait_until(lambda: waiting(second) == (0, 1))
    wait_until(lambda: any(wait.operation == "select" for wait in memchannel.dump_waits()))
    wait = next(wait for wait in memchannel.dump_waits() if wait.operation == "select")
    assert wait.targets == ((first.id, "recv"), (second.id, "send"))
    assert wait.channel is None
    assert wait.timed
    assert wait.interpreter == 0
    first.send(0)
    chooser.result()

"""Channels that nobody can reach go away, and what they hold goes home."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import memchannel
from channel_support import Neighbour, Task, balanced, run_script, wait_until, waiting
from memchannel import Channel, MemChannel, RecvChannel, SendChannel, _core, list_all_channels

pytestmark = pytest.mark.usefixtures("balanced", "no_automatic_collection")


@pytest.fixture
def no_automatic_collection() -> Iterator[None]:
    """Which collects channels as well, at any allocation."""
    gc.disable()
    yield
    gc.enable()


def channels() -> int:
    """Count channels without collecting any."""
    return _core._stats()[6]


def test_a_dropped_channel_gives_leases_back_at_once() -> None:
    before = channels()
    memory = bytearray(b"lent")
    channel = MemChannel()
    channel.send(memory)
    number = channel.id
    send = channel.ends[1]
    del channel
    assert channels() == before + 1, "one end suffices"
    del send
    assert channels() == before
    memory += b"!"
    with pytest.raises(ValueError, match="nobody holds an end of it"):
        RecvChannel(number)


def test_channels_that_hold_each_other_are_collected_with_garbage() -> None:
    before = channels()
    memory = bytearray(b"lent")
    first: Channel[Any] = Channel()
    second: Channel[Any] = Channel()
    first.send((second, memoryview(memory).tobytes()))
    second.send((first.ends[0], first.ends[1]))
    carried = MemChannel()
    carried.send(memory)
    second.send(carried)
    del first, second, carried
    assert channels() == before + 3
    gc.collect()
    assert channels() == before
    memory += b"!"


def test_a_channel_that_holds_itself_is_collected() -> None:
    before = channels()
    channel: Channel[Any] = Channel()
    channel.send(channel)
    channel.send(channel.ends[1])
    del channel
    assert channels() == before + 1
    memchannel.stats()
    assert channels() == before


@pytest.mark.parametrize(
    "collect", [memchannel.stats, list_all_channels, gc.collect], ids=lambda one: one.__name__
)
def test_what_collects(collect: Any) -> None:
    before = channels()
    channel: Channel[Any] = Channel()
    channel.send(channel)
    del channel
    collect()
    assert channels() == before


def test_reachable_cycles_stay() -> None:
    first: Channel[Any] = Channel()
    second: Channel[Any] = Channel()
    first.send(second)
    second.send(first)
    second.send("still here")
    number = second.id
    del second
    gc.collect()
    again = first.recv()
    assert again.id == number
    assert again.recv() == first
    assert again.recv() == "still here"


def test_a_chain_from_a_reachable_channel_stays() -> None:
    chain: list[Channel[Any]] = [Channel() for _ in range(50)]
    for one, following in itertools.pairwise(chain):
        one.send(following)
    chain[-1].send(chain[0])
    end = chain[0]
    del chain, one, following
    gc.collect()
    for _ in range(49):
        end = end.recv()
    assert end.recv().recv_nowait() is None


def test_a_parked_call_keeps_its_channel() -> None:
    channel: Channel[Any] = Channel()
    full: list[Channel[Any]] = [Channel(maxsize=1)]
    full[0].send(channel)
    sender = Task(full[0].send, full[0])
    wait_until(lambda: waiting(full[0]) == (0, 1))
    number = full.pop().id
    gc.collect()
    kept = RecvChannel(number)
    assert kept.recv() == channel
    sender.result()
    assert kept.recv().id == number


def test_cycles_through_broadcasts() -> None:
    before = channels()
    source: Channel[Any] = Channel()
    first, second = source.broadcast(), source.broadcast()
    source.send((source, first))
    assert first.recv()[0] == source
    source.send("more")
    del first
    gc.collect()
    assert channels() == before + 3, "the first is queued for the second"
    del source
    gc.collect()
    source_again, first_again = second.recv()
    assert first_again.recv() == "more"
    source_again.send(second)
    del first_again, source_again
    del second
    assert channels() == before + 2
    gc.collect()
    assert channels() == before


def test_a_received_message_in_hand_keeps_what_it_carries() -> None:
    """One subscriber makes the objects while the other subscription is garbage."""
    source: Channel[Any] = Channel()
    inner: Channel[Any] = Channel()
    inner.send("kept")
    first, second = source.broadcast(), source.broadcast()
    source.send((Collecting(), inner))
    second_holder: Channel[Any] = Channel()
    second_holder.send(second)
    second_holder.send(second_holder)
    del inner, second, second_holder
    _, inner_again = first.recv()
    assert inner_again.recv() == "kept"


class Collecting:
    """Collects garbage while it is made."""

    def __reduce__(self) -> Any:
        return (gc.collect, ())


def test_cycles_across_interpreters(neighbour: Neighbour) -> None:
    before = channels()
    mine: Channel[Any] = Channel()
    neighbour.do(
        """
hers = Channel()
hers.send(RecvChannel(n))
SendChannel(n).send(hers)
memory = bytearray(b'lent')
lent = MemChannel(); lent.send(memory)
hers.send(lent)
del hers, lent
""",
        n=mine.id,
    )
    assert channels() == before + 3
    del mine
    gc.collect()
    assert channels() == before
    neighbour.do("memory += b'!'")


def test_garbage_of_one_interpreter_is_collected_in_another(neighbour: Neighbour) -> None:
    neighbour.do("import gc; gc.disable(); gc.collect()")  # of what other tests left there
    before = channels()
    neighbour.do("c = Channel(); c.send(c); del c")
    assert channels() == before + 1
    gc.collect()
    assert channels() == before
    channel: Channel[Any] = Channel()
    channel.send(channel)
    del channel
    neighbour.do("gc.collect(); gc.enable()")
    assert channels() == before


DEPTH = 10_000


@pytest.mark.parametrize("end", ["drop", "collect", "close", "receive", "poison"])
def test_deep_nesting_needs_no_stack(end: str) -> None:
    """Dropped in a thread with a small stack: recursion of that depth would overflow it."""
    before = channels()
    chain: list[Channel[Any]] = [Channel() for _ in range(DEPTH)]
    for one, following in itertools.pairwise(chain):
        one.send(following)
    memory = bytearray(b"lent")
    bottom = MemChannel()
    bottom.send(memory)
    chain[-1].send(bottom)
    first = [chain[0]]
    del chain, one, following, bottom

    def finish() -> None:
        match end:
            case "drop":
                first.clear()
            case "collect":
                first[0].send(first[0])
                first.clear()
                gc.collect()
            case "close":
                first[0].close()
            case "poison":
                first[0].poison()
            case "receive":
                first[0].recv()

    size = threading.stack_size(256 * 1024)
    try:
        Task(finish).result()
    finally:
        threading.stack_size(size)
    first.clear()
    assert channels() == before
    memory += b"!"


def test_deep_nesting_of_subscriptions() -> None:
    before = channels()
    first: Channel[Any] = Channel()
    first_end = first.broadcast()
    source = first
    for _ in range(2000):
        inner: Channel[Any] = Channel()
        source.send((inner, inner.broadcast()))
        source = inner
    del first, source, inner
    gc.collect()
    assert channels() == before + 2 + 2 * 2000
    Task(first_end.close).result()
    del first_end
    gc.collect()
    assert channels() == before


def test_the_collector_works_while_others_send(neighbours: list[Neighbour]) -> None:
    """Nothing that is reachable is ever collected, whoever sends and receives meanwhile."""
    with balanced():
        home: Channel[Any] = Channel()
        source = """
import gc
for number in range(300):
    inner = Channel()
    inner.send((number, inner))
    inner.send(inner.ends[0])
    SendChannel(n).send(inner)
    del inner
    if number % 20 == 0:
        gc.collect()
"""
        for one in neighbours:
            one.start(source, n=home.id)
        numbers: list[int] = []
        for _ in range(300 * len(neighbours)):
            inner = home.recv()
            number, itself = inner.recv()
            assert itself == inner
            assert itself.recv() == inner.ends[0]
            numbers.append(number)
            if number % 50 == 0:
                gc.collect()
        for one in neighbours:
            one.result()
        assert sorted(numbers) == sorted(list(range(300)) * len(neighbours))
        del inner, itself, home
        for one in neighbours:
            one.do("SendChannel", n=0)


def test_nothing_is_left_at_the_end_of_the_process() -> None:
    script = """if True:
        import gc
        from memchannel import Channel, MemChannel
        chain = [Channel() for _ in range(3000)]
        for a, b in zip(chain, chain[1:]): a.send(b)
        chain[-1].send(chain[0])
        cyclic = Channel(); cyclic.send(cyclic); cyclic.send(chain[5])
        del chain, a, b
        memory = MemChannel(); memory.send(bytearray(5))
        print("done")
    """
    assert run_script(script) == "done\n"


def test_sending_ends_of_a_gone_channel() -> None:
    channel: Channel[int] = Channel()
    number = channel.id
    del channel
    with pytest.raises(ValueError, match=f"there is no channel {number}"):
        SendChannel(number)

"""Behaviours that tests of other channels check, by their names there; the code is our own.

Go: `runtime/chan_test.go` and `test/chan/`. What differs here is told in docs/channels.md.
"""

from __future__ import annotations

import collections
import itertools
from typing import Any

import pytest

from channel_support import Task, wait_until, waiting
from memchannel import Channel, ClosedChannelError, EndOfChannel, select


@pytest.mark.parametrize("maxsize", [1, 10, 200])
def test_go_chan_buffered_sends_do_not_wait_until_full(maxsize: int) -> None:
    channel = Channel[int](maxsize)
    assert [channel.send_nowait(number) for number in range(maxsize + 1)] == [True] * maxsize + [False]
    assert [channel.recv() for _ in range(maxsize)] == list(range(maxsize))


def test_go_nonblock_recv_race() -> None:
    """A message or the end is there once its sender has closed, also for a call that never waits."""
    for _ in range(200):
        channel = Channel[int](maxsize=1)
        channel.send(1)
        receiver = Task(channel.recv_nowait)
        channel.ends[1].close()
        assert receiver.result() == 1


def test_go_nonblock_select_race() -> None:
    """As long as one of two channels has a message at any moment, a select that never waits gets it."""
    for _ in range(100):
        one, two = Channel[int](maxsize=1), Channel[int](maxsize=1)
        one.send(1)
        chooser = Task(select, one, two, timeout=0)
        two.send(1)
        one.recv_nowait()
        assert chooser.result()[1] == 1


def test_go_self_select() -> None:
    """Two that each send and receive on one rendezvous never meet themselves."""
    channel = Channel[int](rendezvous=True)

    def meet(who: int) -> list[int]:
        met = []
        for _ in range(200):
            _, value = select(channel, (channel, who), timeout=20)
            met += [] if value is None else [value]
        return met

    tasks = [Task(meet, who) for who in range(2)]
    first, second = (task.result() for task in tasks)
    assert set(first) <= {1}
    assert set(second) <= {0}
    assert len(first) + len(second) == 200


def test_go_pseudo_random_send() -> None:
    """Two ready sends to one channel are chosen between, not always the same."""
    channel = Channel[int](maxsize=100)
    for _ in range(100):
        select((channel, 0), (channel, 1))
    counts = collections.Counter(channel.recv_many(100))
    assert min(counts[0], counts[1]) > 15, counts


def test_go_multi_consumer() -> None:
    tasks, results = Channel[int](maxsize=7), Channel[int](maxsize=69)

    def consume() -> None:
        for value in tasks:
            results.send(value)

    consumers = [Task(consume) for _ in range(11)]
    feeder = Task(tasks.send_many, range(500))
    assert sorted(results.recv() for _ in range(500)) == list(range(500))
    feeder.result()
    tasks.ends[1].close()
    for one in consumers:
        one.result()


def test_go_select_duplicate_channel() -> None:
    """A call that waits twice in one line leaves it whole, for those behind it."""
    first, second = Channel[int](), Channel[int]()
    duplicate = Task(select, first, first, second)
    wait_until(lambda: waiting(first) == (2, 0))
    behind = Task(first.recv)
    wait_until(lambda: waiting(first) == (3, 0))
    second.send(1)
    assert duplicate.result()[1] == 1
    first.send(2)
    assert behind.result() == 2


def test_go_double_select() -> None:
    """No message of one select is sent on two channels, nor twice."""
    channels = [Channel[int](rendezvous=True) for _ in range(4)]
    out = Channel[int]()

    def forward(channel: Any) -> None:
        for value in channel:
            out.send(value)

    forwarders = [Task(forward, channel) for channel in channels]
    for number in range(300):
        select(*[(channel, number) for channel in channels])
    for channel in channels:
        channel.ends[1].close()
    for one in forwarders:
        one.result()
    assert sorted(out.recv_many(1000)) == list(range(300))


def test_go_sieve() -> None:
    """The prime sieve: a chain of filters over rendezvous channels, made as it runs."""
    source = Channel[int](rendezvous=True)

    def generate(out: Any) -> None:
        for number in itertools.count(2):
            try:
                out.send(number)
            except (BrokenPipeError, ClosedChannelError):
                return

    def sift(incoming: Any, out: Any, prime: int) -> None:
        try:
            for number in incoming:
                if number % prime:
                    out.send(number)
        except (BrokenPipeError, ClosedChannelError):
            return

    tasks = [Task(generate, source)]
    chain, primes = [source], []
    for _ in range(10):
        primes.append(chain[-1].recv())
        chain.append(Channel(rendezvous=True))
        tasks.append(Task(sift, chain[-2], chain[-1], primes[-1]))
    for channel in chain:
        channel.close()
    for one in tasks:
        one.result()
    assert primes == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


def test_go_closed_channels_give_what_is_queued_and_then_the_end() -> None:
    channel = Channel[int]()
    channel.send_many(range(3))
    channel.ends[1].close()
    assert [channel.recv() for _ in range(3)] == [0, 1, 2]
    for receive in (channel.recv, channel.recv_nowait, lambda: select(channel)):
        with pytest.raises(EndOfChannel):
            receive()

"""Behaviours that Go's tests of channels check, under the names they have there; the code is our own.

`docs/channel-behaviours.md` lists them all, with those that other tests of ours show and what differs.
"""

from __future__ import annotations

import collections
import fractions
import gc
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from channel_support import Task, run_script, wait_until, waiting
from memchannel import (
    BrokenChannelError,
    Channel,
    ClosedChannelError,
    EndOfChannel,
    RecvChannel,
    SendChannel,
    select,
)

pytestmark = pytest.mark.usefixtures("balanced")


def select_nothing_waits(*cases: Any) -> Any:
    """Do what a select with a default branch does: `None` where nothing is ready."""
    try:
        return select(*cases, timeout=0)
    except TimeoutError:
        return None


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


def test_go_nonblock_select_race_2() -> None:
    """The same where the second channel becomes ready by ending."""
    for _ in range(100):
        one, two = Channel[int](maxsize=1), Channel[int]()
        one.send(1)
        chooser = Task(select, one, two, timeout=0)
        two.ends[1].close()
        one.recv_nowait()
        try:
            assert chooser.result()[1] == 1
        except EndOfChannel:
            continue


def test_go_self_select_with_room() -> None:
    """On a channel with room they may, and all goes on."""
    channel = Channel[int](maxsize=10)

    def turn(who: int) -> int:
        return sum(select(channel, (channel, who), timeout=20)[1] is not None for _ in range(200))

    tasks = [Task(turn, who) for who in range(2)]
    received = sum(task.result() for task in tasks)
    assert received + len(channel) == 400 - received


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


def test_go_chan_send_interface() -> None:
    """The same object in several sends of one select; where none has room, nothing is sent."""
    channel, thing = Channel[Any](maxsize=1), {"a": 1}
    assert select((channel, thing), (channel, thing)) == (channel, None)
    assert select_nothing_waits((channel, thing)) is None
    assert select_nothing_waits((channel, thing), (channel, {})) is None
    assert channel.recv_many(9) == [thing]


def test_go_shrink_stack_during_blocked_send() -> None:
    """Senders parked in a deep or a shallow stack, while the collector runs, send what they meant to."""
    channel = Channel[int](rendezvous=True)

    def send_from(depth: int, number: int) -> None:
        if depth:
            send_from(depth - 1, number)
        else:
            channel.send(number)

    def send_all() -> None:
        for number in range(10):
            send_from(20 * (number % 2), number)

    sender = Task(send_all)
    for number in range(10):
        wait_until(lambda: waiting(channel) == (0, 1))
        gc.collect()
        assert channel.recv() == number
    sender.result()


def test_go_select_stack_adjust() -> None:
    """Selects that wait while the collector runs, one of them twice in each line, are all told of the end."""
    first, second = Channel[int](), Channel[int]()
    choosers = [Task(select, first, second), Task(select, first, first, second, second)]
    wait_until(lambda: waiting(first) == waiting(second) == (3, 0))
    gc.collect()
    second.ends[1].close()
    for chooser in choosers:
        with pytest.raises(EndOfChannel):
            chooser.result()
    assert waiting(first) == (0, 0)


def test_go_fifo_of_a_chain() -> None:
    """Each thread passes its number on when the one before it has, over rendezvous channels."""
    out = Channel[int](rendezvous=True)
    links = [Channel[None](rendezvous=True) for _ in range(11)]

    def link(number: int) -> None:
        links[number].recv()
        out.send(number)
        links[number + 1].send(None)

    threads = [Task(link, number) for number in reversed(range(10))]
    links[0].send(None)
    assert [out.recv() for _ in range(10)] == list(range(10))
    links[10].recv()
    for thread in threads:
        thread.result()


def test_go_goroutines() -> None:
    """A number that two hundred threads hand on, each adding one."""
    channels = [Channel[int](rendezvous=True) for _ in range(201)]

    def add_one(here: Channel[int], there: Channel[int]) -> None:
        there.send(here.recv() + 1)

    threads = [Task(add_one, here, there) for here, there in itertools.pairwise(channels)]
    channels[0].send(0)
    assert channels[-1].recv() == 200
    for thread in threads:
        thread.result()


@pytest.mark.parametrize("shape", [{"rendezvous": True}, {"maxsize": 1}], ids=str)
def test_go_nonblock(shape: dict[str, Any]) -> None:
    """What never waits fails where the other side is not there, and succeeds where it is."""
    channel, nothing = Channel[int](**shape), object()
    assert channel.recv_nowait(nothing) is nothing
    assert select_nothing_waits(channel) is None
    receiver = Task(channel.recv)
    wait_until(lambda: waiting(channel) == (1, 0))
    assert channel.send_nowait(1)
    assert receiver.result() == 1
    if shape.get("maxsize"):
        channel.send(0)
    assert not channel.send_nowait(2)
    assert select_nothing_waits((channel, 2)) is None
    sender = Task(channel.send, 3)
    wait_until(lambda: waiting(channel) == (0, 1))
    received = [channel.recv_nowait() for _ in range(1 + len(channel))]
    sender.result()
    assert received[-1] == 3
    assert channel.recv_nowait(nothing) is nothing


def test_go_select_of_what_is_left() -> None:
    """Sends that have had their turn are left out of the next select."""
    channels = [Channel[int](rendezvous=True) for _ in range(2)]
    receivers = [Task(lambda channel=channel: [channel.recv() for _ in range(50)]) for channel in channels]
    values = itertools.count()
    sent: dict[Any, list[int]] = {channel: [] for channel in channels}
    while left := [channel for channel in channels if len(sent[channel]) < 50]:
        value = next(values)
        end, _ = select(*[(channel, value) for channel in left])
        sent[end].append(value)
    assert [receiver.result() for receiver in receivers] == list(sent.values())


def test_go_select2_uses_no_more_memory() -> None:
    """Selects that wait in vain on a channel leave nothing behind on it."""
    script = """if True:
        import ctypes, gc
        from memchannel import Channel, select
        class Info(ctypes.Structure):
            _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks "
                        "fsmblks uordblks fordblks keepcost".split()]
        mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
        never, full = Channel(), Channel(maxsize=1)
        full.send(0)
        def selects(count):
            for _ in range(count):
                try:
                    select(never, (full, 1), timeout=0)
                except TimeoutError:
                    pass
            gc.collect()
            return mallinfo().uordblks if mallinfo else 0
        if mallinfo:
            mallinfo.restype = Info
        before = selects(2000)
        grown = selects(20_000) - before
        now = never.statistics(), full.statistics()
        assert (now[0].waiting_receivers, now[1].waiting_senders) == (0, 0)
        assert grown < 20_000, f"{grown} bytes in 20,000 selects"
        print("flat")
    """
    assert run_script(script) == "flat\n"


@pytest.mark.parametrize(
    ("state", "receiving", "sending"),
    [("empty", False, True), ("full", True, False), ("half full", True, True), ("rendezvous", False, False)],
)
def test_go_select3_what_waits(state: str, receiving: bool, sending: bool) -> None:
    """Which operations go on at once, as a plain call, alone in a select, twice in it, and beside others."""
    shape: dict[str, Any] = {"rendezvous": True} if state == "rendezvous" else {"maxsize": 2}
    messages = {"full": 2, "half full": 1}.get(state, 0)

    def fresh() -> Channel[int]:
        channel = Channel[int](**shape)
        channel.send_many(range(messages))
        return channel

    never = Channel[int]()
    goes_on: list[tuple[bool, Callable[[Channel[int]], Any]]] = [
        (receiving, lambda channel: channel.recv(timeout=0)),
        (sending, lambda channel: channel.send(7, timeout=0)),
        (receiving, lambda channel: select(channel, timeout=0)),
        (sending, lambda channel: select((channel, 7), timeout=0)),
        (receiving, lambda channel: select(channel, channel, never, timeout=0)),
        (sending, lambda channel: select(never, (channel, 7), (channel, 8), timeout=0)),
        (receiving or sending, lambda channel: select(channel, (channel, 7), timeout=0)),
    ]
    for expected, call in goes_on:
        channel = fresh()
        if expected:
            call(channel)
        else:
            with pytest.raises(TimeoutError):
                call(channel)
            assert len(channel) == messages


def test_go_select3_ended_channels_wait_for_nothing() -> None:
    channel = Channel[int]()
    channel.send(1)
    channel.ends[1].close()
    never = Channel[int]()
    assert select(never, channel)[1] == 1
    for _ in range(3):
        with pytest.raises(EndOfChannel):
            select(never, channel)


class Counted:
    """Counts how often it was pickled and unpickled."""

    pickled, unpickled = collections.Counter[str](), collections.Counter[str]()

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        Counted.pickled[self.name] += 1
        return Counted.rebuild, (self.name,)

    @staticmethod
    def rebuild(name: str) -> str:
        Counted.unpickled[name] += 1
        return name


def test_go_select4_only_the_chosen_message_is_taken_out() -> None:
    ready, other = Channel[Any](), Channel[Any]()
    ready.send(Counted("chosen"))
    other.send(Counted("left"))
    Counted.unpickled.clear()
    end, value = select(ready, other)
    assert Counted.unpickled == {value: 1}
    assert (end, value) in [(ready, "chosen"), (other, "left")]
    assert len(ready) + len(other) == 1


def test_go_select5_operands_are_evaluated_once_and_in_order() -> None:
    """All of them, chosen or not, and each message is made once."""
    order: list[str] = []

    def operand(name: str, value: Any) -> Any:
        order.append(name)
        return value

    full, free = Channel[Any](maxsize=1), Channel[Any]()
    full.send(0)
    Counted.pickled.clear()
    end, _ = select(
        operand("a", free.ends[0]),
        (operand("b", full), operand("c", Counted("c"))),
        (operand("d", free), operand("e", Counted("e"))),
    )
    assert order == list("abcde")
    assert end is free
    assert Counted.pickled == {"c": 1, "e": 1}
    assert free.recv_many(9) == ["e"]


def test_go_select6_later_waiters_are_not_lost() -> None:
    """A select that was last in line and went elsewhere leaves the line whole for those behind it."""
    channel, elsewhere = Channel[int](), Channel[int]()
    first = Task(channel.recv)
    wait_until(lambda: waiting(channel) == (1, 0))
    chooser = Task(select, channel, elsewhere)
    wait_until(lambda: waiting(channel) == (2, 0))
    elsewhere.send(0)
    assert chooser.result() == (elsewhere, 0)
    behind = Task(channel.recv)
    wait_until(lambda: waiting(channel) == (2, 0))
    channel.send_many([1, 2])
    assert {first.result(), behind.result()} == {1, 2}


RECEIVES: dict[str, Callable[[Channel[int], Channel[int]], Any]] = {
    "recv": lambda channel, _: channel.recv(),
    "recv_many": lambda channel, _: channel.recv_many(1)[0],
    "next": lambda channel, _: next(channel.ends[0]),
    "select of one": lambda channel, _: select(channel)[1],
    "select of two": lambda channel, never: select(never, channel)[1],
    "select of both sides": lambda channel, never: select(channel, (never, 0))[1],
}
SENDS: dict[str, Callable[[Channel[int], Channel[int]], Any]] = {
    "send": lambda channel, _: channel.send(7),
    "send_many": lambda channel, _: channel.send_many([7]),
    "select of one": lambda channel, _: select((channel, 7)),
    "select of two": lambda channel, never: select((never, 0), (channel, 7)),
}


@pytest.mark.parametrize("late", ["receiver", "sender"])
def test_go_select7_every_receive_meets_every_send(late: str) -> None:
    for (_, receive), (_, send) in itertools.product(RECEIVES.items(), SENDS.items()):
        channel, never, nowhere = (Channel[int](rendezvous=True) for _ in range(3))
        if late == "sender":
            receiver = Task(receive, channel, never)
            wait_until(lambda channel=channel: waiting(channel) == (1, 0))  # type: ignore[misc]
            send(channel, nowhere)
            assert receiver.result() == 7
        else:
            sender = Task(send, channel, nowhere)
            wait_until(lambda channel=channel: waiting(channel) == (0, 1))  # type: ignore[misc]
            assert receive(channel, never) == 7
            sender.result()


def test_go_sendstmt() -> None:
    """A channel that came out of a channel is sent to in the same select; what is sent is any expression."""
    channels, channel = Channel[Channel[int]](maxsize=1), Channel[int](maxsize=1)
    channels.send(channel)
    assert select_nothing_waits((channels.recv(), 2)) == (channel, None)
    assert channel.recv() == 2
    truths = Channel[bool](maxsize=1)
    no, yes = False, True
    truths.send(no or yes)
    assert truths.recv() is True


def test_go_select8_what_follows_a_select_is_left() -> None:
    """Selects of one, two and three outcomes, each in a block that ends right after it."""
    channel, stop = Channel[int](rendezvous=True), Channel[None]()

    def feed() -> None:
        while select((channel, 5), stop)[0] is channel:
            pass

    feeder = Task(feed)
    cases: list[list[Any]] = [[channel], [channel, (Channel[int](rendezvous=True), 10)]]
    for operands, now in itertools.product(cases, (False, True)):
        outcomes = []
        while True:
            outcome = select_nothing_waits(*operands) if now else select(*operands)
            outcomes.append(outcome)
            break
        assert outcomes in ([(channel, 5)], [None] if now else [(channel, 5)])
    stop.send(None)
    feeder.result()


def test_go_perm() -> None:
    """An end has the methods of its direction only."""
    recv, send = Channel[int]().ends
    receiving = {"recv", "recv_nowait", "recv_many", "recv_async", "__next__", "broadcast"}
    sending = {"send", "send_nowait", "send_many", "send_async"}
    assert isinstance(recv, RecvChannel)
    assert isinstance(send, SendChannel)
    assert {name for name in receiving | sending if hasattr(recv, name)} <= receiving
    assert {name for name in receiving | sending if hasattr(send, name)} - {"broadcast"} == sending
    with pytest.raises(TypeError, match="select"):
        select(send)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="select"):
        select((recv, 1))  # type: ignore[arg-type]


type Series = Channel[fractions.Fraction]
"""The coefficients of a power series, one a message, made when somebody asks for them."""

ENDED = (BrokenChannelError, ClosedChannelError, EndOfChannel)


def until_nobody_asks(generate: Callable[..., None], *arguments: Any) -> None:
    """Run a generator of a series until the channels that it works with end."""
    with pytest.raises(ENDED):
        generate(*arguments)


def exponential(out: Series) -> None:
    term = fractions.Fraction(1)
    for number in itertools.count(1):
        out.send(term)
        term /= number


def split(source: Series, left: Series, right: Series) -> None:
    """Copy a series for two readers, who may be as far apart as they like."""
    while True:
        value = source.recv()
        left.send(value)
        right.send(value)


def product(left: Series, right: Series, out: Series) -> None:
    ours, theirs = [], []
    while True:
        ours.append(left.recv())
        theirs.append(right.recv())
        out.send(sum((a * b for a, b in zip(ours, reversed(theirs), strict=True)), fractions.Fraction()))


def test_go_powser() -> None:
    """Power series as channels (McIlroy, Squinting at Power Series): exp(x) ** 2 is exp(2 x)."""
    source, square = Channel[Any](rendezvous=True), Channel[Any](rendezvous=True)
    left, right = Channel[Any](), Channel[Any]()
    tasks = [
        Task(until_nobody_asks, exponential, source),
        Task(until_nobody_asks, split, source, left, right),
        Task(until_nobody_asks, product, left, right, square),
    ]
    coefficients = [square.recv() for _ in range(12)]
    assert coefficients == [fractions.Fraction(2**n, math.factorial(n)) for n in range(12)]
    for channel in (square, left, right, source):
        channel.close()
    for task in tasks:
        task.result()

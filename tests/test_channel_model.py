"""Channels against a model of a few lines: in one interpreter, across three, and from recorded histories."""

from __future__ import annotations

import gc
import itertools
import threading
from collections import deque
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import memchannel
from channel_calls import Event, perform, record_receives, record_sends
from channel_support import HANG, KINDS, Neighbour, Task
from memchannel import BrokenChannelError, Channel, ClosedChannelError, EndOfChannel, PoisonedChannelError

SIZES = st.sampled_from([0, 1, 3])  # 0: unbounded
EFFORT = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class Model:
    """One channel used by some interpreters: what each call must do."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: deque[int] = deque()
        self.users: dict[str, set[int]] = {"recv": set(), "send": set()}
        self.closed: dict[str, set[int]] = {"recv": set(), "send": set()}
        self.over = {"recv": False, "send": False}
        self.poisoned = False

    def refusal(self, side: str, who: int) -> type[Exception] | None:
        """What an operation of this interpreter raises, whatever is queued; it associates otherwise."""
        if self.poisoned:
            return PoisonedChannelError
        if who in self.closed[side] or (self.over[side] and who not in self.users[side]):
            return ClosedChannelError
        self.users[side].add(who)
        return BrokenChannelError if side == "send" and self.over["recv"] else None

    def full(self) -> bool:
        return bool(self.maxsize) and len(self.queue) >= self.maxsize

    def empty(self) -> type[Exception] | None:
        """What receiving from the empty channel raises, if it is no matter of time."""
        return EndOfChannel if self.over["send"] else None

    def close(self, side: str, who: int) -> bool:
        was_associated = who in self.users[side]
        self.users[side].discard(who)
        self.closed[side].add(who)
        if not self.users[side]:
            self.over[side] = True
            if side == "recv":
                self.queue.clear()
        return was_associated


class Machine(RuleBasedStateMachine):
    """Calls that never wait, in interpreters that subclasses provide."""

    interpreters = 1
    kinds: tuple[type[Any], ...] = KINDS

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()

    def call(self, who: int, method: str, *arguments: Any) -> Any:
        """Call a method of the channel in an interpreter; exceptions come back as their classes' names."""
        raise NotImplementedError

    def expect(self, outcome: Any, error: type[Exception] | None, value: Any = None) -> None:
        assert outcome == (error.__name__ if error is not None else value)

    @initialize(data=st.data(), maxsize=SIZES)
    def make(self, data: st.DataObject, maxsize: int) -> None:
        kind = data.draw(st.sampled_from(self.kinds))
        gc.collect()
        self.live = memchannel.stats().live
        self.kind = kind
        self.channel = kind(maxsize)
        self.model = Model(maxsize)
        self.open()

    def open(self) -> None:
        """Hand the channel to the interpreters."""

    @rule(who=st.integers(0, 2))
    def send(self, who: int) -> None:
        who %= self.interpreters
        number = next(self.numbers)
        error = self.model.refusal("send", who)
        room = error is None and not self.model.full()
        if room:
            self.model.queue.append(number)
        self.expect(self.call(who, "send_nowait", number), error, room)

    @rule(who=st.integers(0, 2), count=st.integers(0, 5))
    def send_many(self, who: int, count: int) -> None:
        who %= self.interpreters
        numbers = [next(self.numbers) for _ in range(count)]
        error = self.model.refusal("send", who)
        if error is None:
            fits = count if not self.model.maxsize else self.model.maxsize - len(self.model.queue)
            self.model.queue.extend(numbers[: max(fits, 0)])
            error = TimeoutError if fits < count else None
        self.expect(self.call(who, "send_many", numbers), error)

    @rule(who=st.integers(0, 2))
    def recv(self, who: int) -> None:
        who %= self.interpreters
        error = self.model.refusal("recv", who)
        value: int | None = None
        if error is None and self.model.queue:
            value = self.model.queue.popleft()
        elif error is None:
            error = self.model.empty()
        self.expect(self.call(who, "recv_nowait"), error, value)

    @rule(who=st.integers(0, 2), limit=st.integers(1, 4))
    def recv_many(self, who: int, limit: int) -> None:
        who %= self.interpreters
        error = self.model.refusal("recv", who)
        values = []
        if error is None:
            values = [self.model.queue.popleft() for _ in range(min(limit, len(self.model.queue)))]
            if not values:
                error = self.model.empty() or TimeoutError
        self.expect(self.call(who, "recv_many", limit), error, values)

    @precondition(lambda self: next(self.numbers) > 25)  # a channel that is over has no more to show
    @rule(who=st.integers(0, 2), side=st.sampled_from(["recv", "send"]))
    def close(self, who: int, side: str) -> None:
        who %= self.interpreters
        self.expect(self.call(who, "close", side), None, self.model.close(side, who))

    @precondition(lambda self: next(self.numbers) > 40)
    @rule()
    def poison(self) -> None:
        self.channel.poison(ValueError("enough"))
        self.model.poisoned = True
        self.model.queue.clear()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        now = self.channel.statistics()
        assert now.queued == len(self.channel) == len(self.model.queue)
        assert (now.receivers, now.senders) == (
            sorted(self.named(who) for who in self.model.users["recv"]),
            sorted(self.named(who) for who in self.model.users["send"]),
        )
        assert (now.receiving_over, now.sending_over) == (self.model.over["recv"], self.model.over["send"])
        assert (now.waiting_receivers, now.waiting_senders) == (0, 0)
        if self.kind is not Channel:  # small integers are pickled: nothing is lent
            assert memchannel.stats().live - self.live == len(self.model.queue)

    def named(self, who: int) -> int:
        """Return the id of an interpreter."""
        return who

    def teardown(self) -> None:
        if hasattr(self, "channel"):
            self.channel.poison()
            del self.channel
            gc.collect()
            assert memchannel.stats().live == self.live


class OneInterpreter(Machine):
    """Everything happens here."""

    def call(self, who: int, method: str, *arguments: Any) -> Any:
        return perform(self.channel, self.kind, method, *arguments)


TestOneInterpreter = OneInterpreter.TestCase
TestOneInterpreter.settings = EFFORT

_neighbours: list[Neighbour] = []  # hypothesis makes machines without arguments


class ThreeInterpreters(Machine):
    """Each call happens in a thread of one of three interpreters."""

    interpreters = 3
    kinds = (memchannel.MemChannel, Channel)  # without NumPy there, nothing can be made of arrays

    def open(self) -> None:
        # By id: a message would hand the ends over, which associates.
        for one in _neighbours:
            source = "import channel_calls as m; ends = (RecvChannel(id), SendChannel(id)); kind = "
            one.do(source + self.kind.__name__, id=self.channel.id)

    def call(self, who: int, method: str, *arguments: Any) -> Any:
        return _neighbours[who].do(
            "m.perform(m.Both(*ends), kind, method, *arguments)", method=method, arguments=arguments
        )

    def named(self, who: int) -> int:
        return _neighbours[who].id

    def teardown(self) -> None:
        for one in _neighbours:
            one.do("ends = None")
        super().teardown()


def test_three_interpreters(neighbours: list[Neighbour]) -> None:
    _neighbours[:] = neighbours
    run_state_machine_as_test(ThreeInterpreters, settings=settings(EFFORT, max_examples=15))


def check_fifo(sends: list[Event], receives: list[Event]) -> None:
    """Check that a history of one channel is linearizable as a FIFO queue that ends empty.

    A history is wrong exactly if a message is received twice or never, or before its send began, or if of two
    messages, one sent wholly before the other, the other was received wholly before the one (the pairs that
    decide for queues with distinct values: Henzinger, Sezgin and Vafeiadis, CONCUR 2013).
    """
    sent = {value: (begin, end) for begin, end, value in sends}
    received = {value: (begin, end) for begin, end, value in receives}
    assert len(received) == len(receives), "something was received twice"
    assert sent.keys() == received.keys()
    for value, (begin, _) in sent.items():
        assert begin <= received[value][1], f"{value} was received before it was sent"
    # In the order in which sends ended, no message may be received wholly before one whose send ended before
    # its own began.
    ended = sorted(sent, key=lambda value: sent[value][1])
    latest = float("-inf")  # the latest beginning of a receive among sends that ended before
    position = 0
    for value in sorted(sent, key=lambda value: sent[value][0]):
        while position < len(ended) and sent[ended[position]][1] < sent[value][0]:
            latest = max(latest, received[ended[position]][0])
            position += 1
        assert received[value][1] >= latest, f"{value} overtook a message that was sent before it"


def test_the_check_of_histories_is_not_blind() -> None:
    check_fifo([(0, 1, "a"), (2, 3, "b")], [(4, 5, "a"), (6, 7, "b")])
    check_fifo([(0, 3, "a"), (2, 4, "b")], [(6, 7, "a"), (4, 5, "b")])
    check_fifo([(0, 1, "a"), (2, 3, "b")], [(4, 7, "a"), (5, 6, "b")])
    with pytest.raises(AssertionError, match="overtook"):
        check_fifo([(0, 1, "a"), (2, 3, "b")], [(6, 7, "a"), (4, 5, "b")])
    with pytest.raises(AssertionError, match="before it was sent"):
        check_fifo([(2, 3, "a")], [(0, 1, "a")])
    with pytest.raises(AssertionError, match="twice"):
        check_fifo([(0, 1, "a")], [(2, 3, "a"), (4, 5, "a")])


SHAPES = [{}, {"maxsize": 1}, {"maxsize": 3}, {"rendezvous": True}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_histories_of_threads_are_fifo(shape: dict[str, Any]) -> None:
    channel = Channel[Any](**shape)
    receivers = [Task(record_receives, channel) for _ in range(3)]
    senders = [Task(record_sends, channel, who, 300) for who in range(3)]
    sends = [event for one in senders for event in one.result()]
    channel.ends[1].close()
    check_fifo(sends, [event for one in receivers for event in one.result()])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_histories_of_interpreters_are_fifo(shape: dict[str, Any], neighbours: list[Neighbour]) -> None:
    channel = Channel[Any](**shape)
    own = Task(record_receives, channel)
    for who, one in enumerate(neighbours):
        one.do("import channel_calls as m")
        one.do("end = RecvChannel(id) if who == 2 else SendChannel(id)", id=channel.id, who=who)
        one.start("m.record_receives(end)" if who == 2 else f"m.record_sends(end, {who}, 300)")
    here = Task(record_sends, channel, 2, 300)
    sends = here.result() + cast(list[Event], neighbours[0].result() + neighbours[1].result())
    for one in neighbours[:2]:
        one.do("end.close(); end = None")
    channel.ends[1].close()
    received = own.result() + cast(list[Event], neighbours[2].result())
    neighbours[2].do("end = None")
    check_fifo(sends, received)


def test_no_receiver_starves() -> None:
    """Who waits is served in turn, though another never waits."""
    channel = Channel[int](maxsize=1)
    stop = threading.Event()

    def feed() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            channel.send_nowait(number)

    def receive_greedily() -> None:
        while not stop.is_set():
            channel.recv_nowait()

    tasks = [Task(feed), Task(receive_greedily)]
    try:
        for _ in range(20):
            channel.recv(timeout=HANG)
    finally:
        stop.set()
    for task in tasks:
        task.result()

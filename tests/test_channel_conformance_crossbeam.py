"""Behaviours that crossbeam-channel's and the standard library's tests check; the code is our own.

`docs/channel-behaviours.md` lists them all, with those that other tests of ours show and what differs.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import memchannel
from channel_support import HANG, Neighbour, Task, run_script, wait_until, waiting
from memchannel import Channel, EndOfChannel, MemChannel, select

pytestmark = pytest.mark.usefixtures("balanced")

SHAPES: list[dict[str, Any]] = [{}, {"maxsize": 1}, {"maxsize": 50}, {"rendezvous": True}]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def send_all(channel: Channel[int], numbers: Iterable[int]) -> None:
    """Send them one after the other."""
    for number in numbers:
        channel.send(number)


@each_shape
def test_crossbeam_stress_oneshot(shape: dict[str, Any]) -> None:
    """A channel for one message, made and dropped many times."""
    for number in range(100):
        channel = Channel[int](**shape)
        receiver, sender = Task(channel.recv), Task(channel.send, number)
        assert receiver.result() == number
        sender.result()


def test_crossbeam_stress_iter() -> None:
    """Requests that are iterated over, and answers that are drained without waiting."""
    requests, answers = Channel[None](maxsize=1), Channel[int](maxsize=1)

    def answer() -> int:
        return sum(answers.send_nowait(1) for _ in requests)

    server = Task(answer)
    counted = 0
    while counted < 500:
        while (value := answers.recv_nowait()) is not None:
            counted += value
        requests.send(None)
    requests.ends[1].close()
    assert counted <= server.result() <= counted + 1


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_crossbeam_stress_timeout_two_threads(shape: dict[str, Any]) -> None:
    """Calls that time out and are made again deliver each message once and in order."""
    channel = Channel[int](**shape)
    late = random.Random(1)

    def insist(call: Any, *arguments: Any) -> Any:
        while True:
            try:
                return call(*arguments, timeout=late.choice([0, 0.0001, 0.001]))
            except TimeoutError:
                continue

    sender = Task(lambda: [insist(channel.send, number) for number in range(100)])
    assert [insist(channel.recv) for _ in range(100)] == list(range(100))
    sender.result()


def test_crossbeam_drops() -> None:
    """Of random numbers of messages received and left behind, each is given back exactly once."""
    script = """if True:
        import random, threading
        from memchannel import MemChannel, stats
        numbers = random.Random(2)
        returned = 0
        for maxsize in [0, 1, 50] * 5:
            channel, steps = MemChannel(maxsize), numbers.randrange(200)
            additional = numbers.randrange(maxsize + 1) if maxsize else 30
            threads = [
                threading.Thread(target=lambda: [channel.recv().release() for _ in range(steps)]),
                threading.Thread(target=lambda: [channel.send(b"x") for _ in range(steps)]),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            channel.send_many([bytearray(1) for _ in range(additional)])
            assert (stats().live, stats().returned) == (additional, returned + steps), stats()
            returned += steps + additional
            channel.ends[0].close()
            assert (stats().live, stats().returned) == (0, returned), stats()
        print("each once")
    """
    assert run_script(script) == "each once\n"


def test_crossbeam_drop_unreceived() -> None:
    """What is queued goes back when the last receiver leaves, not later."""
    channel, memory = MemChannel(), bytearray(b"mine")
    channel.send(memory)
    with pytest.raises(BufferError):
        memory += b"!"
    channel.ends[0].close()
    memory += b"!"


class Failing:
    """A buffer whose release fails."""

    def __init__(self) -> None:
        self.memory = bytearray(b"mine")
        self.released = 0

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.memory)

    def __release_buffer__(self, view: memoryview) -> None:
        view.release()
        self.released += 1
        raise OSError("dropped")


@pytest.mark.parametrize("shape", [{}, {"maxsize": 4}], ids=str)
@pytest.mark.parametrize("end", ["dropped", "closed", "received"])
def test_crossbeam_panic_on_drop(shape: dict[str, Any], end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that cannot be given back without an error is given back once, and so are those behind it."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: told.append(error.exc_value))
    channel = MemChannel(**shape)
    messages: list[Any] = [Failing(), bytearray(b"mine"), Failing(), bytearray(b"mine")]
    for message in messages:
        channel.send(message)
    if end == "closed":
        channel.ends[0].close()
    elif end == "received":
        for _ in messages:
            channel.recv().release()
    del channel
    assert [message.released for message in messages[::2]] == [1, 1]
    assert [str(error) for error in told] == ["dropped", "dropped"], "both are reported, neither is raised"
    for memory in [*messages[1::2], *(message.memory for message in messages[::2])]:
        memory += b"!"


@pytest.mark.parametrize("shape", [{}, {"maxsize": 4}], ids=str)
def test_crossbeam_linearizable(shape: dict[str, Any]) -> None:
    """Who has sent finds a message without waiting, if all who take one have sent one."""
    channel, nothing = Channel[int](**shape), object()

    def turn() -> None:
        for _ in range(300):
            channel.send(0)
            assert channel.recv_nowait(nothing) == 0

    for task in [Task(turn) for _ in range(4)]:
        task.result()


@each_shape
def test_crossbeam_len_stays_within_bounds(shape: dict[str, Any]) -> None:
    channel = Channel[int](**shape)
    most = 0 if shape.get("rendezvous") else shape.get("maxsize", 1000)
    sender = Task(send_all, channel, range(1000))
    for number in range(1000):
        assert 0 <= len(channel) <= most
        assert channel.recv() == number
    sender.result()
    assert len(channel) == 0


class Receiving:
    """Takes a message out of a channel while it is itself made into one."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel

    def __reduce__(self) -> Any:
        return str, (self.channel.recv(timeout=HANG),)


@pytest.mark.parametrize("shape", [{}, {"maxsize": 1}], ids=str)
def test_crossbeam_recv_in_send(shape: dict[str, Any]) -> None:
    """Making a message may use the very channel that it is for."""
    channel = Channel[Any](**shape)
    channel.send("first")
    channel.send(Receiving(channel))
    assert len(channel) == 1
    select((channel, Receiving(channel)))
    assert channel.recv() == "first"


@each_shape
def test_crossbeam_channel_through_channel(shape: dict[str, Any]) -> None:
    """Each channel carries the next one."""
    first = Channel[Any](**shape)

    def send_all() -> None:
        current: Any = first.ends[1]
        for _ in range(100):
            recv, send = Channel[Any](**shape).ends
            current.send(recv)
            current = send

    sender = Task(send_all)
    current: Any = first.ends[0]
    for _ in range(100):
        current = current.recv()
    sender.result()


@pytest.mark.parametrize("leftover", [0, 1])
def test_crossbeam_matching(leftover: int) -> None:
    """Selects that would both send and receive pair off, and none with itself."""
    channel = Channel[int](rendezvous=True)
    tasks = [Task(select, channel, (channel, who)) for who in range(44 + leftover)]
    if leftover:
        channel.send(-1, timeout=HANG)
    results = [task.result()[1] for task in tasks]
    assert all(value != who for who, value in enumerate(results))
    received = [value for value in results if value is not None]
    senders = {who for who, value in enumerate(results) if value is None}
    assert len(received) == 22 + leftover
    assert set(received) == (senders | {-1} if leftover else senders)
    assert waiting(channel) == (0, 0)


def test_crossbeam_loop_try() -> None:
    """Of two loops that never wait, the select of a third meets one; the other is told to stop."""
    for _ in range(10):
        first, second = Channel[int](rendezvous=True), Channel[int](rendezvous=True)
        end = Channel[int]()

        def done(end: Channel[int] = end) -> bool:
            try:
                end.recv_nowait()
            except EndOfChannel:
                return True
            return False

        def offer(done: Any = done, first: Channel[int] = first) -> bool:
            while not done():
                try:
                    select((first, 1), timeout=0)
                except TimeoutError:
                    continue
                return True
            return False

        def ask(done: Any = done, second: Channel[int] = second) -> bool:
            while not done():
                if second.recv_nowait() == 2:
                    return True
            return False

        loops = [Task(offer), Task(ask)]
        chosen, value = select(first, (second, 2), timeout=HANG)
        end.ends[1].close()
        assert [loop.result() for loop in loops] == [chosen is first, chosen is second]
        assert value == (1 if chosen is first else None)


def test_crossbeam_sync_and_clone() -> None:
    """The same cases serve many selects, in several threads, and again and again."""
    channel, other = Channel[int](rendezvous=True), Channel[int](rendezvous=True)
    cases = (channel, (other, 1))

    def choose() -> list[Any]:
        return [select(*cases)[0] for _ in range(20)]

    tasks = [Task(choose) for _ in range(5)]
    sender = Task(send_all, channel, range(50))
    assert [other.recv() for _ in range(50)] == [1] * 50
    sender.result()
    chosen = [end for task in tasks for end in task.result()]
    assert (chosen.count(channel), chosen.count(other)) == (50, 50)


def test_crossbeam_arguments_of_select_are_ordinary_expressions() -> None:
    """Ends made in place, selects inside selects, a value that comes back, errors that go through."""
    channel, answers = Channel[Any](), Channel[Any]()
    assert select((channel, select((answers, 0))[1])) == (channel, None)
    assert select([answers][0], {1: channel.ends[0]}[1])[1] in (0, None)
    assert len(channel) + len(answers) == 1
    for end in (channel, answers):
        end.recv_nowait()

    def fails() -> Any:
        raise OSError("no such end")

    for case in (lambda: fails(), lambda: (fails(), 1), lambda: (channel, fails())):
        with pytest.raises(OSError, match="no such end"):
            select(case())
    assert len(channel) == len(answers) == 0

    class Wrapper:
        """Leads to an end, which is what one writes then: `handle.end`, as `*handle` elsewhere."""

        def __init__(self, end: Any) -> None:
            self._end = end

        @property
        def end(self) -> Any:
            return self._end

    receiver, sender = (Wrapper(end) for end in Channel[int](rendezvous=True).ends)
    with pytest.raises(TimeoutError):
        select((sender.end, 0), receiver.end, timeout=0)


def test_crossbeam_recv_iter_break() -> None:
    """A loop that is left, or that stands in another one, takes no more than it was given."""
    channel = Channel[int]()
    channel.send_many(range(10))
    for value in channel:
        if value == 3:
            break
    assert [next(channel) for _ in range(2)] == [4, 5]
    channel.ends[1].close()
    nested = [(value, [channel.recv() for _ in range(3)]) for value in channel]
    assert nested == [(6, [7, 8, 9])]


def test_crossbeam_recv_a_lot() -> None:
    """Ten thousand messages in and out again, by one thread."""
    channel = Channel[int]()
    for number in range(10_000):
        channel.send(number)
    received = deque(channel.recv_nowait() for _ in range(10_000))
    assert received == deque(range(10_000))
    assert len(channel) == 0


def test_crossbeam_after() -> None:
    """A timer that sends makes a channel on which messages come after a time, and to one receiver only."""
    channel, never = Channel[float](maxsize=1), Channel[float]()
    assert channel.recv_nowait() is None
    receivers = [Task(select, never, channel, timeout=HANG) for _ in range(2)]
    wait_until(lambda: waiting(channel) == (2, 0))
    begin = time.monotonic()
    for _ in range(2):
        timer = threading.Timer(0.02, lambda: channel.send(time.monotonic()))
        timer.start()
        timer.join(HANG)
    ends, times = zip(*[receiver.result() for receiver in receivers], strict=True)
    assert set(ends) == {channel}
    assert min(times) - begin >= 0.02
    with pytest.raises(TimeoutError):
        select(never, channel, timeout=0)


def test_crossbeam_tick() -> None:
    """Ticks that nobody took do not pile up where there is room for one and the timer never waits."""
    channel = Channel[int](maxsize=1)
    assert [channel.send_nowait(tick) for tick in range(4)] == [True, False, False, False]
    assert channel.recv() == 0
    assert channel.send_nowait(4)
    assert (channel.recv(), channel.recv_nowait()) == (4, None)


def test_crossbeam_never() -> None:
    """Where nobody sends, a select has its other cases only, and a wait its time limit."""
    never, channel = Channel[int](), Channel[int]()
    channel.send(1)
    assert select(never, channel) == (channel, 1)
    assert (len(never), never.recv_nowait()) == (0, None)
    for wait in (lambda: never.recv(timeout=0.001), lambda: select(never, never, timeout=0.001)):
        with pytest.raises(TimeoutError):
            wait()


def test_crossbeam_use_while_exiting() -> None:
    """A thread's own objects may wait on channels when they are dropped at its end."""
    channel, ends = Channel[int](), list[Any]()
    local = threading.local()

    class Waits:
        def __del__(self) -> None:
            try:
                channel.recv(timeout=0.001)
            except TimeoutError as exc:
                ends.append(exc)

    def run() -> None:
        local.value = Waits()
        channel.recv()

    task = Task(run)
    channel.send(1)
    task.result()
    gc.collect()
    wait_until(lambda: len(ends) == 1)
    ends.clear()


def test_crossbeam_select_of_ends_and_channels_alike() -> None:
    """A channel, its ends, and ends opened again by id are the same case."""
    channel = Channel[int]()
    opened = memchannel.RecvChannel(channel.id), memchannel.SendChannel(channel.id)
    for sender in (channel, channel.ends[1], opened[1]):
        for receiver in (channel, channel.ends[0], opened[0]):
            assert select((sender, 5))[0] is sender
            assert select(receiver) == (receiver, 5)


def test_cpython_modules_can_be_reloaded() -> None:
    script = """if True:
        import importlib, pickle
        import memchannel, memchannel.channels
        channel = memchannel.Channel()
        for module in (memchannel.channels, memchannel.statistics, memchannel):
            importlib.reload(module)
        channel.send(memchannel.Channel(name="inner"))
        assert channel.recv().name == "inner"
        assert type(channel) is memchannel.Channel
        assert pickle.loads(pickle.dumps(channel)) == channel
        print("reloaded")
    """
    assert run_script(script) == "reloaded\n"


def test_cpython_objects_return_as_copies(neighbour: Neighbour) -> None:
    """Within one interpreter as between two, by `recv` and by `recv_nowait`."""
    channel = Channel[Any]()
    for method in ("recv", "recv_nowait"):
        sent = [1, 2, 3]
        channel.send(sent)
        received = getattr(channel, method)()
        assert received == sent
        assert received is not sent
        neighbour.do("own = Channel(); sent = [b'spam']; own.send(sent)")
        assert neighbour.do(f"(lambda got: (got == sent, got is sent))(own.{method}())") == (True, False)
        channel.send(b"spam")
        assert neighbour.do(f"RecvChannel(id).{method}()", id=channel.id) == b"spam"
        neighbour.do("SendChannel(id).send(b'eggs')", id=channel.id)
        assert getattr(channel, method)() == b"eggs"
    neighbour.do("del own, sent")


@pytest.mark.parametrize("value", [None, True, 10, "spam", b"spam", (0, "a"), [1, 2, 3], {"a": 13}], ids=repr)
def test_cpython_what_can_be_pickled_arrives(value: Any) -> None:
    channel, nothing = Channel[Any](), object()
    for receive in (channel.recv, lambda: channel.recv_nowait(nothing)):
        channel.send(value)
        assert receive() == value
    assert channel.recv_nowait(nothing) is nothing


def test_cpython_len_follows_each_message() -> None:
    channel, lengths = Channel[None](), []
    for step in "+++-+---+-":
        lengths.append(len(channel))
        if step == "+":
            channel.send(None)
        else:
            channel.recv()
    assert [*lengths, len(channel)] == [0, 1, 2, 3, 2, 3, 2, 1, 0, 1, 0]


def test_cpython_writes_of_the_sender_show_in_what_was_received() -> None:
    channel, memory = MemChannel(), bytearray(b"spamspamspam")
    receiver = Task(channel.recv)
    channel.send(memory)
    view = receiver.result()
    assert isinstance(view, memoryview)
    assert view == memory
    memory[4:8] = b"eggs"
    assert view == memory == b"spameggsspam"
    with pytest.raises(TypeError, match="read-only"):
        view[4:8] = b"ham."
    view.release()


def test_cpython_deadlines_are_of_the_monotonic_clock() -> None:
    """No source of ours that waits reads, or waits by, a clock that may be set."""
    folder = Path(__file__).parent.parent / "src"
    sources = {
        path: path.read_text() for name in ("core", "python") for path in (folder / name).glob("*.?pp")
    }
    assert any("CLOCK_MONOTONIC" in text for text in sources.values())
    wall = (
        "CLOCK_REALTIME",
        "system_clock",
        "gettimeofday",
        "sem_timedwait",
        "time(nullptr)",
        "timespec_get",
    )
    assert [path.name for path, text in sources.items() if any(name in text for name in wall)] == []

"""Who is associated with an end, and when a side is over: several interpreters, and their ends."""

from __future__ import annotations

import contextlib
import gc
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import Neighbour, RemoteFailure, Task, neighbours, run_script, wait_until, waiting
from interpreter_support import exists
from memchannel import (
    BrokenChannelError,
    Channel,
    ClosedChannelError,
    EndOfChannel,
    MemChannel,
    RecvChannel,
    list_all_channels,
)

pytestmark = pytest.mark.usefixtures("balanced")


@pytest.fixture
def guest() -> Iterator[Neighbour]:
    """An interpreter that the test may end."""
    gc.collect()
    made = Neighbour()
    yield made
    if exists(made.id):
        made.destroy()


def test_use_associates_and_looking_does_not(neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel()
    recv, send = channel.ends
    list_all_channels()
    RecvChannel(channel.id)
    pickle.loads(pickle.dumps(recv))
    len(channel)
    repr(channel)
    recv.statistics()
    assert recv.closed is send.closed is False
    assert recv.interpreters == send.interpreters == channel.interpreters == []
    neighbour.do("s = SendChannel(number)", number=channel.id)
    assert send.interpreters == []
    neighbour.do("s.send(1)")
    assert send.interpreters == [neighbour.id]
    recv.recv()
    assert recv.interpreters == [0]
    assert channel.interpreters == [0, neighbour.id]
    send.send(2)
    assert send.interpreters == [0, neighbour.id]
    neighbour.do("s.close(); del s")


@pytest.mark.parametrize(
    "use", ["end.recv_nowait()", "next(iter([]), end.recv_nowait())", "select(end, timeout=0)", "end.recv(0)"]
)
def test_a_try_counts_as_use(neighbour: Neighbour, use: str) -> None:
    channel: Channel[int] = Channel()
    neighbour.do("end = RecvChannel(number)", number=channel.id)
    with contextlib.suppress(RemoteFailure):  # those with a timeout
        neighbour.do(use)
    assert channel.ends[0].interpreters == [neighbour.id]
    neighbour.do("del end")


def test_a_message_hands_an_end_over(neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel()
    carrier: Channel[Any] = Channel()
    carrier.send(channel.ends[0])
    assert channel.statistics().receivers_on_the_way == 1
    neighbour.do("end = RecvChannel(number).recv()", number=carrier.id)
    assert channel.statistics().receivers_on_the_way == 0
    assert channel.statistics().receivers == [neighbour.id]
    neighbour.do("del end")
    assert channel.statistics().receivers == [neighbour.id], "dropping the object is no close"
    neighbour.do("RecvChannel(number).close()", number=channel.id)
    assert channel.statistics().receiving_over


def test_a_whole_channel_hands_both_ends_over(neighbour: Neighbour) -> None:
    channel: Channel[Any] = Channel()
    neighbour.do("both = given", given=channel)
    assert channel.statistics().receivers == channel.statistics().senders == [neighbour.id]
    assert neighbour.do("type(both).__name__, both.id") == ("Channel", channel.id)
    neighbour.do("both.close(); del both, given")
    now = channel.statistics()
    assert now.receiving_over
    assert now.sending_over


def test_an_end_in_a_queue_keeps_its_side_going() -> None:
    channel: Channel[int] = Channel()
    recv, send = channel.ends
    carrier: Channel[Any] = Channel()
    carrier.send(send)
    send.send(1)
    send.close()
    assert recv.recv() == 1
    assert recv.recv_nowait() is None, "somebody may yet receive the other end"
    waiter = Task(recv.recv)
    wait_until(lambda: waiting(recv) == (1, 0))
    carrier.close()
    with pytest.raises(EndOfChannel):
        waiter.result()


def test_a_handed_over_end_works_although_the_sender_closed(neighbour: Neighbour) -> None:
    channel: Channel[str] = Channel()
    recv, send = channel.ends
    neighbour.do("end = given", given=send)
    send.close()
    with pytest.raises(ClosedChannelError):
        send.send("mine")
    neighbour.do("end.send('yours')")
    assert recv.recv() == "yours"
    neighbour.do("end.close(); del end, given")
    with pytest.raises(EndOfChannel):
        recv.recv()


def test_close_acts_for_the_whole_interpreter(neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel()
    assert neighbour.do("a = SendChannel(n); b = SendChannel(n); a.send(1)", n=channel.id) is None
    assert neighbour.do("b.close()") is True
    assert neighbour.do("a.closed, b.close(), SendChannel(n).closed") == (True, False, True)
    with pytest.raises(RemoteFailure) as caught:
        neighbour.do("a.send(2)")
    assert caught.value.kind == "ClosedChannelError"
    assert not channel.ends[1].closed, "another interpreter's close is not ours"
    neighbour.do("del a, b")


def test_a_side_is_over_when_the_last_leaves(neighbours: list[Neighbour]) -> None:
    channel: Channel[int] = Channel()
    for one in neighbours:
        one.do("end = SendChannel(n); end.send(1)", n=channel.id)
    for count, one in enumerate(neighbours, 1):
        assert not channel.statistics().sending_over
        one.do("end.close(); del end")
        assert channel.recv() == 1
        assert channel.statistics().sending_over is (count == len(neighbours))
    with pytest.raises(EndOfChannel):
        channel.recv()


def test_closing_counts_even_if_unused(neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel()
    assert neighbour.do("SendChannel(n).close()", n=channel.id) is False
    with pytest.raises(EndOfChannel):
        channel.recv()
    with pytest.raises(ClosedChannelError, match="the sending side of channel .* is over: everybody left it"):
        channel.send(1)


def test_closing_wakes_only_ones_own_calls(neighbours: list[Neighbour]) -> None:
    channel: Channel[int] = Channel()
    for count, one in enumerate(neighbours, 1):
        one.start("RecvChannel(n).recv()", n=channel.id)
        wait_until(lambda count=count: waiting(channel) == (count, 0))
    first, *others = neighbours
    channel.send(0)
    wait_until(lambda: waiting(channel) == (2, 0))
    assert first.result() == 0
    first.do("RecvChannel(n).close()", n=channel.id)
    assert waiting(channel) == (2, 0)
    channel.send_many([1, 2])
    assert sorted(one.result() for one in others) == [1, 2]
    for one in others:
        one.do("RecvChannel(n).close()", n=channel.id)


def test_a_close_wakes_calls_in_other_threads_of_the_interpreter(neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel(maxsize=1)
    channel.send(0)
    neighbour.do(
        """
import threading
caught = []
def call(function, *args):
    try:
        function(*args)
    except Exception as exc:
        caught.append(type(exc).__name__)
thread = threading.Thread(target=call, args=(SendChannel(n).send, 1))
thread.start()
""",
        n=channel.id,
    )
    wait_until(lambda: waiting(channel) == (0, 1))
    neighbour.do("SendChannel(n).close(); thread.join()", n=channel.id)
    assert neighbour.do("caught") == ["ClosedChannelError"]
    assert channel.recv_many(5) == [0]


def test_the_end_of_an_interpreter_is_its_leave(guest: Neighbour) -> None:
    channel: Channel[int] = Channel()
    guest.do("end = SendChannel(n); end.send_many([1, 2])", n=channel.id)
    guest.destroy()
    assert channel.recv() == 1, "messages outlive who sent them"
    assert list(channel) == [2]
    assert channel.statistics().sending_over


def test_the_end_of_the_last_receiver_breaks_the_channel(guest: Neighbour) -> None:
    channel = MemChannel(maxsize=1)
    guest.do("end = RecvChannel(n); end.recv_nowait()", n=channel.id)
    memory = bytearray(b"x")
    channel.send(memory)
    sender = Task(channel.send, memory)
    wait_until(lambda: waiting(channel) == (0, 1))
    guest.destroy()
    with pytest.raises(BrokenChannelError):
        sender.result()
    memory += b"!"
    assert memchannel.stats().live == 0


def test_a_new_interpreter_may_join_while_a_side_goes_on(guest: Neighbour, neighbour: Neighbour) -> None:
    channel: Channel[int] = Channel()
    guest.do("SendChannel(n).send(1)", n=channel.id)
    neighbour.do("SendChannel(n).send(2)", n=channel.id)
    guest.destroy()
    channel.send(3)
    assert channel.recv_many(9) == [1, 2, 3]
    assert channel.statistics().senders == [0, neighbour.id]
    neighbour.do("SendChannel(n).close()", n=channel.id)


def test_calls_of_an_interpreter_that_ends_are_woken(guest: Neighbour) -> None:
    """Its threads are joined when it ends: one parked in a call would hold that up for ever."""
    channel: Channel[Any] = Channel()
    full: Channel[int] = Channel(maxsize=1)
    full.send(0)
    reports: Channel[Any] = Channel()
    guest.do(
        """
import threading, asyncio
reports = SendChannel(r)
def call(name, function, *args):
    try:
        function(*args)
    except BaseException as exc:
        reports.send((name, type(exc).__name__, "interpreter is ending" in str(exc)))
a, f = RecvChannel(n), SendChannel(m)
async def wait():
    return await a.recv_async()
for name, *what in [
    ("recv", a.recv),
    ("recv_many", a.recv_many, 3),
    ("send", f.send, 1),
    ("send_many", f.send_many, [1, 2]),
    ("select", select, a, (f, 1)),
    ("recv_async", lambda: asyncio.run(wait())),
]:
    threading.Thread(target=call, args=(name, *what)).start()
""",
        n=channel.id,
        m=full.id,
        r=reports.id,
    )
    wait_until(lambda: waiting(channel)[0] == 4)
    wait_until(lambda: waiting(full)[1] == 3)
    guest.destroy()
    outcomes = {name: rest for name, *rest in reports.recv_many(10)}
    assert set(outcomes) == {"recv", "recv_many", "send", "send_many", "select", "recv_async"}
    assert all(outcome == ["RuntimeError", True] for outcome in outcomes.values()), outcomes
    assert waiting(channel) == (0, 0)
    assert waiting(full) == (0, 0)
    assert full.recv_many(9) == [0]


def test_leases_of_an_interpreter_that_ends(guest: Neighbour) -> None:
    other = MemChannel()
    guest.do("SendChannel(n).send(bytearray(b'hers'))", n=other.id)
    with other.recv() as view:
        assert bytes(view) == b"hers"
        assert view.interpreter == guest.id
    other.send(b"mine")
    guest.do("view = RecvChannel(n).recv()", n=other.id)
    assert memchannel.stats().live == 1
    guest.do("view.release()")
    assert memchannel.stats().live == 0
    guest.destroy()


def test_messages_to_and_from_an_end_by_id(neighbour: Neighbour) -> None:
    there: Channel[Any] = Channel()
    back: Channel[Any] = Channel()
    neighbour.start(
        "[SendChannel(b).send(x * 2) for x in RecvChannel(t)]; SendChannel(b).close()", t=there.id, b=back.id
    )
    there.send_many([1, "ab", (3,)])
    there.ends[1].close()
    neighbour.result()
    assert list(back) == [2, "abab", (3, 3)]


def test_arrays_come_from_and_go_to_other_interpreters(neighbour: Neighbour) -> None:
    """The neighbour has no NumPy: it passes on what it gets, which does not nest the leases."""
    there, back = MemChannel(), MemChannel()
    array = np.arange(10.0)
    there.send(array)
    neighbour.do("v = RecvChannel(t).recv(); SendChannel(b).send(v); v.release()", t=there.id, b=back.id)
    with back.recv() as view:
        received = np.asarray(view)
        assert received.__array_interface__["data"][0] == array.__array_interface__["data"][0]
        assert view.interpreter == 0
        del received
    neighbour.do("RecvChannel(t).close(); SendChannel(b).close()")


def test_process_exit_with_everything_open() -> None:
    script = """if True:
        import threading, sys, _interpreters
        import memchannel
        from memchannel import Channel, MemChannel
        channel = Channel(); full = Channel(maxsize=1); full.send(0)
        held = MemChannel(); held.send(bytearray(9)); view = held.recv()
        held.send(bytearray(9))
        channel.ends[0]
        for call in (channel.recv, lambda: full.send(1), lambda: memchannel.select(channel, (full, 2))):
            threading.Thread(target=call, daemon=True).start()
        inner = _interpreters.create("isolated", reqrefs=True)
        source = f'''if True:
            import sys; sys.path[:] = {sys.path!r}
            import memchannel
            kept = memchannel.RecvChannel({held.id})
            mine = memchannel.MemChannel(); mine.send_many([bytearray(5)] * 2); mine.recv().release()
            memchannel.SendChannel({channel.id})
        '''
        assert _interpreters.exec(inner, source) is None
        while memchannel.stats().waiting < 3: pass
        view.release()
        print("leaving")
    """
    assert run_script(script) == "leaving\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Interpreter.call came with Python 3.14")
def test_ends_travel_as_arguments_of_interpreter_call() -> None:
    from concurrent import interpreters

    channel: Channel[Any] = Channel()
    recv, send = channel.ends
    send.send_many([1, "two"])
    send.close()
    interpreter = interpreters.create()
    try:
        assert interpreter.call(list, recv) == [1, "two"]
        assert channel.statistics().receivers == [interpreter.id]
        assert interpreter.call(getattr, send, "interpreters") == []
    finally:
        interpreter.close()
    assert channel.statistics().receiving_over


def test_two_guests_that_wait_for_each_other_end_cleanly() -> None:
    with neighbours(2) as guests:
        first: Channel[int] = Channel()
        second: Channel[int] = Channel()
        source = "SendChannel(s).send(0); RecvChannel(r).recv(); RecvChannel(r).recv()"
        guests[0].start(source, s=first.id, r=second.id)
        guests[1].start(source, s=second.id, r=first.id)
        wait_until(lambda: waiting(first) == waiting(second) == (1, 0))
        first.poison()
        second.poison()
        for guest in guests:
            with pytest.raises(RemoteFailure):
                guest.result()

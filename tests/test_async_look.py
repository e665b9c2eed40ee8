"""The short look that calls in asyncio take before they sleep: the loop goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from channel_support import HANG, Task, wait_until, waiting
from memchannel import Channel, _async, _core

pytestmark = pytest.mark.usefixtures("balanced")

# Misses until a channel's calls look no more, but for one wait in 64 (src/core/spin.hpp).
FULL_CREDIT, PROBE_EVERY = 4, 64


def in_line(channel: Channel[Any]) -> Any:
    """Begin a receive in the running loop and leave it at its first step, before it looks."""
    call = channel.recv_async()
    assert call.send(None) is None, "it asks for one turn of the loop"
    assert waiting(channel) == (1, 0)
    return call


def has_settled(call: Any) -> Any:
    """Do the last step of a call, and return what it received."""
    with pytest.raises(StopIteration) as caught:
        call.send(None)
    return caught.value.value


def test_a_message_that_comes_within_the_turn_is_taken() -> None:
    async def main() -> None:
        channel = Channel[int]()
        call = in_line(channel)
        channel.send(7)
        assert channel.recv_nowait() is None, "it is promised to the call"
        assert has_settled(call) == 7
        assert waiting(channel) == (0, 0)

    asyncio.run(main())


def test_a_message_that_does_not_come_is_waited_for() -> None:
    async def main() -> None:
        channel = Channel[int]()
        call = in_line(channel)
        assert asyncio.isfuture(call.send(None)), "now it sleeps, as it stands"
        assert waiting(channel) == (1, 0)
        call.close()
        assert waiting(channel) == (0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("rendezvous", [False, True])
def test_a_call_that_is_cancelled_before_it_looks_leaves_its_message(rendezvous: bool) -> None:
    async def main() -> None:
        channel = Channel[int](rendezvous=rendezvous)
        first = asyncio.create_task(channel.recv_async())
        second = asyncio.create_task(channel.recv_async())
        await asyncio.sleep(0)
        assert waiting(channel) == (2, 0)
        channel.send(7)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.wait_for(second, HANG) == 7

    asyncio.run(main())


def test_a_send_that_is_cancelled_before_it_looks_takes_its_message_back() -> None:
    async def main() -> None:
        channel = Channel[int](maxsize=1)
        channel.send(0)
        call = channel.send_async(1)
        assert call.send(None) is None
        assert waiting(channel) == (0, 1)
        with pytest.raises(asyncio.CancelledError):
            call.throw(asyncio.CancelledError())
        assert waiting(channel) == (0, 0)
        assert channel.recv_many(9) == [0]

    asyncio.run(main())


def test_a_coroutine_that_is_dropped_before_it_looks_leaves_its_message() -> None:
    async def main() -> None:
        channel = Channel[int]()
        call = in_line(channel)
        channel.send(7)
        del call
        gc.collect()
        assert waiting(channel) == (0, 0)
        assert channel.recv_nowait() == 7

    asyncio.run(main())


def test_other_tasks_run_although_every_message_comes_soon() -> None:
    """Each receive that has to wait gives the loop a turn, however soon its message comes."""
    channel, count = Channel[int](), 300

    def feed() -> None:
        for number in range(count):
            wait_until(lambda: waiting(channel) == (1, 0))
            channel.send(number)

    async def main() -> None:
        turns = timers = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def receive() -> list[int]:
            return [await channel.recv_async() for _ in range(count)]

        def on_time() -> None:
            nonlocal timers
            timers += 1

        ticking = asyncio.create_task(tick())
        asyncio.get_running_loop().call_later(0, on_time)
        feeding = Task(feed)
        assert await asyncio.wait_for(receive(), HANG) == list(range(count))
        feeding.result()
        ticking.cancel()
        assert turns >= count
        assert timers == 1

    asyncio.run(main())


def test_a_loop_with_other_work_is_not_held_up() -> None:
    """Without an idle loop the look is one look, and counts as a miss; then nobody looks for a while."""

    async def main() -> None:
        channel = Channel[int]()
        state = _async._state_of(asyncio.get_running_loop())
        looked = 0
        for _ in range(FULL_CREDIT + PROBE_EVERY):
            call = _core.AsyncCall(channel, state.notifier)
            assert call.start()
            if call.may_be_soon():
                looked += 1
                assert not call.look(False)
            call.cancel()
        assert looked == FULL_CREDIT + 1

    asyncio.run(main())


def test_a_call_looks_only_while_it_stands_in_line() -> None:
    async def main() -> None:
        channel = Channel[int]()
        notifier = _async._state_of(asyncio.get_running_loop()).notifier
        call = _core.AsyncCall(channel, notifier)
        future = asyncio.get_running_loop().create_future()
        for step in (call.may_be_soon, lambda: call.look(True), lambda: call.wait(future)):
            with pytest.raises(RuntimeError, match="not in line"):
                step()
        channel.send(1)
        assert not call.start(), "it is received already"
        assert call.finish() == 1

    asyncio.run(main())

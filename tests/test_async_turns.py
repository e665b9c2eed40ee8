"""Tasks whose channel never makes them wait: the loop still turns, and nothing is lost or out of order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from memchannel import ArrayChannel, Channel

pytestmark = pytest.mark.usefixtures("balanced")

# A task that is served at once gives the loop a turn once in so many calls, from the second time on.
CALLS = 127
COUNT = 4 * CALLS


async def each_received(channel: Channel[int]) -> AsyncIterator[int]:
    while True:
        yield await channel.recv_async()


async def each_sent(channel: Channel[int]) -> AsyncIterator[int]:
    for number in range(COUNT):
        await channel.send_async(number)
        yield number


WAYS: dict[str, Callable[[Channel[int]], AsyncIterator[int]]] = {
    "recv_async": each_received,
    "async for": aiter,
    "send_async": each_sent,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_loop_turns_although_nothing_waits(way: str) -> None:
    async def main() -> None:
        channel = Channel[int]()
        if way != "send_async":
            channel.send_many(range(COUNT))
        turns: list[int] = []
        done = 0

        def tick() -> None:
            turns.append(done)
            asyncio.get_running_loop().call_soon(tick)

        asyncio.get_running_loop().call_soon(tick)
        async for number in WAYS[way](channel):
            assert number == done
            done += 1
            if done == COUNT:
                break
        assert 2 <= len(turns) <= 4, "one in 127 calls, and not the first time"
        assert turns[0] <= 2 * CALLS
        channel.close()

    asyncio.run(main())


def test_options_make_no_difference() -> None:
    async def main() -> None:
        channel = ArrayChannel()
        channel.send_many(np.arange(COUNT).reshape(COUNT, 1))
        turned = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        received = [await channel.recv_async(copy=True) for _ in range(COUNT)]
        assert turned.done()
        assert np.array_equal(np.concatenate(received), np.arange(COUNT))

    asyncio.run(main())


def test_a_task_that_never_waits_can_be_cancelled_and_loses_nothing() -> None:
    async def main() -> None:
        channel = Channel[int]()
        channel.send_many(range(COUNT))
        received: list[int] = []

        async def receive() -> None:
            while True:
                received.append(await channel.recv_async())

        task = asyncio.create_task(receive())
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 < len(received) < COUNT
        assert [*received, *channel.recv_many(COUNT)] == list(range(COUNT))

    asyncio.run(main())


def test_tasks_that_receive_once_keep_their_order() -> None:
    async def main() -> None:
        channel = Channel[int]()
        channel.send_many(range(COUNT))
        assert await asyncio.gather(*(channel.recv_async() for _ in range(COUNT))) == list(range(COUNT))

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_a_loop_that_is_dropped_with_work_left_is_collected() -> None:
    channel = Channel[Any]()

    async def receive() -> Any:
        asyncio.get_running_loop().call_soon(channel.send, "late")
        return await channel.recv_async()

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(receive()) == "late"
    loop.call_soon(print, "never")
    dropped = weakref.ref(loop)
    del loop
    gc.collect()
    assert dropped() is None

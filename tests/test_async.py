"""Channels in asyncio: no thread, no poll, nothing lost by cancellation, any number of loops."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_calls import parcel, unpack
from channel_support import HANG, KINDS, Neighbour, Task, each_ending, wait_until, waiting
from memchannel import (
    ArrayChannel,
    BrokenChannelError,
    Channel,
    ClosedChannelError,
    EndOfChannel,
    MemChannel,
    PoisonedChannelError,
)

pytestmark = pytest.mark.usefixtures("balanced")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a loop of its own, with a limit against hangs."""

    async def limited() -> Any:
        return await asyncio.wait_for(main, HANG)

    return asyncio.run(limited(), debug=True)


async def until(condition: Any) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(HANG):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def parked(call: Coroutine[Any, Any, Any], end: Any, expected: tuple[int, int]) -> AsyncIterator[Any]:
    """Have a task whose call waits on an end."""
    task = asyncio.create_task(call)
    await until(lambda: waiting(end) == expected)
    yield task


def waits_of(channel: Any) -> list[Any]:
    """List the calls that have gone to sleep over a channel: after a first look they stand in line only."""
    return [wait for wait in memchannel.dump_waits() if wait.channel == channel.id]


# ---- receiving and sending


@pytest.mark.parametrize("kind", KINDS)
def test_a_queued_message_is_received_at_once(kind: type[Any]) -> None:
    async def main() -> None:
        channel = kind()
        await channel.send_async(parcel(kind, 3))
        assert unpack(await channel.recv_async()) == 3

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_for_a_message_from_another_thread(kind: type[Any]) -> None:
    async def main() -> None:
        channel = kind()
        for number in range(50):
            async with parked(channel.recv_async(), channel, (1, 0)) as task:
                sender = Task(channel.send, parcel(kind, number))
                assert unpack(await task) == number
                sender.result()

    run(main())


def test_it_receives_from_other_interpreters(neighbours: list[Neighbour]) -> None:
    channel = Channel[Any]()
    for one in neighbours:
        one.start("for k in range(100): SendChannel(n).send((who, k))", n=channel.id, who=one.id)

    async def main() -> list[Any]:
        return [await channel.recv_async() for _ in range(100 * len(neighbours))]

    received = run(main())
    for one in neighbours:
        assert [number for who, number in received if who == one.id] == list(range(100))
        one.result()


def test_arrays_and_their_options() -> None:
    async def main() -> None:
        channel = ArrayChannel()
        array = np.arange(5)
        async with parked(channel.recv_async(copy=True), channel, (1, 0)) as task:
            channel.send(array)
            received = await task
        assert received.flags.writeable
        assert received is not array
        channel.send(array)
        received = await channel.recv_async()
        assert not received.flags.writeable
        assert received.__array_interface__["data"][0] == array.__array_interface__["data"][0]

    run(main())


def test_a_full_channel_makes_send_async_wait() -> None:
    async def main() -> None:
        channel = Channel[int](maxsize=1)
        await channel.send_async(0)
        async with parked(channel.send_async(1), channel, (0, 1)) as task:
            assert channel.recv() == 0
            await task
        assert channel.recv() == 1

    run(main())


def test_rendezvous_between_tasks_and_threads() -> None:
    async def main() -> None:
        channel = Channel[Any](rendezvous=True)
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            await channel.send_async("to a task")
            assert await task == "to a task"
        async with parked(channel.send_async("from a task"), channel, (0, 1)) as task:
            assert await channel.recv_async() == "from a task"
            await task
        async with parked(channel.send_async("to a thread"), channel, (0, 1)) as task:
            assert channel.recv() == "to a thread"
            await task
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            channel.send("from a thread")
            assert await task == "from a thread"

    run(main())


def test_tasks_stand_in_line_with_threads() -> None:
    async def main() -> None:
        channel = Channel[int]()
        async with parked(channel.recv_async(), channel, (1, 0)) as first:
            second = Task(channel.recv)
            await until(lambda: waiting(channel) == (2, 0))
            async with parked(channel.recv_async(), channel, (3, 0)) as third:
                channel.send(1)
                assert await first == 1
                channel.send(2)
                assert await asyncio.to_thread(second.result) == 2
                channel.send(3)
                assert await third == 3

    run(main())


def test_many_tasks_on_one_channel() -> None:
    async def main() -> None:
        channel = Channel[int]()
        tasks = [asyncio.create_task(channel.recv_async()) for _ in range(200)]
        await until(lambda: waiting(channel) == (200, 0))
        channel.send_many(range(200))
        assert await asyncio.gather(*tasks) == list(range(200)), "first come, first served"

    run(main())


def test_one_task_on_many_channels() -> None:
    async def main() -> None:
        channels = [Channel[int]() for _ in range(200)]
        tasks = [asyncio.create_task(channel.recv_async()) for channel in channels]
        await until(lambda: all(waiting(channel) == (1, 0) for channel in channels))
        for number in range(199, -1, -1):
            channels[number].send(number)
        assert await asyncio.gather(*tasks) == list(range(200))

    run(main())


def test_several_loops_at_once() -> None:
    channel = Channel[int]()
    back = Channel[int]()

    async def echo() -> int:
        count = 0
        async for number in channel:
            await back.send_async(number)
            count += 1
        return count

    loops = [Task(run, echo()) for _ in range(4)]
    wait_until(lambda: waiting(channel) == (4, 0))
    channel.send_many(range(1000))
    received = [back.recv() for _ in range(1000)]
    channel.ends[1].close()
    assert sorted(received) == list(range(1000))
    assert sum(loop.result() for loop in loops) == 1000


def test_loops_in_other_interpreters(neighbours: list[Neighbour]) -> None:
    there, back = Channel[Any](), Channel[Any]()
    source = """
import asyncio
async def echo():
    async for value in RecvChannel(t):
        await SendChannel(b).send_async((me, value))
asyncio.run(echo())
SendChannel(b).close()
RecvChannel(t).close()
"""
    for one in neighbours:
        one.start(source, t=there.id, b=back.id, me=one.id)
    wait_until(lambda: waiting(there) == (3, 0))
    there.send_many(range(300))
    received = [back.recv() for _ in range(300)]
    there.ends[1].close()
    for one in neighbours:
        one.result()
    assert sorted(value for _, value in received) == list(range(300))
    assert {who for who, _ in received} == {one.id for one in neighbours}


def test_a_channel_between_two_loops() -> None:
    channel = Channel[int](rendezvous=True)

    async def produce() -> None:
        for number in range(200):
            await channel.send_async(number)
        channel.ends[1].close()

    async def consume() -> list[int]:
        return [number async for number in channel]

    consumer, producer = Task(run, consume()), Task(run, produce())
    assert consumer.result() == list(range(200))
    producer.result()


# ---- async for, and errors


def test_async_for_ends_with_the_channel() -> None:
    async def main() -> None:
        channel = Channel[int]()
        recv, send = channel.ends

        async def produce() -> None:
            for number in range(5):
                await send.send_async(number)
                await asyncio.sleep(0)
            send.close()

        producer = asyncio.create_task(produce())
        assert [number async for number in recv] == [0, 1, 2, 3, 4]
        await producer
        assert [number async for number in recv] == []
        assert aiter(recv) is recv
        with pytest.raises(StopAsyncIteration):
            await anext(recv)
        with pytest.raises(TypeError):
            aiter(send)  # type: ignore[call-overload]

    run(main())


def test_errors_of_calls_that_need_not_wait() -> None:
    async def main() -> None:
        ended, broken, closed, poisoned = (Channel[int]() for _ in range(4))
        ended.ends[1].close()
        broken.ends[0].close()
        closed.close()
        poisoned.poison(ValueError("why"))
        for call, error in [
            (ended.recv_async(), EndOfChannel),
            (broken.send_async(1), BrokenChannelError),
            (closed.recv_async(), ClosedChannelError),
            (closed.send_async(1), ClosedChannelError),
            (poisoned.recv_async(), PoisonedChannelError),
            (poisoned.send_async(1), PoisonedChannelError),
            (anext(poisoned), PoisonedChannelError),
        ]:
            with pytest.raises(error):
                await call

    run(main())


@each_ending
def test_errors_of_calls_that_wait(event: Any, error: type[Exception]) -> None:
    async def main() -> None:
        channel = Channel[int]()
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            event(channel)
            with pytest.raises(error):
                await task

    run(main())


def test_a_waiting_send_is_told_that_nobody_receives() -> None:
    async def main() -> None:
        channel = MemChannel(maxsize=1)
        memory = bytearray(b"x")
        channel.send(b"")
        async with parked(channel.send_async(memory), channel, (0, 1)) as task:
            channel.ends[0].close()
            with pytest.raises(BrokenChannelError):
                await task
        memory.extend(b"!")

    run(main())


def test_bad_input() -> None:
    async def main() -> None:
        channel = MemChannel()
        with pytest.raises(TypeError):
            await channel.send_async(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="are for an ArrayChannel only"):
            await channel.recv_async(copy=True)
        with pytest.raises(TypeError):
            channel.send_async()  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'timeout'"):
            channel.recv_async(timeout=3)  # type: ignore[call-arg]

    run(main())


def test_nothing_happens_before_it_is_awaited() -> None:
    channel = Channel[int]()
    channel.send(1)
    call = channel.recv_async()
    assert asyncio.iscoroutine(call)
    assert len(channel) == 1
    call.close()
    send = channel.send_async(2)
    send.close()
    assert len(channel) == 1


def test_without_a_loop_it_says_so() -> None:
    channel = Channel[int]()
    with pytest.raises(RuntimeError, match="no running event loop"):
        channel.recv_async().send(None)
    assert waiting(channel) == (0, 0)


# ---- cancellation


def test_cancelling_leaves_the_line() -> None:
    async def main() -> None:
        channel = Channel[int]()
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert waiting(channel) == (0, 0)
        channel.send(1)
        assert await channel.recv_async() == 1

    run(main())


def test_cancelling_a_send_takes_the_message_back() -> None:
    async def main() -> None:
        channel = MemChannel(maxsize=1)
        channel.send(b"")
        memory = bytearray(b"mine")
        async with parked(channel.send_async(memory), channel, (0, 1)) as task:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        del task
        assert waiting(channel) == (0, 0)
        gc.collect()
        memory.extend(b"!")
        assert len(channel) == 1
        channel.close()

    run(main())


@pytest.mark.parametrize("shape", [{}, {"rendezvous": True}], ids=["queued", "rendezvous"])
def test_a_message_granted_to_a_cancelled_task_goes_to_the_next(shape: dict[str, Any]) -> None:
    """The message arrives, and before the task runs again it is cancelled."""

    async def main() -> None:
        channel = Channel[int](**shape)
        async with (
            parked(channel.recv_async(), channel, (1, 0)) as first,
            parked(channel.recv_async(), channel, (2, 0)) as second,
        ):
            channel.send(7)
            assert waiting(channel) == (1, 0), "granted to the first"
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await second == 7

    run(main())


def test_a_message_granted_to_the_last_task_stays_when_it_is_cancelled() -> None:
    async def main() -> None:
        channel = Channel[int]()
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            channel.send(7)
            assert channel.recv_nowait() is None, "it is promised to the task"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert channel.recv_nowait() == 7

    run(main())


def test_timeouts_lose_nothing() -> None:
    channel = Channel[int]()

    async def main() -> list[int]:
        received = []
        while len(received) < 500:
            try:
                received.append(await asyncio.wait_for(channel.recv_async(), 0.0005))
            except TimeoutError:
                continue
        return received

    receiver = Task(run, main())
    for number in range(500):
        channel.send(number)
        if number % 50 == 0:
            wait_until(lambda: len(channel) == 0)
    assert receiver.result() == list(range(500))


def test_cancelling_at_random_loses_nothing() -> None:
    channel = Channel[int](maxsize=2)
    received: list[int] = []

    async def take() -> None:
        received.append(await channel.recv_async())

    senders: list[Task] = []

    async def main() -> None:
        cancelled = 0
        while len(received) < 300:
            tasks = [asyncio.create_task(take()) for _ in range(6)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                cancelled += task.cancel()
            if not senders:  # after the first round, in which nothing can be received in time
                senders.append(Task(lambda: [channel.send(number) for number in range(300)]))
            await asyncio.sleep(0.0001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert cancelled

    run(main())
    senders[0].result()
    assert sorted(received) == list(range(300))


def test_a_loop_that_stops_with_calls_waiting() -> None:
    channel = Channel[int]()

    async def main() -> None:
        asyncio.create_task(channel.recv_async())  # noqa: RUF006 - run() cancels it
        await until(lambda: waiting(channel) == (1, 0))

    run(main())
    assert waiting(channel) == (0, 0)
    channel.send(1)
    assert channel.recv() == 1


def test_a_loop_that_is_closed_with_calls_waiting() -> None:
    channel = Channel[int]()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await until(lambda: waiting(channel) == (1, 0))

    task = loop.create_task(channel.recv_async())
    loop.run_until_complete(main())
    loop.close()
    channel.send(1)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task, loop
    gc.collect()
    assert waiting(channel) == (0, 0)
    assert channel.recv() == 1, "the call that is gone gave its message back"


def test_a_coroutine_that_is_dropped_leaves_the_line() -> None:
    async def main() -> None:
        channel = Channel[int]()
        call = channel.recv_async()
        future = call.send(None)
        assert waiting(channel) == (1, 0)
        channel.send(1)
        del call, future
        gc.collect()
        assert waiting(channel) == (0, 0)
        assert channel.recv_nowait() == 1

    run(main())


# ---- resources


def descriptors() -> int:
    """Count the descriptors of the process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_descriptor_for_a_loop_and_none_after_it() -> None:
    run(asyncio.sleep(0))
    gc.collect()
    before = descriptors()

    async def main(count: int) -> int:
        channels = [Channel[int]() for _ in range(count)]
        idle = descriptors()
        tasks = [asyncio.create_task(channel.recv_async()) for channel in channels]
        await until(lambda: all(waiting(channel) == (1, 0) for channel in channels))
        more = descriptors() - idle
        for channel in channels:
            channel.send(0)
        await asyncio.gather(*tasks)
        return more

    for count in (1, 100):
        assert run(main(count)) == 1
        gc.collect()
    # A closed loop has no hook: its descriptor goes with the loop, or when the next one needs one.
    run(main(1))
    gc.collect()
    assert descriptors() - before <= 1


def test_no_thread_and_no_wake_up_while_waiting() -> None:
    """The loop sleeps: a waiting call costs no turn of it."""

    async def main() -> None:
        channel = Channel[int]()
        threads = threading.active_count()
        loop = asyncio.get_running_loop()
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            assert threading.active_count() == threads
            turns = 0
            select = loop._selector.select  # type: ignore[attr-defined]

            def counting(timeout: float | None = None) -> Any:
                nonlocal turns
                turns += 1
                return select(timeout)

            loop._selector.select = counting  # type: ignore[attr-defined]
            loop.call_later(0.3, channel.send, 5)
            assert await task == 5
        # The timer, the event descriptor, the task's step, and those of the enclosing calls.
        assert turns <= 8, turns

    run(main())


def test_a_burst_wakes_the_loop_once() -> None:
    async def main() -> None:
        channel = Channel[int]()
        tasks = [asyncio.create_task(channel.recv_async()) for _ in range(100)]
        await until(lambda: len(waits_of(channel)) == 100)
        channel.send_many(range(100))
        loop = asyncio.get_running_loop()
        from memchannel import _async

        reads = [os.read(_async._states[loop].notifier.fileno(), 8)]
        assert reads == [(1).to_bytes(8, "little")], "written once"
        # As if it had not been read:
        os.write(_async._states[loop].notifier.fileno(), reads[0])
        assert await asyncio.gather(*tasks) == list(range(100))

    run(main())


def test_it_shows_in_the_list_of_waits() -> None:
    async def main() -> None:
        channel = Channel[int]()
        async with parked(channel.recv_async(), channel, (1, 0)) as task:
            await until(lambda: waits_of(channel))
            (wait,) = waits_of(channel)
            assert wait.operation == "recv_async"
            assert wait.thread == threading.get_native_id()
            assert wait.deadlock is None
            channel.send(1)
            await task

    run(main())


def test_a_forgotten_coroutine_warns_as_any() -> None:
    channel = Channel[int]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        channel.recv_async()
        gc.collect()
    assert any("recv_async" in str(one.message) and "never awaited" in str(one.message) for one in caught)

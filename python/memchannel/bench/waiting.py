"""Waits: what they use, how soon Ctrl-C ends them, and what they cost in event loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import memchannel
from memchannel import Channel
from memchannel.bench._beside import ECHO, other_interpreter
from memchannel.bench._harness import Benchmark
from memchannel.bench._processes import in_own_process

bench = Benchmark("waiting", __doc__)

LOOP_ECHO = """
import asyncio

async def echo(there, back):
    async for value in there:
        back.send(value)

asyncio.run(echo(there, back))
"""


def waiting_calls() -> tuple[Channel[int], Channel[int], dict[str, Callable[[], Any]]]:
    """Make an empty and a full channel, and each kind of call that waits for them."""
    channel, full = Channel[int](), Channel[int](maxsize=1)
    full.send(0)

    async def receive() -> None:
        await channel.recv_async()

    calls: dict[str, Callable[[], Any]] = {
        "recv": channel.recv,
        "send": lambda: full.send(0),
        "select": lambda: memchannel.select(channel, (full, 0)),
        "recv_async": lambda: asyncio.run(receive()),
    }
    return channel, full, calls


@bench.scenario
def parked() -> None:
    """CPU time of a thread that waits."""
    channel, full, calls = waiting_calls()

    def wait(call: Callable[[], Any], used: list[float]) -> None:
        before = time.thread_time()
        call()
        used.append(time.thread_time() - before)

    seconds = bench.scaled(3, 1)
    for name, call in calls.items():
        used: list[float] = []
        # What the call costs without the wait, an event loop's start included, is in both figures.
        # The first of all imports what it needs, and does not count.
        for pause in (0.05, 0.05, seconds):
            thread = threading.Thread(target=wait, args=(call, used), daemon=True)
            thread.start()
            time.sleep(pause)
            if name == "send":
                full.recv()
            else:
                channel.send(1)
            thread.join()
        bench.record(
            "CPU time of a parked wait", f"{name}, {seconds} s", used[2] - used[1], reach=0.001 * seconds
        )


def interrupt_latency(name: str, count: int) -> float:
    """Return the longest of some times from SIGINT to KeyboardInterrupt; runs in a process of its own."""
    channel, full, calls = waiting_calls()
    pressed = 0.0

    def press() -> None:
        nonlocal pressed
        while not memchannel.dump_waits():
            time.sleep(0.001)
        time.sleep(0.01)  # parked
        pressed = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    took = []
    for _ in range(count):
        thread = threading.Thread(target=press)
        thread.start()
        with contextlib.suppress(KeyboardInterrupt):
            calls[name]()
        took.append(time.perf_counter() - pressed)
        thread.join()
    channel.send(1)
    if (channel.recv(), full.recv_many(9)) != (1, [0]):
        raise RuntimeError("an interrupted call took or sent something")
    return max(took)


@bench.scenario
def interrupts() -> None:
    """Ctrl-C in the main thread: from the signal to the exception."""
    count = bench.scaled(20, 3)
    for name in ("recv", "send", "select", "recv_async"):
        latency = lambda name=name: float(in_own_process(interrupt_latency, name, count))  # noqa: E731
        bench.compare(f"Ctrl-C, the longest of {count}", {name: latency}, reach=0.1, repeats=3)


@bench.scenario
def event_loop() -> None:
    """Receives in asyncio, against the cheapest step of the loop."""
    count = bench.scaled(5000, 500)

    def in_loop(step: Callable[[], Any]) -> float:
        async def main() -> float:
            begin = time.perf_counter()
            for _ in range(count):
                await step()
            return (time.perf_counter() - begin) / count

        return asyncio.run(main())

    queued = Channel[int]()

    def of_queued() -> float:
        queued.send_many(range(count))
        return in_loop(queued.recv_async)

    sleep = lambda: in_loop(lambda: asyncio.sleep(0))  # noqa: E731
    bench.compare(
        "receive of a queued message, in a loop",
        {"recv_async": of_queued, "asyncio, sleep(0)": sleep},
        against="asyncio, sleep(0)",
        reach=0.2,
    )
    for name, source in {
        "a thread": ECHO,
        "a loop": LOOP_ECHO,
    }.items():
        with other_interpreter(source) as (there, back):

            async def trip() -> None:
                there.send(1)
                await back.recv_async()

            asyncio.run(trip())
            bench.compare(
                f"half a round trip of a loop with {name}",
                {"recv_async": lambda: in_loop(trip) / 2, "asyncio, sleep(0)": sleep},
                against="asyncio, sleep(0)",
                reach=4,
            )

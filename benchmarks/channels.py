"""Channels: hand-over between waiting interpreters, event loops, and how the cost of each item grows.

The other side of a round trip is an interpreter of its own for memchannel and for the standard library's
queue, a thread for queue.SimpleQueue, and a process for multiprocessing.Pipe (that pair lives in a process of
its own, since it forks).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import Benchmark, in_own_process, per_operation

import memchannel
from memchannel import Channel, MemChannel, interpreters

bench = Benchmark("channels", __doc__)

ECHO = """
def echo(there, back):
    for value in there:
        back.send(value)
"""


@contextlib.contextmanager
def echoing(kind: type[Any] = Channel) -> Iterator[Callable[[], object]]:
    """Have an interpreter that sends back what it gets; yields one round trip."""
    there, back = kind(), kind()
    other = interpreters.create(packages=None)
    run = threading.Thread(
        target=interpreters.run,
        args=(other, ECHO + "echo(there, back)"),
        kwargs={"shared": {"there": there.ends[0], "back": back.ends[1]}},
    )
    run.start()
    send, recv = there.send, back.recv

    def trip() -> None:
        send(1)
        recv()

    trip()
    yield trip
    there.ends[1].close()
    run.join()
    interpreters.close(other)


@contextlib.contextmanager
def echoing_thread() -> Iterator[Callable[[], object]]:
    """Have a thread that sends back over SimpleQueue."""
    there: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()

    def echo() -> None:
        while (value := there.get()) is not None:
            back.put(value)

    thread = threading.Thread(target=echo)
    thread.start()

    def trip() -> None:
        there.put(1)
        back.get()

    yield trip
    there.put(None)
    thread.join()


def _echo_pipe(end: Any) -> None:
    while (value := end.recv()) is not None:
        end.send(value)


def pipe_round_trip(count: int) -> float:
    """Measure multiprocessing.Pipe; runs in a process of its own."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_echo_pipe, args=(there,))
    process.start()

    def trip() -> None:
        here.send(1)
        here.recv()

    seconds = per_operation(trip, count)
    here.send(None)
    process.join()
    return seconds


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy with another process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)  # until it runs
        yield
    finally:
        process.kill()
        process.wait()


def standard_round_trip(count: int) -> float:
    """Measure the standard library's queue between two interpreters; Python 3.14 and newer."""
    from concurrent import interpreters as standard  # type: ignore[attr-defined, unused-ignore]

    there, back = standard.create_queue(), standard.create_queue()
    other = standard.create()
    other.prepare_main(there=there, back=back)
    source = "while (value := there.get()) is not None:\n    back.put(value)"
    thread = threading.Thread(target=other.exec, args=(source,))
    thread.start()

    def trip() -> None:
        there.put(1)
        back.get()

    seconds = per_operation(trip, count)
    there.put(None)
    thread.join()
    other.close()
    return seconds


def _round_trips(name: str, reach: float) -> None:
    count = bench.scaled(5000, 500)
    with echoing() as ours, echoing_thread() as simple:
        sides: dict[str, Callable[[], float]] = {
            "memchannel": lambda: per_operation(ours, count),
            "SimpleQueue, threads": lambda: per_operation(simple, count),
            "multiprocessing.Pipe": lambda: float(in_own_process(pipe_round_trip, count)),
        }
        if sys.version_info >= (3, 14):
            sides["concurrent.interpreters"] = lambda: standard_round_trip(20)
        bench.compare(name, sides, against="SimpleQueue, threads", reach=reach)


@bench.scenario
def round_trip_free() -> None:
    """Two interpreters that wait for each other, cores free."""
    _round_trips("round trip, cores free", 0.1)


@bench.scenario
def round_trip_busy() -> None:
    """Do the same with one core taken by another process."""
    with busy_core():
        _round_trips("round trip, one core busy", 1.0)


@bench.scenario
def parked() -> None:
    """CPU time of a thread that waits."""
    channel = Channel[int]()
    used: list[float] = []

    def wait() -> None:
        before = time.thread_time()
        channel.recv()
        used.append(time.thread_time() - before)

    seconds = bench.scaled(3, 1)
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(seconds)
    channel.send(1)
    thread.join()
    bench.record("CPU time of a parked wait", f"of {seconds} s", used[0], reach=0.001 * seconds)


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
        {"recv_async": of_queued, "asyncio.sleep(0)": sleep},
        against="asyncio.sleep(0)",
        reach=0.2,
    )
    there, back = Channel[int](), Channel[int]()
    other = interpreters.create(packages=None)
    source = ECHO + "echo(there, back)"
    shared = {"there": there.ends[0], "back": back.ends[1]}
    thread = threading.Thread(target=interpreters.run, args=(other, source), kwargs={"shared": shared})
    thread.start()

    async def trip() -> None:
        there.send(1)
        await back.recv_async()

    bench.compare(
        "receive that waits in a loop (half a round trip)",
        {"recv_async": lambda: in_loop(trip) / 2, "asyncio.sleep(0)": sleep},
        against="asyncio.sleep(0)",
        reach=4,
    )
    there.ends[1].close()
    thread.join()
    interpreters.close(other)


@bench.scenario
def no_waiting() -> None:
    """Send, receive and release of a view in one thread."""
    count = bench.scaled(20_000, 2000)
    channel, data = MemChannel(), b"spam"

    def ours() -> None:
        channel.send(data)
        channel.recv().release()

    sides: dict[str, Callable[[], float]] = {
        "memchannel": lambda: per_operation(ours, count),
        "memoryview().release()": lambda: per_operation(lambda: memoryview(data).release(), count),
    }
    bench.compare("send, receive and release a view", sides, against="memoryview().release()", reach=4)


def resident() -> int:
    """Return the bytes of memory that the process uses now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def growth(name: str, step: Callable[[], object], count: int) -> None:
    """Repeat a step that leaves something behind: its cost in chunks, and its memory.

    The medians of the first and the last tenth of the chunks are compared, which a busy moment of the machine
    does not reach.
    """
    before = resident()
    chunks = [per_operation(step, 100) for _ in range(count // 100)]
    tenth = len(chunks) // 10
    first, last = statistics.median(chunks[:tenth]), statistics.median(chunks[-tenth:])
    bench.record(name, "bytes of each", (resident() - before) / count, "B")
    bench.record(name, "each of the last tenth", last, first_tenth=first)
    bench.record(name, "against the first tenth", last / first, "x", reach=1.3)


@bench.scenario
def many_messages() -> None:
    """Queue a million messages: cost and memory of each, in and out."""
    count = bench.scaled(1_000_000, 100_000)
    channel, data = MemChannel(), b"spam"
    growth(f"{count:,} queued messages", lambda: channel.send(data), count)
    chunks = [per_operation(lambda: channel.recv().release(), 100) for _ in range(count // 100)]
    bench.record(f"{count:,} queued messages", "receiving each", statistics.median(chunks))


@bench.scenario
def many_channels() -> None:
    """Make ten thousand channels and use each of them."""
    count = bench.scaled(10_000, 2000)
    made: list[Channel[int]] = []

    def step() -> None:
        channel = Channel[int]()
        channel.send(1)
        channel.recv()
        made.append(channel)

    growth(f"{count:,} channels", step, count)


@bench.scenario
def many_selects() -> None:
    """Let a thousand selects wait for one channel: each message wakes one of them."""
    for count in (50, bench.scaled(1000, 300)):
        channel, other = Channel[int](), Channel[int]()
        threads = [threading.Thread(target=memchannel.select, args=(channel, other)) for _ in range(count)]
        for thread in threads:
            thread.start()
        while channel.statistics().waiting_receivers < count:
            time.sleep(0.001)
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        begin = time.perf_counter()
        for number in range(count):
            channel.send(number)
        for thread in threads:
            thread.join()
        bench.record(f"{count} selects on one channel", "each", (time.perf_counter() - begin) / count)
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches
        bench.record(f"{count} selects on one channel", "context switches each", switches / count, "")


@bench.scenario
def many_interpreters() -> None:
    """Interpreters that all receive from one channel and answer over another."""
    for count in (2, bench.scaled(64, 8)):
        tasks, results = Channel[int](), Channel[int]()
        others = [interpreters.create(packages=None) for _ in range(count)]
        shared = {"there": tasks.ends[0], "back": results.ends[1]}
        threads = [
            threading.Thread(
                target=interpreters.run, args=(one, ECHO + "echo(there, back)"), kwargs={"shared": shared}
            )
            for one in others
        ]
        for thread in threads:
            thread.start()
        while tasks.statistics().waiting_receivers < count:
            time.sleep(0.001)
        messages = bench.scaled(20_000, 2000)

        def through() -> float:
            begin = time.perf_counter()
            tasks.send_many(range(messages))  # noqa: B023
            for _ in range(messages):  # noqa: B023
                results.recv()  # noqa: B023
            return (time.perf_counter() - begin) / messages  # noqa: B023

        bench.compare(f"{count} interpreters on one channel", {"each message": through})
        tasks.ends[1].close()
        for thread in threads:
            thread.join()
        for one in others:
            interpreters.close(one)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    bench.main()

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
import signal
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


LOOP_ECHO = """
import asyncio

async def echo(there, back):
    async for value in there:
        back.send(value)

asyncio.run(echo(there, back))
"""


@contextlib.contextmanager
def other_interpreter(source: str) -> Iterator[tuple[Any, Any]]:
    """Run a program beside us that receives from `there` and sends to `back`; yields our ends of both."""
    there, back = Channel[Any](), Channel[Any]()
    other = interpreters.create(packages=None)
    shared = {"there": there.ends[0], "back": back.ends[1]}
    thread = threading.Thread(target=interpreters.run, args=(other, source), kwargs={"shared": shared})
    thread.start()
    yield there, back
    there.ends[1].close()
    thread.join()
    interpreters.close(other)


@contextlib.contextmanager
def echoing() -> Iterator[Callable[[], object]]:
    """Have an interpreter that sends back what it gets; yields one round trip."""
    with other_interpreter(ECHO + "echo(there, back)") as (there, back):
        send, recv = there.send, back.recv

        def trip() -> None:
            send(1)
            recv()

        trip()
        yield trip


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
        for pause in (0.05, seconds):
            thread = threading.Thread(target=wait, args=(call, used))
            thread.start()
            time.sleep(pause)
            if name == "send":
                full.recv()
            else:
                channel.send(1)
            thread.join()
        bench.record(
            "CPU time of a parked wait", f"{name}, {seconds} s", used[1] - used[0], reach=0.001 * seconds
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
        {"recv_async": of_queued, "asyncio.sleep(0)": sleep},
        against="asyncio.sleep(0)",
        reach=0.2,
    )
    for name, source in {
        "a thread": ECHO + "echo(there, back)",
        "a loop": LOOP_ECHO,
    }.items():
        with other_interpreter(source) as (there, back):

            async def trip() -> None:
                there.send(1)
                await back.recv_async()

            asyncio.run(trip())
            bench.compare(
                f"half a round trip of a loop with {name}",
                {"recv_async": lambda: in_loop(trip) / 2, "asyncio.sleep(0)": sleep},
                against="asyncio.sleep(0)",
                reach=4,
            )


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


def growth(step: Callable[[], object], count: int) -> dict[str, float]:
    """Repeat a step that leaves something behind: its cost in chunks, and its memory.

    The medians of the first and the last tenth of the chunks are compared, which a busy moment of the machine
    does not reach. Runs in a process of its own, where no memory was freed before that would be used again.
    """
    per_operation(step, 1000)
    memory, chunks = [resident()], []
    for _ in range(2):
        chunks += [per_operation(step, 100) for _ in range(count // 200)]
        memory.append(resident())
    tenth = len(chunks) // 10
    first, last = statistics.median(chunks[:tenth]), statistics.median(chunks[-tenth:])
    return {
        "bytes of each": (memory[2] - memory[0]) / count,
        "bytes, last half / first": (memory[2] - memory[1]) / (memory[1] - memory[0]),
        "each of the last tenth": last,
        "against the first tenth": last / first,
    }


def record_growth(name: str, figures: dict[str, float]) -> None:
    """Note what `growth` measured; ratios are to stay near 1."""
    for side, value in figures.items():
        ratio = side.startswith(("against", "bytes, "))
        unit = "x" if ratio else "B" if side.startswith("bytes") else "s"
        bench.record(name, side, value, unit, reach=1.3 if ratio else None)


def messages_growth(count: int) -> dict[str, float]:
    """Queue messages on one channel, then receive them; runs in a process of its own."""
    channel, data = MemChannel(), b"spam"
    figures = growth(lambda: channel.send(data), count)
    chunks = [per_operation(lambda: channel.recv().release(), 100) for _ in range(count // 100)]
    return figures | {"receiving each": statistics.median(chunks)}


@bench.scenario
def many_messages() -> None:
    """Queue a million messages: cost and memory of each, in and out."""
    count = bench.scaled(1_000_000, 100_000)
    record_growth(f"{count:,} queued messages", in_own_process(messages_growth, count))


def channels_growth(count: int) -> dict[str, float]:
    """Make channels and use each of them; runs in a process of its own."""
    made: list[Channel[int]] = []

    def step() -> None:
        channel = Channel[int]()
        channel.send(1)
        channel.recv()
        made.append(channel)

    return growth(step, count)


@bench.scenario
def many_channels() -> None:
    """Make ten thousand channels and use each of them."""
    count = bench.scaled(10_000, 4000)
    record_growth(f"{count:,} channels", in_own_process(channels_growth, count))


@contextlib.contextmanager
def waiting_selects(count: int) -> Iterator[Callable[[], object]]:
    """Let many selects wait for one channel; yields a message and its answer, after which all wait again."""
    channel, stop, answers = Channel[int](), Channel[int](), Channel[int]()

    def serve() -> None:
        while memchannel.select(channel, stop)[0] is channel:
            answers.send(1)

    before = resident()
    threads = [threading.Thread(target=serve) for _ in range(count)]
    for thread in threads:
        thread.start()
    while channel.statistics().waiting_receivers < count:
        time.sleep(0.001)
    bench.record(
        f"{count} selects on one channel", "bytes of each, and thread", (resident() - before) / count, "B"
    )

    def step() -> None:
        channel.send(1)
        answers.recv()

    yield step
    stop.send_many(range(count))
    for thread in threads:
        thread.join()


def wake_all(count: int, waits: Callable[[], object], send: Callable[[int], object]) -> float:
    """Wake threads that all wait for one channel or queue, all at once: the seconds for each."""
    threads = [threading.Thread(target=waits) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.001 * count)
    begin = time.perf_counter()
    for number in range(count):
        send(number)
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begin) / count


@bench.scenario
def many_selects() -> None:
    """Let a thousand selects wait for one channel: each message wakes one of them.

    One at a time the cost is ours. Woken all at once, the threads of one interpreter stand in line for its
    GIL, those of queue.SimpleQueue as well.
    """
    many, messages = bench.scaled(1000, 300), bench.scaled(1000, 200)
    with waiting_selects(50) as of_few, waiting_selects(many) as of_many:
        sides = {
            f"{many} selects": lambda: per_operation(of_many, messages),
            "50 selects": lambda: per_operation(of_few, messages),
        }
        bench.compare("one message at a time, one select wakes", sides, against="50 selects", reach=1.3)
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        per_operation(of_many, messages)
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches
        bench.record(f"{many} selects on one channel", "context switches each", switches / messages, "")
    channel, other, simple = Channel[int](), Channel[int](), queue.SimpleQueue[int]()
    sides = {
        "select": lambda: wake_all(many, lambda: memchannel.select(channel, other), channel.send),
        "SimpleQueue.get": lambda: wake_all(many, simple.get, simple.put),
    }
    bench.compare(f"{many} threads woken at once", sides, against="SimpleQueue.get")


@contextlib.contextmanager
def echoing_interpreters(count: int) -> Iterator[Callable[[int], float]]:
    """Have interpreters that all receive from one channel; yields a batch of messages and their answers."""
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

    def through(messages: int) -> float:
        begin = time.perf_counter()
        tasks.send_many(range(messages))
        for _ in range(messages):
            results.recv()
        return (time.perf_counter() - begin) / messages

    yield through
    tasks.ends[1].close()
    for thread in threads:
        thread.join()
    for one in others:
        interpreters.close(one)


@bench.scenario
def many_interpreters() -> None:
    """Interpreters that all receive from one channel and answer over another."""
    many, messages = bench.scaled(64, 8), bench.scaled(20_000, 2000)
    with echoing_interpreters(2) as of_two, echoing_interpreters(many) as of_many:
        sides = {
            f"{many} interpreters": lambda: of_many(messages),
            "2 interpreters": lambda: of_two(messages),
        }
        bench.compare("each message of one channel", sides, against="2 interpreters", reach=1.3)
        before = resident()
        of_many(messages)
        bench.record(f"{many} interpreters", "bytes kept of each", (resident() - before) / messages, "B")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    bench.main()

"""Round trips between two that wait for each other, and a hand-over in which nobody waits.

The other side is an interpreter of its own for memchannel and for the standard library's queue, a thread for
queue.SimpleQueue, and a process for multiprocessing.Pipe and iceoryx2 (those pairs live in processes of their
own, since they fork). The core without Python is tests/core/bench_primitives.cpp.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from memchannel import MemChannel
from memchannel.bench._beside import echoing
from memchannel.bench._harness import Benchmark, Side, per_operation, settled
from memchannel.bench._machine import core_program
from memchannel.bench._peers import standard_interpreters
from memchannel.bench._processes import busy_core, companion

bench = Benchmark("round_trips", __doc__)


@contextlib.contextmanager
def echoing_thread() -> Iterator[Callable[[], object]]:
    """Have a thread that sends back over SimpleQueue."""
    there: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()

    def echo() -> None:
        while (value := there.get()) is not None:
            back.put(value)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()

    def trip() -> None:
        there.put(1)
        if back.get() != 1:
            raise RuntimeError("the queue gave another number")

    try:
        yield trip
    finally:
        there.put(None)
        thread.join()


def _echo_pipe(end: Any) -> None:
    while (value := end.recv()) is not None:
        end.send(value)


@contextlib.contextmanager
def pipe(count: int) -> Iterator[Side]:
    """Measure multiprocessing.Pipe; runs in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_echo_pipe, args=(there,))
    process.start()

    def trip() -> None:
        here.send(1)
        if here.recv() != 1:
            raise RuntimeError("the pipe gave another number")

    yield lambda: settled(trip, count)
    here.send(None)
    process.join()


class _Topic:
    """One direction between two processes over iceoryx2, as in its examples: loan, write, send, receive."""

    def __init__(self, name: str) -> None:
        import ctypes

        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        self.number = ctypes.c_uint64
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        service = node.service_builder(iceoryx2.ServiceName.new(name))
        self.service = service.publish_subscribe(ctypes.c_uint64).open_or_create()
        self.node = node

    def sender(self) -> Callable[[int], None]:
        publisher = self.service.publisher_builder().create()
        return lambda value: publisher.send_copy(self.number(value))

    def receiver(self) -> Callable[[], int]:
        subscriber = self.service.subscriber_builder().create()

        def receive() -> int:
            while (sample := subscriber.receive()) is None:
                pass
            return int(sample.payload().contents.value)

        return receive


def _echo_topic(name: str, turn: Any) -> None:
    receive, send = _Topic(f"{name}/there").receiver(), _Topic(f"{name}/back").sender()
    turn.send(True)
    while turn.recv():  # between samples it must not poll: the others are to find a free core
        while value := receive():
            send(value)


@contextlib.contextmanager
def iceoryx2(count: int) -> Iterator[Side]:
    """Measure iceoryx2, whose receivers poll; runs in a process of its own."""
    name = f"memchannel-bench-{os.getpid()}"
    context = multiprocessing.get_context("spawn")
    turn, theirs = context.Pipe()
    process = context.Process(target=_echo_topic, args=(name, theirs))
    send, receive = _Topic(f"{name}/there").sender(), _Topic(f"{name}/back").receiver()
    process.start()
    turn.recv()

    def trip() -> None:
        send(1)
        if receive() != 1:
            raise RuntimeError("iceoryx2 gave another number")

    def sample() -> float:
        turn.send(True)
        seconds = settled(trip, count)
        send(0)
        return seconds

    yield sample
    turn.send(False)
    process.join(10)
    process.kill()


@contextlib.contextmanager
def standard_queue(count: int) -> Iterator[Side]:
    """Have another interpreter that sends back over the standard library's queues."""
    standard = standard_interpreters()
    there, back = standard.create_queue(), standard.create_queue()
    other = standard.create()
    other.prepare_main(there=there, back=back)
    source = "while (value := there.get()) is not None:\n    back.put(value)"
    thread = threading.Thread(target=other.exec, args=(source,), daemon=True)
    thread.start()

    def trip() -> None:
        there.put(1)
        if back.get() != 1:
            raise RuntimeError("the queue gave another number")

    try:
        yield lambda: per_operation(trip, count)
    finally:
        there.put(None)
        thread.join()
        other.close()


@contextlib.contextmanager
def core_round_trips(count: int) -> Iterator[Side]:
    """Measure two channels of the core between two threads without Python."""
    command = [str(core_program()), "roundtrip", str(count)]
    yield lambda: float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _round_trips(name: str, reach: float, *, all_peers: bool) -> None:
    count = bench.scaled(5000, 300)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(echoing())
        simple = stack.enter_context(echoing_thread())
        sides: dict[str, Side] = {
            "memchannel": lambda: settled(ours, count),
            "threads, SimpleQueue": lambda: settled(simple, count),
        }
        bench.enter(stack, sides, "processes, Pipe", lambda: companion(pipe, count))
        if all_peers:
            bench.enter(stack, sides, "core", lambda: core_round_trips(20 * count))
            bench.enter(stack, sides, "interpreters, Queue", lambda: standard_queue(bench.scaled(30, 3)))
            bench.enter(stack, sides, "iceoryx2", lambda: companion(iceoryx2, count))
        figures = bench.compare(name, sides, against="threads, SimpleQueue", reach=reach)
        if all_peers:
            bench.record_share(name, figures, "memchannel", "core", 2.0)
            bench.record_share(name, figures, "memchannel", "interpreters, Queue", 1e-4)


@bench.scenario
def free() -> None:
    """Two interpreters that wait for each other, cores free."""
    _round_trips("round trip, cores free", 0.1, all_peers=True)


@bench.scenario
def begun() -> None:
    """Look at the first thousand round trips after other work, which left both sides on any core."""
    count = bench.scaled(1000, 100)
    with echoing() as ours, echoing_thread() as simple:
        sides = {
            "memchannel": lambda: per_operation(ours, count),
            "threads, SimpleQueue": lambda: per_operation(simple, count),
        }
        bench.compare("the first thousand round trips", sides, against="threads, SimpleQueue")


@bench.scenario
def busy() -> None:
    """Do the same with one core taken by another process."""
    with busy_core():
        _round_trips("round trip, one core busy", 1.0, all_peers=False)


@bench.scenario
def tail() -> None:
    """Look at the slowest of a hundred round trips, with one core busy."""
    count = bench.scaled(2000, 200)

    def percentile(trip: Callable[[], object]) -> float:
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            trip()
            times.append(time.perf_counter() - begin)
        return sorted(times)[count * 99 // 100]

    with busy_core(), echoing() as ours, echoing_thread() as simple:
        sides = {"memchannel": lambda: percentile(ours), "threads, SimpleQueue": lambda: percentile(simple)}
        bench.compare("99th percentile, one core busy", sides, against="threads, SimpleQueue", reach=1.0)


@bench.scenario
def view() -> None:
    """Send, receive and release of a view in one thread."""
    count = bench.scaled(20_000, 2000)
    channel, data = MemChannel(), b"spam"
    send, recv = channel.send, channel.recv

    def ours() -> None:
        send(data)
        recv().release()

    send(data)
    with recv() as received:
        if received != data:
            raise RuntimeError("the channel gave other bytes")
    sides: dict[str, Side] = {
        "memchannel": lambda: per_operation(ours, count),
        "memoryview, made and released": lambda: per_operation(lambda: memoryview(data).release(), count),
    }
    if sys.version_info >= (3, 14):
        between = standard_interpreters().create_queue()

        def theirs() -> None:
            between.put(memoryview(data))
            between.get().release()

        sides["interpreters, Queue"] = lambda: per_operation(theirs, count // 10)
    else:
        bench.leave_out("interpreters, Queue", "the backport's refuses memoryviews")
    base = "memoryview, made and released"
    figures = bench.compare("send, receive, release a view", sides, against=base, reach=4)
    bench.record_share("view", figures, "memchannel", "interpreters, Queue", 0.3)

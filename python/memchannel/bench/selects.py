"""Selects: over many channels of which one is ready, and many that wait for one channel."""

from __future__ import annotations

import contextlib
import queue
import resource
import threading
import time
from collections.abc import Callable, Iterator

import memchannel
from memchannel import Channel
from memchannel.bench._beside import beside
from memchannel.bench._harness import Benchmark, per_operation, settled
from memchannel.bench._machine import resident

bench = Benchmark("selects", __doc__)


@bench.scenario
def one_ready() -> None:
    """Select over 64 channels of which the last is ready, against receiving from that one."""
    count = bench.scaled(20_000, 1_000)
    # A tuple, which a call takes as it is: of a list it makes one first.
    channels = tuple(Channel[int]() for _ in range(64))
    ready = channels[-1]
    select = memchannel.select

    def of_all() -> None:
        if select(*channels)[0] is not ready:
            raise RuntimeError("select chose another channel")

    def of_one() -> None:
        if ready.recv() != 1:
            raise RuntimeError("the channel gave another number")

    def timed(step: Callable[[], object]) -> float:
        ready.send_many([1] * count)
        return per_operation(step, count)

    sides = {"select": lambda: timed(of_all), "recv": lambda: timed(of_one)}
    bench.compare("64 channels, one ready", sides, against="recv", reach=3)


SELECTING = """
import memchannel
while memchannel.select(*channels)[1]:
    back.send(1)
"""


@bench.scenario
def one_wakes() -> None:
    """Wait in a select over 64 channels in another interpreter, against waiting for one of them."""
    count = bench.scaled(5_000, 300)
    many, one = [Channel[int]() for _ in range(64)], [Channel[int]()]
    trips = {}
    with contextlib.ExitStack() as stack:
        for channels in (many, one):
            back = Channel[int]()
            stack.enter_context(selecting(channels, back))
            trips[len(channels)] = _trip(channels[-1], back)
        sides = {f"select of {size}": lambda trip=trip: settled(trip, count) for size, trip in trips.items()}
        bench.compare("round trip through a select", sides, against="select of 1", reach=3)


@contextlib.contextmanager
def selecting(channels: list[Channel[int]], back: Channel[int]) -> Iterator[None]:
    """Have an interpreter that answers whatever comes over one of the channels, until that is a zero."""
    with beside(SELECTING, channels=[one.ends[0] for one in channels], back=back.ends[1]):
        try:
            yield
        finally:
            channels[-1].send(0)


def _trip(there: Channel[int], back: Channel[int]) -> Callable[[], None]:
    def trip() -> None:
        there.send(1)
        back.recv()

    return trip


@contextlib.contextmanager
def waiting_selects(count: int) -> Iterator[Callable[[], object]]:
    """Let many selects wait for one channel; yields a message and its answer, after which all wait again."""
    channel, stop, answers = Channel[int](), Channel[int](), Channel[int]()

    def serve() -> None:
        while memchannel.select(channel, stop)[0] is channel:
            answers.send(1)

    before = resident()
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(count)]
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


def switches_of(step: Callable[[], object], count: int) -> float:
    """Count how often threads of this process gave their core away, for each step."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    per_operation(step, count)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) / count


def wake_all(count: int, waits: Callable[[], object], send: Callable[[int], object]) -> float:
    """Wake threads that all wait for one channel or queue, all at once: the seconds for each."""
    threads = [threading.Thread(target=waits, daemon=True) for _ in range(count)]
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
        woken = {50: switches_of(of_few, messages), many: switches_of(of_many, messages)}
        for waiters, switches in woken.items():
            bench.record(f"{waiters} selects on one channel", "context switches each", switches, "")
        # A thread that wakes switches once more, when it parks again.
        grown = woken[many] - woken[50]
        bench.record("further wake-ups a message", f"{many} for 50 selects", grown, "", reach=1)
    channel, other, simple = Channel[int](), Channel[int](), queue.SimpleQueue[int]()
    sides = {
        "select": lambda: wake_all(many, lambda: memchannel.select(channel, other), channel.send),
        "threads, SimpleQueue": lambda: wake_all(many, simple.get, simple.put),
    }
    bench.compare(f"{many} threads woken at once", sides, against="threads, SimpleQueue")

"""How the cost of each grows: a million messages, ten thousand channels, a thousand leases on one array."""

from __future__ import annotations

import contextlib
import resource
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import memchannel
from memchannel import Channel, MemChannel, interpreters
from memchannel.bench._harness import Benchmark, Side, per_operation
from memchannel.bench._machine import resident
from memchannel.bench._processes import companion, in_own_process

bench = Benchmark("growth", __doc__)


def growth(step: Callable[[], object], count: int) -> dict[str, float]:
    """Repeat a step that leaves something behind: its cost in chunks, and its memory.

    Medians of chunks, which a busy moment of the machine does not reach, are compared: the last tenth with
    the first one, or its first thousand steps. Those may use memory that was freed while Python started, and
    the later ones new pages of the system, which cost a fault each: so the last tenth is also compared with
    the first thousand of those. Runs in a process of its own.
    """
    per_operation(step, 1000)
    size = min(100, count // 100)
    memory, chunks, faults = [resident()], [], []
    for _ in range(2):
        for _ in range(count // (2 * size)):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            chunks.append(per_operation(step, size))
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        memory.append(resident())
    few = min(len(chunks) // 10, 10)
    last = statistics.median(chunks[-(len(chunks) // 10) :])
    in_new_memory = [seconds for seconds, new in zip(chunks, faults, strict=True) if new][:few]
    return {
        "bytes of each": (memory[2] - memory[0]) / count,
        "bytes, last half / first": (memory[2] - memory[1]) / (memory[1] - memory[0]),
        "page faults of each": sum(faults) / count,
        "each of the last tenth": last,
        "against the first": last / statistics.median(chunks[:few]),
        "against the first of new pages": last / statistics.median(in_new_memory or chunks[:few]),
    }


UNITS = {"bytes of each": "B", "bytes, last half / first": "x", "page faults of each": ""}


def record_growth(name: str, figures: dict[str, float]) -> None:
    """Note what `growth` measured; ratios are to stay near 1."""
    for side, value in figures.items():
        unit = UNITS.get(side, "x" if side.startswith("against") else "s")
        reach = 1.3 if unit == "x" and "new pages" not in side else None
        bench.record(name, side, value, unit, reach=reach)


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


def leases_growth(count: int) -> dict[str, float]:
    """Send one array again and again, and keep all that is received; runs in a process of its own."""
    import numpy as np

    channel, array, kept = memchannel.ArrayChannel(), np.zeros(100_000), []

    def step() -> None:
        channel.send(array)
        kept.append(channel.recv())

    figures = growth(step, count)
    if memchannel.stats().live < count or not all(np.shares_memory(one, array) for one in kept[::100]):
        raise RuntimeError("the arrays received are not the one sent")

    def drop() -> None:
        kept.pop()

    chunks = [per_operation(drop, 100) for _ in range(count // 100)]
    return figures | {"dropping each": statistics.median(chunks)}


@bench.scenario
def many_leases() -> None:
    """Keep one array received a thousand times, and ten thousand times."""
    for count in (1000, bench.scaled(10_000, 2000)):
        record_growth(f"{count:,} leases on one array", in_own_process(leases_growth, count))


# ---- one more beside those that are there: each runs in a process of its own


@contextlib.contextmanager
def beside_messages(count: int) -> Iterator[Side]:
    """Queue messages; then send one and receive one."""
    channel = MemChannel()
    channel.send_many(b"spam" for _ in range(count))

    def one() -> None:
        channel.send(b"spam")
        channel.recv().release()

    yield lambda: per_operation(one, 1000)


@contextlib.contextmanager
def beside_channels(count: int) -> Iterator[Side]:
    """Keep channels; then make one and use it."""
    made = [Channel[int]() for _ in range(count)]

    def one() -> None:
        channel = Channel[int]()
        channel.send(1)
        if channel.recv() != 1:
            raise RuntimeError("the channel gave another number")

    yield lambda: per_operation(one, 1000)
    made.clear()


@contextlib.contextmanager
def beside_leases(count: int) -> Iterator[Side]:
    """Keep one array received many times; then send it, receive it, and drop what was received."""
    import numpy as np

    channel, array = memchannel.ArrayChannel(), np.zeros(100_000)

    def one() -> Any:
        channel.send(array)
        return channel.recv()

    kept = [one() for _ in range(count)]
    if memchannel.stats().live < count:
        raise RuntimeError("the arrays received are not the one sent")
    yield lambda: per_operation(one, 1000)
    kept.clear()


@contextlib.contextmanager
def beside_interpreters(count: int) -> Iterator[Side]:
    """Keep interpreters; then make one, run something there and close it."""
    made = [interpreters.create(packages=None) for _ in range(count)]

    def one() -> None:
        other = interpreters.create(packages=None)
        interpreters.run(other, "pass").check()
        interpreters.close(other)

    yield lambda: per_operation(one, 3)
    for other in made:
        interpreters.close(other)


@bench.scenario
def curve() -> None:
    """Use one more message, channel, lease or interpreter beside a growing number of others."""
    scale = bench.form == "scale"
    for what, beside, first, full, most in (
        ("a message", beside_messages, 1000, 1_000_000, 10_000_000),
        ("a channel", beside_channels, 1000, 100_000, 1_000_000),
        ("a lease", beside_leases, 1000, 100_000, 1_000_000),
        ("an interpreter", beside_interpreters, 1, 100, 1000),
    ):
        for count in bench.steps(first, most if scale else full, 10 * first):
            with companion(beside, count) as one:
                bench.compare("one more beside others", {f"memchannel, {what}": one}, at=count)

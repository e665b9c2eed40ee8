"""Many producers and many consumers on one queue: messages a second as the ends grow to 64.

The ends are interpreters of their own for memchannel and the standard library's queues, threads for
queue.SimpleQueue, and processes for multiprocessing.Queue, which live beside a process of their own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from memchannel import Channel
from memchannel.bench._beside import beside
from memchannel.bench._harness import Benchmark, Side
from memchannel.bench._machine import resident
from memchannel.bench._peers import standard_interpreters
from memchannel.bench._processes import companion
from memchannel.bench._producing import consume, produce

bench = Benchmark("ends", __doc__)

MESSAGES = 320_000
"""Rounds of a tenth of a second: the start of one, when each end gets its share, is no cost of a message."""

PRODUCER = "from memchannel.bench._producing import produce\nproduce(shares.{get}, tasks.{put})"
CONSUMER = "from memchannel.bench._producing import consume\nconsume(quotas.{get}, tasks.{get}, done.{put})"


@dataclass(frozen=True)
class Queues:
    """What one side uses: for the numbers, the shares of producers and of consumers, and the sums."""

    tasks: Any
    shares: Any
    quotas: Any
    done: Any

    @classmethod
    def made(cls, make: Callable[[], Any]) -> Queues:
        """Make four of a kind."""
        return cls(make(), make(), make(), make())


def sources(producers: int, consumers: int, get: str, put: str) -> list[str]:
    """Write the programs of interpreters, with the names of the queues' methods."""
    programs = [PRODUCER] * producers + [CONSUMER] * consumers
    return [one.format(get=get, put=put) for one in programs]


def round_of(queues: Queues, ends: tuple[int, int], messages: int, get: str, put: str) -> float:
    """Send so many numbers through; returns the seconds of each.

    Raises
    ------
    RuntimeError
        A number is missing, or came twice.
    ValueError
        The consumers cannot share the numbers evenly.
    """
    producers, consumers = ends
    if messages % consumers:
        raise ValueError(f"{consumers} consumers cannot share {messages} numbers evenly")
    edges = [messages * index // producers for index in range(producers + 1)]
    begin = time.perf_counter()
    for _ in range(consumers):
        getattr(queues.quotas, put)(messages // consumers)
    for share in itertools.pairwise(edges):
        getattr(queues.shares, put)(share)
    total = sum(getattr(queues.done, get)() for _ in range(consumers))
    took = time.perf_counter() - begin
    if total != messages * (messages - 1) // 2:
        raise RuntimeError(f"{messages} numbers add up to {total}")
    return took / messages


def stop(queues: Queues, ends: tuple[int, int], put: str) -> None:
    """Let the ends end."""
    for one, count in zip((queues.shares, queues.quotas), ends, strict=True):
        for _ in range(count):
            getattr(one, put)(None)


@contextlib.contextmanager
def of_memchannel(ends: tuple[int, int], messages: int) -> Iterator[Side]:
    """Have interpreters at both ends of a channel."""
    queues = Queues.made(Channel[Any])
    with beside(*sources(*ends, "recv", "send"), **vars(queues)):
        step = functools.partial(round_of, queues, ends, messages, "recv", "send")
        step()  # they are there
        yield step
        stop(queues, ends, "send")


@contextlib.contextmanager
def of_interpreters(ends: tuple[int, int], messages: int) -> Iterator[Side]:
    """Have interpreters at both ends of the standard library's queue."""
    standard = standard_interpreters()
    queues = Queues.made(standard.create_queue)
    others, threads = [], []
    for source in sources(*ends, "get", "put"):
        others.append(standard.create())
        others[-1].prepare_main(**vars(queues))
        threads.append(threading.Thread(target=others[-1].exec, args=(source,), daemon=True))
        threads[-1].start()
    step = functools.partial(round_of, queues, ends, messages, "get", "put")
    step()
    yield step
    stop(queues, ends, "put")
    for thread in threads:
        thread.join()
    for other in others:
        other.close()


def _started(make: Callable[..., Any], queues: Queues, ends: tuple[int, int]) -> list[Any]:
    producers = [make(target=work, args=("produce", queues), daemon=True) for _ in range(ends[0])]
    consumers = [make(target=work, args=("consume", queues), daemon=True) for _ in range(ends[1])]
    for one in producers + consumers:
        one.start()
    return producers + consumers


def work(what: str, queues: Queues) -> None:
    """Be an end of queues of the standard library."""
    if what == "produce":
        produce(queues.shares.get, queues.tasks.put)
    else:
        consume(queues.quotas.get, queues.tasks.get, queues.done.put)


@contextlib.contextmanager
def of_threads(ends: tuple[int, int], messages: int) -> Iterator[Side]:
    """Have threads at both ends of a SimpleQueue."""
    queues = Queues.made(queue.SimpleQueue)
    threads = _started(threading.Thread, queues, ends)
    yield functools.partial(round_of, queues, ends, messages, "get", "put")
    stop(queues, ends, "put")
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def of_processes(producers: int, consumers: int, messages: int) -> Iterator[Side]:
    """Have processes at both ends of a multiprocessing.Queue; runs in a process of its own."""
    context = multiprocessing.get_context("fork")
    ends, queues = (producers, consumers), Queues.made(context.Queue)
    processes = _started(context.Process, queues, ends)
    yield functools.partial(round_of, queues, ends, messages, "get", "put")
    stop(queues, ends, "put")
    for process in processes:
        process.join()


def _compared(stack: contextlib.ExitStack, ends: tuple[int, int], messages: int) -> dict[str, Side]:
    few = messages // 10  # take as long
    sides = {"memchannel": stack.enter_context(of_memchannel(ends, messages))}
    bench.enter(stack, sides, "processes, Queue", lambda: companion(of_processes, *ends, few))
    bench.enter(stack, sides, "threads, SimpleQueue", lambda: of_threads(ends, messages))
    return sides


@bench.scenario
def four_by_four() -> None:
    """Four producers and four consumers, in interpreters."""
    messages = bench.scaled(MESSAGES, 3_200)
    with contextlib.ExitStack() as stack:
        sides = _compared(stack, (4, 4), messages)
        if sys.version_info >= (3, 14):
            few = bench.scaled(320, 32)
            bench.enter(stack, sides, "interpreters, Queue", lambda: of_interpreters((4, 4), few))
        else:
            bench.leave_out("interpreters, Queue", "the backport's raises QueueEmpty among several consumers")
        figures = bench.compare("4 producers, 4 consumers, a message", sides)
        bench.record_share("a message", figures, "memchannel", "processes, Queue", 1 / 3)
        bench.record_share("a message", figures, "memchannel", "interpreters, Queue", 1 / 3)


@bench.scenario
def more_ends() -> None:
    """As many producers as consumers, up to 64 ends, or 256: the cost of a message does not collapse."""
    messages, medians = bench.scaled(MESSAGES, 3_200), {}
    most = {"quick": 2, "full": 32, "scale": 128}[bench.form]
    for each in [2**power for power in range(8) if 2**power <= most]:
        with contextlib.ExitStack() as stack:
            sides = _compared(stack, (each, each), messages)
            repeats = 3 if bench.form == "full" else None
            figures = bench.compare(f"{2 * each} ends, a message", sides, at=2 * each, repeats=repeats)
        medians[each] = figures["memchannel"].median
    most = min(most, 32)
    bench.record(
        "the most ends against 8, or the fewest",
        f"{2 * most} ends",
        medians[most] / medians.get(4, medians[1]),
        "x",
        reach=1.5,
    )


@bench.scenario
def kept() -> None:
    """Memory that stays after messages have passed through many ends."""
    each, messages = bench.scaled(32, 2), bench.scaled(32_000, 3_200)
    with of_memchannel((each, each), messages) as step:
        before = resident()
        step()
        bench.record(f"{2 * each} ends", "bytes kept of each message", (resident() - before) / messages, "B")

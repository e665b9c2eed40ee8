"""Locks: what one costs alone, how soon it changes hands, and whether anybody starves.

The other side of a hand-over is an interpreter of its own for memchannel, a thread for `threading.Lock`, and
a thread of the same core without Python for the floor (tests/core/bench_primitives.cpp, built when needed).
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from memchannel import Barrier, Channel, Counter, Event, Lock, RLock, Semaphore
from memchannel.bench._beside import beside
from memchannel.bench._harness import Benchmark, Side, per_operation
from memchannel.bench._machine import core_program
from memchannel.bench._processes import companion

bench = Benchmark("primitives", __doc__)


def bare(what: str, amount: float, *more: int) -> float:
    """Measure the core without Python."""
    command = [str(core_program()), what, str(amount), *map(str, more)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# ---- alone


def acquire_and_release(lock: Any, count: int) -> float:
    """Return the seconds of one acquire and release."""

    def turn() -> None:
        acquire()
        release()

    acquire, release = lock.acquire, lock.release
    return per_operation(turn, count)


def with_statement(lock: Any, count: int) -> float:
    """Return the seconds of one with statement."""
    begin = time.perf_counter()
    for _ in range(count):
        with lock:
            pass
    return (time.perf_counter() - begin) / count


@bench.scenario
def uncontended() -> None:
    """Take and release what nobody else wants."""
    count = bench.scaled(200_000, 20_000)
    for name, ours in (("Lock", Lock()), ("RLock", RLock()), ("Semaphore", Semaphore())):
        # Of "fork", which needs no helper process that tracks names.
        others = [getattr(module, name)() for module in (threading, multiprocessing.get_context("fork"))]
        locks = dict(zip(("memchannel", "threads", "processes"), (ours, *others), strict=True))
        for how in (acquire_and_release, with_statement):
            sides: dict[str, Side] = {
                side: functools.partial(how, lock, count) for side, lock in locks.items()
            }
            reach = 2.0 if name == "Lock" else None
            title = f"{name}, {how.__name__.replace('_', ' ')}"
            bench.compare(title, sides, against="threads", reach=reach)
    if bench.wants("core"):
        bench.compare("Lock without Python", {"core": lambda: bare("contended", 0.2)})


# ---- hand-over

ECHO = """
def echo(there, back, count):
    for _ in range(count):
        there.acquire()
        back.release()
echo(there, back, count)
"""


def round_trips(there: Any, back: Any, count: int) -> float:
    """Wake the other side and wait for it; returns the seconds of one hand-over.

    As often before the clock starts: until then the scheduler may keep both sides on one core.
    """
    for _ in range(2):
        begin = time.perf_counter()
        for _ in range(count):
            there.release()
            back.acquire()
    return (time.perf_counter() - begin) / (2 * count)


def thread_handoff(count: int) -> float:
    """Measure threading.Lock between two threads of one interpreter."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()
    scope = {"there": there, "back": back, "count": 2 * count}
    thread = threading.Thread(target=exec, args=(ECHO, scope), daemon=True)
    thread.start()
    seconds = round_trips(there, back, count)
    thread.join()
    return seconds


def _echo_lock(there: Any, back: Any) -> None:
    while True:
        there.acquire()
        back.release()


@contextlib.contextmanager
def process_handoff(count: int) -> Iterator[Side]:
    """Measure multiprocessing.Lock between two processes; runs in a process of its own."""
    context = multiprocessing.get_context("fork")
    there, back = context.Lock(), context.Lock()
    there.acquire()
    back.acquire()
    process = context.Process(target=_echo_lock, args=(there, back), daemon=True)
    process.start()
    yield lambda: round_trips(there, back, count)
    process.kill()
    process.join()


@bench.scenario
def handoff() -> None:
    """Two interpreters wake each other in turn."""
    # A tenth of a second, and as long before the clock starts.
    count = bench.scaled(200_000, 5_000)
    few = bench.scaled(10_000, 500)  # of those that take a hundred times as long
    there, back = Lock(), Lock()
    there.acquire()
    back.acquire()
    shared: dict[str, Any] = {"there": there, "back": back, "count": 2 * count * bench.repeats}
    with contextlib.ExitStack() as stack:
        stack.enter_context(beside(ECHO, **shared))
        sides: dict[str, Side] = {
            "memchannel": lambda: round_trips(there, back, count),
            "core": lambda: bare("handoff", count),
            "threads, Lock": lambda: thread_handoff(few),
        }
        bench.enter(stack, sides, "processes, Lock", lambda: companion(process_handoff, few))
        bench.compare("hand-over of a Lock", sides, against="core", reach=2.0)


# ---- many

TAKE = """
def take(lock, stop):
    turns = 0
    while not stop.is_set():
        for _ in range(100):
            with lock:
                pass
        turns += 100
    return turns
start.wait()
done.send(take(lock, stop))
"""


def interpreters_take(takers: int, seconds: float) -> float:
    """Let interpreters take one lock in a loop for some time; returns the seconds of one turn."""
    lock, stop, done, start = Lock(), Event(), Channel[int](), Barrier(takers + 1)
    with beside(*[TAKE] * takers, lock=lock, stop=stop, done=done, start=start):
        start.wait()
        begin = time.monotonic()
        time.sleep(seconds)
        stop.set()
        passed = time.monotonic() - begin
        turns = sum(done.recv() for _ in range(takers))
    return passed / max(turns, 1)


@bench.scenario
def contended() -> None:
    """Everybody takes the same lock in a loop: how long a turn takes, mostly of who had the last one, too."""
    seconds = 0.1 if bench.quick else 0.5
    for takers in (1, 2, 4):
        sides = {
            "memchannel": lambda: interpreters_take(takers, seconds),  # noqa: B023
            "core": lambda: bare("contended", seconds, takers),  # noqa: B023
        }
        bench.compare(f"{takers} takers of one Lock", sides, against="core")


# ---- fairness

SHARE = """
import time
def share(lock, turns, stop, hold):
    longest = 0.0
    while not stop.is_set():
        begin = time.monotonic()
        with lock:
            waited = time.monotonic() - begin
            end = begin + waited + hold
            while time.monotonic() < end:
                pass
        turns.add(1)
        if waited > longest:
            longest = waited
    return longest
start.wait()
waits.send(share(lock, turns[number], stop, hold))
"""


@bench.scenario
def fairness() -> None:
    """Count everybody's turns while all want the lock all the time: the least share over the greatest."""
    seconds = 2.0 if not bench.quick else 0.2
    for takers in (2, 4, 8):
        for hold in (0.0, 0.000_1):
            shares, longest, total = [], [], 0
            for _ in range(min(3, bench.repeats)):
                lock, stop, waits = Lock(), Event(), Channel[float]()
                turns, start = [Counter() for _ in range(takers)], Barrier(takers + 1)
                shared: dict[str, Any] = {
                    "lock": lock,
                    "stop": stop,
                    "turns": turns,
                    "waits": waits,
                    "start": start,
                }
                with beside(*[SHARE] * takers, hold=hold, **shared):
                    start.wait()
                    time.sleep(seconds)
                    stop.set()
                    longest += [waits.recv() for _ in range(takers)]
                counts = [one.value for one in turns]
                shares.append(min(counts) / max(counts))
                total += sum(counts)
            title = f"{takers} takers, lock held {hold * 1e6:.0f} us"
            bench.record(title, "least share / greatest", statistics.median(shares), "", turns=total)
            bench.record(title, "longest wait", max(longest))

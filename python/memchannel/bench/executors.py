"""Executors: what a task costs beside the work it does, and how soon the first result is there.

The task is `int()`, so that all the time is the executor's. Each executor has two workers, which are there
before the clock starts, except in `first_result`. Executors of processes run in a process of their own: by
default they fork on older Pythons, which is no good beside live interpreters.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, as_completed

from memchannel import InterpreterPool
from memchannel.bench._harness import Benchmark, Side
from memchannel.bench._processes import companion, in_own_process

bench = Benchmark("executors", __doc__)

WORKERS = 2
PAUSE = 0.01  # seconds; longer than any of the executors spins


# ---- loads: each returns the seconds of one task


def _checked(results: list[int], right: list[int], seconds: float) -> float:
    if results != right:
        raise RuntimeError("the tasks gave something else")
    return seconds / len(right)


def one_by_one(pool: Executor, count: int) -> float:
    """Submit and wait for each task."""
    begin = time.perf_counter()
    results = [pool.submit(int).result() for _ in range(count)]
    return _checked(results, [0] * count, time.perf_counter() - begin)


def burst(pool: Executor, count: int) -> float:
    """Submit all, then read all results in order."""
    begin = time.perf_counter()
    results = [future.result() for future in [pool.submit(int) for _ in range(count)]]
    return _checked(results, [0] * count, time.perf_counter() - begin)


def completed(pool: Executor, count: int) -> float:
    """Submit all, then read the results as they come."""
    begin = time.perf_counter()
    results = [future.result() for future in as_completed([pool.submit(int) for _ in range(count)])]
    return _checked(results, [0] * count, time.perf_counter() - begin)


def mapped(pool: Executor, count: int) -> float:
    """Map over numbers."""
    begin = time.perf_counter()
    results = list(pool.map(int, range(count)))
    return _checked(results, list(range(count)), time.perf_counter() - begin)


def after_pause(pool: Executor, count: int) -> float:
    """Submit and wait for single tasks, with pauses in which everybody falls asleep."""
    seconds = 0.0
    for _ in range(count):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        result = pool.submit(int).result()
        seconds += _checked([result], [0], time.perf_counter() - begin)
    return seconds / count


LOADS: dict[str, Callable[[Executor, int], float]] = {
    load.__name__: load for load in (one_by_one, burst, completed, mapped, after_pause)
}


# ---- executors


def warm(pool: Executor) -> Executor:
    """Give all workers the time to start."""
    for future in [pool.submit(time.sleep, 0.2) for _ in range(WORKERS)]:
        future.result()
    return pool


@contextlib.contextmanager
def processes(load: str, count: int) -> Iterator[Side]:
    """Measure `ProcessPoolExecutor`; runs in a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        warm(pool)
        yield lambda: LOADS[load](pool, count)


@contextlib.contextmanager
def loky(load: str, count: int) -> Iterator[Side]:
    """Measure loky; runs in a process of its own."""
    import loky

    with loky.get_reusable_executor(max_workers=WORKERS) as pool:
        warm(pool)
        yield lambda: LOADS[load](pool, count)


def standard_pool() -> Executor:
    """Make an `InterpreterPoolExecutor`, of Python 3.14."""
    pool: Executor = getattr(concurrent.futures, "InterpreterPoolExecutor")(WORKERS)  # noqa: B009
    return warm(pool)


def _overhead(load: str, count: int, reach: float) -> None:
    few = min(count, 1000)
    with contextlib.ExitStack() as stack:
        ours = warm(stack.enter_context(InterpreterPool(WORKERS)))
        threads = warm(stack.enter_context(concurrent.futures.ThreadPoolExecutor(WORKERS)))
        sides: dict[str, Side] = {
            "memchannel": lambda: LOADS[load](ours, count),
            "threads": lambda: LOADS[load](threads, count),
        }
        bench.enter(stack, sides, "processes", lambda: companion(processes, load, few))
        bench.enter(stack, sides, "loky", lambda: companion(loky, load, few))
        if bench.wants("InterpreterPoolExecutor"):
            standard = stack.enter_context(standard_pool())
            sides["InterpreterPoolExecutor"] = lambda: LOADS[load](standard, few)
        figures = bench.compare(load, sides, against="threads", reach=reach, repeats=3 * bench.repeats)
        for peer in ("processes", "InterpreterPoolExecutor"):
            bench.record_share(load, figures, "memchannel", peer, 1 / 3)


@bench.scenario
def submit_and_wait() -> None:
    """Run one task after the other."""
    _overhead("one_by_one", bench.scaled(5000, 300), 1.0)


@bench.scenario
def bursts() -> None:
    """Submit a thousand at a time."""
    _overhead("burst", bench.scaled(1000, 300), 1.0)


@bench.scenario
def maps() -> None:
    """Map over a thousand numbers."""
    _overhead("mapped", bench.scaled(1000, 300), 1.0)


@bench.scenario
def completion_order() -> None:
    """Submit a thousand at a time, and read them as they are done."""
    _overhead("completed", bench.scaled(1000, 300), 1.5)


@bench.scenario
def pauses() -> None:
    """Run tasks after pauses."""
    _overhead("after_pause", bench.scaled(100, 20), 1.0)


# ---- starting


KINDS: dict[str, Callable[[int], Executor]] = {
    "memchannel": InterpreterPool,
    "threads": concurrent.futures.ThreadPoolExecutor,
    "processes": concurrent.futures.ProcessPoolExecutor,
    "InterpreterPoolExecutor": lambda _: standard_pool(),
}


def first_result_of(kind: str) -> float:
    """Return the seconds from making the executor to its first result; runs in a process of its own."""
    begin = time.perf_counter()
    with KINDS[kind](WORKERS) as pool:
        return _checked([pool.submit(int).result()], [0], time.perf_counter() - begin)


def parked_first_result() -> float:
    """Do the same with the workers of an earlier pool."""
    with InterpreterPool(WORKERS) as pool:
        warm(pool)
    return first_result_of("memchannel")


@bench.scenario
def first_result() -> None:
    """Measure how soon the first result is there."""
    sides: dict[str, Side] = {
        kind: lambda kind=kind: float(in_own_process(first_result_of, kind))  # type: ignore[misc]
        for kind in KINDS
    }
    sides["memchannel, parked"] = lambda: float(in_own_process(parked_first_result))
    bench.compare("first result", sides, against="processes")

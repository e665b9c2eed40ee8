"""Executors: what a task costs beside the work it does, and how soon the first result is there.

The task is `int()`, so that all the time is the executor's. Each executor has two workers, which are there
before the clock starts, except in `first_result`. Executors of processes run in a process of their own: by
default they fork on older Pythons, which is no good beside live interpreters.
"""

from __future__ import annotations

import concurrent.futures
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, as_completed

from harness import Benchmark, in_own_process, per_operation

from memchannel import InterpreterPool

bench = Benchmark("executors", __doc__)

WORKERS = 2
PAUSE = 0.01  # seconds; longer than any of the executors spins


# ---- loads: each returns the seconds of one task


def one_by_one(pool: Executor, count: int) -> float:
    """Submit and wait for each task."""
    return per_operation(lambda: pool.submit(int).result(), count)


def burst(pool: Executor, count: int) -> float:
    """Submit all, then read all results in order."""
    begin = time.perf_counter()
    for future in [pool.submit(int) for _ in range(count)]:
        future.result()
    return (time.perf_counter() - begin) / count


def completed(pool: Executor, count: int) -> float:
    """Submit all, then read the results as they come."""
    begin = time.perf_counter()
    for future in as_completed([pool.submit(int) for _ in range(count)]):
        future.result()
    return (time.perf_counter() - begin) / count


def mapped(pool: Executor, count: int) -> float:
    """Map over numbers."""
    begin = time.perf_counter()
    for _ in pool.map(int, range(count)):
        pass
    return (time.perf_counter() - begin) / count


def after_pause(pool: Executor, count: int) -> float:
    """Submit and wait for single tasks, with pauses in which everybody falls asleep."""
    seconds = 0.0
    for _ in range(count):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        pool.submit(int).result()
        seconds += time.perf_counter() - begin
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


def processes(load: str, count: int) -> float:
    """Measure `ProcessPoolExecutor`; runs in a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        return LOADS[load](warm(pool), count)


def _overhead(load: str, count: int, reach: float) -> None:
    with InterpreterPool(WORKERS) as ours, concurrent.futures.ThreadPoolExecutor(WORKERS) as threads:
        warm(ours)
        warm(threads)
        sides: dict[str, Callable[[], float]] = {
            "InterpreterPool": lambda: LOADS[load](ours, count),
            "ThreadPoolExecutor": lambda: LOADS[load](threads, count),
            "ProcessPoolExecutor": lambda: float(in_own_process(processes, load, max(count // 10, 10))),
        }
        if sys.version_info >= (3, 14):
            with concurrent.futures.InterpreterPoolExecutor(WORKERS) as standard:
                warm(standard)
                few = max(count // 10, 10)
                sides["InterpreterPoolExecutor"] = lambda: LOADS[load](standard, few)
                _compare(load, sides, reach)
        else:
            _compare(load, sides, reach)


def _compare(load: str, sides: dict[str, Callable[[], float]], reach: float) -> None:
    figures = bench.compare(load, sides, against="ThreadPoolExecutor", reach=reach)
    ours = figures["InterpreterPool"].median
    for peer in ("ProcessPoolExecutor", "InterpreterPoolExecutor"):
        if peer in figures:
            share = ours / figures[peer].median
            bench.record(f"{load}: share of {peer}", "InterpreterPool", share, "x", reach=1 / 3)


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


def first_result_of(kind: str) -> float:
    """Return the seconds from making the executor to its first result; runs in a process of its own."""
    begin = time.perf_counter()
    if kind == "InterpreterPool":
        pool: Executor = InterpreterPool(WORKERS)
    else:
        pool = getattr(concurrent.futures, kind)(WORKERS)
    pool.submit(int).result()
    seconds = time.perf_counter() - begin
    pool.shutdown()
    return seconds


def parked_first_result() -> float:
    """Do the same with the workers of an earlier pool."""
    with InterpreterPool(WORKERS) as pool:
        warm(pool)
    return first_result_of("InterpreterPool")


@bench.scenario
def first_result() -> None:
    """Measure how soon the first result is there."""
    kinds = ["InterpreterPool", "ThreadPoolExecutor", "ProcessPoolExecutor"]
    if sys.version_info >= (3, 14):
        kinds.append("InterpreterPoolExecutor")
    sides: dict[str, Callable[[], float]] = {
        kind: lambda kind=kind: float(in_own_process(first_result_of, kind))  # type: ignore[misc]
        for kind in kinds
    }
    sides["InterpreterPool, parked"] = lambda: float(in_own_process(parked_first_result))
    bench.compare("first result", sides, against="ProcessPoolExecutor")


if __name__ == "__main__":
    bench.main()

"""Many pools, one after the other: what each leaves behind in the process, and how long it takes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from memchannel import InterpreterPool, interpreters
from memchannel.bench._harness import Benchmark
from memchannel.bench._machine import resident
from memchannel.bench._processes import in_own_process

bench = Benchmark("many_pools", __doc__)

ARRAY_LENGTH = 100_000  # 800 kB: lent to the workers, not copied


def total(block: np.ndarray) -> float:
    """Add up a block; the task of all pools."""
    return float(block.sum())


def held() -> dict[str, int]:
    """Count what the process holds now."""
    with open("/proc/self/maps") as file:
        mappings = sum(1 for _ in file)
    return {
        "RSS, MB": resident() // 1_000_000,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "mappings": mappings,
        "interpreters": len(interpreters.list_all()),
    }


POOLS: dict[str, Callable[[], Executor]] = {
    "memchannel": lambda: InterpreterPool(2),
    "threads, ThreadPoolExecutor": lambda: ThreadPoolExecutor(2),
}


def growth(kind: str, count: int) -> list[tuple[int, float, dict[str, int]]]:
    """Make pools, use them, shut them down: (pools so far, seconds for each since the last entry, `held`).

    Runs in a process of its own.
    """
    array = np.arange(float(ARRAY_LENGTH))
    blocks = np.split(array, 4)
    expected = [total(block) for block in blocks]
    looks = sorted({1, 2, *(count * part // 10 for part in range(1, 11))} - {0})
    curve = []
    before, begin = 0, time.perf_counter()
    for number in range(1, count + 1):
        with POOLS[kind]() as pool:
            if list(pool.map(total, blocks)) != expected:
                raise RuntimeError(f"pool {number} gave a wrong result")
        if number in looks:
            now = time.perf_counter()
            curve.append((number, (now - begin) / (number - before), held()))
            before, begin = number, time.perf_counter()
    return curve


@bench.scenario
def many_pools() -> None:
    """Note the curve, and what the second half of the pools added to the first."""
    count = bench.scaled(500, 20)
    for kind in POOLS:
        curve = in_own_process(growth, kind, count)
        for number, seconds, what in curve:
            bench.record("a pool", kind, seconds, at=number, **what)
        middle = next(what for number, _, what in curve if number >= count // 2)
        for name, value in curve[-1][2].items():
            grown = value / middle[name]
            reach = 1.02 if kind == "memchannel" else None
            bench.record(f"{name} after {count} pools / {count // 2}", kind, grown, "x", reach=reach)

"""Starting: interpreters with NumPy and workers of pools, against processes; time and private memory.

Every sample is taken in a process of its own, which has imported NumPy once: the files are in memory.
"""

from __future__ import annotations

import _interpreters
import functools
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memchannel import InterpreterPool, interpreters
from memchannel.bench._harness import Benchmark, Side
from memchannel.bench._machine import private_memory
from memchannel.bench._processes import in_own_process

if TYPE_CHECKING:
    from memchannel.bench.importable import first_use
else:
    # By its own name, as the workers that are to import it know nothing of memchannel.
    sys.path.append(str(Path(__file__).with_name("importable")))
    import first_use

bench = Benchmark("startup", __doc__)

WARM_UP = 0.05  # seconds that a task holds its worker, so that each worker gets one


def until_sum(reuse: bool) -> tuple[float, float]:
    """Make an interpreter and let it use NumPy; returns the seconds, and the private memory that it took."""
    before, begin = private_memory(), time.perf_counter()
    interpreter = interpreters.create(packages=("numpy",), reuse=reuse)
    result = interpreters.run(interpreter, first_use.first_sum).check().value
    seconds = time.perf_counter() - begin
    grown = private_memory() - before
    _check(result)
    interpreters.close(interpreter)
    return seconds, grown


def _forget_main() -> None:
    """Let processes that are started from here not import the benchmarks again, as their main module."""
    # Lib/multiprocessing/spawn.py, get_preparation_data; loky does the same.
    main: Any = sys.modules["__main__"]
    main.__spec__ = main.__file__ = None


def _check(result: float) -> None:
    if result != first_use.SUM:
        raise RuntimeError(f"the numbers below 10 add up to {result}")


def of_interpreter(which: str) -> tuple[float, float]:
    """Measure the first interpreter of a process, the second, or one that was parked."""
    first_use.first_sum()
    if which == "first":
        return until_sum(reuse=False)
    until_sum(reuse=which == "parked")
    return until_sum(reuse=which == "parked")


TIMED_IMPORT = """
import time
begin = time.perf_counter()
import numpy
print(time.perf_counter() - begin)
"""


def of_cpython(_: str) -> tuple[float, float]:
    """Time what no interpreter that uses NumPy does without: CPython's making of one, and NumPy's import."""
    # Elsewhere: what is imported here already is a part of it.
    told = subprocess.run([sys.executable, "-c", TIMED_IMPORT], check=True, capture_output=True, text=True)
    _interpreters.destroy(_interpreters.create())
    begin = time.perf_counter()
    interpreter = _interpreters.create()
    seconds = time.perf_counter() - begin
    _interpreters.destroy(interpreter)
    return seconds + float(told.stdout), 0.0


def of_process(method: str) -> tuple[float, float]:
    """Start a process that uses NumPy; the second one, so that a fork server is there already."""
    _forget_main()
    first_use.first_sum()
    method, _, preloaded = method.partition(", ")
    context = multiprocessing.get_context(method)
    if preloaded:
        context.set_forkserver_preload([preloaded])
    taken = (0.0, 0.0)
    for _ in range(2):
        here, there = context.Pipe()
        begin = time.perf_counter()
        process = context.Process(target=first_use.send_sum, args=(there,))  # type: ignore[attr-defined]
        process.start()
        result = here.recv()
        seconds = time.perf_counter() - begin
        taken = (seconds, float(private_memory(process.pid)))
        here.send(None)
        process.join()
        _check(result)
    return taken


def of_loky(_: str) -> tuple[float, float]:
    """Start a worker of loky and let it use NumPy."""
    import os

    import loky

    _forget_main()
    first_use.first_sum()
    begin = time.perf_counter()
    pool = loky.get_reusable_executor(max_workers=1)
    result = pool.submit(first_use.first_sum).result()
    seconds = time.perf_counter() - begin
    memory = private_memory(pool.submit(os.getpid).result())
    pool.shutdown()
    _check(result)
    return seconds, float(memory)


STARTS: dict[str, tuple[Callable[[str], tuple[float, float]], str]] = {
    "memchannel, second": (of_interpreter, "second"),
    "memchannel, first": (of_interpreter, "first"),
    "memchannel, parked": (of_interpreter, "parked"),
    "processes, spawn": (of_process, "spawn"),
    "processes, forkserver": (of_process, "forkserver"),
    "processes, forkserver with NumPy": (of_process, "forkserver, numpy"),
    "loky": (of_loky, ""),
    "a bare interpreter, and a plain import": (of_cpython, ""),
}


@bench.scenario
def one() -> None:
    """One interpreter with NumPy, against one process."""
    memory: dict[str, list[float]] = {}

    def measure(side: str) -> float:
        function, which = STARTS[side]
        seconds, private = in_own_process(function, which)
        if private:
            memory.setdefault(side, []).append(private / 1e6)
        return float(seconds)

    sides = {
        side: functools.partial(measure, side) for side in STARTS if bench.wants(side, "processes, spawn")
    }
    base = "processes, spawn"
    repeats = 3 * bench.repeats
    figures = bench.compare("until NumPy is used", sides, against=base, reach=1 / 1.5, repeats=repeats)
    parked = figures["memchannel, parked"].median
    bench.record("until NumPy is used, parked", "memchannel, parked", parked, reach=1e-3)
    for side in filter(memory.get, sides):
        private = memory[side]
        ours = side == "memchannel, second"
        most = statistics.median(memory[base]) if ours and base in memory else None
        bench.record("private memory of one", side, statistics.median(private), "MB", reach=most)


def workers_of(kind: str, workers: int) -> Executor:
    """Make a pool."""
    if kind == "memchannel":
        return InterpreterPool(workers, packages=("numpy",))
    if kind == "loky":
        import loky

        pool: Executor = loky.get_reusable_executor(max_workers=workers)
        return pool
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def pool_start(kind: str, workers: int) -> tuple[float, float]:
    """Start all workers of a pool; returns the seconds, and the private memory of all that takes part."""
    _forget_main()
    first_use.first_sum()
    begin = time.perf_counter()
    with workers_of(kind, workers) as pool:
        processes = {one.result() for one in [pool.submit(first_use.held, WARM_UP) for _ in range(workers)]}
        seconds = time.perf_counter() - begin - WARM_UP
        import os

        memory = sum(private_memory(one) for one in processes | {os.getpid()})
    return seconds, float(memory)


@bench.scenario
def pool() -> None:
    """Start a pool of two workers, against one of one; processes show what two cores are worth in this."""

    def measure(kind: str, count: int) -> float:
        return float(in_own_process(pool_start, kind, count)[0])

    kinds = [kind for kind in ("memchannel", "processes") if bench.wants(kind)]
    sides: dict[str, Side] = {
        f"{kind}, {count}": functools.partial(measure, kind, count) for kind in kinds for count in (2, 1)
    }
    repeats = 3 * bench.repeats
    figures = bench.compare("start of a pool", sides, against="memchannel, 1", reach=1.3, repeats=repeats)
    bench.record_share("start of a pool", figures, "processes, 2", "processes, 1")


@bench.scenario
def workers() -> None:
    """Start pools of more and more workers: time, and private memory of all."""
    kinds = [kind for kind in ("memchannel", "processes", "loky") if bench.wants(kind)]
    for count in (1, 2, 4, 8) if not bench.quick else (1, 2):
        memory: dict[str, float] = {}

        def measure(kind: str, count: int = count, memory: dict[str, float] = memory) -> float:
            seconds, private = in_own_process(pool_start, kind, count)
            memory[kind] = max(memory.get(kind, 0.0), private / 1e6)
            return float(seconds)

        repeats = 3 if bench.form == "full" else None
        sides = {kind: functools.partial(measure, kind) for kind in kinds}
        bench.compare("start of a pool", sides, repeats=repeats, at=count)
        for kind, private in memory.items():
            bench.record("private memory of a pool and its process", kind, private, "MB", at=count)

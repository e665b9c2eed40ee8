"""The main job: one function over the blocks of one array on all cores, against pools of other kinds.

Two workers everywhere, the same blocks, results compared with the serial ones. The function `roughness` is
pure Python, 60,000 x 256 in the full form; `row_sums` only reads memory (0.5 GB in the full form).
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from harness import Benchmark, in_own_process
from numpy.typing import NDArray
from workload import address, of_shared_memory, roughness, row_sums

import memchannel

WORKERS = 2
BLOCKS = 16
bench = Benchmark("main job", __doc__)

type Job = Callable[[], list[Any]]


def bounds(rows: int) -> list[tuple[int, int]]:
    """Cut the rows into equal blocks, as `map_blocks(blocks=BLOCKS)` does."""
    edges = [rows * index // BLOCKS for index in range(BLOCKS + 1)]
    return list(itertools.pairwise(edges))


def on_executor(pool: Executor, function: Callable[..., Any], array: NDArray[Any]) -> list[Any]:
    """Give each task its block: pickled, where the workers are processes."""
    return list(pool.map(function, [array[start:stop] for start, stop in bounds(len(array))]))


@contextlib.contextmanager
def jobs(function: Callable[..., Any], array: NDArray[Any]) -> Iterator[dict[str, Job]]:
    """Start pools of every kind, and warm them up, for a function and an array."""
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(memchannel.InterpreterPool(WORKERS, packages=("numpy",)))
        threads = stack.enter_context(ThreadPoolExecutor(WORKERS))
        processes = stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=spawn))
        parallel = stack.enter_context(joblib.Parallel(n_jobs=WORKERS))
        shared = shared_memory.SharedMemory(create=True, size=array.nbytes)
        stack.callback(shared.unlink)
        stack.callback(shared.close)
        np.ndarray(array.shape, array.dtype, shared.buf)[:] = array

        def through_shared_memory() -> list[Any]:
            tasks = [
                processes.submit(of_shared_memory, function, shared.name, array.shape, *edges)
                for edges in bounds(len(array))
            ]
            return [task.result() for task in tasks]

        def through_joblib() -> list[Any]:
            delayed = joblib.delayed(function)
            return list(parallel(delayed(array[start:stop]) for start, stop in bounds(len(array))))

        sides: dict[str, Job] = {
            "memchannel": lambda: list(pool.map_blocks(function, array, blocks=BLOCKS)),
            "serial": lambda: [function(array[start:stop]) for start, stop in bounds(len(array))],
            "threads": lambda: on_executor(threads, function, array),
            "processes, pickled": lambda: on_executor(processes, function, array),
            "processes, shared memory": through_shared_memory,
            "joblib, memory map": through_joblib,
        }
        right = sides["serial"]()
        for side, job in sides.items():
            for mine, other in zip(job(), right, strict=True):
                assert np.array_equal(mine, other), f"{side} computes something else"
        yield sides


def seconds(job: Job) -> float:
    """Measure one run of a job."""
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def measured(
    name: str, function: Callable[..., Any], array: NDArray[Any], against: str, reach: float
) -> None:
    """Compare all kinds of pools."""
    with jobs(function, array) as sides:
        timed = {side: (lambda job=job: seconds(job)) for side, job in sides.items()}
        bench.compare(name, timed, against=against, reach=reach)


@bench.scenario
def heavy() -> None:
    """Compare with a function that holds the GIL; 1/1.75 is to be reached, 1/1.9 is the goal."""
    array = np.random.default_rng(0).random((bench.scaled(60_000, 2_000), 256))
    measured(f"pure Python, {len(array):,} x 256", roughness, array, "serial", 1 / 1.75)


@bench.scenario
def light() -> None:
    """Compare with a function that only reads memory, which threads do in parallel."""
    array = np.random.default_rng(0).random((bench.scaled(250_000, 4_000), 256))
    measured(f"reading {array.nbytes / 1e6:,.0f} MB", row_sums, array, "threads", 1.15)


def resident(field: str) -> int:
    """Read this process's memory in bytes: "VmRSS", or "VmHWM" for its peak."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(field))
    return int(line.split()[1]) * 1024


def memory_of_the_job(rows: int) -> dict[str, int]:
    """Run the job in a process that does nothing else, and say what it took."""
    array = np.random.default_rng(0).random((rows, 256))
    with memchannel.InterpreterPool(WORKERS, packages=("numpy",)) as pool:
        list(pool.map_blocks(roughness, array[: 4 * BLOCKS], blocks=BLOCKS))
        before, copied = resident("VmRSS"), memchannel.stats().bytes_copied
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (man 5 proc_pid_clear_refs)
        list(pool.map_blocks(roughness, array, blocks=BLOCKS))
        peak = resident("VmHWM")
        copied = memchannel.stats().bytes_copied - copied
        addresses = list(pool.map_blocks(address, array, blocks=BLOCKS))
    expected = [array.ctypes.data + start * array.strides[0] for start, _ in bounds(rows)]
    assert addresses == expected, "a worker reads other memory than the sender's"
    return {
        "array": array.nbytes,
        "before": before,
        "peak": peak,
        "copied": copied,
    }


@bench.scenario
def memory() -> None:
    """Measure the peak memory of a process that holds the array and two interpreters with NumPy."""
    took = in_own_process(memory_of_the_job, bench.scaled(60_000, 2_000))
    name = f"memory, array of {took['array'] / 1e6:,.0f} MB"
    bench.record(name, "array and interpreters", took["before"] / 1e6, "MB")
    bench.record(name, "peak", took["peak"] / 1e6, "MB")
    bench.record(name, "peak / before", took["peak"] / took["before"], "", reach=1.05)
    bench.record(name, "copied by the core", took["copied"], "bytes", reach=0)


if __name__ == "__main__":
    bench.main()

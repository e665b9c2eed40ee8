"""The main job: one function over the blocks of one array on all cores, against pools of other kinds.

Two workers everywhere, the same blocks, results compared with the serial ones. The function `roughness` is
pure Python, 60,000 x 256 in the full form; `row_sums` only reads memory (0.5 GB in the full form). Each side
has a process of its own, in which the array is made again. "Processes, nothing shared" are no pool but what
the machine gives: each has the array and computes its share of the blocks when told.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import memchannel
from memchannel.bench._harness import Benchmark, Figure, Side
from memchannel.bench._jobs import BLOCKS, KINDS, bounds, job, made
from memchannel.bench._processes import companion, in_own_process
from memchannel.bench._workload import address, roughness

bench = Benchmark("main_job", __doc__)

WORKERS = 2


def _compared(
    title: str, function: str, rows: int, kinds: Iterable[str], against: str, reach: float, repeats: int
) -> dict[str, Figure]:
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {}
        for kind in kinds:
            start = functools.partial(companion, job, kind, function, rows, WORKERS)
            bench.enter(stack, sides, kind, start, against)
        return bench.compare(title, sides, against=against, reach=reach, repeats=repeats)


@bench.scenario
def heavy() -> None:
    """Compare with a function that holds the GIL."""
    rows = bench.scaled(60_000, 2_000)
    name = f"pure Python, {rows:,} x 256"
    figures = _compared(name, "roughness", rows, KINDS, "serial", 1 / 1.9, bench.repeats)
    for peer in ("processes, shared memory", "joblib", "joblib, memory map"):
        bench.record_share("pure Python", figures, "memchannel", peer, 1.0)
    bench.record_share("pure Python", figures, "memchannel", "processes, nothing shared")


@bench.scenario
def light() -> None:
    """Compare with a function that only reads memory, which threads do in parallel."""
    rows = bench.scaled(250_000, 4_000)
    kinds = [kind for kind in KINDS if kind not in {"dask", "extrainterpreters"}]
    name = f"reading {rows * 256 * 8 / 1e6:,.0f} MB"
    _compared(name, "row_sums", rows, kinds, "threads", 1.15, 2 * bench.repeats)


@bench.scenario
def workers() -> None:
    """More and more workers: how much faster than the serial run."""
    rows, cores = bench.scaled(20_000, 800), os.process_cpu_count() or 1
    steps = sorted({1, *(2**power for power in range(1, 10) if 2**power <= 2 * cores), cores})
    with contextlib.ExitStack() as stack:
        serial = stack.enter_context(companion(job, "serial", "roughness", rows, 1))
        for count in steps:
            sides: dict[str, Side] = {}
            for kind in ("memchannel", "threads", "processes, shared memory", "joblib"):
                start = functools.partial(companion, job, kind, "roughness", rows, count)
                bench.enter(stack, sides, kind, start)
            repeats = 3 if bench.form == "full" else None
            timed: dict[str, Side] = {
                kind: lambda side=side: serial() / side()  # type: ignore[misc]
                for kind, side in sides.items()
            }
            bench.compare("times as fast as serial", timed, unit="x", repeats=repeats, at=count)


def resident(field: str, process: int | str = "self") -> int:
    """Read a process's memory in bytes: "VmRSS", or "VmHWM" for its peak."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(one for one in lines if one.startswith(field)).split()[1]) * 1024


def forget_peak(process: int | str = "self") -> None:
    """Let the peak start anew (man 5 proc_pid_clear_refs)."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def memory_of_the_job(rows: int) -> dict[str, int]:
    """Run the job in a process that does nothing else, and say what it took."""
    array = made(rows)
    with memchannel.InterpreterPool(WORKERS, packages=("numpy",)) as pool:
        list(pool.map_blocks(roughness, array[: 4 * BLOCKS], blocks=BLOCKS))
        before, copied = resident("VmRSS"), memchannel.stats().bytes_copied
        forget_peak()
        list(pool.map_blocks(roughness, array, blocks=BLOCKS))
        peak = resident("VmHWM")
        copied = memchannel.stats().bytes_copied - copied
        addresses = list(pool.map_blocks(address, array, blocks=BLOCKS))
    expected = [array.ctypes.data + start * array.strides[0] for start, _ in bounds(rows)]
    if addresses != expected:
        raise RuntimeError("a worker reads other memory than the sender's")
    return {"array": array.nbytes, "before": before, "peak": peak, "copied": copied}


def memory_of_processes(rows: int) -> dict[str, int]:
    """Do the same with a pool of processes, which get their blocks pickled; all of them are counted."""
    array = made(rows)
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(roughness, [array[:4]] * BLOCKS))
        # Its own name for them, as there is no public one.
        everyone = [os.getpid(), *pool._processes]
        before = sum(resident("VmRSS", one) for one in everyone)
        for one in everyone:
            forget_peak(one)
        list(pool.map(roughness, [array[start:stop] for start, stop in bounds(rows)]))
        peak = sum(resident("VmHWM", one) for one in everyone)
    return {"array": array.nbytes, "before": before, "peak": peak}


@bench.scenario
def memory() -> None:
    """Measure the peak memory of a process that holds the array and two interpreters with NumPy."""
    rows = bench.scaled(60_000, 2_000)
    took = in_own_process(memory_of_the_job, rows)
    name = f"memory, array of {took['array'] / 1e6:,.0f} MB"
    bench.record(name, "memchannel, before", took["before"] / 1e6, "MB")
    bench.record(name, "memchannel, peak", took["peak"] / 1e6, "MB")
    bench.record(f"{name}, peak / before", "memchannel", took["peak"] / took["before"], "x", reach=1.05)
    bench.record(f"{name}, copied by the core", "memchannel", took["copied"], "bytes", reach=0)
    if bench.wants("processes, pickled"):
        theirs = in_own_process(memory_of_processes, rows)
        bench.record(name, "processes, pickled, before", theirs["before"] / 1e6, "MB")
        bench.record(name, "processes, pickled, peak", theirs["peak"] / 1e6, "MB")
        ratio = theirs["peak"] / theirs["before"]
        bench.record(f"{name}, peak / before", "processes, pickled", ratio, "x")

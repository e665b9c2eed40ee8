"""The main job on pools of every kind: each is entered in a process of its own and does the job when asked.

As the documentation of each says: shared_memory segments opened by name in the workers, joblib's memory maps,
automatic ones and one that is there beforehand, `ray.put` once and tasks that get the reference,
`Client.scatter` once for Dask.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

import memchannel
from memchannel.bench import _workload
from memchannel.bench._harness import Side

__all__ = ["BLOCKS", "KINDS", "bounds", "job", "made"]

BLOCKS = 16

type Job = Callable[[], list[Any]]
type Function = Callable[..., Any]


def made(rows: int) -> NDArray[np.float64]:
    """Make the array, the same in every process."""
    return np.random.default_rng(0).random((rows, 256))


def bounds(rows: int) -> list[tuple[int, int]]:
    """Cut the rows into equal blocks, as `map_blocks(blocks=BLOCKS)` does."""
    if rows % BLOCKS:
        raise ValueError(f"{rows} rows cannot be cut into {BLOCKS} blocks of the same length")
    return list(itertools.pairwise(range(0, rows + 1, rows // BLOCKS)))


def _blocks(array: NDArray[Any]) -> list[NDArray[Any]]:
    return [array[start:stop] for start, stop in bounds(len(array))]


@contextlib.contextmanager
def _memchannel(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    with memchannel.InterpreterPool(workers, packages=("numpy",)) as pool:
        yield lambda: list(pool.map_blocks(function, array, blocks=BLOCKS))


@contextlib.contextmanager
def _serial(function: Function, array: NDArray[Any], _: int) -> Iterator[Job]:
    yield lambda: list(map(function, _blocks(array)))


@contextlib.contextmanager
def _executor(
    make: Callable[[int], Executor], function: Function, array: NDArray[Any], workers: int
) -> Iterator[Job]:
    with make(workers) as pool:
        yield lambda: list(pool.map(function, _blocks(array)))


def _processes(workers: int) -> Executor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _loky(workers: int) -> Executor:
    import loky

    pool: Executor = loky.get_reusable_executor(max_workers=workers)
    return pool


def _standard(workers: int) -> Executor:
    import concurrent.futures

    pool: Executor = getattr(concurrent.futures, "InterpreterPoolExecutor")(workers)  # noqa: B009
    return pool


@contextlib.contextmanager
def _shared_memory(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    shared = shared_memory.SharedMemory(create=True, size=array.nbytes)
    try:
        np.ndarray(array.shape, array.dtype, shared.buf)[:] = array
        with _processes(workers) as pool:

            def run() -> list[Any]:
                task = functools.partial(_workload.of_shared_memory, function, shared.name, array.shape)
                return [one.result() for one in [pool.submit(task, *edges) for edges in bounds(len(array))]]

            yield run
    finally:
        shared.close()
        shared.unlink()


@contextlib.contextmanager
def _apart(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    """No pool: processes with an array each, which compute an equal share of the blocks when told.

    What the machine's cores give: less work than this has no pool.
    """
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pipes = []
        for which in range(workers):
            here, there = context.Pipe()
            share = bounds(len(array))[which * BLOCKS // workers : (which + 1) * BLOCKS // workers]
            process = context.Process(target=_compute_share, args=(there, function, len(array), share))
            process.start()
            stack.callback(process.join)
            stack.callback(here.send, False)
            pipes.append(here)

        def run() -> list[Any]:
            for pipe in pipes:
                pipe.send(True)
            return [result for pipe in pipes for result in pipe.recv()]

        yield run


def _compute_share(pipe: Connection, function: Function, rows: int, share: list[tuple[int, int]]) -> None:
    array = made(rows)
    while pipe.recv():
        pipe.send([function(array[start:stop]) for start, stop in share])


@contextlib.contextmanager
def _joblib(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    import joblib

    with joblib.Parallel(n_jobs=workers) as parallel:
        delayed = joblib.delayed(function)
        yield lambda: list(parallel(delayed(block) for block in _blocks(array)))


@contextlib.contextmanager
def _joblib_mapped(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    """Have the array in a file beforehand, which workers map (in its docs: manual management)."""
    import joblib

    with tempfile.TemporaryDirectory() as folder, joblib.Parallel(n_jobs=workers) as parallel:
        file = os.path.join(folder, "array")
        joblib.dump(array, file)
        delayed, mapped = joblib.delayed(function), joblib.load(file, mmap_mode="r")
        yield lambda: list(parallel(delayed(block) for block in _blocks(mapped)))


@contextlib.contextmanager
def _ray(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    import ray

    store = max(2**28, 2 * array.nbytes)
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, object_store_memory=store)
    remote = ray.remote(_workload.of_rows)
    stored = ray.put(array)
    yield lambda: ray.get([remote.remote(stored, function, *edges) for edges in bounds(len(array))])
    ray.shutdown()


@contextlib.contextmanager
def _dask(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        blocks = client.scatter(_blocks(array))
        # Pure functions are computed once, and remembered.
        yield lambda: client.gather(client.map(function, blocks, pure=False))


@contextlib.contextmanager
def _extrainterpreters(function: Function, array: NDArray[Any], workers: int) -> Iterator[Job]:
    import extrainterpreters

    def run() -> list[Any]:
        blocks, results = _blocks(array), []
        for start in range(0, BLOCKS, workers):
            running = []
            for block in blocks[start : start + workers]:
                running.append(extrainterpreters.Interpreter(target=function, args=(block,)))
                running[-1].start()
            for one in running:
                one.join()
                if one.exception:
                    reason = re.search(r"module \S+ does not support [\w ]+", str(one.exception))
                    raise RuntimeError(reason[0] if reason else str(one.exception)[-200:])
                results.append(one.result())
        return results

    yield run


KINDS: dict[str, Callable[[Function, NDArray[Any], int], contextlib.AbstractContextManager[Job]]] = {
    "memchannel": _memchannel,
    "serial": _serial,
    "threads": functools.partial(_executor, ThreadPoolExecutor),
    "processes, pickled": functools.partial(_executor, _processes),
    "processes, shared memory": _shared_memory,
    "processes, nothing shared": _apart,
    "loky": functools.partial(_executor, _loky),
    "joblib": _joblib,
    "joblib, memory map": _joblib_mapped,
    "ray": _ray,
    "dask": _dask,
    "InterpreterPoolExecutor": functools.partial(_executor, _standard),
    "extrainterpreters": _extrainterpreters,
}


@contextlib.contextmanager
def job(kind: str, name: str, rows: int, workers: int) -> Iterator[Side]:
    """Make the array and a pool of a kind, and warm it up; yields the seconds of the job.

    Raises
    ------
    RuntimeError
        The result is not that of a serial run.
    """
    array, function = made(rows), getattr(_workload, name)
    with KINDS[kind](function, array, workers) as run:
        for mine, right in zip(run(), map(function, _blocks(array)), strict=True):
            if not np.array_equal(mine, right):
                raise RuntimeError(f"{kind} computes something else")

        def seconds() -> float:
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin

        yield seconds

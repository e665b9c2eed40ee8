"""joblib and Dask on interpreters, beside their own processes and threads.

Two workers everywhere, results compared with the serial ones. `grid_search` is scikit-learn's on its digits,
for an estimator in pure Python and one that releases the GIL; the first two, cold, runs of each side are not
counted, as everybody keeps their workers (joblib's own processes are those of the loky that it brings).
`array_job` is a Dask array with a Python-heavy block function, by the threaded scheduler and on one worker
process of a cluster: a job of seconds, which has the goal, and a short one, whose hand-overs weigh more.
`bytes_copied` is between the tasks of one worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import joblib
import numpy as np
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import memchannel
import memchannel.integrations.joblib
from memchannel.bench._estimator import Perceptron
from memchannel.bench._harness import Benchmark
from memchannel.bench._workload import roughness
from memchannel.integrations.dask import InterpreterWorkers

WORKERS = 2
bench = Benchmark("integrations", __doc__)


def seconds(job: Callable[[], object]) -> float:
    """Measure one run of a job."""
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


# ---- joblib


def search(estimator: Any, grid: dict[str, list[Any]], rows: int) -> Any:
    """Search the grid with joblib's present backend, and give the scores."""
    x, y = load_digits(return_X_y=True)
    found = GridSearchCV(estimator, grid, cv=4, refit=False).fit(x[:rows], y[:rows])
    return found.cv_results_["mean_test_score"]


def with_backend(backend: str, job: Callable[[], Any]) -> Callable[[], Any]:
    """Bind a job to a backend of joblib."""

    def run() -> Any:
        with joblib.parallel_config(backend, n_jobs=WORKERS):
            return job()

    return run


def compare_backends(name: str, job: Callable[[], Any], *, threads: bool) -> None:
    """Compare a job on all backends; the reach is that of joblib's processes."""
    processes = "joblib, loky"
    every = {"memchannel": with_backend("memchannel", job), processes: with_backend("loky", job)}
    every["threads"] = with_backend("threading", job)
    every["serial"] = job
    sides = {side: run for side, run in every.items() if bench.wants(side, processes)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # loky's fork and exec beside threads
        right = job()
        for side, run in sides.items():
            for _ in range(2):  # the processors' share is even only when all workers are there
                assert np.array_equal(run(), right), f"{side} computes something else"
    timed = {side: (lambda run=run: seconds(run)) for side, run in sides.items()}
    figures = bench.compare(name, timed, against=processes, reach=1.0)
    if threads:
        bench.record_share(name, figures, "memchannel", "threads", reach=1.0)


@bench.scenario
def grid_search() -> None:
    """Search a grid for an estimator in pure Python, and for one in C."""
    rows = bench.scaled(1797, 400)
    compare_backends(
        "GridSearchCV, estimator in Python",
        lambda: search(Perceptron(), {"rounds": [1, 2], "rate": [0.5, 1.0]}, rows),
        threads=True,
    )
    compare_backends(
        "GridSearchCV, SVC",
        lambda: search(SVC(), {"C": [1, 10], "gamma": [1e-3, 1e-2]}, rows),
        threads=False,
    )


# ---- Dask


COLUMNS = 256


def column_of(block: NDArray[Any]) -> NDArray[Any]:
    """Compute a column of a block in a loop that holds the GIL."""
    return np.array(roughness(block)).reshape(-1, 1)


def array_of(rows: int, blocks: int) -> da.Array:
    """Make an array whose blocks come to be where they are used."""
    return da.random.default_rng(0).random((rows, COLUMNS), chunks=(rows // blocks, COLUMNS))


def job_on(array: da.Array) -> da.Array:
    """Apply the function to each block."""
    return array.map_blocks(column_of, dtype=float, chunks=(array.chunks[0], (1,)))


@contextlib.contextmanager
def workers(*, interpreters: bool) -> Iterator[Client]:
    """Start a worker process with two threads, or interpreters."""
    # Of the worker, and here, where distributed is imported already.
    os.environ.setdefault("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "error")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with (
        LocalCluster(
            1, threads_per_worker=WORKERS, processes=True, dashboard_address="127.0.0.1:0", protocol="tcp"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        if interpreters:
            client.register_plugin(InterpreterWorkers())
        yield client


def compare_with_threads(
    name: str, sides: dict[str, Callable[[], Any]], right: NDArray[Any], reach: float | None
) -> None:
    """Compare Dask's own threads."""
    wanted = {side: job for side, job in sides.items() if bench.wants(side, "threads")}
    for side, job in wanted.items():
        for _ in range(2):
            assert np.array_equal(job(), right), f"{side} computes something else"
    timed = {side: (lambda job=job: seconds(job)) for side, job in wanted.items()}
    bench.compare(name, timed, against="threads", reach=reach)


@bench.scenario
def array_job() -> None:
    """Compute a Python-heavy function of the blocks of an array: a job of seconds, and a short one."""
    sizes = [(bench.scaled(128_000, 6400), 32, 1 / 1.8), (bench.scaled(12_800, 3200), 16, None)]
    measured = [(f"{rows:,} x {COLUMNS}", array_of(rows, blocks), reach) for rows, blocks, reach in sizes]
    right: dict[str, NDArray[Any]] = {}
    with memchannel.InterpreterPool(WORKERS, packages="all") as pool:
        for size, x, reach in measured:
            here = job_on(x.persist(scheduler="sync"))
            right[size] = here.compute(scheduler="sync")
            sides: dict[str, Callable[[], Any]] = {
                "memchannel": lambda job=here: job.compute(scheduler="threads", pool=pool),  # type: ignore[misc]
                "threads": lambda job=here: job.compute(scheduler="threads", num_workers=WORKERS),  # type: ignore[misc]
                "serial": lambda job=here: job.compute(scheduler="sync"),  # type: ignore[misc]
            }
            compare_with_threads(f"threaded scheduler, {size}", sides, right[size], reach)
    with workers(interpreters=True) as ours, workers(interpreters=False) as threads:
        for size, x, reach in measured:
            # What is computed from stays with the workers, who made it.
            jobs = {client: job_on(client.persist(x)) for client in (ours, threads)}
            sides = {
                "memchannel": lambda job=jobs[ours]: ours.compute(job).result(),  # type: ignore[misc]
                "threads": lambda job=jobs[threads]: threads.compute(job).result(),  # type: ignore[misc]
            }
            compare_with_threads(f"one worker process, {size}", sides, right[size], reach)


@bench.scenario
def bytes_copied() -> None:
    """Count what is copied between the tasks of one worker."""

    def copied() -> int:
        return memchannel.stats().bytes_copied

    with workers(interpreters=True) as client:
        blocks = [client.submit(np.full, (1000, 256), float(k), pure=False) for k in range(8)]
        client.gather(client.map(np.sum, blocks))
        (before,) = client.run(copied).values()
        for _ in range(4):
            blocks = client.map(np.sqrt, blocks)
        client.gather(client.map(np.shape, blocks))
        (after,) = client.run(copied).values()
    bench.record("copied in 32 tasks of 2 MB each", "memchannel", after - before, "bytes", reach=0)

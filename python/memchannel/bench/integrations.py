"""joblib and Dask on interpreters, beside their own processes and threads.

Two workers everywhere, results compared with the serial ones. `grid_search` is scikit-learn's on its digits,
for an estimator in pure Python and one that releases the GIL; the first, cold, run of each side is not
counted, as everybody keeps their workers. `array_job` is a Dask array with a Python-heavy block function, by
the threaded scheduler and on one worker process of a cluster; `bytes_copied` is between the tasks of one.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask.array as da
import joblib
import numpy as np
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import memchannel
import memchannel.integrations.joblib
from memchannel.bench._harness import Benchmark
from memchannel.integrations.dask import InterpreterWorkers

WORKERS = 2
bench = Benchmark("integrations", __doc__)


def seconds(job: Callable[[], object]) -> float:
    """Measure one run of a job."""
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


# ---- joblib


class Perceptron(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier in pure Python: threads take turns at it."""

    def __init__(self, rounds: int = 1, rate: float = 1.0) -> None:
        self.rounds = rounds
        self.rate = rate

    def fit(self, x: NDArray[Any], y: NDArray[Any]) -> Perceptron:
        """Learn the weights, row by row."""
        self.classes_ = np.unique(y)
        weights = [[0.0] * x.shape[1] for _ in self.classes_]
        for _ in range(self.rounds):
            for row, right in zip(x.tolist(), y.tolist(), strict=True):
                scores = [sum(w * value for w, value in zip(one, row, strict=True)) for one in weights]
                wrong = scores.index(max(scores))
                if wrong != right:
                    for i, value in enumerate(row):
                        weights[right][i] += self.rate * value
                        weights[wrong][i] -= self.rate * value
        self.weights_ = np.array(weights)
        return self

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """Choose the class with the greatest score."""
        chosen: NDArray[Any] = self.classes_[(x @ self.weights_.T).argmax(axis=1)]
        return chosen


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
    """Compare a job on all backends; the reach is that of loky."""
    sides = {"memchannel": with_backend("memchannel", job), "loky": with_backend("loky", job)}
    sides["threads"] = with_backend("threading", job)
    sides["serial"] = job
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # loky's fork and exec beside threads
        right = job()
        for side, run in sides.items():
            for _ in range(2):  # the processors' share is even only when all workers are there
                assert np.array_equal(run(), right), f"{side} computes something else"
    timed = {side: (lambda run=run: seconds(run)) for side, run in sides.items()}
    figures = bench.compare(name, timed, against="loky", reach=1.0)
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


def roughness(block: NDArray[Any]) -> NDArray[Any]:
    """Add up the steps from element to element, in a loop that holds the GIL."""
    totals = []
    for row in block.tolist():
        total, before = 0.0, row[0]
        for value in row:
            total += abs(value - before)
            before = value
        totals.append([total])
    return np.array(totals)


def array_of(rows: int) -> da.Array:
    """Make the array: 16 blocks."""
    data = np.random.default_rng(0).random((rows, 256))
    return da.from_array(data, chunks=(rows // 16, 256))


@contextlib.contextmanager
def workers(*, interpreters: bool) -> Iterator[Client]:
    """Start a worker process with two threads, or interpreters."""
    os.environ.setdefault("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "error")
    dask.config.refresh()
    with (
        LocalCluster(
            1, threads_per_worker=WORKERS, processes=True, dashboard_address="127.0.0.1:0", protocol="tcp"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        if interpreters:
            client.register_plugin(InterpreterWorkers())
        yield client


def compare_with_threads(name: str, sides: dict[str, Callable[[], Any]], right: NDArray[Any]) -> None:
    """Compare Dask's own threads; the reach is a job 1.8 times as fast."""
    for side, job in sides.items():
        for _ in range(2):
            assert np.array_equal(job(), right), f"{side} computes something else"
    timed = {side: (lambda job=job: seconds(job)) for side, job in sides.items()}
    bench.compare(name, timed, against="threads", reach=1 / 1.8)


@bench.scenario
def array_job() -> None:
    """Compute a Python-heavy function of the blocks of an array."""
    x = array_of(bench.scaled(16_000, 3200))
    job = x.map_blocks(roughness, dtype=float, chunks=(x.chunks[0], (1,)))
    right = job.compute(scheduler="sync")
    with memchannel.InterpreterPool(WORKERS, packages="all") as pool:
        sides: dict[str, Callable[[], Any]] = {
            "memchannel": lambda: job.compute(scheduler="threads", pool=pool),
            "threads": lambda: job.compute(scheduler="threads", num_workers=WORKERS),
            "serial": lambda: job.compute(scheduler="sync"),
        }
        compare_with_threads("threaded scheduler", sides, right)
    with workers(interpreters=True) as ours, workers(interpreters=False) as threads:
        # What is computed from stays with the workers: else its way there is measured.
        data = {client: client.persist(x) for client in (ours, threads)}
        jobs = {
            client: one.map_blocks(roughness, dtype=float, chunks=(x.chunks[0], (1,)))
            for client, one in data.items()
        }
        sides = {
            "memchannel": lambda: ours.compute(jobs[ours]).result(),
            "threads": lambda: threads.compute(jobs[threads]).result(),
        }
        compare_with_threads("one worker process", sides, right)


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

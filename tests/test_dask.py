"""Dask workers whose tasks run in interpreters."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, get_worker

import memchannel
from memchannel import InterpreterPool
from memchannel.integrations.dask import InterpreterWorkers

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Sending large graph:UserWarning")


def loop(block: np.ndarray) -> np.ndarray:
    """Add up squares in a loop that holds the GIL."""
    total = 0.0
    for x in block.ravel().tolist():
        total += x * x
    return np.full((1,) * block.ndim, total)


def where(block: np.ndarray) -> np.ndarray:
    import _interpreters

    return np.full(block.shape, _interpreters.get_current()[0])


ARRAY = np.arange(80_000.0).reshape(8, 10_000)
EXPECTED = [[float((row**2).sum())] for row in ARRAY]


def rows() -> da.Array:
    return da.from_array(ARRAY, chunks=(1, 10_000))


# ---- the threaded scheduler


@pytest.fixture(scope="module")
def pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(2, packages="all") as made:
        yield made


def test_the_threaded_schedulers_pool(pool: InterpreterPool) -> None:
    copied = memchannel.stats().bytes_copied
    with dask.config.set(scheduler="threads", pool=pool):
        assert rows().map_blocks(loop, chunks=(1, 1), dtype=float).compute().tolist() == EXPECTED
        around = da.map_overlap(lambda block: block[1:-1] * 2 if len(block) > 2 else block, rows(), depth=0)
        assert around.shape == ARRAY.shape
        assert set(np.unique(rows().map_blocks(where, dtype=int).compute())).isdisjoint({0})
    assert memchannel.stats().bytes_copied - copied < ARRAY.nbytes


def test_errors_of_blocks(pool: InterpreterPool) -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise LookupError(f"no block {block.size}")

    with pytest.raises(LookupError, match="no block 10000"):
        rows().map_blocks(fail, dtype=float, meta=np.empty((0, 0))).compute(scheduler="threads", pool=pool)


# ---- distributed


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as made,
    ):
        made.register_plugin(InterpreterWorkers())
        yield made


def test_blocks_of_an_array(client: Client) -> None:
    copied = memchannel.stats().bytes_copied
    doubled = (
        rows().map_blocks(lambda block: block * 2, dtype=float).map_blocks(loop, chunks=(1, 1), dtype=float)
    )
    assert client.compute(doubled).result(timeout=120).tolist() == [[4 * value] for (value,) in EXPECTED]
    assert memchannel.stats().bytes_copied - copied < ARRAY.nbytes
    found = client.compute(rows().map_blocks(where, dtype=int)).result(timeout=120)
    assert 0 not in np.unique(found)


def test_an_error_in_a_task(client: Client) -> None:
    future = client.submit(lambda: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        future.result(timeout=120)


def test_what_cannot_be_pickled(client: Client) -> None:
    future = client.submit(lambda: sys._getframe())
    with pytest.raises(pickle.PicklingError, match="'result': cannot pickle 'frame' object"):
        future.result(timeout=120)


def test_tasks_that_need_their_worker(client: Client) -> None:
    with dask.annotate(executor="threads"):
        future = client.submit(lambda: get_worker().name, pure=False)
    assert future.result(timeout=120) == 0
    with pytest.raises(Exception, match="No worker found"):  # of a type that distributed takes for it
        client.submit(lambda: get_worker().name, pure=False).result(timeout=120)


def test_cancelled(client: Client) -> None:
    go = memchannel.Channel()
    busy = [client.submit(lambda go=go: go.recv(60), pure=False) for _ in range(2)]
    waiting = client.submit(os.getpid, pure=False)
    waiting.cancel()
    for _ in busy:
        go.send(1)
    assert client.gather(busy) == [1, 1]
    assert waiting.cancelled()


def test_a_plugin_that_is_gone_leaves_threads(client: Client) -> None:
    client.unregister_worker_plugin("memchannel")
    assert client.submit(lambda: get_worker().name, pure=False).result(timeout=120) == 0
    client.register_plugin(InterpreterWorkers(packages=("numpy",)))


# ---- worker processes, as `dask worker` starts them


@pytest.fixture
def cluster() -> Iterator[tuple[Client, list[subprocess.Popen[bytes]]]]:
    """A scheduler in this process, and two workers that were told by their command line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    preload = ["--preload", "memchannel.integrations.dask", "--packages", "numpy"]
    with LocalCluster(0, processes=False, dashboard_address=None, protocol="tcp") as scheduler:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.scheduler_address]
        options = ["--nthreads", "2", "--no-nanny", "--no-dashboard", *preload]
        workers = [subprocess.Popen([*command, *options], env=environment) for _ in range(2)]
        try:
            with Client(scheduler) as client:
                client.wait_for_workers(2, timeout=120)
                yield client, workers
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def slow_loop(block: np.ndarray) -> np.ndarray:
    time.sleep(0.2)
    return loop(block)


def test_a_worker_that_is_killed(cluster: tuple[Client, list[subprocess.Popen[bytes]]]) -> None:
    client, workers = cluster
    found = client.submit(lambda: (os.getpid(), where(np.empty(1))[0]), pure=False).result(timeout=120)
    assert found[0] in [worker.pid for worker in workers]
    assert found[1] != 0
    x = da.concatenate([rows()] * 4)
    future = client.compute(x.map_blocks(slow_loop, chunks=(1, 1), dtype=float))
    end = time.monotonic() + 60
    while not any(client.processing().values()):
        assert time.monotonic() < end
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    assert future.result(timeout=200).tolist() == EXPECTED * 4

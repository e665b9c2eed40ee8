"""Dask on two hosts, whose workers run their tasks in interpreters; a worker and the scheduler are killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from channel_support import wait_until
from dask_support import LONG, Cluster, cluster
from memchannel.integrations.dask import from_npy, to_npy

pytestmark = pytest.mark.slow


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


def where() -> tuple[int, int]:
    import _interpreters

    return os.getpid(), _interpreters.get_current()[0]


def peak() -> int:
    """Tell the most memory that this process had, mapped files included, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


ROWS, COLUMNS = 100_000, 1000  # 800 MB, of which the file system keeps what is not zero


def large_file(path: Path) -> np.ndarray:
    """Write it; its first column, the only one that is not zero, is returned."""
    column = np.random.default_rng(0).integers(0, 100, ROWS).astype(float)
    np.lib.format.open_memmap(path, "w+", float, (ROWS, COLUMNS))[:, 0] = column
    return column


class NeighboursSum:
    """Adds up the first column's elements above and below; leaves a file for each block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, block: np.ndarray) -> np.ndarray:
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(0.1)  # so that there is a middle
        out = np.zeros(block.shape, np.uint8)
        above, below = block[:-2, 0].tolist(), block[2:, 0].tolist()
        out[1:-1, 0] = [one + other for one, other in zip(above, below, strict=True)]
        return out


def test_a_file_larger_than_memory_while_a_worker_is_killed(started: Cluster, tmp_path: Path) -> None:
    column = large_file(tmp_path / "large.npy")
    (blocks := tmp_path / "blocks").mkdir()
    victim, other = started.workers
    x = from_npy(tmp_path / "large.npy", chunks=(2000, COLUMNS))
    sums = x.map_overlap(NeighboursSum(blocks), depth=(1, 0), boundary=0, dtype=np.uint8)

    def kill_one() -> None:
        wait_until(lambda: len(list(blocks.glob(f"{victim.pid}-*"))) > 4, "the first blocks", LONG)
        victim.kill()

    with started.client.as_current(), ThreadPoolExecutor(1) as thread:
        killed = thread.submit(kill_one)
        to_npy(tmp_path / "sums.npy", sums)
        killed.result()
    assert victim.wait(LONG) < 0
    assert other.poll() is None
    found = np.load(tmp_path / "sums.npy", mmap_mode="r")
    padded = np.pad(column, 1)
    assert (found[:, 0] == padded[:-2] + padded[2:]).all()
    assert not list(tmp_path.glob(".*.part"))  # no half-written file
    (most,) = started.client.run(peak).values()
    assert most < ROWS * COLUMNS * 8 / 1.5


def test_tasks_run_in_interpreters_of_both_hosts(started: Cluster) -> None:
    here = started.client.run(where)
    assert {pid for pid, _ in here.values()} == {worker.pid for worker in started.workers}
    tasks = [started.client.submit(where, workers=[address], pure=False) for address in here]
    for (pid, main), (task_pid, other) in zip(here.values(), started.client.gather(tasks), strict=True):
        assert task_pid == pid
        assert main == 0 != other
    # Arrays go from host to host: the second is asked for what the first has.
    first, second = here
    made = started.client.submit(np.arange, 50_000.0, workers=[first])
    assert started.client.submit(np.sum, made, workers=[second]).result(LONG) == sum(range(50_000))


def for_ever(path: str) -> None:
    Path(path).touch()
    while True:
        time.sleep(0.01)


def test_the_scheduler_is_gone(started: Cluster, tmp_path: Path) -> None:
    """Workers end, though tasks of theirs would run for ever, and the client is told."""
    begun = tmp_path / "begun"
    future = started.client.submit(for_ever, str(begun))
    wait_until(begun.exists, "the task", LONG)
    started.scheduler.kill()
    for worker in started.workers:
        worker.wait(LONG)
    with pytest.raises((CancelledError, OSError)):
        future.result(timeout=LONG)

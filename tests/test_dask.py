"""Dask in this process: tasks in interpreters, of the threaded scheduler and of a worker."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, get_worker

import memchannel
from dask_support import ENVIRONMENT, LONG
from memchannel import InterpreterPool
from memchannel.integrations._npy import NpyFile
from memchannel.integrations.dask import InterpreterWorkers, from_npy, from_zarr, to_npy

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Sending large graph:UserWarning")


def loop(block: np.ndarray) -> np.ndarray:
    """Add up squares in a loop that holds the GIL."""
    total = 0.0
    for x in block.ravel().tolist():
        total += x * x
    return np.full((1,) * block.ndim, total)


def interpreter() -> int:
    import _interpreters

    return int(_interpreters.get_current()[0])


def address(block: np.ndarray) -> int:
    return int(block.__array_interface__["data"][0])


def plus_one(block: np.ndarray) -> np.ndarray:
    return block + 1


ARRAY = np.arange(80_000.0).reshape(8, 10_000)  # each row is more than the 64 KiB from which arrays are lent
EXPECTED = [[float((row**2).sum())] for row in ARRAY]


def rows() -> da.Array:
    return da.from_array(ARRAY, chunks=(1, 10_000))


class Meet:
    """A Python-heavy function of blocks that comes to an end only if two blocks are computed at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, block: np.ndarray) -> np.ndarray:
        number = int(block.flat[0]) // 10_000
        (self.folder / str(number)).touch()
        other, end = self.folder / str(number ^ 1), time.monotonic() + LONG
        while not other.exists():  # holds the GIL in between
            if time.monotonic() > end:
                raise TimeoutError(f"block {number} is computed alone")
            sum(range(1000))
        return np.full((1, 1), interpreter())


# ---- the threaded scheduler


@pytest.fixture(scope="module")
def pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(2, packages="all") as made:
        yield made


@pytest.fixture
def threaded(pool: InterpreterPool) -> Iterator[InterpreterPool]:
    with dask.config.set(scheduler="threads", pool=pool):
        yield pool


@pytest.mark.usefixtures("threaded")
def test_blocks_in_the_threaded_schedulers_pool() -> None:
    copied = memchannel.stats().bytes_copied
    doubled = rows().map_blocks(lambda block: block * 2, dtype=float)
    summed = doubled.map_blocks(loop, chunks=(1, 1), dtype=float)
    found = summed.compute(optimize_graph=False)  # each step is a task of its own
    assert found.tolist() == [[4 * value] for (value,) in EXPECTED]
    assert memchannel.stats().bytes_copied - copied < 1000  # the results, a number each


@pytest.mark.usefixtures("threaded")
def test_overlap() -> None:
    x = rows().rechunk((2, 10_000))
    found = x.map_overlap(
        lambda block: block[:-2] + block[2:], depth=(1, 0), trim=False, boundary=0, dtype=float
    )
    padded = np.pad(ARRAY, ((1, 1), (0, 0)))
    assert (found.compute() == padded[:-2] + padded[2:]).all()


@pytest.mark.usefixtures("threaded")
def test_all_workers_compute_at_once(tmp_path: Path) -> None:
    found = (
        rows()[:2].map_blocks(Meet(tmp_path), chunks=(1, 1), dtype=int, meta=np.empty((0, 0), int)).compute()
    )
    assert len({0, *found.ravel().tolist()}) == 3


def fail(block: np.ndarray) -> np.ndarray:
    raise LookupError(f"no block {block.size}")


@pytest.mark.usefixtures("threaded")
def test_errors_of_blocks() -> None:
    with pytest.raises(LookupError, match="no block 10000"):
        rows().map_blocks(fail, dtype=float, meta=np.empty((0, 0))).compute()
    assert rows().sum().compute() == ARRAY.sum()


# ---- files


@pytest.mark.usefixtures("threaded")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(7, 5, 3), (4, 6), (9,), (), (0, 3)])
def test_every_part_of_a_file(shape: tuple[int, ...], order: Any, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).random(shape), order=order)
    np.save(tmp_path / "a.npy", array)
    x = from_npy(tmp_path / "a.npy", chunks=2)
    assert x.dtype == array.dtype
    assert (x.compute() == array).all()
    if array.ndim >= 2 and array.size:
        for index in (
            np.s_[::-1, 1:],
            np.s_[1],
            np.s_[1::2, ::2],
            np.s_[[2, 0]],
            np.s_[:, 1],
            np.s_[..., -1],
        ):
            assert (x[index].compute() == array[index]).all(), index
    to_npy(tmp_path / "a.npy", x * 2)  # over the file that it comes from
    assert (np.load(tmp_path / "a.npy") == array * 2).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("dtype", ["?", "u1", ">i4", "f2", "c16", "M8[s]", "U3", [("a", "f8"), ("b", "u1")]])
@pytest.mark.usefixtures("threaded")
def test_every_dtype_of_a_file(dtype: Any, tmp_path: Path) -> None:
    typed = np.zeros((4, 3), dtype)
    if typed.dtype.kind == "U":
        typed[1:] = "abc"
    else:
        typed[1:] = np.arange(9).reshape(3, 3).astype(dtype)
    np.save(tmp_path / "a.npy", typed)
    to_npy(tmp_path / "b.npy", from_npy(tmp_path / "a.npy", chunks=(3, 2)))
    assert np.load(tmp_path / "b.npy").dtype == typed.dtype
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="zarr's numcodecs is not released for 3.15")
@pytest.mark.usefixtures("threaded")
def test_zarr(tmp_path: Path) -> None:
    import zarr

    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("x", data=ARRAY, chunks=(2, 10_000))
    x = from_zarr(tmp_path / "a.zarr", "x")
    assert x.chunks[0] == (2,) * 4
    assert 0 not in x.map_blocks(lambda block: block * 0 + interpreter(), dtype=float).compute()
    assert (x[::-1, 3:].compute() == ARRAY[::-1, 3:]).all()
    assert x.map_blocks(loop, chunks=(1, 1), dtype=float).sum().compute() == pytest.approx((ARRAY**2).sum())
    assert (from_zarr(tmp_path / "a.zarr", "x", chunks=(8, 5000)).compute(scheduler="sync") == ARRAY).all()
    with pytest.raises(OSError, match="x"):
        from_zarr(tmp_path / "b.zarr", "x")


LARGE = """
import sys
from pathlib import Path
import dask
import memchannel
from memchannel.integrations.dask import from_npy, to_npy

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

def is_odd(block):
    return block.sum(axis=1, keepdims=True) % 2 == 1

if __name__ == "__main__":
    x = from_npy(sys.argv[1], chunks=(2000, -1))
    with memchannel.InterpreterPool(2) as pool, dask.config.set(scheduler="threads", pool=pool):
        to_npy(sys.argv[2], x.map_blocks(is_odd, dtype=bool, chunks=(x.chunks[0], (1,))))
        total = x.map_overlap(lambda block: block, depth=(1, 0), dtype=float).max().compute()
    print(total, peak(), memchannel.stats().bytes_copied)
"""


def test_a_file_larger_than_the_memory_used(tmp_path: Path) -> None:
    """In a process of its own, whose memory at most is compared with the file."""
    column = np.random.default_rng(0).integers(0, 100, 100_000).astype(float)
    np.lib.format.open_memmap(tmp_path / "large.npy", "w+", float, (100_000, 1000))[:, 0] = column
    (tmp_path / "large.py").write_text(LARGE)
    command = [sys.executable, "large.py", "large.npy", "odd.npy"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    total, peak, copied = map(float, done.stdout.split())
    assert total == column.max()
    assert peak < 800e6 / 1.5
    assert copied < 8e6  # what is smaller than 64 KiB: halos of one row
    assert (np.load(tmp_path / "odd.npy")[:, 0] == (column % 2 == 1)).all()


def test_files_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        from_npy(tmp_path / "none.npy")
    np.savez(tmp_path / "many.npz", a=ARRAY)
    with pytest.raises(ValueError, match=r"many\.npz' is an archive of arrays"):
        from_npy(tmp_path / "many.npz")
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(ValueError, match="pickle"):
        from_npy(tmp_path / "text.npy")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    with pytest.raises(ValueError, match="[oO]bject"):
        from_npy(tmp_path / "objects.npy")
    with pytest.raises(TypeError, match="takes a Dask array, not 'ndarray'"):
        to_npy(tmp_path / "a.npy", ARRAY)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no Python objects"):
        to_npy(tmp_path / "a.npy", da.from_array(np.array([None]), chunks=1))
    with pytest.raises(TypeError, match=r"of type 'MaskedArray'.*numpy\.ma\.filled"):
        to_npy(tmp_path / "a.npy", da.ma.masked_greater(rows(), 5))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        to_npy(tmp_path / "a.npy", rows()[rows() > 3])
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        to_npy(tmp_path, rows())
    with pytest.raises(FileNotFoundError, match="no_folder"):
        to_npy(tmp_path / "no_folder" / "a.npy", rows())


@pytest.mark.usefixtures("threaded")
def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """It stays where a link points to, and as private as it was; its room is taken before it is written."""
    name = f"{'a' * 251}.npy"  # as long as names can be
    np.save(tmp_path / name, ARRAY)
    (tmp_path / name).chmod(0o600)
    (tmp_path / "link.npy").symlink_to(name)
    to_npy(tmp_path / "link.npy", rows() + 1)
    assert (tmp_path / "link.npy").is_symlink()
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert (np.load(tmp_path / name) == ARRAY + 1).all()
    NpyFile.create(tmp_path / "zeros.npy", (1000, 1000), np.dtype(float))
    assert (tmp_path / "zeros.npy").stat().st_blocks * 512 >= 8_000_000


@pytest.mark.usefixtures("threaded")
def test_a_failed_job_leaves_the_old_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY)
    with pytest.raises(LookupError, match="no block"):
        to_npy(tmp_path / "a.npy", rows().map_blocks(fail, dtype=float, meta=np.empty((0, 0))))
    assert (np.load(tmp_path / "a.npy") == ARRAY).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


# ---- a worker of distributed


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as made:
        yield made


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as made:
        made.register_plugin(InterpreterWorkers(packages=("numpy",)))
        yield made


def test_blocks_of_an_array(client: Client, tmp_path: Path) -> None:
    doubled = rows().map_blocks(lambda block: block * 2, dtype=float)
    found = client.compute(doubled.map_blocks(loop, chunks=(1, 1), dtype=float)).result(LONG)
    assert found.tolist() == [[4 * value] for (value,) in EXPECTED]
    met = rows()[:2].map_blocks(Meet(tmp_path), chunks=(1, 1), dtype=int, meta=np.empty((0, 0), int))
    assert len({0, *client.compute(met).result(LONG).ravel().tolist()}) == 3


def test_nothing_is_copied_between_tasks(client: Client, cluster: LocalCluster) -> None:
    """Of one worker: a task's result, what the worker has, and the next one's argument are one memory."""
    (worker,) = cluster.workers.values()
    copied = memchannel.stats().bytes_copied
    made = [client.submit(np.full, (20_000,), float(k), pure=False) for k in range(4)]
    more = [client.submit(plus_one, one, pure=False) for one in made]
    seen = client.gather([client.submit(address, one, pure=False) for one in more])
    assert seen == [address(worker.data[one.key]) for one in more]
    assert memchannel.stats().bytes_copied == copied


def test_a_file(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY)
    with client.as_current():
        to_npy(tmp_path / "b.npy", from_npy(tmp_path / "a.npy", chunks=(3, 5000)).map_blocks(np.sqrt))
    assert (np.load(tmp_path / "b.npy") == np.sqrt(ARRAY)).all()


def test_an_error_in_a_task(client: Client) -> None:
    with pytest.raises(KeyError, match="missing"):
        client.submit(lambda: {}["missing"]).result(LONG)


def test_what_cannot_be_pickled(client: Client) -> None:
    with pytest.raises(pickle.PicklingError, match="'result': cannot pickle 'frame' object"):
        client.submit(lambda: sys._getframe()).result(LONG)


class OnGpu:
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (3,), "typestr": "<f8", "data": (4096, False), "version": 3}


def test_arrays_of_gpus(client: Client, pool: InterpreterPool) -> None:
    with pytest.raises(pickle.PicklingError, match="OnGpu lies in the memory of a GPU"):
        client.submit(OnGpu).result(LONG)
    with pytest.raises(pickle.PicklingError, match=r"argument 0 .*OnGpu lies in the memory of a GPU"):
        pool.submit(id, OnGpu())
    with pytest.raises(pickle.PicklingError, match="memory of a GPU"):
        memchannel.Channel().send([OnGpu()])


def test_fork_in_a_task(client: Client) -> None:
    with pytest.raises(RuntimeError, match="fork not supported for isolated subinterpreters"):
        client.submit(os.fork).result(LONG)


def test_tasks_that_need_their_worker(client: Client) -> None:
    with dask.annotate(executor="threads"):
        future = client.submit(lambda: get_worker().name, pure=False)
    assert future.result(LONG) == 0
    with pytest.raises(Exception, match="No worker found"):  # of a type that distributed takes for it
        client.submit(lambda: get_worker().name, pure=False).result(LONG)


def test_cancelled(client: Client) -> None:
    go = memchannel.Channel()
    busy = [client.submit(lambda go=go: go.recv(60), pure=False) for _ in range(2)]
    waiting = client.submit(os.getpid, pure=False)
    waiting.cancel()
    for _ in busy:
        go.send(1)
    assert client.gather(busy) == [1, 1]
    assert waiting.cancelled()
    assert client.submit(interpreter, pure=False).result(LONG) != 0


def test_a_package_that_is_missing(client: Client) -> None:
    client.register_plugin(InterpreterWorkers(packages=("numpy", "no_such_package")))
    try:
        with pytest.raises(memchannel.BrokenInterpreterPool, match="no_such_package"):
            client.submit(interpreter, pure=False).result(LONG)
    finally:
        client.register_plugin(InterpreterWorkers(packages=("numpy",)))
    with pytest.raises(TypeError, match="packages must be names"):
        InterpreterWorkers(packages=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blas_threads must be >= 1, not 0"):
        InterpreterWorkers(blas_threads=0)


def test_a_plugin_that_is_gone_leaves_threads(client: Client) -> None:
    """What runs goes on, to its end."""
    go, begun = memchannel.Channel(), memchannel.Channel()

    def wait(go: Any = go, begun: Any = begun) -> Any:
        begun.send(interpreter())
        return go.recv(60)

    running = client.submit(wait, pure=False)
    assert begun.recv(LONG) != 0
    client.unregister_worker_plugin("memchannel")
    assert client.submit(lambda: get_worker().name, pure=False).result(LONG) == 0
    go.send("done")
    assert running.result(LONG) == "done"
    client.register_plugin(InterpreterWorkers(packages=("numpy",)))


class OfAnotherName(InterpreterWorkers):
    name = "another"


def test_two_plugins(client: Client) -> None:
    """The later one holds, and the worker's threads are still to be had."""
    client.register_plugin(OfAnotherName(packages=("numpy",)))
    try:
        assert client.submit(interpreter, pure=False).result(LONG) != 0
        with dask.annotate(executor="threads"):
            assert client.submit(interpreter, pure=False).result(LONG) == 0
    finally:
        client.unregister_worker_plugin("another")
        client.register_plugin(InterpreterWorkers(packages=("numpy",)))
    assert client.submit(interpreter, pure=False).result(LONG) != 0

"""Dask workers whose tasks run in interpreters: ``dask worker ... --preload memchannel.integrations.dask``.

Dask moves blocks between machines and keeps them; inside each worker process the blocks are lent to the
interpreters that compute, and results are lent back. For `dask.array` on one machine no cluster is needed:
``x.compute(scheduler="threads", pool=InterpreterPool())``. `from_npy`, `from_zarr` and `to_npy` read and
write arrays larger than memory, block by block, in either case.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memchannel import _making
from memchannel._arguments import checked_packages, integer
from memchannel._files import replacing
from memchannel.integrations._require import require
from memchannel.pool import InterpreterPool

require("distributed", (2025, 1), extra="dask")

import click  # noqa: E402 - which distributed depends on
import dask.array as da  # noqa: E402
import numpy as np  # noqa: E402
from dask.base import tokenize  # noqa: E402
from distributed import WorkerPlugin  # noqa: E402
from distributed.core import Status  # noqa: E402

from memchannel.integrations._npy import NpyFile  # noqa: E402
from memchannel.integrations._zarr import ZarrFile  # noqa: E402

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["InterpreterWorkers", "dask_setup", "dask_teardown", "from_npy", "from_zarr", "to_npy"]

_GOING_ON = {Status.init, Status.running, Status.paused, Status.closing_gracefully}


class InterpreterWorkers(WorkerPlugin):  # type: ignore[misc]
    """Let every worker of a cluster run its tasks in interpreters: ``client.register_plugin(...)``.

    A worker runs as many tasks at once as it has threads, each in an interpreter of its own. Tasks that need
    the worker itself (`distributed.get_worker`, `get_client`, `secede`) do not find it there: give them the
    annotation ``executor="threads"``.

    Parameters
    ----------
    packages : iterable of str, "all" or None, optional
        As for `InterpreterPool`.
    blas_threads : int, optional
        As for `InterpreterPool`.

    Raises
    ------
    TypeError
        `packages` is of another type, or `blas_threads` is no integer.
    ValueError
        `blas_threads` is out of range.
    """

    name = "memchannel"

    def __init__(
        self, packages: Iterable[str] | str | None = "all", *, blas_threads: int | None = None
    ) -> None:
        listed = checked_packages(_making.listed(packages))
        # What a worker's tasks come in, and their errors, are distributed's own.
        self._packages = _making.listed_with("distributed", listed)
        if blas_threads is not None:
            blas_threads = integer("blas_threads", blas_threads, least=1, optional=True)
        self._blas_threads = blas_threads

    def setup(self, worker: Worker) -> None:
        """Put a pool in the place of the worker's threads, which stay reachable as ``"threads"``."""
        pool = InterpreterPool(
            worker.state.nthreads, packages=self._packages, blas_threads=self._blas_threads, name="dask"
        )
        executors: dict[str, Executor] = worker.executors
        before, executors["default"] = executors["default"], pool
        if isinstance(before, InterpreterPool):  # of a preload, or a plugin of another name
            before.shutdown(wait=False)
        else:
            executors["threads"] = before

    def teardown(self, worker: Worker) -> None:
        """Give the worker its threads back. Tasks that run go on, unless the worker closes."""
        executors: dict[str, Executor] = worker.executors
        pool = executors["default"]
        if not isinstance(pool, InterpreterPool):
            return
        executors["default"] = executors["threads"]
        if worker.status not in _GOING_ON:
            # Nobody waits for them any more, and the process would end no sooner than they do.
            pool._crew.interrupt()
        pool.shutdown(wait=False)


def _set_up(worker: Worker, packages: str, blas_threads: int | None) -> None:
    listed = packages if packages == "all" else tuple(filter(None, packages.split(",")))
    InterpreterWorkers(listed, blas_threads=blas_threads).setup(worker)


dask_setup: click.Command = click.Command(
    "memchannel",
    help="Run the tasks of this worker in interpreters.",
    params=[
        click.Option(["--packages"], default="all", help='What the tasks may load, with commas, or "all".'),
        click.Option(
            ["--blas-threads"],
            type=click.IntRange(min=1),
            help="Threads of each BLAS library while tasks run.",
        ),
    ],
    callback=_set_up,
)
"""What `dask worker` calls."""


def dask_teardown(worker: Worker) -> None:
    """End the interpreters of a worker that closes."""
    InterpreterWorkers().teardown(worker)


# ---- arrays larger than memory


def from_npy(path: str | os.PathLike[str], chunks: Any = "auto") -> da.Array:
    """Make a Dask array of a `.npy` file, which each task maps for its own block: nothing is read before.

    Parameters
    ----------
    path : str or path
        Workers on other machines open the file by the same name.
    chunks : optional
        As for `dask.array.from_array`. Rows (columns, in Fortran order) that lie together are read best.

    Returns
    -------
    dask.array.Array
        For `map_blocks`, `map_overlap` and everything else of `dask.array`. Blocks are read-only.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no `.npy` file, or holds Python objects.
    """
    file = NpyFile.open(path)
    status = os.stat(file.path)
    name = f"npy-{tokenize(file, status.st_mtime_ns, status.st_size, chunks)}"
    meta = np.empty((0,) * file.ndim, file.dtype)
    return da.from_array(file, chunks=chunks, name=name, meta=meta, inline_array=True)


def from_zarr(path: str | os.PathLike[str], component: str | None = None, chunks: Any = None) -> da.Array:
    """Make a Dask array of a zarr array in a folder, which tasks in interpreters can read.

    Those of `dask.array.from_zarr` cannot: zarr starts a daemon thread, which interpreters refuse. The
    workers need `packages="all"`, or zarr and what it loads, numcodecs and msgspec, among them.

    Parameters
    ----------
    path : str or path
        Workers on other machines open the folder by the same name.
    component : str, optional
        Of the array, inside a group.
    chunks : optional
        As for `dask.array.from_array`; by default those of the array.

    Returns
    -------
    dask.array.Array

    Raises
    ------
    OSError
        There is no such array.
    ImportError
        zarr is not installed, or older than 3.
    """
    file = ZarrFile.open(path, component)
    meta = np.empty((0,) * file.ndim, file.dtype)
    # No name by its content: chunks may be written at any time.
    return da.from_array(
        file, chunks=file.chunks if chunks is None else chunks, name=False, meta=meta, inline_array=True
    )


def to_npy(path: str | os.PathLike[str], array: da.Array) -> None:
    """Compute a Dask array into a `.npy` file; each task writes its own block in place.

    The file gets its name when it is complete. It may be the one that the array comes from, and keeps the
    permissions of one that it replaces.

    Parameters
    ----------
    path : str or path
        Workers on other machines open its folder by the same name.
    array : dask.array.Array
        Of known shape, C order in the file.

    Raises
    ------
    TypeError
        `array` is no Dask array, or one whose blocks are no NumPy arrays, or masked ones, which a file does
        not keep, or holds Python objects.
    ValueError
        Its shape is not known before it is computed.
    OSError
        The file cannot be written, or there is no room for it.
    """
    if not isinstance(array, da.Array):
        raise TypeError(f"to_npy() takes a Dask array, not {type(array).__name__!r}: numpy.save() writes it")
    if array.dtype.hasobject:
        raise TypeError(f"to_npy() writes no Python objects, which an array of {array.dtype} holds")
    kind = type(array._meta)
    if not issubclass(kind, np.ndarray) or issubclass(kind, np.ma.MaskedArray):
        raise TypeError(
            f"to_npy() writes NumPy arrays, and the blocks of this one are of type {kind.__name__!r}: "
            "map_blocks() makes arrays of them, such as numpy.ma.filled() of masked ones"
        )
    if np.isnan(array.shape).any():
        raise ValueError(f"the shape {array.shape} is not known yet: see array.compute_chunk_sizes()")
    target = Path(os.path.realpath(path))  # not a link in its place
    if target.is_dir():  # before anything is computed
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    with replacing(target) as partial:
        da.store(array, NpyFile.create(partial, array.shape, array.dtype), lock=False)

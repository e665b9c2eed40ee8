"""Dask workers whose tasks run in interpreters: ``dask worker ... --preload memchannel.integrations.dask``.

Dask moves blocks between machines and keeps them; inside each worker process the blocks are lent to the
interpreters that compute, and results are lent back. For `dask.array` on one machine no cluster is needed:
``x.compute(scheduler="threads", pool=InterpreterPool())``.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from memchannel import interpreters
from memchannel.integrations._require import require
from memchannel.pool import InterpreterPool

require("distributed", (2025, 1), extra="dask")

import click  # noqa: E402 - which distributed depends on
from distributed import WorkerPlugin  # noqa: E402

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["InterpreterWorkers", "dask_setup", "dask_teardown"]


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
    """

    name = "memchannel"

    def __init__(
        self, packages: Iterable[str] | str | None = "all", *, blas_threads: int | None = None
    ) -> None:
        # What a worker's tasks come in, and their errors, are distributed's own.
        self._packages = packages if packages == "all" else (*interpreters._listed(packages), "distributed")
        self._blas_threads = blas_threads

    def setup(self, worker: Worker) -> None:
        """Put a pool in the place of the worker's threads, which stay reachable as ``"threads"``."""
        pool = InterpreterPool(
            worker.state.nthreads, packages=self._packages, blas_threads=self._blas_threads, name="dask"
        )
        executors: dict[str, Executor] = worker.executors
        executors["threads"] = executors["default"]
        executors["default"] = pool

    def teardown(self, worker: Worker) -> None:
        """Give the worker its threads back."""
        executors: dict[str, Executor] = worker.executors
        if isinstance(executors["default"], InterpreterPool) and "threads" in executors:
            pool, executors["default"] = executors["default"], executors.pop("threads")
            pool.shutdown(wait=False, cancel_futures=True)


def _set_up(worker: Worker, packages: str, blas_threads: int | None) -> None:
    listed = packages if packages == "all" else tuple(filter(None, packages.split(",")))
    InterpreterWorkers(listed, blas_threads=blas_threads).setup(worker)


dask_setup: click.Command = click.Command(
    "memchannel",
    help="Run the tasks of this worker in interpreters.",
    params=[
        click.Option(["--packages"], default="all", help='What the tasks may load, with commas, or "all".'),
        click.Option(["--blas-threads"], type=int, help="Threads of each BLAS library while tasks run."),
    ],
    callback=_set_up,
)
"""What `dask worker` calls."""


def dask_teardown(worker: Worker) -> None:
    """End the interpreters of a worker that closes."""
    InterpreterWorkers().teardown(worker)

"""What joblib's batches find in a worker: threads that may exist there, and no processes."""

from __future__ import annotations

import multiprocessing.process
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

__all__ = ["FutureBackend", "WorkerThreads", "call", "start"]


class FutureBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What the backends here have in common: batches are the futures of an executor."""

    # What joblib asks a backend about; the names are those of joblib/_parallel_backends.py.
    supports_retrieve_callback = True

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Say how many workers there will be for the caller's `n_jobs`."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(int(joblib.cpu_count()) + 1 + n_jobs, 1)

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Take the results of a batch, or raise what it raised."""
        return out.result()


class WorkerThreads(FutureBackend):
    """joblib's threading backend for isolated interpreters, where its own daemon threads cannot start."""

    uses_threads = True
    supports_sharedmem = True
    _pool: ThreadPoolExecutor | None = None

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **_options: Any) -> int:
        """Make the threads."""
        threads = self.effective_n_jobs(n_jobs)
        if threads == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._pool = ThreadPoolExecutor(threads)
        return threads

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Queue a batch."""
        if self._pool is None:
            raise RuntimeError("this backend was terminated: call configure() first, as joblib.Parallel does")
        future = self._pool.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def terminate(self) -> None:
        """Wait for the threads to end."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is queued; what runs goes on, as threads cannot be ended."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        self.reset_batch_stats()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)

    def get_nested_backend(self) -> tuple[Any, None]:
        """Give what `joblib.Parallel` uses inside a thread."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


class NoProcesses(SequentialBackend):  # type: ignore[misc]
    """In the place of backends that start processes, which isolated interpreters cannot: one job."""

    # As those have it, so that joblib takes its threads where a caller wants them.
    uses_threads = False
    supports_sharedmem = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Say one, with the warning that joblib gives where it cannot start processes."""
        jobs: int = super().effective_n_jobs(n_jobs)
        if n_jobs not in (None, 1):
            warnings.warn(
                "joblib starts no processes inside an interpreter: n_jobs=1. Its threads run there.",
                stacklevel=3,
            )
        return jobs


def start(authkey: bytes, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Begin in a worker: let it talk to the caller's `multiprocessing.Manager`, as a child process may."""
    import memchannel.integrations.joblib  # noqa: F401 - "memchannel" is a backend here as well

    multiprocessing.process.current_process().authkey = authkey
    joblib.register_parallel_backend("threading", WorkerThreads)
    for name in ("loky", "multiprocessing"):
        joblib.register_parallel_backend(name, NoProcesses)
    if initializer is not None:
        initializer(*initargs)


def call(batch: Callable[[], Any]) -> Any:
    """Run a batch in a worker; an argument of it, so that arrays in it are lent."""
    return batch()

"""A joblib backend: ``import memchannel.integrations.joblib`` registers ``parallel_config("memchannel")``.

Where joblib's own backend for processes dumps large arrays into files that its workers map, this one lends
them: the workers are interpreters of this process.
"""

from __future__ import annotations

import multiprocessing.process
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from memchannel.integrations._require import require
from memchannel.pool import InterpreterPool

# Versions before lack ParallelBackendBase.submit.
joblib: Any = require("joblib", (1, 5), extra="joblib")

from joblib._parallel_backends import (  # noqa: E402
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

__all__ = ["MemchannelBackend"]


_OF_PROCESSES = {"max_nbytes", "mmap_mode", "temp_folder", "context", "prefer", "require", "verbose"}
"""What joblib tells every backend, and what means something to joblib itself or to processes alone."""


def start(authkey: bytes, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Begin in a worker: let it talk to the caller's `multiprocessing.Manager`, as a child process may."""
    multiprocessing.process.current_process().authkey = authkey
    if initializer is not None:
        initializer(*initargs)


def call(batch: Callable[[], Any]) -> Any:
    """Run a batch in a worker; an argument of it, so that arrays in it are lent."""
    return batch()


class MemchannelBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Run joblib's batches in an `memchannel.InterpreterPool`.

    Arrays of 64 KiB and more are lent to the workers, which get read-only arrays over the same memory, and so
    are those in results. `joblib.Parallel` calls inside a worker run one task after the other, as the
    processors are shared out already. The options of joblib's processes (`temp_folder`, `max_nbytes`,
    `mmap_mode`) have no meaning here.

    Parameters
    ----------
    packages : iterable of str, "all" or None, optional
        As for `memchannel.InterpreterPool`.
    nesting_level : int, optional
        Set by joblib.
    inner_max_num_threads : int, optional
        Threads of each BLAS library while tasks run, as `blas_threads` of `memchannel.InterpreterPool`; by
        default the processors are shared out among the workers.
    initializer : callable, optional
        Called in each worker before its first task.
    initargs : tuple, optional
        Its arguments.
    """

    # What joblib asks a backend about; the names are those of joblib/_parallel_backends.py.
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False

    def __init__(
        self,
        packages: Iterable[str] | str | None = "all",
        *,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._terms = {"packages": packages, "initializer": initializer, "initargs": initargs}
        self._pool: InterpreterPool | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Say how many workers there will be for the caller's `n_jobs`."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(int(joblib.cpu_count()) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Make the pool; interpreters that an earlier one parked are taken again."""
        if unknown := options.keys() - self._terms.keys() - _OF_PROCESSES:
            raise TypeError(
                f"the memchannel backend has no option {', '.join(sorted(unknown))}; it takes "
                f"{', '.join(self._terms)} and inner_max_num_threads"
            )
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        terms: dict[str, Any] = {name: options.get(name, value) for name, value in self._terms.items()}
        authkey = bytes(multiprocessing.process.current_process().authkey)
        self.parallel = parallel
        self._pool = InterpreterPool(
            workers,
            packages=terms["packages"],
            blas_threads=self.inner_max_num_threads,
            name="joblib",
            initializer=start,
            initargs=(authkey, terms["initializer"], terms["initargs"]),
        )
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Queue a batch."""
        if self._pool is None:
            raise RuntimeError("this backend was terminated: call configure() first, as joblib.Parallel does")
        future = self._pool.submit(call, func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Take the results of a batch, or raise what it raised."""
        return out.result()

    def terminate(self) -> None:
        """Let the workers go; their interpreters are parked for the next call."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is queued, and raise KeyboardInterrupt in what runs; nobody waits for it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._crew.interrupt()
            pool.shutdown(wait=False, cancel_futures=True)
        self.reset_batch_stats()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)

    def get_nested_backend(self) -> tuple[Any, None]:
        """Give what `joblib.Parallel` uses inside a worker."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


joblib.register_parallel_backend("memchannel", MemchannelBackend)

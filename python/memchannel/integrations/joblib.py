"""A joblib backend: ``import memchannel.integrations.joblib`` registers ``parallel_config("memchannel")``.

Where joblib's own backend for processes dumps large arrays into files that its workers map, this one lends
them: the workers are interpreters of this process.
"""

from __future__ import annotations

import multiprocessing.process
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

from memchannel import _making
from memchannel._setup import Settings, current_settings
from memchannel.integrations._require import require
from memchannel.pool import InterpreterPool

# Versions before lack ParallelBackendBase.submit.
joblib: Any = require("joblib", (1, 5), extra="joblib")

from joblib._parallel_backends import FallbackToBackend, SequentialBackend  # noqa: E402

from memchannel.integrations._joblib_worker import FutureBackend, WorkerThreads, call, start  # noqa: E402

__all__ = ["MemchannelBackend"]


_OF_PROCESSES = {"max_nbytes", "mmap_mode", "temp_folder", "context", "prefer", "require", "verbose"}
"""What joblib tells every backend, and what means something to joblib itself or to processes alone."""


class _Terms(NamedTuple):
    """What a pool was made for. One with the same terms will do for the next call."""

    workers: int
    packages: tuple[str, ...]
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    blas_threads: int | None
    authkey: bytes
    settings: Settings
    """Which workers take over when they start."""


class _Keeper:
    """Keeps the last call's pool for the next one, as joblib does with its processes.

    Its workers have imported what the tasks need; even parked ones take a garbage collection to come back.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: tuple[_Terms, InterpreterPool] | None = None

    def take(self, terms: _Terms) -> InterpreterPool:
        """Give the kept pool if it fits, else a new one."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            if kept[0] == terms and not kept[1]._crew.broken and not kept[1]._crew.was_shut_down:
                return kept[1]
            kept[1].shutdown()  # its interpreters are parked, and taken again
        return InterpreterPool(
            terms.workers,
            packages=terms.packages,
            blas_threads=terms.blas_threads,
            name="joblib",
            initializer=start,
            initargs=(terms.authkey, terms.initializer, terms.initargs),
        )

    def put_back(self, terms: _Terms, pool: InterpreterPool) -> None:
        """Keep a pool that has no tasks any more."""
        if terms.initializer is None and not pool._crew.broken:  # else each call has one of its own
            with self._lock:
                if self._kept is None:
                    self._kept = terms, pool
                    return
        pool.shutdown()


_keeper = _Keeper()


class MemchannelBackend(FutureBackend):
    """Run joblib's batches in an `memchannel.InterpreterPool`.

    Arrays of 64 KiB and more are lent to the workers, which get read-only arrays over the same memory, and so
    are those in results. `joblib.Parallel` calls inside a worker run in threads of it if they ask for more
    than one job, and one task after the other inside those. The options of joblib's processes (`temp_folder`,
    `max_nbytes`, `mmap_mode`) have no meaning here.

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
        self._options: dict[str, Any] = {
            "packages": packages,
            "initializer": initializer,
            "initargs": initargs,
        }
        self._terms: _Terms | None = None
        self._pool: InterpreterPool | None = None
        self._unfinished: set[Future[Any]] = set()

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Make the pool, or take that of the last call."""
        if unknown := options.keys() - self._options.keys() - _OF_PROCESSES:
            raise TypeError(
                f"the memchannel backend has no option {', '.join(sorted(unknown))}; it takes "
                f"{', '.join(self._options)} and inner_max_num_threads"
            )
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        given: dict[str, Any] = {name: options.get(name, value) for name, value in self._options.items()}
        listed = _making.listed(given["packages"])
        # What batches come in is joblib's own, which imports extension modules of the standard library.
        packages = _making.listed_with("joblib", listed)
        self.parallel = parallel
        self._terms = _Terms(
            workers,
            packages,
            given["initializer"],
            given["initargs"],
            self.inner_max_num_threads,
            bytes(multiprocessing.process.current_process().authkey),
            current_settings(),
        )
        self._pool = _keeper.take(self._terms)
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Queue a batch."""
        if self._pool is None:
            raise RuntimeError("this backend was terminated: call configure() first, as joblib.Parallel does")
        future = self._pool.submit(call, func)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def terminate(self) -> None:
        """Let the workers go; they are kept for the next call."""
        pool, self._pool = self._pool, None
        if pool is not None and self._terms is not None:
            if self._unfinished:
                pool.shutdown()
            else:
                _keeper.put_back(self._terms, pool)
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
        return WorkerThreads(nesting_level=(self.nesting_level or 0) + 1), None


joblib.register_parallel_backend("memchannel", MemchannelBackend)

"""The workers behind a pool: threads of this interpreter, each running one other interpreter."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from memchannel import _core, interpreters
from memchannel._future import TaskFuture, stop_collector
from memchannel._interrupts import interrupts_deferred
from memchannel._output import Output
from memchannel._spans import traced_wait
from memchannel._worker import LEND_FROM, Parts, WorkerSetup
from memchannel.codecs.functions import by_reference, dump_function
from memchannel.exceptions import restore

if TYPE_CHECKING:
    from memchannel._results import Results

__all__ = ["BrokenInterpreterPool", "Crew", "Shipment", "forget_lendings", "ship"]


class BrokenInterpreterPool(BrokenExecutor):
    """A worker could not start or ended; ``__cause__`` is the reason."""


class Shipment(NamedTuple):
    """A function on its way to workers."""

    name: Any
    """How workers find it, see ``_worker._resolve``; None if it comes in parts."""
    parts: Parts | None
    """Its pickle and the arrays and ends in it, if it has any."""


def ship(fn: Callable[..., Any]) -> Shipment:
    """Pickle a function, by reference where possible.

    Raises
    ------
    TypeError
        Not callable.
    pickle.PicklingError
        It cannot be pickled; the message names it and the part of it.
    """
    owner = getattr(fn, "__self__", None)  # of a built-in function: its module
    if hasattr(fn, "__qualname__") and (owner is None or isinstance(owner, ModuleType)) and by_reference(fn):
        return Shipment(f"{fn.__module__}:{fn.__qualname__}", None)
    payload, items = dump_function(fn)
    return Shipment(None, (payload, items)) if items else Shipment(payload, None)


class _Terms(NamedTuple):
    """What a pool was asked for."""

    max_workers: int
    packages: Any
    initializer: Parts | None
    limit: int
    name: str
    reuse: bool
    blas_threads: int | None = None
    prefix_output: bool = False


_NEARLY_IDLE = 0.0002
"""Seconds that a worker is given to come for the next task before another one is started: whoever submits a
task on the result of the last one is faster."""


class _ForkedError(RuntimeError):
    """Why a pool of the parent process does not work in the child."""


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_exit_began = threading.Event()


def _shutdown_error() -> RuntimeError:
    # In the words of the standard executors (Lib/concurrent/futures/thread.py, ThreadPoolExecutor.submit).
    of = "interpreter " if _exit_began.is_set() else ""
    return RuntimeError(f"cannot schedule new futures after {of}shutdown")


class Crew:
    """Workers, started as tasks come, and the channel they take tasks from."""

    def __init__(self, terms: _Terms) -> None:
        self.terms = terms
        self.channel: _core.Channel[Any] = _core._task_channel(terms.name)
        # Associated with the receiving side, so that it is not over when a worker leaves to be replaced.
        self.channel.recv_nowait()
        self.output = Output(terms.name, terms.prefix_output)
        self._lock = threading.RLock()  # reentrant: a signal handler may shut down
        self._threads: list[threading.Thread] = []
        self._broken: BaseException | None = None
        self._broken_worker = ""
        self.unstarted = False
        """There was no interpreter to be had for a worker: those of the others are not kept for reuse."""
        self._shut_down = False
        self._by_name: dict[Callable[..., Any], Shipment] = {}
        self._at_work: set[int] = set()  # tokens for _core._interrupt
        self._being_read: weakref.WeakSet[Results] = weakref.WeakSet()  # _lock
        _watch_exit()
        _crews.add(self)
        self._shut_down = _exit_began.is_set()  # nobody would end its workers

    # ---- tasks

    def ship(self, fn: Callable[..., Any]) -> Shipment:
        """`ship`, remembering functions that are sent by reference."""
        try:
            known = self._by_name.get(fn)
        except TypeError:  # not hashable
            return ship(fn)
        if known is not None:
            return known
        shipment = ship(fn)
        if isinstance(shipment.name, str):
            self._by_name[fn] = shipment
        return shipment

    def submit(
        self,
        name: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        *,
        lend_from: int = LEND_FROM,
        lendings: _core.Lendings | None = None,
    ) -> TaskFuture:
        """Queue a task. With `lendings` it shares the leases of tasks that had the same ones."""
        if self._broken is not None:
            raise self.broken_error()
        if self._shut_down:
            raise _shutdown_error()
        try:
            future = TaskFuture(_core._submit(self.channel, (name, args, kwargs), lend_from, lendings), self)
        except ValueError:
            if self._shut_down:
                raise _shutdown_error() from None
            raise
        if self.output.in_kernel:
            self.output.remember_context()
        if len(self._threads) < self.terms.max_workers:
            self._start_worker()
        return future

    def discard_cancelled(self) -> None:
        """Give back what queued tasks that were cancelled have been lent."""
        if not self.is_parents:
            _core._discard_cancelled(self.channel)

    def wait_dropped(self, futures: Iterable[Any]) -> None:
        """Wait until no worker has anything of these tasks."""
        if not self.is_parents:
            for future in futures:
                future._completion.wait_dropped()

    def watch(self, results: Results) -> None:
        """Stop these results when no more tasks are taken."""
        with self._lock:
            self._being_read.add(results)

    def _stop_results(self, cancel: bool) -> None:
        with self._lock:
            being_read = list(self._being_read)
        for results in being_read:
            results.stop(cancel=cancel)

    def forget_lendings(self) -> None:
        """Lend anew what the tasks to come share with those that were submitted."""
        with self._lock:
            being_read = list(self._being_read)
        for results in being_read:
            results.forget_lendings()

    # ---- workers

    def _start_worker(self) -> None:
        try:
            self._start_thread()
        except (RuntimeError, MemoryError) as exc:  # no more threads, says the system
            self.unstarted = True
            self.break_down(exc, len(self._threads))

    def _start_thread(self) -> None:
        with self._lock:
            number = len(self._threads)
            if self._shut_down or number >= self.terms.max_workers or not self._is_short_of_workers():
                return
            thread = threading.Thread(
                target=_serve, name=f"{self.terms.name}_{number}", args=(self, number), daemon=False
            )
            with interrupts_deferred():  # a thread that has started is in the list
                self.output.enter()
                try:
                    thread.start()
                except BaseException:
                    self.output.join(self.output.leave())
                    raise
                self._threads.append(thread)

    def _is_short_of_workers(self) -> bool:
        for pause in (0, _NEARLY_IDLE):
            if pause:
                if not self._threads:
                    return True
                time.sleep(pause)
            now = self.channel.statistics()
            if now.queued <= now.waiting_receivers + now.looking_receivers:
                return False
        return True

    def setup(self, number: int) -> WorkerSetup:
        """Tell what a worker is told before its first task."""
        terms = self.terms
        threads, given = terms.blas_threads, terms.blas_threads is not None
        if threads is None:  # the cores, shared out
            threads = max(1, (os.process_cpu_count() or 1) // terms.max_workers)
        output = self.output.setup(number)
        return WorkerSetup(terms.initializer, terms.limit, threads, given, output)

    def worker_left(self) -> None:
        """Show what a worker printed last; called on its thread, which ends."""
        with self._lock:
            thread = self.output.leave()
        self.output.join(thread)

    @property
    def over(self) -> bool:
        """Whether a worker that ends need not be replaced."""
        return self._broken is not None or (self._shut_down and not len(self.channel))

    @property
    def was_shut_down(self) -> bool:
        """Whether `shutdown` was called."""
        return self._shut_down

    @property
    def started(self) -> int:
        """How many workers have been started."""
        return len(self._threads)

    @property
    def state(self) -> str:
        """Whether tasks are taken, in words."""
        if self._broken is not None:
            return f"broken: {self.broken_error()}"
        return "shut down" if self._shut_down else "open"

    @property
    def broken(self) -> bool:
        """Whether no task runs any more, since a worker could not start or ended."""
        return self._broken is not None

    @property
    def is_parents(self) -> bool:
        """Whether this process is a forked child, where the workers and tasks are not."""
        return isinstance(self._broken, _ForkedError)

    def break_down(self, reason: BaseException, worker: int, *, started: bool = False) -> None:
        """No task runs any more: those queued, and those submitted later, fail with `broken_error`."""
        with self._lock:
            if self._broken is None:
                self._broken = reason
                failed = "ended" if started else "could not start"
                self._broken_worker = f"worker {worker} of pool {self.terms.name!r} {failed}"
        _core._drain_tasks(self.channel, False)
        self.channel.ends[1].close()

    def broken_error(self) -> BrokenInterpreterPool:
        """Make the error of a task that no worker will run."""
        cause = self._broken
        if cause is None:
            return BrokenInterpreterPool("the worker that ran the task ended before it was done")
        if isinstance(cause, _ForkedError):
            return BrokenInterpreterPool(f"pool {self.terms.name!r} {cause}")
        error = BrokenInterpreterPool(f"{self._broken_worker}: {type(cause).__name__}: {cause}")
        error.__cause__ = cause
        return error

    def forked(self) -> None:
        """In a forked child the workers are gone, and the tasks are the parent's."""
        self._lock = threading.RLock()
        self._being_read = weakref.WeakSet()  # locks of theirs may be held by threads that are gone
        self._threads.clear()
        self._at_work.clear()
        self.output.forked()
        self._broken = _ForkedError(
            "belongs to the parent process: pools do not survive os.fork(); make a new one"
        )

    def interrupt(self) -> None:
        """Cancel what is queued and raise KeyboardInterrupt in the tasks that run."""
        if self.is_parents:
            return
        self._stop_results(cancel=True)
        _core._drain_tasks(self.channel, True)
        for token in list(self._at_work):
            _core._interrupt(token)

    @contextlib.contextmanager
    def at_work(self, token: int) -> Iterator[None]:
        """While a worker can be interrupted by this token."""
        self._at_work.add(token)
        try:
            yield
        finally:
            self._at_work.discard(token)

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """Take no more tasks; run what is queued, or cancel it; wait for the workers to end."""
        while not self._shut_down:
            with self._lock:
                going_on = [results for results in self._being_read if not results.stopped]
                self._shut_down = not going_on
            for results in going_on:
                results.stop(cancel=cancel_futures)
        if self.is_parents:
            return
        if cancel_futures:
            _core._drain_tasks(self.channel, True)
        self.channel.ends[1].close()
        if wait:
            try:
                with traced_wait("shutdown"):
                    self._join()
            except KeyboardInterrupt:
                self.interrupt()
                raise

    def _join(self) -> None:
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join()


def _serve(crew: Crew, number: int) -> None:
    """Run one worker after another until the crew needs none any more. The target of its thread."""
    _core._name_thread(threading.current_thread().name)
    try:
        while _serve_once(crew, number) and not crew.over:
            pass
    except BaseException as exc:
        crew.break_down(exc, number)
    finally:
        crew.worker_left()


def _serve_once(crew: Crew, number: int) -> bool:
    try:
        interpreter = interpreters.create(crew.terms.packages, reuse=crew.terms.reuse)
    except BaseException:
        crew.unstarted = True
        raise
    setup: _core.Channel[Any] = _core.Channel()
    ready: _core.Channel[Any] = _core.Channel()
    source = (
        "import memchannel._worker as _worker\n"
        f"_worker.main({setup.id}, {ready.id}, {crew.channel.id})\n"
        "del _worker"
    )
    try:
        setup.send(crew.setup(number))
        with crew.at_work(setup.id):
            interpreters._execute(interpreter, source)
    except BaseException as exc:
        crew.break_down(exc, number, started=len(ready) > 0)
        raise
    finally:
        if not (crew.terms.reuse and not crew.unstarted and interpreters._park(interpreter)):
            interpreters._let_go(interpreter)
    failure = ready.recv_nowait()
    if failure is None:
        return True
    reason = restore(failure)
    # As the standard executors do, on their logger (Lib/concurrent/futures/thread.py, _worker).
    logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=reason)
    crew.break_down(reason, number)
    return False


def forget_lendings() -> None:
    """Give back what only tasks to come would be lent, of maps that nobody may ever read on."""
    for crew in list(_crews):
        crew.forget_lendings()


def _forget_crews() -> None:
    global _exit_began  # noqa: PLW0603
    _exit_began = threading.Event()
    for crew in list(_crews):
        crew.forked()


os.register_at_fork(after_in_child=_forget_crews)


def _finish_all() -> None:
    """End all workers, whatever comes: CPython crashes when it ends while other interpreters run."""
    # Uncaught Ctrl-C; at a prompt it may have been any time ago.
    interrupted = isinstance(getattr(sys, "last_exc", None), KeyboardInterrupt) and not hasattr(sys, "ps1")
    caught: KeyboardInterrupt | None = None
    _exit_began.set()  # pools that are made from here on take no tasks
    while True:
        try:
            interpreters._stop_parking()
            for crew in list(_crews):
                if interrupted:
                    crew.interrupt()
            for crew in list(_crews):
                crew.shutdown(wait=True, cancel_futures=False)
            stop_collector()
            break
        except KeyboardInterrupt as exc:
            caught, interrupted = exc, True
    _forget_this_thread()
    if caught is not None:
        sys.last_exc = caught  # so that the process ends by SIGINT, see interpreters._close_all()
        raise caught


def _forget_this_thread() -> None:
    """Have threading forget the thread that ends the interpreter, if it is none of the interpreter's own.

    Joining others has made a dummy of it, which CPython 3.13.0 to 3.13.2 forget when threading's own names
    are gone already, with a traceback on stderr (cpython#130522).
    """
    with contextlib.suppress(AttributeError):
        del threading._thread_local_info._track_dummy_thread_ref  # type: ignore[attr-defined]


@functools.cache
def _watch_exit() -> None:
    # Before CPython joins the workers' threads, which wait for tasks; as concurrent.futures does.
    threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
    atexit.register(_finish_all)  # if Ctrl-C left others of the above out

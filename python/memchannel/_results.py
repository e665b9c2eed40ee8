"""Results of tasks, in order, while so many tasks are ahead of them as is wanted."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from memchannel._crew import BrokenInterpreterPool
from memchannel._interrupts import interrupts_deferred
from memchannel.errors import RemoteTraceback

if TYPE_CHECKING:
    from concurrent.futures import Future

    from memchannel import _core
    from memchannel._crew import Crew
    from memchannel.pool import InterpreterPool

__all__ = ["Results"]


class Results(Iterator[Any]):
    """Submits tasks, and gives their results in order.

    On an error, and when nobody holds it any more, what is queued is cancelled.

    Parameters
    ----------
    pool : InterpreterPool
        Kept alive while tasks are to be submitted: the end of a pool that nobody holds is a shutdown.
    submit : callable
        Makes a task's future.
    tasks : iterable
        What it is called with.
    ahead : int or None
        How many of the tasks are submitted before the first result is asked for, and are then kept ahead;
        None for all.
    lendings : Lendings
        What the tasks are submitted with: emptied as soon as none is to be submitted any more.
    end : float, optional
        When to give up waiting, by `time.monotonic`, in seconds.
    finish : bool, optional
        Whether a shutdown of the pool submits the rest of the tasks; else their results are missing, which
        is an error.
    wait : bool, optional
        No task is lost whenever Ctrl-C comes, so that `close` can wait for all.
    """

    def __init__(
        self,
        pool: InterpreterPool,
        submit: Callable[[Any], Future[Any]],
        tasks: Iterable[Any],
        ahead: int | None,
        lendings: _core.Lendings,
        *,
        end: float | None = None,
        finish: bool = False,
        wait: bool = False,
    ) -> None:
        # First what close() needs: Ctrl-C may come amid all this, and then __del__.
        self._lendings = lendings
        self._futures: deque[Future[Any]] = deque()
        self._remaining = iter(tasks)
        self._pool = None if ahead is None else pool
        self._crew: Crew = pool._crew
        self._submit = submit
        self._ahead = ahead
        self._end = end
        self._finish = finish
        self._wait = wait
        self._cancelled = False
        self.stopped = False
        """By the pool's end, or Ctrl-C: what remains is left out."""
        # Held while tasks are submitted: a shutdown may come from another thread, or a signal handler.
        self._submitting = threading.RLock()
        self._filling = False

    def start(self) -> None:
        """Submit the first tasks."""
        if self._ahead is not None:
            self._crew.watch(self)
        try:
            self._fill(self._ahead)
        except BaseException as exc:
            self.give_up(exc)
            raise
        if self._ahead is None:
            del self._submit  # all are submitted, and it holds the pool

    def __next__(self) -> Any:
        thread = threading.get_ident()
        # setdefault is atomic. No lock: Ctrl-C right after taking it would leave it taken.
        if self.__dict__.setdefault("_reader", thread) != thread:
            raise ValueError("another thread is waiting for a result of the same iterator")
        try:
            if self._futures:
                return self._first()
            self._check_complete()
        finally:
            self.__dict__.pop("_reader", None)
        raise StopIteration

    def _first(self) -> Any:
        """Wait for the first result and take it out, so that nobody holds it but whoever asked for it."""
        try:
            left = None if self._end is None else max(0.0, self._end - time.monotonic())
            result = self._futures[0].result(left)
            self._futures.popleft()
            if self._ahead is not None and not self.stopped:
                self._go_on()
            return result
        except BaseException as exc:
            self.give_up(exc)
            if isinstance(exc, StopIteration):
                raise RuntimeError(
                    "the function raised StopIteration, which would end the results: "
                    "let it raise something else"
                ) from exc
            raise

    def _fill(self, count: int | None) -> None:
        with interrupts_deferred() if self._wait else contextlib.nullcontext(), self._submitting:
            self._filling = True
            submitted = 0
            try:
                for task in itertools.islice(self._remaining, count):
                    try:
                        self._futures.append(self._submit(task))
                    except BaseException:
                        self._remaining = itertools.chain((task,), self._remaining)
                        raise
                    submitted += 1
            finally:
                self._filling = False
            if submitted != count:
                self._remaining = iter(())  # zip() holds the items that came last
            if self.stopped or submitted != count:
                self._lendings.clear()

    def _go_on(self) -> None:
        try:
            self._fill(1)
        except RuntimeError:
            if self._crew.broken or not self._crew.was_shut_down:
                raise
            self.stopped = True
            self._lendings.clear()

    def _check_complete(self) -> None:
        if not self.stopped or next(self._remaining, self) is self:
            return
        if self._cancelled:
            raise CancelledError
        if self._crew.broken:
            raise self._crew.broken_error()
        raise RuntimeError(
            "the pool was shut down before all items were submitted, since only so many are ahead of the "
            "results; read these before the shutdown" + ("" if self._finish else ", or leave buffersize out")
        )

    # ---- what the pool does with those that are being read

    def stop(self, *, cancel: bool) -> None:
        """Submit the rest of the tasks, or leave it out, because the pool will take none any more."""
        try:
            if self._finish and not cancel:
                self._fill_all()
        finally:
            self._cancelled = self._cancelled or cancel
            self.stopped = True
            self._lendings.clear()

    def _fill_all(self) -> None:
        # Not for users' iterables: whoever reads one under the lock may wait in it for ever.
        with self._submitting, contextlib.suppress(BrokenInterpreterPool):
            # A signal handler that came amid a _fill() must not overtake the task that is on its way.
            if not self._filling and not self.stopped:
                self._fill(None)

    def forget_lendings(self) -> None:
        """Keep no lease for tasks to come, which are lent their memory anew."""
        self._lendings.clear()

    # ---- the end

    def give_up(self, exc: BaseException) -> None:
        """Close on an error; interrupt the workers on Ctrl-C, unless it was a worker that raised it."""
        of_worker = isinstance(exc.__cause__, RemoteTraceback)
        if isinstance(exc, KeyboardInterrupt) and self._futures and not of_worker:
            self._crew.interrupt()
        self.close()

    def close(self) -> None:
        """Cancel what is queued; with `wait`, wait for what runs, which Ctrl-C interrupts."""
        self._remaining = iter(())
        self._lendings.clear()
        if not self._futures:
            return
        crew, futures = self._crew, self._futures
        if crew.is_parents:
            futures.clear()
            return
        with interrupts_deferred():
            for future in futures:
                future.cancel()
            crew.discard_cancelled()
        if self._wait:
            try:
                crew.wait_dropped(futures)
            except KeyboardInterrupt:
                crew.interrupt()
                crew.wait_dropped(futures)
                raise
        futures.clear()  # an exception's traceback holds them, and they hold the exception

    def __del__(self) -> None:
        if "_futures" in self.__dict__:
            self.close()

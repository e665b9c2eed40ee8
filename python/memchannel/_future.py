"""Futures of tasks that other interpreters run.

A `concurrent.futures.Future` costs a condition variable and a lock each, and somebody who sets it. A task's
outcome lives in the core already, so `TaskFuture` asks there, and becomes a full Future only when callbacks,
`wait()` or
`as_completed()` need one; a collector thread, started with the first such need, then sets it.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from memchannel import _core
from memchannel.exceptions import restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from memchannel._crew import Crew

__all__ = ["TaskFuture", "stop_collector"]

# What Future.__init__ makes (Lib/concurrent/futures/_base.py).
_BASE_ATTRIBUTES = frozenset({"_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"})


class TaskFuture(Future[Any]):
    """The future of a task; see `concurrent.futures.Future`."""

    def __init__(self, completion: _core.Completion, crew: Crew) -> None:
        # Without super().__init__(): see _make_base().
        self._completion = completion
        self._crew = crew

    def __getattr__(self, name: str) -> Any:
        if name not in _BASE_ATTRIBUTES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._make_base()
        return self.__dict__[name]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} state={self._completion.state}>"

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError(
            "a future belongs to the interpreter that submitted the task: send its result() instead"
        )

    def _outcome(self, timeout: float | None) -> tuple[str, Any]:
        outcome: tuple[str, Any]
        if timeout is not None and not timeout > 0:  # what is left of a deadline; threading waits no longer
            timeout = 0
        try:
            outcome = self._completion.result(timeout)
        except (TimeoutError, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if self._crew.is_parents or not self._completion.done():
                raise
            outcome = "unreadable", exc  # the result cannot be made again here
        self._crew.output.pass_on()
        return outcome

    def _error(self, state: str, value: Any) -> BaseException:
        if state == "unreadable":
            return value  # type: ignore[no-any-return]
        if state == "failed":
            return restore(value)
        return self._crew.broken_error()

    def result(self, timeout: float | None = None) -> Any:
        """Return what the task returned, waiting at most `timeout` seconds, or raise what it raised."""
        if "_condition" in self.__dict__:
            return super().result(timeout)
        state, value = self._outcome(timeout)
        if state == "succeeded":
            return value
        if state == "cancelled":
            raise CancelledError
        try:
            raise self._kept_error(state, value)
        finally:
            del self  # no reference cycle through the traceback's frame

    def _kept_error(self, state: str, value: Any) -> BaseException:
        # The same exception object every time, as in the base class.
        return self.__dict__.setdefault("_kept", self._error(state, value))  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task raised, None if it returned, waiting at most `timeout` seconds."""
        if "_condition" in self.__dict__:
            return super().exception(timeout)
        state, value = self._outcome(timeout)
        if state == "succeeded":
            return None
        if state == "cancelled":
            raise CancelledError
        return self._kept_error(state, value)

    def done(self) -> bool:
        """Whether the task was cancelled or finished."""
        return super().done() if "_condition" in self.__dict__ else self._completion.done()

    def running(self) -> bool:
        """Whether a worker is at it."""
        return self._completion.state == "running"

    def cancelled(self) -> bool:
        """Whether the task was cancelled before it started."""
        return self._completion.state == "cancelled"

    def cancel(self) -> bool:
        """Cancel the task if no worker has started it; whether it is cancelled."""
        if not self._completion.cancel():
            return False
        if "_condition" in self.__dict__:
            _settle(self)
        return True

    def _make_base(self) -> None:
        # No lock: signal handlers, weakref callbacks and __del__ may come here amid any line, and wait for
        # tasks. All who come use the parts of the first one, the condition last; setdefault is atomic.
        base = self.__dict__.setdefault("_base", vars(Future()))
        for name in (*(_BASE_ATTRIBUTES - {"_condition"}), "_condition"):
            self.__dict__.setdefault(name, base[name])
        if self._completion.done():
            _settle(self)
        else:
            _collector.watch(self)


def _settle(future: TaskFuture) -> None:
    """Give the base class the outcome that the core has; once, whoever comes first."""
    state, value = future._outcome(None)
    error = None if state in ("succeeded", "cancelled") else future._kept_error(state, value)
    claim = object()
    if future.__dict__.setdefault("_settler", claim) is not claim:
        return
    if state == "cancelled":
        Future.cancel(future)
        future.set_running_or_notify_cancel()
    elif error is None:
        future.set_running_or_notify_cancel()
        future.set_result(value)
    else:
        future.set_running_or_notify_cancel()
        future.set_exception(error)


class _Running(NamedTuple):
    channel: _core.Channel[int]
    thread: threading.Thread


class _Collector:
    """A thread that settles the futures somebody waits for in other ways than `result()`."""

    def __init__(self) -> None:
        self._watched: dict[int, TaskFuture] = {}
        self._tokens = itertools.count(1)

    def watch(self, future: TaskFuture) -> None:
        """Settle the future when it is done; again: once."""
        channel = self._start()
        token = future.__dict__.setdefault("_token", next(self._tokens))
        self._watched[token] = future
        future._completion.subscribe(channel, token)

    def _start(self) -> _core.Channel[int]:
        running: _Running | None = self.__dict__.get("_running")
        if running is not None:
            return running.channel
        channel: _core.Channel[int] = _core.Channel(name="memchannel futures")
        # Not a daemon: isolated interpreters have none. stop_collector() ends it before the exit joins it.
        thread = threading.Thread(target=self._run, name="memchannel futures", args=(channel,))
        made = _Running(channel, thread)
        running = self.__dict__.setdefault("_running", made)
        if running is made:
            try:
                thread.start()
            except BaseException:
                self.__dict__.pop("_running", None)
                raise
        return running.channel

    def _run(self, channel: _core.Channel[int]) -> None:
        for token in channel:
            if token == 0:
                return
            future = self._watched.pop(token, None)
            if future is None:
                continue  # watched twice
            try:
                _settle(future)
            except BaseException:  # of a callback, SystemExit for instance: others wait for this thread, too
                arguments = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                threading.excepthook(arguments)
                del arguments
            del future

    def stop(self) -> None:
        """End the thread, after what was settled before."""
        running: _Running | None = self.__dict__.pop("_running", None)
        if running is not None:
            running.channel.send(0)
            running.thread.join()

    def forget(self) -> None:
        """In a forked child the thread is gone and the futures are the parent's."""
        self.__dict__.pop("_running", None)
        self.__init__()  # type: ignore[misc]


_collector = _Collector()
os.register_at_fork(after_in_child=_collector.forget)
stop_collector: Callable[[], None] = _collector.stop

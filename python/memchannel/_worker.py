"""What runs inside a pool's worker interpreter."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from memchannel import _core, _output
from memchannel._output import OutputSetup
from memchannel._setup import release_import_locks
from memchannel.codecs.functions import UNPICKLABLE, load_function, unpicklable_part
from memchannel.exceptions import ExceptionSnapshot, snapshot

__all__ = ["LEND_FROM", "Parts", "WorkerSetup", "call", "call_chunk", "call_item", "main"]

_hidden_in_tracebacks = True

LEND_FROM = 64 * 1024
"""Arrays of fewer bytes are copied into the message, so that a small result keeps no interpreter alive."""

Parts = tuple[bytes, list[Any]]
"""A pickled function and what travels beside the pickle."""


class WorkerSetup(NamedTuple):
    """What a worker is told before its first task."""

    initializer: Parts | None
    limit: int
    blas_threads: int
    """Of each BLAS library while the worker has tasks; 0: as they are."""
    more_allowed: bool
    """Raise their numbers, too."""
    output: OutputSetup


class _Wrapped(functools.partial[Any]):
    """One of the pool's own functions around a user's."""


def _resolve(name: Any) -> Callable[..., Any]:
    """Find the function that a task names.

    ``"module:qualname"``, the bytes of a pickled function, or ``(wrapper, inner)``: the wrapper, a name
    itself, is called with the inner function first.
    """
    if isinstance(name, str):
        module, _, path = name.partition(":")
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]
    if isinstance(name, bytes):
        return load_function(name)
    wrapper, inner = name
    return _Wrapped(_resolve(wrapper), None if inner is None else _resolve(inner))


def function_of(known: Callable[..., Any] | None, parts: Parts | None) -> Callable[..., Any]:
    """Give the function of a task: known by name, or made from what came with the task."""
    if known is not None:
        return known
    assert parts is not None
    return load_function(*parts)


def label(function: Callable[..., Any]) -> str:
    """Name the function of a task, for those who watch: what `_resolve` gave, without the pool's wrappers."""
    inner: Any = function.args[0] if isinstance(function, _Wrapped) else function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inner is None:
        return "function with arrays"  # each task brings its own
    return str(
        getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or type(inner).__name__
    )


def call(fn: Callable[..., Any] | None, parts: Parts, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that has parts beside its pickle."""
    return function_of(fn, parts)(*args, **kwargs)


def call_item(fn: Callable[..., Any] | None, parts: Parts | None, index: int, args: tuple[Any, ...]) -> Any:
    """Call the function for one item of a map."""
    try:
        return function_of(fn, parts)(*args)
    except BaseException as exc:
        exc.add_note(f"item {index} of map()")
        raise


def call_chunk(
    fn: Callable[..., Any] | None, parts: Parts | None, first: int, chunk: list[tuple[Any, ...]]
) -> list[Any]:
    """Call the function for several items of a map."""
    function = function_of(fn, parts)
    return [call_item(function, None, first + i, args) for i, args in enumerate(chunk)]


def describe(exc: BaseException, *unsent: object) -> ExceptionSnapshot:
    """Take what the task's caller needs to know, and let go of what the exception's frames hold.

    Parameters
    ----------
    exc : BaseException
        What the task raised.
    *unsent
        Its result, if that is what could not be sent.
    """
    if unsent and isinstance(exc, UNPICKLABLE):
        part = unpicklable_part(unsent[0])
        kind = type(unsent[0]).__name__
        error = pickle.PicklingError(f"the result of type {kind!r} cannot be sent: {part or exc}")
        error.__cause__ = exc
        exc = error
    taken = snapshot(exc)
    # A frame may hold the exception itself: a cycle that would keep the arguments lent.
    linked: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while linked:
        one = linked.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            linked += (one.__cause__, one.__context__)
    return taken


def main(setup_channel: int, ready_channel: int, task_channel: int) -> None:
    """Initialize, tell how that went, and run tasks until the channel ends or the limit is reached."""
    setup: WorkerSetup = _core.RecvChannel(setup_channel).recv()
    ready = _core.SendChannel(ready_channel)
    done = -1
    _output.connect(setup.output)
    try:
        done = _serve(setup, ready, setup_channel, task_channel)
    finally:
        # At the limit the pool goes on and may take this interpreter again, which could not open a closed
        # end; other parked interpreters hold no end of past pools.
        _output.disconnect(for_good=done != setup.limit)


def _serve(setup: WorkerSetup, ready: _core.SendChannel[Any], token: int, task_channel: int) -> int:
    try:
        if setup.initializer is not None:
            load_function(*setup.initializer)()
    except BaseException as exc:
        ready.send(snapshot(exc))
        return -1
    ready.send(None)
    tasks = _core.RecvChannel(task_channel)
    functions: dict[Any, Callable[..., Any]] = {}
    # Channel ids are unique in the process: the setup channel's names this stretch of work.
    _core._arm(token)
    done = 0
    while True:
        try:
            done = _core._work(
                tasks,
                functions,
                _resolve,
                describe,
                setup.limit,
                LEND_FROM,
                setup.blas_threads,
                setup.more_allowed,
                label,
            )
            break
        except KeyboardInterrupt:
            continue  # aimed at a task that was over already
    with contextlib.suppress(KeyboardInterrupt):  # as before
        _core._disarm(token)
    release_import_locks()
    if done != setup.limit:
        tasks.close()
    return done

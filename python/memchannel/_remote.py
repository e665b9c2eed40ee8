"""What `memchannel.interpreters.run` does inside the other interpreter."""

from __future__ import annotations

import contextlib
import io
import itertools
import linecache
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from memchannel import _core
from memchannel._setup import release_import_locks
from memchannel.codecs.functions import describe, dumps_by_value, remember_sources, unpicklable_part
from memchannel.exceptions import ExceptionSnapshot, snapshot

__all__ = ["LEND_FROM", "Outcome", "Request", "serve"]

_hidden_in_tracebacks = True

LEND_FROM = 64 * 1024
"""Arrays of fewer bytes are copied into the answer, so that a small result keeps no interpreter alive."""

# Sources of the last runs stay readable, for tracebacks through functions that they defined.
_remembered: deque[str] = deque(maxlen=200)
_numbers = itertools.count(1)


class Request(NamedTuple):
    """What is to be run."""

    source: str | None
    function: Callable[..., Any] | None
    shared: dict[str, Any]
    capture_output: bool
    sources: dict[str, list[str]]
    """Lines that tracebacks need and only the other interpreter has, by file name."""


class Outcome(NamedTuple):
    """How it went."""

    completed: bool
    value: Any = None
    exception: ExceptionSnapshot | None = None
    stdout: str | None = None
    stderr: str | None = None
    elapsed: float = 0.0
    interrupted_late: bool = False
    """Whether an interrupt came when everything was done already."""


class _Written(io.BytesIO):
    """What was written stays, as in a file, when the stream over it is closed."""

    left = b""

    def close(self) -> None:
        if not self.closed:
            self.left = self.getvalue()
        super().close()


class _Captured(io.TextIOWrapper):
    """A standard stream with all that one has, ``buffer`` included, whose contents become a text."""

    def __init__(self) -> None:
        self.written = _Written()
        # What is no UTF-8 shows escaped, in both directions: it is neither lost nor an error.
        super().__init__(
            self.written, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True
        )

    def text(self) -> str:
        written = self.written
        data = written.left if written.closed else written.getvalue()
        return data.decode("utf-8", "backslashreplace")


class _Streams:
    """Standard streams of a run: taken away for its length, or flushed at its end."""

    def __init__(self, capture: bool) -> None:
        self.stdout = _Captured() if capture else None
        self.stderr = _Captured() if capture else None

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        before = sys.stdout, sys.stderr
        if self.stdout is not None and self.stderr is not None:
            sys.stdout, sys.stderr = self.stdout, self.stderr
        try:
            yield
        finally:
            if self.stdout is not None:
                sys.stdout, sys.stderr = before
            else:
                # Each interpreter has buffers of its own over the same descriptors.
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    sys.stdout.flush()

    def texts(self) -> tuple[str | None, str | None]:
        if self.stdout is None or self.stderr is None:
            return None, None
        return self.stdout.text(), self.stderr.text()


def _compiled(source: str) -> Any:
    filename = f"<run {next(_numbers)}>"
    if len(_remembered) == _remembered.maxlen:
        linecache.cache.pop(_remembered[0], None)
    _remembered.append(filename)
    remember_sources({filename: source.splitlines(keepends=True)})
    return compile(source, filename, "exec", dont_inherit=True)


def _perform(request: Request) -> Any:
    if request.source is None:
        assert request.function is not None
        return request.function(**request.shared)
    main = vars(sys.modules["__main__"])
    main.update(request.shared)
    exec(_compiled(request.source), main)
    return None


def _work(requests: int) -> tuple[Request | None, Outcome]:
    """Receive the request and carry it out. Raises nothing but an interrupt that comes at the very end."""
    request: Any = None
    try:
        request = _core.RecvChannel(requests).recv_nowait()
        remember_sources(request.sources)
    except BaseException as exc:
        exc.add_note("while what was to be run was received; nothing was run")
        return None, Outcome(False, exception=snapshot(exc))
    streams = _Streams(request.capture_output)
    started = time.perf_counter()
    completed, value, exception = False, None, None
    try:
        with streams.redirected():
            _core._run_callbacks()
            value = _perform(request)
        completed = True
    except BaseException as exc:
        _core._mask_stops(True)  # the process may be ending: no more of it
        exception = snapshot(exc)
    elapsed = time.perf_counter() - started
    return request, Outcome(completed, value, exception, *streams.texts(), elapsed)


def _work_armed(requests: int, token: int) -> tuple[Request | None, Outcome]:
    """`_work`, while ``_core._interrupt(token)`` raises KeyboardInterrupt in it."""
    done = None
    late = False
    try:
        try:
            _core._arm(token)
            done = _work(requests)
        finally:
            # An interrupt that is pending now is raised right after this call; none comes after it.
            _core._disarm(token)
    except KeyboardInterrupt as exc:
        late = True
        done = done or (None, Outcome(False, exception=snapshot(exc)))
    release_import_locks()
    assert done is not None
    return done[0], done[1]._replace(interrupted_late=late)


def _packed(request: Request | None, outcome: Outcome) -> tuple[bytes, list[Any]]:
    try:
        return dumps_by_value(outcome, LEND_FROM)
    except Exception as exc:
        part = unpicklable_part(outcome.value) or str(exc)
        what = describe(request.function) if request is not None and request.function else "source"
        refused = ValueError(f"the value returned by {what} cannot be shared: {part}")
        refused.__cause__ = exc
        return dumps_by_value(outcome._replace(completed=False, value=None, exception=snapshot(refused)))


def serve(requests: int, answers: int, interruptible: bool) -> None:
    """Carry out the request that is in one channel, and answer through the other; its id names the work."""
    try:
        request, outcome = _work_armed(requests, answers) if interruptible else _work(requests)
        _core.SendChannel(answers).send(_packed(request, outcome))
    finally:
        _core._mask_stops(False)
    _core._run_callbacks()

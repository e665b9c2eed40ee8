"""What workers print, on its way to the streams of the interpreter that made the pool."""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import io
import sys
import threading
from typing import Any, NamedTuple

from memchannel import _core

__all__ = ["NAMES", "Output", "OutputSetup", "connect", "disconnect"]

NAMES = ("stdout", "stderr")

OF_STREAMS = (Exception, SystemExit, GeneratorExit)
"""What a stream may raise, whose class may be anybody's; Ctrl-C is not the stream's."""

MOST_WAITING = 10_000
"""Lines on their way; whoever prints more waits until some are shown, as on a pipe that is full."""


class _StreamSetup(NamedTuple):
    """What a worker's stream has in common with the one that its text ends in."""

    encoding: str
    errors: str
    is_terminal: bool


class OutputSetup(NamedTuple):
    """What a worker is told of its output."""

    lines: int
    bell: int
    worker: int
    streams: tuple[_StreamSetup, ...]


# ---- in the worker


class _Connection(NamedTuple):
    worker: int
    lines: _core.SendChannel[Any]
    bell: _core.SendChannel[bool]
    encoding: str
    is_terminal: bool


class _Outlet(io.RawIOBase):
    """The binary end of a worker's stream; while nobody listens, the process's own descriptor.

    The stream stays the same one through all pools that the interpreter works for: handlers of `logging` keep
    the stream they were made with.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._to: _Connection | None = None

    def connect(self, to: _Connection) -> None:
        self._to = to

    def disconnect(self) -> _Connection | None:
        before, self._to = self._to, None
        return before

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._to is not None and self._to.is_terminal

    def fileno(self) -> int:
        return int(self._original().fileno())

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        if raw and not self._sent(raw):
            self._original().buffer.write(raw)
            self._original().flush()
        return len(raw)

    def _sent(self, raw: bytes) -> bool:
        to = self._to
        if to is None:
            return False
        text = raw.decode(to.encoding, "replace")
        try:
            to.lines.send((to.worker, self._number, text))
            to.bell.send_nowait(True)
        except (OSError, ValueError, RuntimeError):  # nobody listens any more
            return False
        return True

    def _original(self) -> Any:
        original = getattr(sys, f"__{NAMES[self._number]}__")
        if original is None:
            raise io.UnsupportedOperation("this process has no such stream")
        return original


_streams: dict[str, tuple[io.TextIOWrapper, _Outlet]] = {}


def connect(setup: OutputSetup) -> None:
    """Send what this interpreter prints from now on, line by line, to the one that made the pool."""
    lines: _core.SendChannel[Any] = _core.SendChannel(setup.lines)
    bell: _core.SendChannel[bool] = _core.SendChannel(setup.bell)
    for number, (name, kind) in enumerate(zip(NAMES, setup.streams, strict=True)):
        stream, outlet = _stream(name, number)
        try:
            codecs.lookup_error(kind.errors)
            stream.reconfigure(encoding=kind.encoding, errors=kind.errors, line_buffering=True)
        except LookupError:  # known to the other interpreter alone
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        outlet.connect(_Connection(setup.worker, lines, bell, stream.encoding, kind.is_terminal))
        setattr(sys, name, stream)


def _stream(name: str, number: int) -> tuple[io.TextIOWrapper, _Outlet]:
    if name in _streams:
        stream, outlet = _streams[name]
        with contextlib.suppress(ValueError):  # a task detached it
            if not stream.closed:
                return stream, outlet
    outlet = _Outlet(number)
    # Without a BufferedWriter between, so that no character is cut in two.
    stream = io.TextIOWrapper(outlet, encoding="utf-8", newline="\n")  # type: ignore[arg-type]
    _streams[name] = stream, outlet
    return stream, outlet


def disconnect(*, for_good: bool) -> None:
    """Send what is left, and print to the process's own streams; `for_good`: close the channels' ends."""
    for name, (stream, outlet) in _streams.items():
        current: Any = getattr(sys, name, None)
        for one in (stream, current):  # a task may have put another one over the outlet
            with contextlib.suppress(Exception):  # closed or detached by a task
                one.flush()
        connection = outlet.disconnect()
        if current is stream:
            setattr(sys, name, getattr(sys, f"__{name}__"))
        if for_good and connection is not None:
            connection.lines.close()
            connection.bell.close()


# ---- where the pool was made


def _setup_of(name: str) -> _StreamSetup:
    stream: Any = getattr(sys, name, None)
    usual = "strict" if name == "stdout" else "backslashreplace"
    try:
        is_terminal = bool(stream.isatty())
    except Exception:  # None, not a file, closed
        is_terminal = False
    return _StreamSetup(_text(stream, "encoding") or "utf-8", _text(stream, "errors") or usual, is_terminal)


def _text(stream: Any, attribute: str) -> str | None:
    with contextlib.suppress(Exception):  # detached
        value = getattr(stream, attribute, None)
        if type(value) is str:  # may be anything where a test put a stand-in
            return value
    return None


class Output:
    """Takes the lines of a pool's workers and writes them to what `sys.stdout` and `sys.stderr` are then.

    A thread writes them as they come. Whoever takes a task's outcome writes what is there before, so that
    what the task printed comes first.

    Parameters
    ----------
    name : str
        The pool's.
    prefixed : bool
        Begin each line with the worker's name.
    """

    def __init__(self, name: str, prefixed: bool) -> None:
        self._name = name
        self._prefixed = prefixed
        self._lines: _core.Channel[Any] = _core.Channel(MOST_WAITING, name=f"{name} output")
        self._incoming = self._lines.ends[0]
        self._bell: _core.Channel[bool] = _core.Channel(1)
        for channel in (self._lines, self._bell):
            channel.send_nowait(False)  # associated with both sides: not over when a worker leaves
            channel.recv_nowait()
        self._lock = threading.RLock()  # signal handlers may take a task's outcome, too
        self._writing = False
        self._workers = 0  # the crew's lock
        self._thread: threading.Thread | None = None  # the crew's lock
        self._open: dict[int, int] = {}
        """By stream: which worker's line has not ended yet."""
        self._cut: set[tuple[int, int]] = set()
        """Streams and workers whose line was ended by another worker's before it was whole."""
        self._forked = False
        self.in_kernel = "ipykernel" in sys.modules
        """Whether cells of a notebook have contexts of their own, which say what is shown under which."""
        self.remember_context()

    def remember_context(self) -> None:
        """Show what comes from now on in this context."""
        self._context = contextvars.copy_context()

    def setup(self, worker: int) -> OutputSetup:
        """Tell a worker where to send what it prints."""
        return OutputSetup(self._lines.id, self._bell.id, worker, tuple(map(_setup_of, NAMES)))

    def enter(self) -> None:
        """Begin to work for one more worker. Called under the crew's lock."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"{self._name} output")
            thread.start()
            self._thread = thread
        self._workers += 1

    def leave(self) -> threading.Thread | None:
        """End the work for one worker; after the last, give the thread to `join`. Under the crew's lock."""
        self._workers -= 1
        thread = None
        if not self._workers:
            thread, self._thread = self._thread, None
        return thread

    def join(self, thread: threading.Thread | None) -> None:
        """Write what is there, and wait for the end of a thread that `leave` gave."""
        self.pass_on()
        if thread is not None:
            self._bell.send(False)
            thread.join()

    def _run(self) -> None:
        while self._bell.recv():
            self._context.copy().run(self.pass_on)

    def pass_on(self) -> None:
        """Write the lines that are there; returns when those are written that others took, too."""
        # In this order: a line that is not in the channel any more was taken by somebody who writes.
        if (len(self._incoming) or self._writing) and not self._forked:
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            if self._writing:
                return  # the stream itself takes a task's outcome
            self._writing = True
            try:
                touched = set()
                for _ in range(len(self._incoming)):  # not for ever
                    line = self._incoming.recv_nowait()
                    if line is None:
                        break
                    touched.add(line[1])
                    self._write(*line)
                for number in touched:
                    with contextlib.suppress(*OF_STREAMS):
                        self._flush(number)
            finally:
                self._writing = False

    def _flush(self, number: int) -> None:
        getattr(sys, NAMES[number]).flush()

    def _write(self, worker: int, number: int, text: str) -> None:
        stream: Any = getattr(sys, NAMES[number], None)
        if stream is None:
            return
        if self._prefixed:
            text = self._with_prefix(worker, number, text)
        # A stream may be closed, or anything with a write(): what it raises belongs to no task.
        with contextlib.suppress(*OF_STREAMS):
            try:
                stream.write(text)
            except UnicodeEncodeError as exc:  # another stream than the one that the worker was told of
                stream.write(text.encode(exc.encoding, "backslashreplace").decode(exc.encoding))

    def _with_prefix(self, worker: int, number: int, text: str) -> str:
        prefix = f"[{self._name}_{worker}] "
        if (number, worker) in self._cut:
            self._cut.discard((number, worker))
            text = text.removeprefix("\n")
            if not text:
                return ""
        goes_on = self._open.pop(number, None)
        if goes_on is not None and goes_on != worker:
            self._cut.add((number, goes_on))
        *whole, rest = text.split("\n")
        lines = [f"{prefix}{line}\n" for line in whole]
        if rest:
            self._open[number] = worker
            lines.append(prefix + rest)
        if goes_on == worker:
            lines[0] = lines[0].removeprefix(prefix)
        elif goes_on is not None:
            lines.insert(0, "\n")
        return "".join(lines)

    def forked(self) -> None:
        """In a forked child the workers are gone, and what they printed is the parent's to show."""
        self._lock = threading.RLock()
        self._writing = False
        self._forked = True

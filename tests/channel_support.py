"""What the tests of channels share: other interpreters, conditions to wait for, accounts that must
balance."""

from __future__ import annotations

import _interpreters
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import memchannel
from memchannel import (
    ArrayChannel,
    Channel,
    ClosedChannelError,
    EndOfChannel,
    MemChannel,
    PoisonedChannelError,
    _core,
)

each_ending = pytest.mark.parametrize(
    ("event", "error"),
    [
        (lambda channel: channel.ends[0].close(), ClosedChannelError),
        (lambda channel: channel.ends[1].close(), EndOfChannel),
        (lambda channel: channel.poison(), PoisonedChannelError),
    ],
    ids=["closed", "ended", "poisoned"],
)
"""What can happen to a channel on which a receive waits, and what that raises."""

KINDS = (MemChannel, ArrayChannel, Channel)
HANG = 20.0
"""Seconds after which a wait in a test counts as a hang."""


def wait_until(condition: Callable[[], object], what: str = "the condition", seconds: float = HANG) -> None:
    """Return once the condition holds: tests wait for what the statistics say, not for time to pass."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.0002)


def waiting(end: Any) -> tuple[int, int]:
    """Return how many receivers and senders are parked on a channel."""
    now = end.statistics()
    return now.waiting_receivers, now.waiting_senders


class Task(threading.Thread):
    """A call in a thread of this interpreter."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._call = lambda: function(*args, **kwargs)
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as exc:
            self._error = exc

    def result(self) -> Any:
        """Wait for the call, and return what it returned or raise what it raised."""
        self.join(HANG)
        assert not self.is_alive(), "the call hangs"
        if self._error is not None:
            raise self._error
        return self._value


class RemoteFailure(Exception):
    """What a `Neighbour` raised."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


_SERVER = """
import sys
sys.path[:] = {path!r}
import memchannel
from memchannel import *
_commands, _answers = RecvChannel({commands}), SendChannel({answers})
for _source, _names in _commands:
    globals().update(_names)
    try:
        try:
            _code = compile(_source, "<told>", "eval")
        except SyntaxError:
            _code = compile(_source, "<told>", "exec")
        _value = eval(_code, globals())
    except BaseException as _error:
        _answers.send((False, (type(_error).__name__, str(_error))))
    else:
        _answers.send((True, _value))
        del _value
"""


class Neighbour:
    """Another interpreter, and a thread in it that does what it is told."""

    def __init__(self) -> None:
        self._commands: Channel[Any] = Channel(name="commands")
        self._answers: Channel[Any] = Channel(name="answers")
        self.id: int = _interpreters.create("isolated", reqrefs=True)
        _interpreters.incref(self.id)  # as Interpreter objects do: it ends with its last reference
        source = _SERVER.format(path=sys.path, commands=self._commands.id, answers=self._answers.id)
        self._thread = threading.Thread(target=self._serve, args=(source,), daemon=True)
        self._thread.start()
        wait_until(self._is_ready, "a neighbour")

    def _serve(self, source: str) -> None:
        failure = _interpreters.exec(self.id, source)
        if failure is not None:
            self._answers.poison(RuntimeError(failure.formatted))

    def start(self, source: str, **names: Any) -> None:
        """Have it evaluate an expression or run statements; names become its globals."""
        self._commands.send((source, names))

    def result(self) -> Any:
        """Wait for what was started and until it takes commands again; exceptions come as `RemoteFailure`."""
        succeeded, value = self._answers.recv(HANG)
        # Parked calls are counted: its own must not come late.
        wait_until(self._is_ready, "a neighbour's wait for its next command")
        if not succeeded:
            raise RemoteFailure(*value)
        return value

    def _is_ready(self) -> bool:
        commands = self._commands.statistics()
        return commands.queued > 0 or commands.waiting_receivers > 0

    def do(self, source: str, **names: Any) -> Any:
        """Start it and wait for it."""
        self.start(source, **names)
        return self.result()

    def finish(self) -> None:
        """End its thread."""
        self._commands.ends[1].close()
        self._thread.join(HANG)
        assert not self._thread.is_alive(), "the neighbour's thread hangs"

    def destroy(self) -> None:
        """End its thread, then the interpreter."""
        self.finish()
        _interpreters.destroy(self.id)
        del self._commands, self._answers


@contextmanager
def neighbours(count: int) -> Iterator[list[Neighbour]]:
    """Have some interpreters of one's own."""
    made = [Neighbour() for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.destroy()


@contextmanager
def balanced() -> Iterator[None]:
    """Check that no lease, channel or parked call is left over."""
    gc.collect()
    before = memchannel.stats()
    yield
    gc.collect()

    def same() -> bool:
        now = memchannel.stats()
        return now.live <= before.live and now.waiting <= before.waiting and now.channels <= before.channels

    wait_until(same, f"the balance of {before}, which is {memchannel.stats()}")
    assert memchannel.stats().abandoned == before.abandoned


@contextmanager
def level_leases() -> Iterator[None]:
    """Check that nothing stays lent that was not lent before it.

    Calls that were aborted, which nobody waits for, give back what they had when they end.
    """
    gc.collect()
    _core._await_idle()  # what others gave back is on its way
    before = memchannel.stats()
    yield
    gc.collect()
    _core._await_idle()

    def level() -> bool:
        now = memchannel.stats()
        return (now.live, now.abandoned) == (before.live, before.abandoned)

    wait_until(level, f"the leases of {before}, which are {memchannel.stats()}")


# From 3.14 on CPython warns at exit of interpreters that are still there, which some scripts are about.
WARNINGS = ("-W", "error", "-W", "ignore:remaining subinterpreters:RuntimeWarning")


def run_script(source: str, *args: str, code: int = 0) -> str:
    """Run a script in a fresh process and return what it wrote; its exit status must be `code`."""
    result = subprocess.run(
        [sys.executable, "-X", "dev", *WARNINGS, "-c", source, *args],
        capture_output=True,
        text=True,
        timeout=4 * HANG,
        check=False,
    )
    assert result.returncode == code, f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.stderr == "", result.stderr
    return result.stdout

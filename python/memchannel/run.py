"""Running source and functions in another interpreter, and what came out of it."""

from __future__ import annotations

import _interpreters
import pickle
import textwrap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast, overload

from memchannel import _core
from memchannel._remote import Outcome, Request
from memchannel._spans import traced_run
from memchannel._stopping import hold_up_daemons
from memchannel.codecs import object as object_codec
from memchannel.codecs.functions import describe, source_lines, unpicklable_part
from memchannel.exceptions import ExceptionSnapshot, restore

if TYPE_CHECKING:
    from memchannel.interpreters import Interpreter

__all__ = ["RunResult", "call_soon", "execute", "run"]


@dataclass(frozen=True, slots=True)
class RunResult[T = Any]:
    """How a run in another interpreter went.

    Attributes
    ----------
    completed : bool
        Whether it ran to its end without an exception.
    value : object
        What the function returned; None for source. Arrays of 64 KiB and more are read-only views that keep
        the other interpreter alive.
    exception : ExceptionSnapshot or None
        What it raised: type, message, notes, traceback of the other side.
    source : str or callable
        What was run.
    shared : dict
        What was shared, by name.
    stdout, stderr : str or None
        What it printed, with ``capture_output=True``.
    elapsed : float
        Seconds that it ran, without the way there and back.
    """

    completed: bool
    # None where it did not complete, which `check()` makes sure of: Any, so that nobody has to ask twice
    # (typeshed's "Any trick").
    value: T | Any
    exception: ExceptionSnapshot | None
    source: str | Callable[..., Any] = field(repr=False)
    shared: dict[str, Any] = field(repr=False)
    stdout: str | None
    stderr: str | None
    elapsed: float

    def check(self) -> Self:
        """Raise the other side's exception, if there was one, and return the result itself otherwise.

        Raises
        ------
        Exception
            Of the same type as there, with the traceback of the other side as ``__cause__``.
        memchannel.RemoteError
            If that exception cannot be made again here.
        """
        if self.exception is not None:
            raise restore(self.exception)
        return self


# ---- executing


def execute(number: int, source: str) -> None:
    """Run source in an interpreter, on this thread.

    Raises
    ------
    RuntimeError
        The interpreter is running, or the source raised; the message has the traceback of the other side.
    InterpreterNotFoundError
        There is no such interpreter.
    """
    _refuse_running(number)
    try:
        with traced_run(number):
            failure = _interpreters.exec(number, source)
    except _interpreters.InterpreterNotFoundError:
        raise
    except _interpreters.InterpreterError as exc:
        raise RuntimeError(f"interpreter {number} cannot run this now: {exc}") from exc
    finally:
        hold_up_daemons()
    if failure is not None:
        raise RuntimeError(f"interpreter {number}: {getattr(failure, 'errdisplay', failure.formatted)}")


def interpreter_id(interp: object, function: str) -> int:
    """Return the number of an interpreter; TypeError, in the name of a function, if it is none."""
    from memchannel.interpreters import Interpreter

    if not isinstance(interp, Interpreter):
        raise TypeError(f"{function}() takes an Interpreter, not {interp!r}; see memchannel.interpreters")
    number: int = interp.id
    return number


def is_busy(number: int) -> bool:
    """Tell whether an interpreter runs something in its ``__main__``; an error says if there is none."""
    try:
        return bool(_interpreters.is_running(number))
    except _interpreters.InterpreterNotFoundError:
        raise _interpreters.InterpreterNotFoundError(
            f"there is no interpreter {number}: it was closed, or never made"
        ) from None


def _refuse_running(number: int) -> None:
    hold_up_daemons()
    if is_busy(number):
        hold_up_daemons()  # it is, perhaps, because it is being stopped
        raise RuntimeError(f"interpreter {number} is running; an interpreter runs one thing at a time")


# ---- the request


def _send_request(channel: _core.Channel[Any], request: Request) -> None:
    try:
        channel.send(object_codec.ByValue(request))
    except Exception as exc:
        _raise_culprit(request.function, {repr(name): value for name, value in request.shared.items()}, exc)


def _raise_culprit(
    function: Callable[..., Any] | None, values: dict[str, object], failure: Exception
) -> NoReturn:
    """Raise the error that names what cannot be sent, or else the failure itself."""
    culprit = _culprit(function, values)
    try:
        if culprit is None:
            raise failure
        raise culprit from failure
    finally:
        # Names in a frame of their own traceback would keep the channels until a garbage collection.
        del culprit, failure


def _culprit(function: Callable[..., Any] | None, values: dict[str, object]) -> Exception | None:
    if function is not None and (part := unpicklable_part(function)):
        return pickle.PicklingError(f"{describe(function)} cannot be pickled: {part}")
    for name, value in values.items():
        try:
            _core.Channel().send(object_codec.ByValue(value))
        except Exception as exc:
            return ValueError(f"{name} cannot be shared: {unpicklable_part(value) or exc}")
    return None


def _request(
    what: str | Callable[..., Any],
    shared: Mapping[str, Any] | None,
    more: dict[str, Any],
    capture_output: bool,
) -> Request:
    if shared is not None and not isinstance(shared, Mapping):
        raise TypeError(f"shared must be a mapping of names to values, or None, not {shared!r}")
    names = {**(shared or {}), **more}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"names of shared values must be str, not {name!r}")
    if isinstance(what, str):
        return Request(textwrap.dedent(what), None, names, capture_output, {})
    if not callable(what):
        raise TypeError(f"run() takes source text or a callable, not {what!r}")
    return Request(None, what, names, capture_output, source_lines(what))


# ---- running


@overload
def run(
    interp: Interpreter,
    source: str,
    /,
    *,
    shared: Mapping[str, Any] | None = None,
    capture_output: bool = False,
    thread: bool = False,
    **more_shared: Any,
) -> RunResult[None]: ...
@overload
def run[T](
    interp: Interpreter,
    function: Callable[..., T],
    /,
    *,
    shared: Mapping[str, Any] | None = None,
    capture_output: bool = False,
    thread: bool = False,
    **more_shared: Any,
) -> RunResult[T]: ...
def run(
    interp: Interpreter,
    source_or_function: str | Callable[..., Any],
    /,
    *,
    shared: Mapping[str, Any] | None = None,
    capture_output: bool = False,
    thread: bool = False,
    **more_shared: Any,
) -> RunResult[Any]:
    """Run source or a function in another interpreter and wait for it.

    Parameters
    ----------
    interp : Interpreter
        Where; it must be idle.
    source_or_function : str or callable
        Source runs in ``__main__`` there, whose names stay from one run to the next; common indentation is
        removed. A function is imported there, or sent by value where it cannot be (``__main__``, lambdas,
        closures).
    shared : mapping, optional
        For source: names that become globals of ``__main__``. For a function: its keyword arguments. Whatever
        can be pickled, and ends of channels; arrays and buffers are not copied and are read-only there.
    capture_output : bool, optional
        Keep what is printed there during the run.
    thread : bool, optional
        Run on a thread of its own, so that Ctrl-C in the main thread raises KeyboardInterrupt there.
        Otherwise the calling thread runs the other interpreter: Python code there then never sees Ctrl-C.
    **more_shared
        Further entries of `shared`.

    Returns
    -------
    RunResult
        Also if it raised; ``run(...).check()`` raises that here.

    Raises
    ------
    RuntimeError
        The interpreter is running, or cannot import memchannel.
    InterpreterNotFoundError
        It was closed.
    TypeError
        `interp` is no interpreter, or what is to run is neither text nor callable.
    pickle.PicklingError
        The function cannot be pickled; the message names it and the part of it.
    ValueError
        A value cannot be shared; the message names it.
    KeyboardInterrupt
        Ctrl-C ended the run: with ``thread=True`` anywhere in it, otherwise in a wait of memchannel's.
    """
    number = interpreter_id(interp, "run")
    request = _request(source_or_function, shared, more_shared, capture_output)
    _refuse_closed(number)
    _refuse_running(number)
    requests: _core.Channel[Any] = _core.Channel()
    answers: _core.Channel[Any] = _core.Channel()
    _send_request(requests, request)
    interruptible = bool(thread)
    source = (
        "__import__('memchannel._remote', fromlist=['serve'])"
        f".serve({requests.id}, {answers.id}, {interruptible})"
    )
    if interruptible:
        outcome = _run_in_thread(number, source, answers)
    else:
        interrupts = _core._interrupts_elsewhere()
        execute(number, source)
        outcome = _unpacked(cast(Any, answers.recv_nowait()))
        if _core._interrupts_elsewhere() != interrupts:
            _raise_interrupt(outcome)
    return RunResult(
        completed=outcome.completed,
        value=outcome.value,
        exception=outcome.exception,
        source=source_or_function,
        shared=request.shared,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        elapsed=outcome.elapsed,
    )


def _refuse_closed(number: int) -> None:
    from memchannel.interpreters import _parked_ids

    if number in _parked_ids():
        raise _interpreters.InterpreterNotFoundError(
            f"interpreter {number} was closed, and is kept for reuse"
        )


def _unpacked(answer: tuple[bytes, list[Any]]) -> Outcome:
    outcome = object_codec.loads(*answer)
    assert isinstance(outcome, Outcome)
    return outcome


class _Helper:
    """The thread that runs another interpreter while the calling thread waits, and takes Ctrl-C."""

    def __init__(self, number: int, source: str, token: int) -> None:
        self._number, self._source, self._token = number, source, token
        self._go: _core.Channel[bool] = _core.Channel()
        self._done: _core.Channel[None] = _core.Channel()
        self._told = False
        self._finished = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._work, name=f"run in interpreter {number}")
        self.interrupted = False
        self.pending = False
        """Whether a Ctrl-C could not be passed on (yet)."""

    def _work(self) -> None:
        try:
            _core._name_thread(self._thread.name)
            if self._go.recv():
                execute(self._number, self._source)
        except BaseException as exc:
            self._failures.append(exc)
        finally:
            self._finished.set()
            self._done.send(None)

    def run(self) -> None:
        """Run the source; KeyboardInterrupt leaves this only if nothing was run."""
        try:
            self._thread.start()
            self._wait()
        except KeyboardInterrupt:
            if not self._told:
                self._go.send(False)
                raise
            self._note_interrupt()  # it came between two turns of the loop
            self._wait()
        self._thread.join()
        if self._failures:
            raise self._failures.pop()

    def _note_interrupt(self) -> None:
        self.interrupted = self.pending = True

    def _wait(self) -> None:
        while not self._finished.is_set():
            try:
                if not self._told:
                    self._told = True
                    self._go.send(True)
                if self.pending:
                    self.pending = not _core._interrupt(self._token)
                # Nobody there to be interrupted: the run is about to begin, or over. Then look again soon.
                self._done.recv(0.05 if self.pending else None)
            except KeyboardInterrupt:
                self._note_interrupt()
            except TimeoutError:
                continue


def _run_in_thread(number: int, source: str, answers: _core.Channel[Any]) -> Outcome:
    helper = _Helper(number, source, token=answers.id)
    helper.run()
    outcome = _unpacked(cast(Any, answers.recv_nowait()))
    if not helper.interrupted:
        return outcome
    if helper.pending or outcome.interrupted_late:
        raise KeyboardInterrupt
    _raise_interrupt(outcome)
    return outcome


def _raise_interrupt(outcome: Outcome) -> None:
    """Raise the Ctrl-C that ended a run, unless what was interrupted dealt with that itself."""
    if outcome.exception is not None and outcome.exception.type_name == "KeyboardInterrupt":
        raise restore(outcome.exception)


# ---- calling


def call_soon[*Ts](interp: Interpreter, function: Callable[[*Ts], object], /, *args: *Ts) -> None:
    """Have another interpreter call a function soon, and do not wait for it.

    It is called when that interpreter next waits in memchannel (a wait that goes on is woken for it), between
    two tasks of a pool, or at the beginning or end of a `run`; in the order of the requests, on the thread
    that waits. What it returns is dropped; what it raises is reported to `sys.unraisablehook`. An interpreter
    that ends, or is parked, forgets what was not called by then.

    Parameters
    ----------
    interp : Interpreter
        Any, the current and the main one included.
    function : callable
        Sent as `run` sends it.
    *args
        Its arguments.

    Raises
    ------
    InterpreterNotFoundError
        It was closed.
    TypeError
        `interp` is no interpreter, or `function` is not callable.
    pickle.PicklingError, ValueError
        The function or an argument cannot be sent; the message names it.
    """
    if not callable(function):
        raise TypeError(f"call_soon() takes a callable, not {function!r}")
    given: tuple[Any, ...] = args
    number = interpreter_id(interp, "call_soon")
    _refuse_closed(number)
    is_busy(number)  # raises if there is none
    try:
        _core._call_soon(number, (function, given))
    except Exception as exc:
        _raise_culprit(function, {f"argument {i}": value for i, value in enumerate(given)}, exc)

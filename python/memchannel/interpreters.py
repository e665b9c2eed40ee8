r"""Interpreters of this process: making them, listing them, running things in them, closing them politely.

The class is the standard library's, ``concurrent.interpreters.Interpreter`` (PEP 734), or its backport's on
Python 3.13. Interpreters made here are isolated: each has its own GIL, and the packages asked for load there
as private images (`memchannel.images`).

>>> from memchannel import interpreters
>>> interp = interpreters.create(packages=None)
>>> interpreters.run(interp, "answer = 6 * factor", factor=7).completed
True
>>> interpreters.run(interp, "print(answer)", capture_output=True).stdout
'42\n'
>>> interpreters.close(interp)
"""

from __future__ import annotations

import _interpreters
import atexit
import contextlib
import functools
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from memchannel import _core
from memchannel._interrupts import _is_main_interpreter, interrupts_deferred
from memchannel._leftover import leftover_threads
from memchannel._listing import interpreter_numbers
from memchannel._making import (
    Interpreter,
    drop_holds,
    forget_made,
    hold,
    make,
    make_no_more,
    numbers_made,
    package_names,
    set_up,
)
from memchannel._spans import traced_run
from memchannel._stopping import hold_up_daemons, hold_up_from_now_on, stop_running
from memchannel.run import RunResult, call_soon, interpreter_id, is_busy, run

if TYPE_CHECKING:
    from memchannel._making import Packages

__all__ = [
    "Interpreter",
    "RunResult",
    "call_soon",
    "close",
    "create",
    "get_current",
    "get_main",
    "idle",
    "is_running",
    "list_all",
    "run",
    "running",
]


class _Terms(NamedTuple):
    """What parked interpreters are told apart by."""

    packages: frozenset[str]
    allow_daemon_threads: bool


_made: weakref.WeakKeyDictionary[Interpreter, _Terms] = weakref.WeakKeyDictionary()
_reused: weakref.WeakSet[Interpreter] = weakref.WeakSet()
"""Those that close() parks."""
_lingering: list[int] = []
"""Those that were let go while threads of theirs ran, each kept by a reference of ours."""
# No lock guards it: signal handlers, weakref callbacks and __del__ may come here amid any line. The methods
# of dict and list that are used are atomic.
_parked: dict[_Terms, list[Interpreter]] = {}
_exiting = threading.Event()


# ---- making


def create(
    packages: Packages = ("numpy",), *, reuse: bool = False, allow_daemon_threads: bool = False
) -> Interpreter:
    """Make an isolated interpreter that can import the packages.

    It takes over `sys.path`, `sys.argv`, `os.environ`, the recursion limit and the switch interval of this
    one. The working directory belongs to the process.

    Parameters
    ----------
    packages : iterable of str, str or None, optional
        Packages whose extension modules load there as private images, see `memchannel.images`; ``"all"`` for
        all, None or empty for none.
    reuse : bool, optional
        Take a parked interpreter of the same packages, if there is one; `close` parks this one, cleaned.
    allow_daemon_threads : bool, optional
        Isolated interpreters refuse daemon threads by default. CPython aborts the process when one ends while
        a daemon thread of its own runs: such an interpreter ends by `close` only, which refuses that.

    Returns
    -------
    Interpreter
        Ends when the last reference to it is gone *and* nothing it lent is out any more.

    Raises
    ------
    ModuleNotFoundError
        A package is not installed; the message names it.
    memchannel.images.ImageError
        A package is known not to work, or the platform does not support private images.
    MemoryError, RuntimeError
        The interpreter could not be made; the message says why.
    """
    _end_lingering()
    names = package_names(packages)
    terms = _Terms(frozenset(names), allow_daemon_threads)
    interpreter = _unpark(terms, names) if reuse else None
    if interpreter is None:
        interpreter = make(allow_daemon_threads, names)
        _made[interpreter] = terms
    if reuse:
        _reused.add(interpreter)
    return interpreter


# ---- parking


def _park(interpreter: Interpreter) -> bool:
    """Clean an interpreter and keep it for `create` with ``reuse=True``; False: it cannot be used again."""
    terms = _cleaned(interpreter)
    if terms is not None:
        _parked.setdefault(terms, []).append(interpreter)
    return terms is not None


def _cleaned(interpreter: Interpreter) -> _Terms | None:
    terms = _made.get(interpreter)
    if terms is None or _exiting.is_set() or is_running(interpreter) or leftover_threads(interpreter.id):
        return None
    source = "__import__('memchannel._setup', fromlist=['clean']).clean()"
    with traced_run(interpreter.id):
        failure = _interpreters.exec(interpreter.id, source)
    return terms if failure is None else None


def _unpark(terms: _Terms, packages: tuple[str, ...]) -> Interpreter | None:
    while True:
        try:
            interpreter = _parked[terms].pop()
        except LookupError:  # none of the kind, or no more
            return None
        try:
            set_up(interpreter, packages)
        except _interpreters.InterpreterError:  # closed by force meanwhile
            continue
        return interpreter


def _parked_ids() -> set[int]:
    return {interpreter.id for waiting in list(_parked.values()) for interpreter in list(waiting)}


def _stop_parking() -> None:
    """At exit: interpreters that are not needed any more end."""
    _exiting.set()


@atexit.register
def _close_all() -> None:
    # By a second at most: whatever is not stopped may crash the process.
    with interrupts_deferred(others=True):
        _stop_and_close_all()
    if isinstance(getattr(sys, "last_exc", None), KeyboardInterrupt):
        sys.excepthook = lambda *_: None  # it was shown already, and no hook is needed any more
        _core._mark_interrupted()  # whatever ran in other interpreters since


def _stop_and_close_all() -> None:
    # Registered after the core's own callback, so it runs before it: the core can still give memory back.
    # Left to CPython, interpreters end after the main one's modules, and 3.14 warns of them.
    _exiting.set()
    stopped_in_vain: Collection[int] = ()
    if _is_main_interpreter():
        hold_up_from_now_on()
        make_no_more()  # first: nobody makes one from then on, or lets go of one
        # Also in those that others made: interpreters of ours, for instance.
        stopped_in_vain = stop_running(set(interpreter_numbers()) - {_interpreters.get_current()[0]})
    # The core's own thread ends an interpreter when it drops the last reference, and CPython aborts when two
    # threads end the same one: take a reference, so that none is the last, and wait for an end that began.
    for number in list(numbers_made):
        with contextlib.suppress(_interpreters.InterpreterError):
            _interpreters.incref(number)
    drop_holds()
    # Where none was made nothing is to be waited for, and it may be that thread itself that ends this one.
    if (numbers_made or _is_main_interpreter()) and not _core._await_idle():
        return
    # CPython's own functions hold up nobody: a daemon thread may have gone into one that was idle.
    for _ in range(3):
        left = _close_idle() - set(stopped_in_vain)
        if not left or not _is_main_interpreter():
            break
        stopped_in_vain = {*stopped_in_vain, *stop_running(left)}
    _parked.clear()


def _close_idle() -> set[int]:
    """Close those that were made here; which are in use."""
    left = set()
    for number in sorted(numbers_made):
        try:
            if not _core._closing(number, functools.partial(_destroy_idle, number)):
                left.add(number)
        except _interpreters.InterpreterError:  # others have
            pass
        except RuntimeError:  # others are at it
            left.add(number)
    return left


def _destroy_idle(number: int) -> bool:
    if _interpreters.is_running(number) or leftover_threads(number):
        return False
    _interpreters.destroy(number)
    return True


def _forget_all() -> None:
    """In a forked child the interpreters are gone; see src/python/fork.cpp."""
    forget_made()
    _lingering.clear()
    _parked.clear()


os.register_at_fork(after_in_child=_forget_all)


# ---- running


def _execute(interpreter: Interpreter, source: str) -> None:
    """Run source in the interpreter, on this thread.

    Raises
    ------
    RuntimeError
        The interpreter is running, or the source raised; the message has the traceback of the other side.
    """
    from memchannel.run import execute

    execute(interpreter.id, source)


# ---- listing


def _numbers() -> Iterator[int]:
    parked = _parked_ids()
    for number in interpreter_numbers():
        if number not in parked:
            yield number


def _open(number: int) -> Interpreter:
    if number == _interpreters.get_current()[0]:
        # CPython crashes when an interpreter that holds the last reference to itself is to end.
        return Interpreter(number, _ownsref=False)
    # CPython takes references on an interpreter that is ending, and ends it once more with the last of them.
    if _core._is_ending(number):
        raise _interpreters.InterpreterNotFoundError(f"interpreter {number} is ending")
    return hold(Interpreter(number))


def _held_and_kept[T](function: Callable[[], T]) -> T:
    # Handles that Ctrl-C takes away before the core holds them would be dropped by this thread.
    with interrupts_deferred():
        return _core._without_drops(function)


def _by_number(number: int) -> Interpreter:
    """Return the interpreter with an id.

    Raises
    ------
    InterpreterNotFoundError
        There is none, or it is ending.
    """
    return _held_and_kept(functools.partial(_open, number))


def list_all() -> list[Interpreter]:
    """Return all interpreters of the process, the main one first; those parked for reuse count as closed."""
    return _held_and_kept(_list_now)


def _list_now() -> list[Interpreter]:
    found = []
    for number in _numbers():
        try:
            found.append(_open(number))
        except _interpreters.InterpreterError:  # it has ended, or is about to; or is being made
            continue
    return found


def get_current() -> Interpreter:
    """Return the interpreter that runs this."""
    return _open(_interpreters.get_current()[0])


def get_main() -> Interpreter:
    """Return the main interpreter."""
    return _open(_interpreters.get_main()[0])


def is_running(interpreter: Interpreter) -> bool:
    """Tell whether an interpreter runs something in its ``__main__`` now; the main interpreter always does.

    Parameters
    ----------
    interpreter : Interpreter
        One that was not closed.

    Returns
    -------
    bool
        True while something runs.

    Raises
    ------
    InterpreterNotFoundError
        It was closed.
    TypeError
        It is no interpreter.
    """
    return is_busy(interpreter_id(interpreter, "is_running"))


def running() -> list[Interpreter]:
    """Return the interpreters that run something."""
    return [interpreter for interpreter in list_all() if _interpreters.is_running(interpreter.id)]


def idle() -> list[Interpreter]:
    """Return the interpreters that run nothing."""
    return [interpreter for interpreter in list_all() if not _interpreters.is_running(interpreter.id)]


# ---- closing


def close(interpreter: Interpreter, timeout: float | None = 0) -> None:
    """Close an interpreter if nothing that it lent is out.

    One made with ``reuse=True`` is cleaned and kept for the next `create` of that kind.
    Its threads that are not daemons are waited for, as at the end of a program; they lend nothing any more:
    what they send then raises RuntimeError.

    Parameters
    ----------
    interpreter : Interpreter
        Not the current or the main one.
    timeout : float or None, optional
        Seconds to wait for what is out; None waits for ever.

    Raises
    ------
    BufferError
        Views of its memory are out; the message says how many and over which channels.
    RuntimeError
        It is running, or a daemon thread of its own is, or one that the `_thread` module started. Or another
        thread is making or closing it.
    InterpreterNotFoundError
        It was closed.
    TypeError
        It is no interpreter, or `timeout` is no number.
    ValueError, OverflowError
        `timeout` is negative or nan, or too large.

    Notes
    -----
    Views that are only in reference cycles come back with a garbage collection in the interpreter that holds
    them: where something is out, this one and all idle ones collect. ``Interpreter.close()`` closes by force:
    what is out stays allocated until the process ends.
    """
    number = interpreter_id(interpreter, "close")
    hold_up_daemons()
    try:
        terms: _Terms | None = _core._closing(number, functools.partial(_close, interpreter, timeout))
    finally:
        hold_up_daemons()
    if terms is not None:  # now that it may be closed again by whoever takes it
        _parked.setdefault(terms, []).append(interpreter)


def _close(interpreter: Interpreter, timeout: float | None) -> _Terms | None:
    """Close the interpreter, or clean it and tell where to park it."""
    _refuse_busy(interpreter)
    if _core._lent_by(interpreter.id)[0]:
        _interpreters.exec(interpreter.id, _FORGET_LENDINGS)
        _collect_for(interpreter.id)
    if not _core._await_returned(interpreter.id, timeout):
        raise BufferError(_lent_text(interpreter.id))
    if interpreter in _reused:
        _reused.discard(interpreter)
        if (terms := _cleaned(interpreter)) is not None:
            return terms
    _refuse_busy(interpreter)  # others had time to use it
    # What its threads would send while the end waits for them would never come back.
    if not _core._stop_lending(interpreter.id):
        raise BufferError(_lent_text(interpreter.id))
    try:
        interpreter.close()
    except BaseException:
        _core._resume_lending(interpreter.id)
        raise
    _made.pop(interpreter, None)
    numbers_made.discard(interpreter.id)
    return None


# Results of a map that were not read to their end keep leases that nobody else has.
_FORGET_LENDINGS = """\
if "memchannel._crew" in __import__("sys").modules:
    __import__("memchannel._crew", fromlist=["forget_lendings"]).forget_lendings()
"""


def _refuse_busy(interpreter: Interpreter) -> None:
    number = interpreter_id(interpreter, "close")
    if number == _interpreters.get_main()[0]:
        raise RuntimeError("the main interpreter ends with the process: it cannot be closed")
    if number in _parked_ids():
        raise _interpreters.InterpreterNotFoundError(
            f"interpreter {number} was closed, and is kept for reuse"
        )
    if is_running(interpreter):
        raise RuntimeError(f"interpreter {number} is running; wait until it is done")
    if threads := leftover_threads(number):
        raise RuntimeError(
            f"daemon threads of interpreter {number} are running: {threads}; let them end first"
        )


def _let_go(interpreter: Interpreter) -> None:
    """Let the interpreter end with the last reference to it, but not while threads of it still run."""
    if leftover_threads(interpreter.id):
        _interpreters.incref(interpreter.id)
        _lingering.append(interpreter.id)


def _end_lingering() -> None:
    """Give up interpreters whose threads have ended since."""
    for _ in range(len(_lingering)):
        try:
            number = _lingering.pop(0)
        except IndexError:  # other threads look, too
            return
        try:
            if _interpreters.is_running(number) or leftover_threads(number, pauses=(0,)):
                _lingering.append(number)
            else:
                _interpreters.decref(number)
        except _interpreters.InterpreterNotFoundError:  # closed by force
            continue


def _collect_for(number: int) -> None:
    """Collect garbage where views of this interpreter's memory may be in it, until none is out."""
    gc.collect()
    for other in interpreter_numbers():
        if not _core._lent_by(number)[0]:
            return
        try:
            busy = _interpreters.is_running(other)
        except _interpreters.InterpreterError:  # ended meanwhile, or being made
            continue
        if not busy:
            _core._collect_garbage(other)


def _lent_text(number: int) -> str:
    count, by_channel = _core._lent_by(number)
    verb = "view of interpreter {} is" if count == 1 else "views of interpreter {} are"
    channels = ", ".join(str(channel) for channel, _ in by_channel)
    plural = "channel" if len(by_channel) == 1 else "channels"
    return f"{count} {verb.format(number)} out ({plural} {channels})"

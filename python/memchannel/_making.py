"""Making interpreters: the steps of `memchannel.interpreters.create`, and what keeps one alive."""

from __future__ import annotations

import _interpreters
import builtins
import contextlib
import functools
import mmap
import sys
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from memchannel import _core, images
from memchannel._interrupts import _is_main_interpreter, interrupts_deferred
from memchannel._listing import interpreter_numbers
from memchannel._setup import Settings, current_settings
from memchannel._spans import traced_run
from memchannel._stopping import hold_up_daemons

if sys.version_info >= (3, 14):
    from concurrent.interpreters import Interpreter
else:
    from backports.interpreters import Interpreter

if TYPE_CHECKING:
    Packages = Iterable[str] | str | None

__all__ = [
    "Interpreter",
    "drop_holds",
    "forget_made",
    "hold",
    "listed",
    "listed_with",
    "make",
    "make_no_more",
    "numbers_made",
    "package_names",
    "set_up",
]

numbers_made: set[int] = set()
"""All that this interpreter made and did not close, whether or not they ended by themselves."""
_settings: weakref.WeakKeyDictionary[Interpreter, Settings] = weakref.WeakKeyDictionary()
"""What those that were made here took over last, and go back to when they are cleaned."""
_held: weakref.WeakSet[Interpreter] = weakref.WeakSet()
"""Those that the core holds for a handle of ours."""
# CPython 3.13 readies static types of interpreters that are made at the same time in a data race
# (python/cpython#127108, #129824). Reentrant: a signal handler may make one, too.
_one_at_a_time = threading.RLock()
_last_maker: int | None = None
"""The thread that ends the process, once it does: nobody would end what others make then."""


def forget_made() -> None:
    """In a forked child: the interpreters are gone."""
    global _last_maker  # noqa: PLW0603
    _one_at_a_time._at_fork_reinit()  # type: ignore[attr-defined]
    _last_maker = None
    numbers_made.clear()
    _held.clear()


# ---- packages


def listed(packages: Packages) -> tuple[str, ...]:
    """Give the names, each once; "all" stays one of them."""
    if packages is None:
        return ()
    if not isinstance(packages, Iterable):
        raise TypeError(f"packages must be names, 'all' or None, not {packages!r}")
    return tuple(dict.fromkeys((packages,) if isinstance(packages, (str, bytes)) else packages))


def listed_with(needed: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names and one more, unless they are all."""
    return names if "all" in names else (*names, needed)


def package_names(packages: Packages) -> tuple[str, ...]:
    names = listed(packages)
    reason = images.unsupported_reason() if names else None
    if reason is not None:
        raise images.ImageError(reason)
    for name in names:
        # Before an interpreter is made in vain: on 3.13.0 one that ends leaves 1.7 MB behind.
        images._check_name(name)
        images._check_package(name)
    return names


# ---- making


# Address space that a new interpreter takes, with a margin: 3 to 5 MB before its first import.
_ROOM = 16 << 20


def make(allow_daemon_threads: bool, packages: tuple[str, ...]) -> Interpreter:
    number = None
    hold_up_daemons()
    try:
        with interrupts_deferred():  # one that was made is not lost
            number = _new(allow_daemon_threads)
        # Others list it, and must not close it while it is set up.
        return _core._closing(number, functools.partial(_finish, number, packages))
    except BaseException:
        if number is not None:
            # The error above is told, also where others closed it, or run something in it.
            with interrupts_deferred(), contextlib.suppress(_interpreters.InterpreterError, RuntimeError):
                _core._closing(number, functools.partial(_interpreters.destroy, number))
                numbers_made.discard(number)
        raise
    finally:
        hold_up_daemons()


def make_no_more() -> None:
    """At the end of the process: from here on `make` refuses in other threads."""
    global _last_maker  # noqa: PLW0603
    _last_maker = threading.get_ident()
    if _one_at_a_time.acquire(timeout=1):  # they may be at it
        _one_at_a_time.release()


def _finish(number: int, packages: tuple[str, ...]) -> Interpreter:
    hold_up_daemons()  # either this thread sees that the process ends, or who ends it that this goes on
    interpreter = Interpreter(number)
    set_up(interpreter, packages)
    hold(interpreter, wait=True)
    _core._end_with_references(number)
    return interpreter


def _new(allow_daemon_threads: bool) -> int:
    config = _interpreters.new_config("isolated", allow_daemon_threads=bool(allow_daemon_threads))
    try:
        # CPython 3.15 crashes where memory ends in the midst of making an interpreter (Python/pylifecycle.c,
        # new_interpreter: it ends the half-made one by way of types that are not ready yet).
        mmap.mmap(-1, _ROOM).close()
        with _one_at_a_time, traced_run(_interpreters.get_current()[0], "new interpreter"):
            if _last_maker not in (None, threading.get_ident()):
                hold_up_daemons()
                raise RuntimeError("cannot make an interpreter in this thread: the process is ending")
            # Without counting references yet: others list it, and let go of it, before it has any of ours.
            number = _interpreters.create(config)
            numbers_made.add(number)
    except (OSError, _interpreters.InterpreterError) as exc:
        reason = exc.__cause__ or exc.__context__ or exc
        no_memory = isinstance(reason, (OSError, MemoryError)) or "memory" in str(reason)
        kind = MemoryError if no_memory else RuntimeError
        there = len(interpreter_numbers())
        raise kind(f"cannot make an interpreter beside the {there} that there are: {reason}") from exc
    if allow_daemon_threads:
        _interpreters.incref(number)  # for good: what drops the last reference cannot look for daemon threads
    return number


# In a function, so that __main__ stays empty.
_SET_UP = """\
def set_up(settings, packages):
    import sys
    sys.path[:] = settings[0]
    from memchannel._setup import Settings, set_up
    set_up(Settings(*settings), packages)
try:
    set_up({settings!r}, {packages!r})
finally:
    del set_up
"""


def set_up(interpreter: Interpreter, packages: tuple[str, ...]) -> None:
    """Set up an interpreter that is new, or was cleaned and had the same packages before."""
    settings = current_settings()
    if _settings.get(interpreter) == settings:
        _interpreters.is_running(interpreter.id)  # raises if it is gone
        return
    source = _SET_UP.format(settings=tuple(settings), packages=packages)
    with traced_run(interpreter.id):
        failure = _interpreters.exec(interpreter.id, source)
    if failure is not None:
        raise _setup_error(failure, interpreter)
    _settings[interpreter] = settings


def _setup_error(failure: Any, interpreter: Interpreter) -> Exception:
    if failure.type is None:  # CPython could not even describe it
        return MemoryError(f"interpreter {interpreter.id} could not be set up: out of memory")
    kind = getattr(builtins, failure.type.__name__, None)
    if failure.type.__name__ == "ImageError":
        return images.ImageError(failure.msg)
    if isinstance(kind, type) and issubclass(kind, (ImportError, MemoryError, OSError)):
        return kind(failure.msg)
    text = getattr(failure, "errdisplay", failure.formatted)
    return RuntimeError(f"interpreter {interpreter.id} could not be set up: {text}")


# ---- holding

_HOLD = "_memchannel_hold"


def hold(interpreter: Interpreter, *, wait: bool = False) -> Interpreter:
    """Have the core hold the interpreter as long as this handle lives, and drop the last reference.

    CPython ends an interpreter in the thread that drops the last one, while other threads may still take it
    for alive, take references of their own and end it once more (Python/pystate.c,
    _PyInterpreterState_IDDecref). `wait`: who lets go of the handle finds the interpreter ended.
    """
    attributes = vars(interpreter)  # cleared after the handle's own __del__ (Objects/typeobject.c)
    if _HOLD not in attributes:
        hold = _core.Hold(interpreter.id, wait)
        if hold.held:
            attributes[_HOLD] = hold
            _held.add(interpreter)
    return interpreter


def drop_holds() -> None:
    main = _is_main_interpreter()
    for interpreter in list(_held):
        if not main:  # whose end is that of all: until then its handles are good
            interpreter.__del__()  # lets go of its own reference, while that is not the last one
        vars(interpreter)[_HOLD].drop()

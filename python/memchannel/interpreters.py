"""Interpreters of this process: making them, listing them, closing them politely.

The class is the standard library's, ``concurrent.interpreters.Interpreter`` (PEP 734), or its backport's on
Python 3.13. Interpreters made here are isolated: each has its own GIL.
"""

from __future__ import annotations

import _interpreters
import atexit
import builtins
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from memchannel import _core
from memchannel.images import ImageError

if sys.version_info >= (3, 14):
    from concurrent.interpreters import Interpreter
else:
    from backports.interpreters import Interpreter

if TYPE_CHECKING:
    Packages = Iterable[str] | str | None

__all__ = [
    "Interpreter",
    "close",
    "create",
    "get_current",
    "get_main",
    "idle",
    "is_running",
    "list_all",
    "running",
]

_lock = threading.Lock()
_parked: dict[tuple[tuple[str, ...], bool], list[Interpreter]] = {}  # _lock
_exiting = threading.Event()
_made_with: dict[int, tuple[tuple[str, ...], bool]] = {}  # by id; ids are never used again


def _package_names(packages: Packages) -> tuple[str, ...]:
    if packages is None:
        return ()
    names = (packages,) if isinstance(packages, str) else tuple(packages)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"packages must be names, not {name!r}")
    return tuple(dict.fromkeys(names))


# ---- making


def create(
    packages: Packages = ("numpy",), *, reuse: bool = False, allow_daemon_threads: bool = False
) -> Interpreter:
    """Make an isolated interpreter, with the `sys.path` of this one.

    Parameters
    ----------
    packages : iterable of str, str or None, optional
        Packages whose extension modules load there as private images, see `memchannel.images`; ``"all"`` for
        all.
    reuse : bool, optional
        Take a parked interpreter that was made with the same packages, if there is one.
    allow_daemon_threads : bool, optional
        Isolated interpreters refuse daemon threads by default.

    Returns
    -------
    Interpreter
        Ends when the last reference to it is gone *and* nothing it lent is out any more.

    Raises
    ------
    ModuleNotFoundError
        A package is not installed.
    memchannel.images.ImageError
        A package is known not to work, or the platform does not support private images.
    RuntimeError
        The interpreter could not be made; the message says why.
    """
    key = (_package_names(packages), allow_daemon_threads)
    interpreter = _unpark(key) if reuse else None
    if interpreter is None:
        interpreter = _new(allow_daemon_threads)
    _set_up(interpreter, key[0])
    _made_with[interpreter.id] = key
    return interpreter


def _new(allow_daemon_threads: bool) -> Interpreter:
    config = _interpreters.new_config("isolated", allow_daemon_threads=allow_daemon_threads)
    try:
        number = _interpreters.create(config, reqrefs=True)
    except _interpreters.InterpreterError as exc:
        count = len(_interpreters.list_all())
        raise RuntimeError(f"cannot make another interpreter beside the {count} there are: {exc}") from exc
    return Interpreter(number, _ownsref=True)  # type: ignore[call-arg]


def _set_up(interpreter: Interpreter, packages: tuple[str, ...]) -> None:
    source = (
        f"import sys\nsys.path[:] = {sys.path!r}\nsys.argv[:] = {getattr(sys, 'argv', [])!r}\n"
        "import memchannel._cleaning\n"
    )
    if packages:
        source += f"import memchannel.images\nmemchannel.images.enable(*{packages!r})\n"
    failure = _interpreters.exec(interpreter.id, source + "memchannel._cleaning.remember()\n")
    if failure is not None:
        raise _setup_error(failure, interpreter)


def _setup_error(failure: Any, interpreter: Interpreter) -> Exception:
    kind = getattr(builtins, failure.type.__name__, None)
    if failure.type.__name__ == "ImageError":
        return ImageError(failure.msg)
    if isinstance(kind, type) and issubclass(
        kind, (ImportError, ValueError, TypeError, MemoryError, OSError)
    ):
        return kind(failure.msg)
    return RuntimeError(f"interpreter {interpreter.id} could not be set up: {failure.formatted}")


def _execute(interpreter: Interpreter, source: str) -> None:
    """Run source in the interpreter, on this thread.

    Raises
    ------
    RuntimeError
        The source raised; the message has the traceback of the other side.
    """
    failure = _interpreters.exec(interpreter.id, source)
    if failure is not None:
        raise RuntimeError(
            f"interpreter {interpreter.id}: {getattr(failure, 'errdisplay', failure.formatted)}"
        )


# ---- parking


def _park(interpreter: Interpreter) -> None:
    """Clean an interpreter and keep it for `create` with ``reuse=True``.

    One that cannot be cleaned is let go, and so are all at exit.
    """
    key = _made_with.get(interpreter.id)
    if key is None or _exiting.is_set() or is_running(interpreter):
        return
    if _interpreters.exec(interpreter.id, "memchannel._cleaning.clean()") is not None:
        return
    with _lock:
        _parked.setdefault(key, []).append(interpreter)


def _stop_parking() -> None:
    """At exit: interpreters that are not needed any more end."""
    _exiting.set()


def _unpark(key: tuple[tuple[str, ...], bool]) -> Interpreter | None:
    with _lock:
        waiting = _parked.get(key)
        return waiting.pop() if waiting else None


@atexit.register
def _close_parked() -> None:
    # Registered after the core's own callback, so it runs before it: the core can still give memory back.
    with _lock:
        parked = [interpreter for waiting in _parked.values() for interpreter in waiting]
        _parked.clear()
    for interpreter in parked:
        interpreter.close()


# ---- listing


def list_all() -> list[Interpreter]:
    """Return all interpreters of the process, the main one first."""
    return [
        Interpreter(number, _whence=whence) for number, whence in _interpreters.list_all(require_ready=True)
    ]  # type: ignore[call-arg]


def get_current() -> Interpreter:
    """Return the interpreter that runs this."""
    number, whence = _interpreters.get_current()
    return Interpreter(number, _whence=whence)  # type: ignore[call-arg]


def get_main() -> Interpreter:
    """Return the main interpreter."""
    number, whence = _interpreters.get_main()
    return Interpreter(number, _whence=whence)  # type: ignore[call-arg]


def is_running(interpreter: Interpreter) -> bool:
    """Whether the interpreter runs its ``__main__`` at this moment."""
    return bool(_interpreters.is_running(interpreter.id))


def running() -> list[Interpreter]:
    """Return the interpreters that run something."""
    return [interpreter for interpreter in list_all() if is_running(interpreter)]


def idle() -> list[Interpreter]:
    """Return the interpreters that run nothing, parked ones included."""
    return [interpreter for interpreter in list_all() if not is_running(interpreter)]


# ---- closing


def close(interpreter: Interpreter, timeout: float | None = 0) -> None:
    """Close an interpreter if nothing that it lent is out.

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
        It is running.
    ValueError
        `timeout` is negative or nan.

    Notes
    -----
    Views that are only in reference cycles come back with a garbage collection in the interpreter that holds
    them; it is asked for in this one. ``Interpreter.close()`` closes by force: what is out stays allocated.
    """
    if is_running(interpreter):
        raise RuntimeError(f"interpreter {interpreter.id} is running; wait until it is done")
    import gc

    gc.collect()
    for other in idle():
        if other != interpreter:
            _core._collect_garbage(other.id)
    if not _core._await_returned(interpreter.id, timeout):
        raise BufferError(_lent_text(interpreter.id))
    interpreter.close()


def _lent_text(number: int) -> str:
    count, by_channel = _core._lent_by(number)
    verb = "view of interpreter {} is" if count == 1 else "views of interpreter {} are"
    channels = ", ".join(str(channel) for channel, _ in by_channel)
    plural = "channel" if len(by_channel) == 1 else "channels"
    return f"{count} {verb.format(number)} out ({plural} {channels})"

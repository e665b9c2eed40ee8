"""Exceptions on their way from one interpreter to another: snapshots, and what is raised there."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from memchannel import sharing
from memchannel.codecs import object as object_codec
from memchannel.codecs.functions import dumps_by_value, pickle_by_value
from memchannel.errors import RemoteError, RemoteTraceback

__all__ = ["ExceptionSnapshot", "restore", "snapshot"]

# A module whose global of this name is true calls users' functions and compiles their source: its frames at
# the top of a traceback are left out of the text, all of them where no others are, as Python shows none of
# its own for a SyntaxError in `python -c` (Python/pythonrun.c) or at the prompt.
_HIDDEN = "_hidden_in_tracebacks"

# Chains may be very long, an exception for each turn of a retry loop, and groups large: snapshots are taken
# of about that many exceptions.
_MOST_LINKED = 200


class ExceptionSnapshot(NamedTuple):
    """What another interpreter needs to know of an exception.

    Attributes
    ----------
    type_name : str
        Qualified name of its type, builtins without module: ``"KeyError"``, ``"subprocess.TimeoutExpired"``.
    message : str
        ``str(exc)``.
    notes : tuple of str
        What ``add_note`` added (PEP 678).
    formatted : str
        Traceback of the other side, with causes and groups, as Python prints it.
    cause, context : ExceptionSnapshot or None
        Snapshots of ``__cause__`` and ``__context__``.
    exceptions : tuple of ExceptionSnapshot
        Members of an exception group (PEP 654).
    pickled : bytes or None
        The exception itself, None if it cannot be pickled; used by `restore`.
    """

    type_name: str
    message: str
    notes: tuple[str, ...] = ()
    formatted: str = ""
    cause: ExceptionSnapshot | None = None
    context: ExceptionSnapshot | None = None
    exceptions: tuple[ExceptionSnapshot, ...] = ()
    pickled: bytes | None = None

    def __repr__(self) -> str:
        return (
            f"ExceptionSnapshot(type_name={self.type_name!r}, message={self.message!r}, notes={self.notes!r})"
        )

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


def _type_name(exc: BaseException) -> str:
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _attempt[T](function: Callable[[Any], T], subject: Any, otherwise: Callable[[BaseException], T]) -> T:
    """Call what runs methods of users' exceptions: they may raise anything, SystemExit included."""
    try:
        return function(subject)
    except KeyboardInterrupt:  # it may be meant for this thread
        raise
    except BaseException as failure:
        return otherwise(failure)


def _message(exc: BaseException) -> str:
    return _attempt(str, exc, lambda _: "<exception str() failed>")  # as traceback.format_exception does


def _notes(exc: BaseException) -> tuple[str, ...]:
    return _attempt(_notes_of, exc, lambda failure: (f"(its notes cannot be read: {failure!r})",))


def _notes_of(exc: BaseException) -> tuple[str, ...]:
    notes = getattr(exc, "__notes__", ())
    if not isinstance(notes, (list, tuple)):
        return (repr(notes),)
    return tuple(note if isinstance(note, str) else repr(note) for note in notes)


def _without_machinery(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and tb.tb_frame.f_globals.get(_HIDDEN) is True:
        tb = tb.tb_next
    return tb


def _formatted(exc: BaseException) -> str:
    tb = _without_machinery(exc.__traceback__)
    return _attempt(
        lambda one: "".join(traceback.format_exception(type(one), one, tb)),
        exc,
        lambda failure: (
            f"{_type_name(exc)}: {_message(exc)}\n(its traceback cannot be formatted: {failure!r})\n"
        ),
    )


def _pickled(exc: BaseException) -> bytes | None:
    return _attempt(pickle_by_value, exc, lambda _: None)


def pack(
    exc: BaseException, lend_from: int, known: sharing.Known
) -> tuple[ExceptionSnapshot, bytes | None, list[Any]]:
    """Take an exception that is part of what is sent: a snapshot, the exception pickled, and items of that.

    What it holds is lent, as by `memchannel.codecs.object.dumps`. What cannot be pickled is not there, and
    none of the rest fails for it.
    """

    def dump(subject: BaseException) -> tuple[bytes | None, list[Any]]:
        return dumps_by_value(subject, lend_from, known=known, plain_exceptions=True)

    payload, items = _attempt(dump, exc, lambda _: (None, []))
    return _snapshot(exc, {}, pickled=False), payload, items


def unpack(taken: ExceptionSnapshot, payload: bytes | None, items: list[Any]) -> BaseException:
    """Make the exception that `pack` took, as `restore` does."""

    def load(data: bytes) -> object:
        return object_codec.loads(data, items)

    made = None if payload is None else _attempt(load, payload, lambda _: None)
    return restore(taken, made if isinstance(made, BaseException) else None)


def snapshot(exc: BaseException) -> ExceptionSnapshot:
    """Take what another interpreter needs to know of an exception; never fails for what the exception holds.

    The snapshot holds strings, bytes and snapshots only, so that it can always be sent.
    """
    if isinstance(exc, ImportError):
        with contextlib.suppress(Exception):
            _note_refusal(exc)
    return _snapshot(exc, {})


def _note_refusal(exc: ImportError) -> None:
    """Note why a module was refused, on the error that a package raised in its place.

    Packages take a module of theirs that does not load for a broken installation, and say so instead.
    """
    from memchannel.images import ImageError

    linked: BaseException | None = exc
    for _ in range(_MOST_LINKED):
        if linked is None:
            return
        if isinstance(linked, ImageError):
            reason = str(linked)
            if not any(reason in text for text in (str(exc), *_notes(exc))):
                exc.add_note(reason)
            return
        linked = linked.__cause__ or linked.__context__


def _snapshot(
    exc: BaseException, taken: dict[int, ExceptionSnapshot | None], pickled: bool = True
) -> ExceptionSnapshot:
    taken[id(exc)] = None

    def linked(other: BaseException | None) -> ExceptionSnapshot | None:
        if other is None:
            return None
        if id(other) in taken:
            return taken[id(other)]  # None inside a loop: chains made by hand may have them
        return None if len(taken) > _MOST_LINKED else _snapshot(other, taken)

    context = None if exc.__suppress_context__ else exc.__context__
    members = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    result = ExceptionSnapshot(
        type_name=_type_name(exc),
        message=exc.message if isinstance(exc, BaseExceptionGroup) else _message(exc),
        notes=_notes(exc),
        formatted=_formatted(exc),
        cause=linked(exc.__cause__),
        context=linked(context),
        exceptions=tuple(filter(None, map(linked, members))),
        pickled=_pickled(exc) if pickled else None,
    )
    taken[id(exc)] = result
    return result


def restore(taken: ExceptionSnapshot, made: BaseException | None = None) -> BaseException:
    """Make the exception again, to be raised here.

    Its ``__cause__`` is a `RemoteTraceback` with the text of the other side; what it was raised from there is
    its ``__context__``. An exception that cannot be made again is a `memchannel.RemoteError` with the same
    text, a group with such members is a group of what could be made. `made` is the exception itself, if it is
    there.
    """
    exc = _rebuilt(taken, made)
    exc.__cause__ = RemoteTraceback(taken.formatted)
    return exc


def _rebuilt(taken: ExceptionSnapshot, made: BaseException | None = None) -> BaseException:
    exc = _unpickled(taken) if made is None else made
    if exc is None and taken.exceptions and taken.type_name in ("ExceptionGroup", "BaseExceptionGroup"):
        exc = BaseExceptionGroup(taken.message, [_rebuilt(member) for member in taken.exceptions])
        _add_notes(exc, taken)
    if exc is None:
        exc = RemoteError(str(taken), taken.type_name, taken.formatted)
        _add_notes(exc, taken)
    if isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == len(taken.exceptions):
        for member, member_taken in zip(exc.exceptions, taken.exceptions, strict=True):
            _chain(member, member_taken)
    _chain(exc, taken)
    return exc


def _chain(exc: BaseException, taken: ExceptionSnapshot) -> None:
    earlier = taken.cause or taken.context
    if earlier is not None and exc.__context__ is None:
        exc.__context__ = _rebuilt(earlier)


def _add_notes(exc: BaseException, taken: ExceptionSnapshot) -> None:
    for note in taken.notes:
        exc.add_note(note)


def _unpickled(taken: ExceptionSnapshot) -> BaseException | None:
    if taken.pickled is None:
        return None
    # Many exceptions pickle but cannot be made again.
    exc: object = _attempt(pickle.loads, taken.pickled, lambda _: None)
    return exc if isinstance(exc, BaseException) else None

"""Types with a sharing protocol: what they are made of is lent, and they are made again around it.

The protocol is the one that Antoine Pitrou asked for in the discussion of PEP 554 on python-dev.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from _pickle import PickleBuffer, PicklingError, UnpicklingError, loads  # without the module in Python
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from memchannel import _core

__all__ = ["register"]

Inherited = dict[str, tuple[bytes | None, str]]
"""By name of the type: its pickled registration, or None, and why it, or part of it, cannot be pickled."""


class _Registration(NamedTuple):
    kind: type[Any]
    share: Callable[[Any], Any] | None
    """None: it could not be inherited."""
    rebuild: Callable[[Any, list[Any]], Any]
    on_returned: Callable[[Any], object] | None
    name: str
    """Of the type where it was registered: a class that came by value may have lost a part of it."""


class Shared(NamedTuple):
    """What `share` gave for one object in one send."""

    name: str
    meta: object
    parts: list[_core.Share]
    buffers: int
    """How many `share` gave; where it gave none, there may be a part all the same."""


class Known:
    """What the objects in one send were shared by so far."""

    __slots__ = ("failed", "found")

    def __init__(self) -> None:
        self.found: dict[int, tuple[object, Shared]] = {}  # by the id of the object, which it keeps alive
        self.failed: bool = False


# The extension looks into these, too (src/python/plain_types.cpp): they are changed, never replaced.
_registered: dict[type[Any], _Registration] = {}
_named: dict[str, _Registration] = {}
"""The latest of each name: the receiver knows the type by that only."""
_inherited: Inherited = {}
"""Not loaded yet: most interpreters need few, and not all of them can import what they take."""

# pickle has its own ways with these and asks nobody (Modules/_pickle.c, save()); the rest is what memchannel
# itself sends as what it is.
_FIXED: frozenset[type[Any]] = frozenset(
    (
        *(type(None), type(...), type(NotImplemented), bool, int, float, str, bytes, bytearray),
        *(tuple, list, dict, set, frozenset, type, type(lambda: None), PickleBuffer),
    )
)


def _name_of(kind: type[Any]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _readable(name: str) -> str:
    return name.replace(":", ".")


def register[T](
    type: type[T],  # noqa: A002 - the protocol's own name
    share: Callable[[T], tuple[object, Iterable[Any]]],
    rebuild: Callable[[Any, list[_core.CrossInterpreterView]], T],
    on_returned: Callable[[T], object] | None = None,
) -> None:
    """Tell how objects of a type travel: as a description and buffers, which are lent, not copied.

    It holds wherever such an object is in what is sent over a `Channel`, or goes to a pool's task and comes
    back. Each interpreter has its own registry. One that `memchannel.interpreters.create` or a pool makes
    inherits what is registered then; a type whose module calls `register` when it is imported is registered
    where it arrives.

    Parameters
    ----------
    type : type
        Objects of exactly this type; a subclass is registered by itself, or travels as if nothing was.
        Another call for the same type replaces this one.
    share : callable
        ``share(obj) -> (meta, buffers)``, called in the sender: any object that can be sent itself, and an
        iterable of objects with the buffer protocol.
    rebuild : callable
        ``rebuild(meta, views) -> obj``, called in the receiver; `views` is a list of read-only
        `CrossInterpreterView`, one for each buffer. They may be dropped without a release.
    on_returned : callable, optional
        ``on_returned(obj)``, called in the sender's interpreter once for each send that succeeded, when no
        buffer lent by it is in use any more; where `share` gives none, when the message was received or
        dropped. It runs on whatever thread gave the last buffer back, which waits for it: keep it short.
        What it raises goes to `sys.unraisablehook`.

    Raises
    ------
    TypeError
        `type` is no class, another argument not callable, or the type is one that pickle or memchannel sends
        in its own way.

    Examples
    --------
    >>> import memchannel
    >>> class Samples:
    ...     def __init__(self, rate, left, right):
    ...         self.rate, self.left, self.right = rate, left, right
    >>> memchannel.register(
    ...     Samples,
    ...     share=lambda samples: (samples.rate, (samples.left, samples.right)),
    ...     rebuild=lambda rate, views: Samples(rate, *views),
    ... )
    >>> ch = memchannel.Channel()
    >>> ch.send({"take 1": Samples(44100, bytearray(b"left"), bytearray(b"right"))})
    >>> received = ch.recv()["take 1"]
    >>> received.rate, bytes(received.right)
    (44100, b'right')
    """
    if not isinstance(type, _Class):
        raise TypeError(f"the type to be registered is no class: {type!r}")
    for name, function in (("share", share), ("rebuild", rebuild)):
        if not callable(function):
            raise TypeError(f"{name} is not callable: {function!r}")
    if on_returned is not None and not callable(on_returned):
        raise TypeError(f"on_returned must be callable or None, not {on_returned!r}")
    if type in _FIXED or getattr(_core, type.__name__, None) is type:
        raise TypeError(
            f"{type.__name__!r} cannot be registered: its objects are always sent as they are; register a "
            "class of your own"
        )
    _enter(_Registration(type, share, rebuild, on_returned, _name_of(type)))


_Class = type  # register() has a parameter of that name


def _enter(registration: _Registration) -> None:
    _registered[registration.kind] = _named[registration.name] = registration
    _inherited.pop(registration.name, None)


# ---- sending


def is_needed() -> bool:
    """Whether any type is registered: then each object is to be looked up."""
    return bool(_registered or _inherited)


def registration_of(kind: type[Any]) -> _Registration | None:
    """Find what is registered for exactly this type."""
    found = _registered.get(kind)
    if found is not None or not _inherited or (name := _name_of(kind)) not in _inherited:
        return found
    why = _inherited[name][1]
    loaded = _load(name)
    if loaded.kind is not kind:  # another of that name
        return None
    if loaded.share is None:
        raise PicklingError(
            f"{_readable(name)!r} is registered with memchannel in the interpreter that made this one, but "
            f"cannot be sent from here: {why}"
        )
    return loaded


def share(obj: Any, registration: _Registration, known: Known) -> Shared:
    """Ask the registered `share`, once for each object in a send: pickling may take two attempts."""
    found = known.found.get(id(obj))
    if found is None:
        known.failed = True
        found = known.found[id(obj)] = (obj, _ask(obj, registration))
        known.failed = False
    return found[1]


def _ask(obj: Any, registration: _Registration) -> Shared:
    assert registration.share is not None
    given = registration.share(obj)
    name = registration.name
    who = f"share() of {_readable(name)!r}"
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"{who} must return (meta, buffers), not {given!r:.100}")
    meta, buffers = given
    try:
        listed = list(buffers)
    except TypeError:
        raise TypeError(f"{who} must return an iterable of buffers, not {buffers!r:.100}") from None
    on_returned = registration.on_returned
    ticket = None if on_returned is None else _core.Ticket(obj, on_returned)
    if ticket is not None and not listed:
        return Shared(name, meta, [_core.Share(b"", ticket)], 0)
    for index, buffer in enumerate(listed):
        try:
            memoryview(buffer).release()
        except (TypeError, ValueError, BufferError) as exc:
            raise TypeError(
                f"{who} gave something without a buffer: buffer {index} is "
                f"{type(buffer).__name__!r} ({exc}); what only pickles belongs into meta"
            ) from exc
    # No comprehension: debug builds of CPython 3.14 and 3.15 do not survive one that finds no memory.
    return Shared(name, meta, list(map(_core.Share, listed, itertools.repeat(ticket))), len(listed))


# ---- receiving


def rebuild(name: str, meta: object, views: list[Any], count: int) -> object:
    """Make an object again; one whose `share` gave no buffers may still come with one."""
    return _for_receiving(name).rebuild(meta, views[:count])


def _for_receiving(name: str) -> _Registration:
    if name not in _named and name not in _inherited:
        module = name.partition(":")[0]
        if module not in ("__main__", "__mp_main__") and module not in sys.modules:
            importlib.import_module(module)  # as unpickling its objects would; it may register the type
    if name in _named:
        return _named[name]
    if name in _inherited:
        return _load(name)
    raise UnpicklingError(
        f"{_readable(name)!r} is registered with memchannel where the object comes from, but not here: call "
        "memchannel.register() in this interpreter, or in the one that makes it before it does"
    )


# ---- inheritance


def bequest() -> Inherited:
    """Give what an interpreter that this one makes is to inherit."""
    own = {name: _pickled(one) for name, one in list(_named.items()) if name not in _inherited}
    return {**own, **_inherited}


def _pickled(registration: _Registration) -> tuple[bytes | None, str]:
    from memchannel.codecs.functions import pickle_by_value, unpicklable_part

    try:
        return pickle_by_value(tuple(registration)), ""
    except Exception:
        kind, share, rebuild, on_returned, name = registration
        why = [
            f"its {role} cannot be pickled for another interpreter: {part}"
            for role, one in (("share", share), ("rebuild", rebuild), ("on_returned", on_returned))
            if (part := unpicklable_part(one))
        ]
        try:
            return pickle_by_value((kind, None, rebuild, None, name)), "; ".join(why)
        except Exception as exc:
            return None, "; ".join(why) or str(exc)


def inherit(entries: Inherited) -> None:
    """Take over what the interpreter that made this one registered, in place of what is registered here."""
    _inherited.clear()
    _inherited.update(entries)
    for name in entries:
        if former := _named.pop(name, None):
            _registered.pop(former.kind, None)


def _load(name: str) -> _Registration:
    data, why = _inherited[name]
    if data is None:
        raise UnpicklingError(
            f"{_readable(name)!r} is registered with memchannel in the interpreter that made this one, but "
            f"could not be inherited: {why}"
        )
    registration = _Registration(*loads(data))
    if registration.share is not None:
        _enter(registration)
    else:
        _named[name] = registration  # still listed as inherited: it can be received, but not sent
    return registration


def forget(modules: Collection[str]) -> None:
    """Drop what types of these modules registered: they are not there any more."""
    for kind in [kind for kind in _registered if kind.__module__ in modules]:
        del _registered[kind]
    for name in [name for name in _named if name.partition(":")[0] in modules]:
        del _named[name]
    _inherited.clear()

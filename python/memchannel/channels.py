"""Making channels, and finding those that exist."""

from __future__ import annotations

import atexit
import gc
from typing import TYPE_CHECKING, Any, Literal, get_origin, overload

from memchannel import _core
from memchannel._core import ArrayChannel, Channel, MemChannel, RecvChannel, SendChannel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memchannel._typing import ArraySource, MemSource

__all__ = ["create_channel", "list_all_channels"]


@overload
def create_channel(
    kind: type[MemChannel] = ...,
    maxsize: int = 0,
    *,
    rendezvous: bool = False,
    release: Literal["eager", "deferred"] = "eager",
    name: str | None = None,
) -> tuple[RecvChannel[Any], SendChannel[MemSource]]: ...
@overload
def create_channel(
    kind: type[ArrayChannel],
    maxsize: int = 0,
    *,
    rendezvous: bool = False,
    release: Literal["eager", "deferred"] = "eager",
    name: str | None = None,
) -> tuple[RecvChannel[NDArray[Any]], SendChannel[ArraySource]]: ...
@overload
def create_channel[T = Any](  # a kind whose element type nobody names takes and gives anything (PEP 696)
    kind: type[Channel[T]],
    maxsize: int = 0,
    *,
    rendezvous: bool = False,
    release: Literal["eager", "deferred"] = "eager",
    name: str | None = None,
) -> tuple[RecvChannel[T], SendChannel[T]]: ...
def create_channel(
    kind: type[Any] = MemChannel,
    maxsize: int = 0,
    *,
    rendezvous: bool = False,
    release: str = "eager",
    name: str | None = None,
) -> tuple[RecvChannel[Any], SendChannel[Any]]:
    """Make a channel and return its two ends, as PEP 554 has it.

    Parameters
    ----------
    kind : type
        `MemChannel`, `ArrayChannel` or `Channel`; a ``Channel[int]`` tells type checkers what its ends take
        and give, and is a `Channel`.
    maxsize, rendezvous, release, name
        As for these classes.

    Returns
    -------
    recv : RecvChannel
    send : SendChannel

    Raises
    ------
    TypeError
        `kind` is none of the three classes, or an argument is of the wrong type.
    ValueError
        An argument is negative or contradicts another.

    Examples
    --------
    >>> import memchannel
    >>> recv, send = memchannel.create_channel(memchannel.Channel)
    >>> send.send({"answer": 42})
    >>> recv.recv()
    {'answer': 42}
    """
    if (get_origin(kind) or kind) not in (MemChannel, ArrayChannel, Channel):
        raise TypeError(f"kind must be MemChannel, ArrayChannel or Channel, not {kind!r}")
    ends: tuple[RecvChannel[Any], SendChannel[Any]] = kind(
        maxsize, rendezvous=rendezvous, release=release, name=name
    ).ends
    return ends


def list_all_channels() -> list[tuple[RecvChannel[Any], SendChannel[Any]]]:
    """Return the ends of every channel of the process that somebody can reach, by id.

    Looking associates the interpreter with none of them. A receiving end that `broadcast()` made comes with
    the sending end of its channel.

    Returns
    -------
    list of (RecvChannel, SendChannel)
    """
    _core._collect_channels()
    return _core._channels()


# Garbage of the core goes when Python's does. Each interpreter has its own list of callbacks.
def _forget_callback() -> None:
    if _core._on_gc in gc.callbacks:
        gc.callbacks.remove(_core._on_gc)


if _core._on_gc not in gc.callbacks:
    gc.callbacks.append(_core._on_gc)
    # CPython clears the list after its last collection (Modules/gcmodule.c, _PyGC_Fini): what the callback
    # refers to, which is the module and all its types, would never be collected.
    atexit.register(_forget_callback)

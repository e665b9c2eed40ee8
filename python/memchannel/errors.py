"""Exceptions of memchannel; each is a subclass of the standard library's nearest one."""

from __future__ import annotations

__all__ = [
    "AbandonedLockError",
    "BrokenChannelError",
    "ClosedChannelError",
    "EndOfChannel",
    "PoisonedChannelError",
    "RemoteError",
    "RemoteTraceback",
]


class _OfChannel:
    channel: int | None = None
    """The ``id`` of the end that it is about: after a `select` nothing else tells which one it was."""


class ClosedChannelError(_OfChannel, ValueError):
    """The calling interpreter closed the end that it now uses."""


class EndOfChannel(_OfChannel, EOFError):
    """The sending side of the channel is over and everything sent was received."""


class BrokenChannelError(_OfChannel, BrokenPipeError):
    """The receiving side of the channel is over: nobody will receive what is sent."""


class PoisonedChannelError(_OfChannel, RuntimeError):
    """The channel was poisoned; ``__cause__`` is a copy of the exception given to ``poison()``, if any."""


class AbandonedLockError(RuntimeError):
    """The interpreter that held the lock ended.

    The lock is free now, and what it protects may be half done.
    """


class RemoteError(RuntimeError):
    """An exception of another interpreter that cannot be made again here.

    Parameters
    ----------
    message : str
        Message of the original exception.
    type_name, formatted : str, optional
        The attributes of these names.

    Attributes
    ----------
    type_name : str
        Qualified name of the original exception's type.
    formatted : str
        Traceback text of the other side.
    """

    def __init__(self, message: str, type_name: str = "", formatted: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.formatted = formatted

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.type_name, self.formatted), {"__notes__": self.notes})

    @property
    def notes(self) -> list[str]:
        """Notes of the original exception (PEP 678)."""
        return getattr(self, "__notes__", [])


class RemoteTraceback(Exception):
    """Cause of an exception that came from another interpreter: the traceback of the other side, as text.

    Attributes
    ----------
    formatted : str
        The text.
    """

    def __init__(self, formatted: str) -> None:
        super().__init__(formatted)
        self.formatted = formatted

    def __str__(self) -> str:
        return f'\n"""\n{self.formatted}"""'


def pack_exception(exc: BaseException | None) -> bytes:
    """Pickle an exception for another interpreter; text where it cannot be pickled."""
    if exc is None:
        return b""
    import pickle

    from memchannel.exceptions import snapshot

    return pickle.dumps(snapshot(exc), 5)


def poisoned_error(channel: int, packed: bytes | None) -> PoisonedChannelError:
    """Make the error that operations on a poisoned channel raise."""
    if not packed:
        return PoisonedChannelError(f"channel {channel} is poisoned")
    import pickle

    from memchannel.exceptions import restore

    taken = pickle.loads(packed)
    error = PoisonedChannelError(f"channel {channel} is poisoned: {taken}")
    error.__cause__ = restore(taken)
    return error

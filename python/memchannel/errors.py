"""Exceptions of memchannel; each is a subclass of the standard library's nearest one."""

from __future__ import annotations

import pickle
import traceback

__all__ = [
    "AbandonedLockError",
    "BrokenChannelError",
    "ClosedChannelError",
    "EndOfChannel",
    "PoisonedChannelError",
    "RemoteError",
]


class ClosedChannelError(ValueError):
    """This interpreter closed the end that it now uses."""


class EndOfChannel(EOFError):
    """The sending side of the channel is over and everything sent was received."""


class BrokenChannelError(BrokenPipeError):
    """The receiving side of the channel is over: nobody will receive what is sent."""


class PoisonedChannelError(RuntimeError):
    """The channel was poisoned; ``__cause__`` is a copy of the exception given to ``poison()``, if any."""


class AbandonedLockError(RuntimeError):
    """The interpreter that held the lock ended; the lock is free now, and what it protects may be half done."""


class RemoteError(RuntimeError):
    """An exception of another interpreter that cannot be made again here.

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


def pack_exception(exc: BaseException | None) -> bytes:
    """Pickle an exception for another interpreter; text where it cannot be pickled."""
    if exc is None:
        return b""
    try:
        data = pickle.dumps(exc, 5)
        pickle.loads(data)  # many exceptions pickle but cannot be made again
        return data
    except Exception:
        text = "".join(traceback.format_exception(exc))
        name = f"{type(exc).__module__}.{type(exc).__qualname__}"
        return pickle.dumps(RemoteError(f"{name}: {exc}", name, text), 5)


def poisoned_error(channel: int, packed: bytes | None) -> PoisonedChannelError:
    """Make the error that operations on a poisoned channel raise."""
    error = PoisonedChannelError(f"channel {channel} is poisoned")
    if packed:
        try:
            cause = pickle.loads(packed)
        except Exception as exc:
            cause = RemoteError(f"the exception given to poison() cannot be made again here: {exc}")
        error = PoisonedChannelError(f"channel {channel} is poisoned: {type(cause).__name__}: {cause}")
        error.__cause__ = cause
    return error

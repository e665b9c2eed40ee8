"""Share numeric arrays between the Python interpreters of one process: no copy, no lock held while reading.

>>> import memchannel
>>> ch = memchannel.MemChannel()
>>> ch.send(b"spam")
>>> with ch.recv() as view:
...     bytes(view)
b'spam'
"""

# CPython 3.13.0 aborts when interpreters that imported _datetime are destroyed and the main one never
# imported it.
import datetime as _datetime  # noqa: F401
from typing import TYPE_CHECKING as _TYPE_CHECKING

from memchannel import _fork as _fork
from memchannel import _frames as _frames
from memchannel._core import (
    ArrayChannel,
    Barrier,
    BoundedSemaphore,
    Channel,
    Condition,
    Counter,
    CrossInterpreterView,
    Event,
    Lock,
    MemChannel,
    RecvChannel,
    RLock,
    Semaphore,
    SendChannel,
    SharedBuffer,
    StringView,
    __version__,
    select,
)
from memchannel.channels import create_channel, list_all_channels
from memchannel.errors import (
    AbandonedLockError,
    BrokenChannelError,
    ClosedChannelError,
    EndOfChannel,
    PoisonedChannelError,
    RemoteError,
)
from memchannel.memory import array, empty, zeros
from memchannel.sharing import register

if _TYPE_CHECKING:
    from memchannel import images as images
    from memchannel import interpreters as interpreters
    from memchannel import statistics as statistics
    from memchannel import testing as testing
    from memchannel._trace import trace
    from memchannel.arrayview import ArrayView
    from memchannel.pool import BrokenInterpreterPool, InterpreterPool
    from memchannel.statistics import dump_waits, stats

__all__ = [
    "AbandonedLockError",
    "ArrayChannel",
    "ArrayView",
    "Barrier",
    "BoundedSemaphore",
    "BrokenChannelError",
    "BrokenInterpreterPool",
    "Channel",
    "ClosedChannelError",
    "Condition",
    "Counter",
    "CrossInterpreterView",
    "EndOfChannel",
    "Event",
    "InterpreterPool",
    "Lock",
    "MemChannel",
    "PoisonedChannelError",
    "RLock",
    "RecvChannel",
    "RemoteError",
    "Semaphore",
    "SendChannel",
    "SharedBuffer",
    "StringView",
    "__version__",
    "array",
    "create_channel",
    "dump_waits",
    "empty",
    "list_all_channels",
    "register",
    "select",
    "stats",
    "trace",
    "zeros",
]


# Imported with their first use: the pool brings in concurrent.futures and pickling of functions.
_LAZY = {
    "ArrayView": "memchannel.arrayview",
    "BrokenInterpreterPool": "memchannel.pool",
    "InterpreterPool": "memchannel.pool",
    "dump_waits": "memchannel.statistics",
    "stats": "memchannel.statistics",
    "trace": "memchannel._trace",
}
_LAZY_MODULES = ("images", "interpreters", "statistics", "testing")  # not for "from memchannel import *"


def __getattr__(name: str) -> object:
    import importlib

    if name in _LAZY_MODULES:
        return importlib.import_module(f"memchannel.{name}")
    if name in _LAZY:
        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: object) -> None:
    """Do what ``%load_ext memchannel`` asks for, see `memchannel.notebook`."""
    from memchannel import notebook

    notebook.load(shell)


def unload_ipython_extension(shell: object) -> None:
    """Do what ``%unload_ext memchannel`` asks for: the interpreters of the magics are closed."""
    from memchannel import notebook

    notebook.unload(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY_MODULES})

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
from memchannel._core import (
    ArrayChannel,
    Channel,
    CrossInterpreterView,
    MemChannel,
    RecvChannel,
    SendChannel,
    SharedBuffer,
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
from memchannel.statistics import dump_waits, stats

if _TYPE_CHECKING:
    from memchannel.arrayview import ArrayView
    from memchannel.pool import BrokenInterpreterPool, InterpreterPool

__all__ = [
    "AbandonedLockError",
    "ArrayChannel",
    "ArrayView",
    "BrokenChannelError",
    "BrokenInterpreterPool",
    "Channel",
    "ClosedChannelError",
    "CrossInterpreterView",
    "EndOfChannel",
    "InterpreterPool",
    "MemChannel",
    "PoisonedChannelError",
    "RecvChannel",
    "RemoteError",
    "SendChannel",
    "SharedBuffer",
    "__version__",
    "array",
    "create_channel",
    "dump_waits",
    "empty",
    "list_all_channels",
    "select",
    "stats",
    "zeros",
]


def __getattr__(name: str) -> object:
    # The pool brings in concurrent.futures and pickling of functions: only for those who use it.
    if name in ("InterpreterPool", "BrokenInterpreterPool"):
        from memchannel import pool

        return getattr(pool, name)
    if name == "ArrayView":
        from memchannel.arrayview import ArrayView

        return ArrayView
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

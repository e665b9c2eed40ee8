"""Share numeric arrays between the Python interpreters of one process: no copy, no lock held while reading.

>>> import memchannel
>>> ch = memchannel.MemChannel()
>>> ch.send(b"spam")
>>> with ch.recv() as view:
...     bytes(view)
b'spam'
"""

import datetime as _datetime  # noqa: F401

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
from memchannel.errors import (
    AbandonedLockError,
    BrokenChannelError,
    ClosedChannelError,
    EndOfChannel,
    PoisonedChannelError,
    RemoteError,
)
from memchannel.statistics import dump_waits, stats

__all__ = [
    "AbandonedLockError",
    "ArrayChannel",
    "BrokenChannelError",
    "Channel",
    "ClosedChannelError",
    "CrossInterpreterView",
    "EndOfChannel",
    "MemChannel",
    "PoisonedChannelError",
    "RecvChannel",
    "RemoteError",
    "SendChannel",
    "SharedBuffer",
    "__version__",
    "dump_waits",
    "select",
    "stats",
]

"""What the steps of a program work on, and the table of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import memchannel
from memchannel import (
    Barrier,
    Channel,
    Condition,
    Event,
    Lock,
    MemChannel,
    RLock,
    Semaphore,
    interpreters,
)

MOST = 8
CHANNEL_ERRORS = (
    memchannel.ClosedChannelError,
    memchannel.BrokenChannelError,
    memchannel.EndOfChannel,
    memchannel.PoisonedChannelError,
    TimeoutError,
    memchannel.AbandonedLockError,
    threading.BrokenBarrierError,
)


class OnPurposeError(Exception):
    """How a program ends that ends by an exception."""


class State:
    """What the steps work on."""

    def __init__(self) -> None:
        self.others: list[interpreters.Interpreter] = []
        self.forgotten: set[int] = set()  # by id; what they lent, and threads of theirs, keep them
        self.channels: list[Any] = [MemChannel(), MemChannel(release="deferred"), Channel()]
        self.views: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.forced = False
        self.handled = 0
        # What interpreters keep step by, and those locks that the main thread holds.
        self.locks: list[Any] = [Lock(), RLock(), Condition(), Condition(Lock())]
        self.event, self.barrier, self.places = Event(), Barrier(3), Semaphore(2)
        self.held: list[Any] = []
        self.stop = Event()  # no loop goes on
        self.waits = False  # somebody may wait for ever
        # Files that were received, and the other ends of all files ever made: at the end nobody is there.
        self.files: list[Any] = []
        self.far_ends: list[int] = []

    def other(self, number: int) -> interpreters.Interpreter | None:
        return self.others[number % len(self.others)] if self.others else None

    def channel(self, number: int) -> Any:
        return self.channels[number % len(self.channels)]

    def view(self, number: int) -> Any:
        return self.views[number % len(self.views)] if self.views else None


OPERATIONS: dict[str, Callable[[State, int, int], None]] = {}


def operation(name: str) -> Callable[[Callable[[State, int, int], None]], Callable[[State, int, int], None]]:
    def register(function: Callable[[State, int, int], None]) -> Callable[[State, int, int], None]:
        OPERATIONS[name] = function
        return function

    return register

"""What producers and consumers of `ends` do, whatever queues they have; light, for 64 interpreters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def produce(share: Callable[[], Any], put: Callable[[int], Any], done: Callable[[int], Any]) -> None:
    """Put the numbers of a range, for each share that comes, until that is None."""
    while (bounds := share()) is not None:
        for value in range(*bounds):
            put(value)
        done(0)


def consume(go: Callable[[], Any], get: Callable[[], Any], done: Callable[[int], Any]) -> None:
    """Add up numbers until a None comes, and tell the sum, for each start until that is None."""
    while go() is not None:
        total = 0
        while (value := get()) is not None:
            total += value
        done(total)

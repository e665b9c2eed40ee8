"""What producers and consumers of `ends` do, whatever queues they have; light, for 64 interpreters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def produce(share: Callable[[], Any], put: Callable[[int], Any]) -> None:
    """Put the numbers of a range, for each share that comes, until that is None."""
    while (bounds := share()) is not None:
        for value in range(*bounds):
            put(value)


def consume(share: Callable[[], Any], get: Callable[[], Any], done: Callable[[int], Any]) -> None:
    """Add up as many numbers as each share says, and tell the sum, until a share is None.

    Not until a last message comes: queues with several producers promise no order between them.
    """
    while (count := share()) is not None:
        total = 0
        for _ in range(count):
            total += get()
        done(total)

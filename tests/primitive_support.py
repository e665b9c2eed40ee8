"""What the tests of locks and their like share."""

from __future__ import annotations

from typing import Any

import channel_support
import memchannel


def waiting_for(primitive: Any) -> int:
    """Count the calls that are parked on it; those of a condition that want its lock again do not count."""
    return sum(wait.primitive == primitive.id for wait in memchannel.dump_waits())


def until_waiting(primitive: Any, calls: int = 1) -> None:
    """Wait until as many calls are parked on it."""
    channel_support.wait_until(
        lambda: waiting_for(primitive) == calls, f"{calls} calls parked on {primitive}"
    )

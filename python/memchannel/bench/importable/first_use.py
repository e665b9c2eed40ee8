"""What new workers do first. A module by itself, so that to import it is all that it costs a peer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SUM = 45.0


def first_sum() -> float:
    """Import NumPy and use it: what is waited for."""
    import numpy as np

    return float(np.arange(10).sum())


def send_sum(end: Connection) -> None:
    """Tell the sum, and stay until there is an answer."""
    end.send(first_sum())
    end.recv()


def held(seconds: float) -> int:
    """Use NumPy, keep the worker for a moment, and tell the process."""
    import os

    if first_sum() != SUM:
        raise RuntimeError(f"the numbers below 10 do not add up to {SUM}")
    time.sleep(seconds)
    return os.getpid()

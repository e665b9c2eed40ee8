"""Counts that must not grow with use."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def assert_level(use: Callable[[], object], counted: Callable[[], Sequence[int]], repeat: int = 20) -> None:
    """Use something again and again; what leaks grows every time, a cache that warms up does not."""
    for _ in range(5):
        use()
    growth = []
    for _ in range(5):
        before = counted()
        for _ in range(repeat):
            use()
        growth.append([after - was for after, was in zip(counted(), before, strict=True)])
    assert all(min(one) <= 0 for one in zip(*growth, strict=True)), f"grew by, in five rounds: {growth}"

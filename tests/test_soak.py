"""A short soak, and that a long one would be seen to fail."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from soak.run import LEVEL, Soaked, faults, soak


@pytest.mark.slow
def test_a_short_soak_leaves_nothing_behind() -> None:
    """What needs time, memory and mappings, is measured by `tests/soak/run.py`."""
    soaked = soak(1, sys.maxsize, 150)
    first, *_, last = soaked.looks
    assert last["descriptors"] <= first["descriptors"]
    assert last["threads"] <= first["threads"] + 1  # the core's, which ends interpreters
    assert soaked.done["live"] == soaked.done["waiting"] == soaked.done["shared_buffers"] == 0
    assert soaked.done["abandoned"] == soaked.done["end_by_force"] > 0


def soaked(held: int, live: int = 0) -> Soaked:
    looks = [dict.fromkeys([*LEVEL, "ended"], 1)] * 8 + [dict.fromkeys([*LEVEL, "ended"], 1 + held)]
    return Soaked(looks, Counter(live=live))


def test_growth_is_seen() -> None:
    assert faults(soaked(0), soaked(0)) == []
    assert faults(soaked(10**9), soaked(10**9)) == []
    assert [text.split()[0] for text in faults(soaked(10**9), soaked(0))] == list(LEVEL)
    assert faults(soaked(0, live=2), soaked(0)) == ["2 leases are out, 0 calls parked"]

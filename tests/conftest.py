from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import memchannel


@pytest.fixture
def level_leases() -> Iterator[None]:
    """Fail a test that leaves memory lent, beyond what was lent before it."""
    gc.collect()
    before = memchannel.stats()
    yield
    gc.collect()
    after = memchannel.stats()
    assert (after.live, after.abandoned) == (before.live, before.abandoned)

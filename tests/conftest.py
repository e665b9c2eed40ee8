"""Fixtures of the tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import channel_support
import interpreter_support
from memchannel import interpreters

pytest_plugins = ["memchannel.testing"]


@pytest.fixture(scope="module", autouse=True)
def no_garbage_of_other_files() -> Iterator[None]:
    """Tests count what is lent: what others left in reference cycles must not go amid them.

    What then is there, the tests themselves above all, is not looked at again by each of their collections.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def neighbours() -> Iterator[list[channel_support.Neighbour]]:
    """Three other interpreters, the same ones for all tests: on 3.13.0 each one that ends leaves 1.7 MB
    behind."""
    with channel_support.neighbours(3) as made:
        yield made


@pytest.fixture
def neighbour(neighbours: list[channel_support.Neighbour]) -> channel_support.Neighbour:
    """One of them."""
    return neighbours[0]


@pytest.fixture
def interp() -> Iterator[interpreters.Interpreter]:
    """A bare interpreter, closed afterwards unless the test did."""
    made = interpreters.create(packages=None)
    yield made
    if interpreter_support.exists(made.id):
        channel_support.wait_until(lambda: not interpreters.is_running(made))
        gc.collect()
        interpreters.close(made, timeout=channel_support.HANG)


@pytest.fixture
def balanced() -> Iterator[None]:
    """No lease, channel or parked call is left over."""
    with channel_support.balanced():
        yield


@pytest.fixture
def level_leases() -> Iterator[None]:
    """Fail a test that leaves memory lent, beyond what was lent before it."""
    with channel_support.level_leases():
        yield

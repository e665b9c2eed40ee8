"""CPython's own tests of threading's locks and their like, those that came with the running Python, on ours.

Lib/test/lock_tests.py, with the classes that Lib/test/test_threading.py derives from it. Tests that do not
pass are listed with the reason, and have to fail.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
import time
import types
import unittest
from typing import Any

import pytest

import memchannel
from cpython_suite import check_behaves, check_suite_is_there

# Lines are those of CPython 3.13, in Lib/test/lock_tests.py; of later ones where they say so.
PRIVATE = "it calls _at_fork_reinit(): after a fork the parent's objects say that they are the parent's"
WAITERS = "it looks into a list of CPython's own"

DIFFERENT = {
    "LockTests.test_at_fork_reinit": PRIVATE,  # line 301
    "EventTests.test_at_fork_reinit": PRIVATE,  # line 528
    "ConditionTests.test_nan_timeout": WAITERS,  # 3.15, line 767
}
# test_threading.py:1977 skips it: Condition has no such method.
NOT_RUN = {"ConditionAsRLockTests.test_recursion_count", "ConditionAsRLockTests.test_repr_count"}

SLOW = {"test_timeout", "test_acquire_timeout", "test_waitfor_timeout"}  # they sleep

CLASSES = {  # name here: the class, what it makes its objects with, and what that is
    "LockTests": ("LockTests", "locktype", memchannel.Lock),
    "RLockTests": ("RLockTests", "locktype", memchannel.RLock),
    "ConditionAsRLockTests": ("RLockTests", "locktype", memchannel.Condition),
    "EventTests": ("EventTests", "eventtype", memchannel.Event),
    "ConditionTests": ("ConditionTests", "condtype", memchannel.Condition),
    "SemaphoreTests": ("SemaphoreTests", "semtype", memchannel.Semaphore),
    "BoundedSemaphoreTests": ("BoundedSemaphoreTests", "semtype", memchannel.BoundedSemaphore),
    "BarrierTests": ("BarrierTests", "barriertype", memchannel.Barrier),
}


class Threading:
    """`threading`, as the tests know it, but with our lock: conditions take no other."""

    Lock = memchannel.Lock

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


def load() -> types.ModuleType | None:
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.lock_tests") is None:
        return None
    module = importlib.import_module("test.lock_tests")
    vars(module)["threading"] = Threading()
    vars(module)["wait_threads_blocked"] = wait_threads_blocked
    return module


def wait_threads_blocked(count: int) -> None:
    """Sleep until so many calls are parked; the suite hopes that they are after 10 ms for each.

    Once it asks for more threads than there are left.
    """
    deadline = time.monotonic() + 0.5
    while sum(wait.primitive is not None for wait in memchannel.dump_waits()) < count:
        if time.monotonic() > deadline:
            return
        time.sleep(0.001)


def cases() -> list[Any]:
    module = load()
    if module is None:
        return []
    found = []
    for name, (original, attribute, made) in CLASSES.items():
        case = type(
            name, (getattr(module, original),), {attribute: staticmethod(made), "__module__": __name__}
        )
        tests = unittest.defaultTestLoader.getTestCaseNames(case)
        found += [
            pytest.param(case, test, id=f"{name}.{test}", marks=[pytest.mark.slow] if test in SLOW else [])
            for test in tests
            if f"{name}.{test}" not in NOT_RUN
        ]
    return found


CASES = cases()


def test_the_suite_came_with_this_python() -> None:
    check_suite_is_there(CASES)


@pytest.mark.parametrize(("case", "name"), CASES)
def test_behaves_as_in_threading(case: type[unittest.TestCase], name: str) -> None:
    check_behaves(case, name, DIFFERENT)


def test_few_are_different() -> None:
    names = {case.id for case in CASES}
    assert len(DIFFERENT.keys() & names) <= len(names) / 10

"""CPython's own tests of memoryview, those that came with the running Python, on `CrossInterpreterView`.

Their module is loaded once more with another ``memoryview``: one that sends its argument over a `MemChannel`
and gives what arrives. Tests whose outcome differs from a plain memoryview's are listed with the reason, and
have to differ.
"""

from __future__ import annotations

import builtins
import fnmatch
import gc
import importlib.util
import types
import unittest
from typing import Any

import pytest

import memchannel
from cpython_suite import check_suite_is_there

pytestmark = pytest.mark.filterwarnings("ignore:unreleased <CrossInterpreterView:ResourceWarning")

WRITES = "it writes through the view, and received memory is read-only"
WRITABLE_FLAG = "it wants readonly to be False for a writable exporter, and received memory is read-only"
OWN_CYCLE = (
    "a lent object that holds the view of itself: leases are counted outside Python, where the garbage "
    "collector does not see them, so that the view has to be released"
)
OWN_HASH = "it wants the exporter's own __hash__ to run, which never does for another interpreter's object"

DIFFERENT = {
    "*.test_setitem_writable": WRITES,
    "*.test_array_assign": WRITES,
    "*.test_ctypes_cast": WRITES,
    "*.test_use_released_memory": WRITES,
    "*.test_attributes_writable": WRITABLE_FLAG,
    "Bytes*.test_gc": OWN_CYCLE,  # the others make no cycle
    "*.test_hash_use_after_free": OWN_HASH,
}
# Tests that older patch releases do not have.
RECENT = {"*.test_hash_use_after_free"}


class ReceivedMemoryview(type):
    """What the tests know as ``memoryview``: calling it sends and receives."""

    def __call__(cls, *args: Any, **kwargs: Any) -> memoryview:
        with builtins.memoryview(*args, **kwargs):  # the same errors for the same arguments
            channel = memchannel.MemChannel()
            channel.send(*args, *kwargs.values())
            received: memoryview = channel.recv()
            return received

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, builtins.memoryview)


def load_suite() -> types.ModuleType | None:
    """Load CPython's module under another name, so that the builtin stays what it is for everybody else."""
    if importlib.util.find_spec("test") is None:
        return None
    spec = importlib.util.find_spec("test.test_memoryview")
    if spec is None or spec.loader is None:
        return None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    suite.memoryview = ReceivedMemoryview("memoryview", (), {})  # type: ignore[attr-defined]
    return suite


SUITE = load_suite()


def test_the_suite_came_with_this_python() -> None:
    check_suite_is_there(SUITE)


def cases() -> list[type[unittest.TestCase]]:
    """List the suite's concrete classes; RacingTest is about CPython's multiprocessing, and forks."""
    return [
        value
        for value in (vars(SUITE).values() if SUITE else ())
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__name__ != "RacingTest"
    ]


def outcomes(case: type[unittest.TestCase]) -> dict[str, str]:
    """Run all tests of a class: their names, each with the traceback if it did not pass."""
    found = {}
    for name in unittest.defaultTestLoader.getTestCaseNames(case):
        result = unittest.TestResult()
        case(name).run(result)
        found[f"{case.__name__}.{name}"] = "".join(text for _, text in [*result.failures, *result.errors])
        if found[f"{case.__name__}.{name}"]:
            release_leftovers()
    return found


def release_leftovers() -> None:
    """End what a failed test left behind, before it ends in another test."""
    gc.collect()
    for view in gc.get_objects():
        if isinstance(view, builtins.memoryview) and is_received(view):
            view.release()
    gc.collect()


def is_received(view: memoryview) -> bool:
    """Whether it is a received view, or a slice of one."""
    try:
        return type(view.obj).__name__ == "LentMemory"
    except ValueError:  # released
        return False


def is_different(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in DIFFERENT)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.__name__)
def test_behaves_as_memoryview(case: type[unittest.TestCase]) -> None:
    unexpected = []
    for name, failure in outcomes(case).items():
        if bool(failure) != is_different(name):
            unexpected.append(f"{name}: {failure or 'listed as different, but passed'}")
    assert not unexpected, "\n".join(unexpected)


def test_every_listed_difference_exists() -> None:
    known = {
        f"{case.__name__}.{name}"
        for case in cases()
        for name in unittest.defaultTestLoader.getTestCaseNames(case)
    }
    assert SUITE is None or all(fnmatch.filter(known, pattern) for pattern in DIFFERENT.keys() - RECENT)

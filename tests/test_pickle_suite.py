"""The objects of CPython's own pickle tests, those that came with the running Python, sent over a `Channel`.

Lib/test/pickletester.py. Its tests pickle an object and unpickle it; here it is sent and received, by the
protocol that a channel uses. Tests that do not pass are listed with the reason, and have to fail.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import pickle
import sys
import types
import unittest
from typing import Any

import pytest

from cpython_suite import check_behaves, check_suite_is_there
from memchannel import Channel

# Lines are those of CPython 3.13, in Lib/test/pickletester.py.
EQUAL = "small tuples of plain values travel without pickle: equal items arrive equal, not as one object"

LENT = "a PickleBuffer arrives as a view of the sender's memory, where pickle without buffers makes a copy"

DIFFERENT = {
    "test_bytes_memoization": EQUAL,  # line 2493
    "test_unicode_memoization": EQUAL,  # line 2471
    "test_empty_picklebuffer_memoization": LENT,  # 3.14, line 2938
    "test_picklebuffer_memoization": LENT,  # 3.14
}

# They are about the arguments of pickle's functions and the bytes it writes, not about what arrives.
NOT_RUN = {
    "test_buffers_error",  # line 3657
    "test_buffers_numpy",
    "test_float_format",
    "test_framed_write_sizes_with_delayed_writer",
    "test_in_band_buffers",
    "test_inband_accept_default_buffers_argument",
    "test_oob_buffers",
    "test_oob_buffers_writable_to_readonly",
    "test_optional_frames",
}


class Sent(bytes):
    """What an object is pickled to, for tests that look into it; the object itself is on its way."""

    channel: Channel[Any]
    obj: Any


def dumps(self: unittest.TestCase, obj: Any, proto: int | None = None, **options: Any) -> Sent:
    channel = Channel[Any]()
    channel.send(obj)
    sent = Sent(pickle.dumps(obj, proto, **options))
    sent.channel = channel
    sent.obj = obj
    return sent


def loads(self: unittest.TestCase, data: bytes, **options: Any) -> Any:
    if not isinstance(data, Sent):
        return pickle.loads(data, **options)
    if not len(data.channel):
        data.channel.send(data.obj)
    return data.channel.recv()


def load() -> types.ModuleType | None:
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.pickletester") is None:
        return None
    module = importlib.import_module("test.pickletester")
    vars(module)["protocols"] = [5]
    return module


def cases() -> list[Any]:
    module = load()
    if module is None:
        return []
    case = type(
        "PickleTests",
        (module.AbstractPickleTests, unittest.TestCase),
        {
            "dumps": dumps,
            "loads": loads,
            "__module__": __name__,
            "py_version": sys.version_info,
            "optimized": False,
            "pickler": pickle.Pickler,
            "unpickler": pickle.Unpickler,
        },
    )
    tests = unittest.defaultTestLoader.getTestCaseNames(case)
    missing = {test for test in tests if "frozendict" in test and not hasattr(builtins, "frozendict")}
    return [pytest.param(case, test, id=test) for test in tests if test not in NOT_RUN | missing]


CASES = cases()


def test_the_suite_came_with_this_python() -> None:
    check_suite_is_there(CASES)


@pytest.mark.parametrize(("case", "name"), CASES)
def test_arrives_as_pickled(case: type[unittest.TestCase], name: str) -> None:
    check_behaves(case, name, [f"PickleTests.{test}" for test in DIFFERENT])


def test_few_are_different() -> None:
    names = {case.id for case in CASES}
    assert len(DIFFERENT.keys() & names) <= len(names) / 10

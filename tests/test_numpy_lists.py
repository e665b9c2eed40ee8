"""The dtypes and arrays of NumPy's own tests of ``.npy``, pickling and DLPack arrive as they were.

They are taken from the installed NumPy's test modules: module globals and what their tests are parametrized
with.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import assert_same
from channel_support import level_leases

SOURCES = ["numpy.lib.tests.test_format", "numpy._core.tests.test_dtype", "numpy._core.tests.test_dlpack"]


def _values(obj: Any, depth: int = 0) -> Iterator[Any]:
    """Find arrays and dtypes in lists, tuples and the arguments of ``pytest.mark.parametrize``."""
    if isinstance(obj, np.ndarray | np.dtype):
        yield obj
    elif isinstance(obj, list | tuple) and depth < 4:
        for one in obj:
            yield from _values(one, depth + 1)
    else:
        for mark in getattr(obj, "pytestmark", []):
            yield from _values(mark.args[1:], depth)
        if isinstance(obj, type) and depth == 0:
            for member in vars(obj).values():
                yield from _values(member, 1)


def arrays_of(module: str) -> list[Any]:
    """Return the arrays of a test module, and one of zeros for each dtype; objects and text left out."""
    values = list(vars(importlib.import_module(module)).values())
    found = [one for value in values for one in _values(value)]
    arrays = [one if isinstance(one, np.ndarray) else np.zeros((2, 3), one) for one in found]
    return [
        one for one in arrays if not (one.dtype.hasobject or isinstance(one.dtype, np.dtypes.StringDType))
    ]


def compare(module: str) -> int:
    """Send the arrays of a test module to ourselves; return how many they were."""
    arrays = arrays_of(module)
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    with level_leases():
        for sent in arrays:
            plain = sent.view(np.ndarray)
            channel.send(plain)
            got = channel.recv()
            assert_same(got, plain)
            del got
    return len(arrays)


@pytest.mark.parametrize(("module", "least"), [(SOURCES[0], 50), (SOURCES[1], 20), (SOURCES[2], 5)])
def test_what_numpy_tests_with(module: str, least: int) -> None:
    """In a process of its own: the modules use markers that this pytest does not know."""
    command = [sys.executable, "-W", "ignore", __file__, module]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least


if __name__ == "__main__":
    print(compare(sys.argv[1]))

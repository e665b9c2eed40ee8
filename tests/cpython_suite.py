"""What the adapters of CPython's own tests share."""

from __future__ import annotations

import os
import unittest
from collections.abc import Collection

import pytest


def check_suite_is_there(found: object) -> None:
    """Skip where the running Python has no test package; fail where it has to have one."""
    if not found and "MEMCHANNEL_VENV" not in os.environ:  # which the matrix of Pythons sets
        pytest.skip("this Python was installed without its test package")
    assert found, "the root folder of this Python lacks its test suite (libpython3.x-testsuite)"


def check_behaves(case: type[unittest.TestCase], name: str, different: Collection[str]) -> None:
    """Run a test of CPython's: it passes and leaves no thread over, or is listed as different and fails."""
    from test import support

    support.environment_altered = False
    result = unittest.TestResult()
    case(name).run(result)
    failure = "".join(text for _, text in [*result.failures, *result.errors, *result.skipped])
    assert not result.unexpectedSuccesses
    if f"{case.__name__}.{name}" in different:
        assert failure, "listed as different, but passed"
    else:
        assert not failure, failure
        assert not support.environment_altered, "threads are left over"

"""Wrong arguments of pools: errors say which parameter, which value and what is allowed."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from memchannel import Channel, InterpreterPool, interpreters
from memchannel._worker import LEND_FROM

HUGE = 2**70
NAN = float("nan")


@pytest.fixture(scope="module")
def pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(1) as made:
        yield made


@pytest.mark.parametrize("value", [1.5, "3", NAN, [], np.arange(2)], ids=repr)
@pytest.mark.parametrize("parameter", ["max_workers", "max_tasks_per_interpreter", "blas_threads"])
def test_numbers_of_a_pool_are_integers(parameter: str, value: Any) -> None:
    text = re.escape(f"{parameter} must be an integer or None, not {value!r}")
    with pytest.raises(TypeError, match=f"^{text}$"):
        InterpreterPool(**{parameter: value})


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize(
    ("parameter", "rule"),
    [("max_workers", "greater than 0"), ("max_tasks_per_interpreter", ">= 1"), ("blas_threads", ">= 1")],
)
def test_numbers_of_a_pool_are_positive(parameter: str, rule: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{parameter} must be {rule}, not {value}$"):
        InterpreterPool(**{parameter: value})


def test_absurdly_large_numbers_are_as_good_as_large_ones() -> None:
    InterpreterPool(blas_threads=HUGE).shutdown()  # no task, for which the library would start its threads
    with InterpreterPool(HUGE, max_tasks_per_interpreter=HUGE) as own:
        assert list(own.map(abs, [-1, 2], chunksize=HUGE)) == [1, 2]
        assert list(own.map(abs, [-1, 2], buffersize=HUGE)) == [1, 2]
        assert list(own.map_blocks(len, np.arange(3), blocks=HUGE, overlap=HUGE)) == [3, 3, 3]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": 3}, TypeError, "name must be a str or None, not 3"),
        ({"name": b"x"}, TypeError, "name must be a str or None, not b'x'"),
        ({"name": "a\0b"}, ValueError, r"name must have no null characters, unlike 'a\x00b'"),
        ({"name": "\udc80"}, ValueError, r"name must have no lone surrogates, unlike '\udc80'"),
        ({"initializer": 3}, TypeError, "initializer must be a callable, not 3"),
        (
            {"initializer": print, "initargs": 3},
            TypeError,
            "initargs must be a tuple of arguments, not 3",
        ),
        ({"packages": 3}, TypeError, "packages must be names, 'all' or None, not 3"),
        ({"packages": b"numpy"}, TypeError, "a package is named by a str, not 'bytes': b'numpy'"),
        ({"packages": ["numpy", 3]}, TypeError, "a package is named by a str, not 'int': 3"),
        ({"packages": "numpy.linalg"}, ValueError, "name the top-level package 'numpy', not 'numpy.linalg'"),
    ],
)
def test_other_settings_of_a_pool(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        InterpreterPool(**options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"chunksize": 1.5}, TypeError, "chunksize must be an integer, not 1.5"),
        ({"chunksize": None}, TypeError, "chunksize must be an integer, not None"),
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1, not 0"),
        ({"buffersize": "1"}, TypeError, "buffersize must be an integer or None, not '1'"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0, not 0"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds or None, not '1'"),
        ({"timeout": NAN}, ValueError, "timeout must be a number of seconds or None, not nan"),
        ({"timeout": 1e300}, OverflowError, "timeout must be at most 9223372036.0 seconds, not 1e+300; None"),
        ({"timeout": 10**400}, OverflowError, "timeout must be at most 9223372036.0 seconds, not 1000"),
    ],
)
@pytest.mark.parametrize("items", [[], [1]], ids=["empty", "one item"])
def test_settings_of_a_map(
    pool: InterpreterPool, items: list[int], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        pool.map(abs, items, **options)


@pytest.mark.parametrize("timeout", [0, -1, -(10**400)], ids=["zero", "negative", "very negative"])
def test_a_map_whose_time_is_over_at_once(timeout: float) -> None:
    gate: Channel[int] = Channel()
    with InterpreterPool(1, packages=None) as own:
        results = own.map(lambda _: gate.recv(), [1], timeout=timeout)
        with pytest.raises(TimeoutError):
            next(results)
        gate.send(1)


def test_what_a_map_is_made_of(pool: InterpreterPool) -> None:
    with pytest.raises(TypeError, match=r"^iterable 1 of map\(\) cannot be iterated over: 3$"):
        pool.map(pow, [1], 3)  # type: ignore[call-overload]

    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise TypeError("my own")

    with pytest.raises(TypeError, match="^my own$"):
        pool.map(abs, Broken())
    for use in (pool.submit, pool.map, pool.map_blocks):
        with pytest.raises(TypeError, match="not callable: 3"):
            use(3, np.arange(4))  # type: ignore[arg-type]


def test_slices_of_blocks_are_of_integers(pool: InterpreterPool) -> None:
    with pytest.raises(TypeError, match="^blocks must be a count or slices of integers, not slice.'a', None"):
        pool.map_blocks(len, np.arange(4), blocks=[slice("a", None)])
    with pytest.raises(ValueError, match=r"not slice\(0, 4, 0\): slice step cannot be zero"):
        pool.map_blocks(len, np.arange(4), blocks=[slice(0, 4, 0)])


def test_what_a_run_shares(interp: interpreters.Interpreter) -> None:
    for wrong in (3, [("a", 1)], "ab"):
        text = re.escape(f"shared must be a mapping of names to values, or None, not {wrong!r}")
        with pytest.raises(TypeError, match=f"^{text}$"):
            interpreters.run(interp, "pass", shared=wrong)  # type: ignore[arg-type]


def test_truth_is_all_that_counts_of_switches(interp: interpreters.Interpreter) -> None:
    result = interpreters.run(interp, "print(1)", thread="no)", capture_output=[0])  # type: ignore[arg-type]
    assert result.stdout == "1\n"
    with InterpreterPool(1, packages=None, reuse=[], prefix_output="yes") as own:  # type: ignore[arg-type]
        assert own.submit(sys.intern, "a").result() == "a"


def test_arrays_are_not_copied_to_find_what_cannot_be_pickled(pool: InterpreterPool) -> None:
    endless = np.broadcast_to(np.ones(1), (2**40,))  # lent without being expanded
    copied = memchannel.stats().bytes_copied
    with pytest.raises(
        pickle.PicklingError, match="argument 1 cannot be sent to a worker: item 1: cannot pickle"
    ):
        pool.submit(len, endless, [endless, (i for i in ())])
    assert memchannel.stats().bytes_copied == copied


@pytest.mark.parametrize("size", [2 * LEND_FROM, 1], ids=["lent", "copied"])
def test_truncated_files_are_found_in_arguments(pool: InterpreterPool, size: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    memory = np.memmap(tmp_path / "a", "u1", "r")
    (tmp_path / "a").write_bytes(b"")
    for array in (memory, np.asarray(memory), pickle.PickleBuffer(memory)):
        with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
            pool.submit(len, {"a": [array]})
        with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
            pool.map(len, [(array,)])

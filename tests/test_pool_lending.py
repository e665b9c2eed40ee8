"""How often a pool lends the arrays of many tasks, and that nothing stays lent after them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import wait_until
from memchannel import Channel, InterpreterPool, _core, stats
from pool_tasks import pointer

LARGE = 1 << 14  # elements of 8 bytes: lent
TASKS = 12


@pytest.fixture(scope="module")
def pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(2) as made:
        yield made


@dataclasses.dataclass
class Job:
    number: int
    data: Any


class Labelled(np.ndarray):
    """A subclass without state of its own."""


def addresses(item: Any) -> list[int]:
    """Return where each array anywhere in an item has its memory."""
    if hasattr(item, "__array_interface__"):
        return [item.__array_interface__["data"][0]]
    if hasattr(item, "data"):
        return addresses(item.data)
    parts = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else ()
    return [address for part in parts for address in addresses(part)]


# ---- once


OPTIONS: list[dict[str, Any]] = [{}, {"buffersize": 1}, {"chunksize": 5}, {"chunksize": 2, "buffersize": 2}]


@pytest.mark.parametrize(
    "item",
    [
        lambda i, a: a,
        lambda i, a: (i, a),
        lambda i, a: {"number": i, "data": {"deep": [a]}},
        lambda i, a: Job(i, a),
        lambda i, a: (a, [a], Job(i, a)),
        lambda i, a: a[i:],
        lambda i, a: (a[::-1], a.reshape(2, -1).T, a.view("i8")),
        lambda i, a: a.view(Labelled),
        lambda i, a: np.ma.masked_array(a),
    ],
    ids=["array", "tuple", "dict", "dataclass", "several", "slices", "views", "subclass", "masked"],
)
def test_an_array_in_all_items_is_lent_once(pool: InterpreterPool, item: Callable[[int, Any], Any]) -> None:
    array = np.arange(LARGE, dtype="f8")
    items = [item(i, array) for i in range(TASKS)]
    expected = list(map(addresses, items))
    for options in OPTIONS:
        before = stats()
        assert list(pool.map(addresses, items, **options)) == expected
        after = stats()
        assert after.lent - before.lent == 1, options
        assert after.bytes_lent - before.bytes_lent == array.nbytes


def test_each_of_several_arrays_is_lent_once(pool: InterpreterPool) -> None:
    one, two, small = np.ones(LARGE), np.zeros(LARGE), np.arange(10)
    before = stats().lent
    items = [(one, {"two": two}, small), (two, one, small)] * TASKS
    seen = list(pool.map(lambda *args: addresses(args), items, [one] * len(items)))
    assert {address for each in seen for address in each} >= {pointer(one), pointer(two)}
    assert stats().lent - before == 2


def test_arrays_bound_to_the_function_and_in_the_items_share_a_lease(pool: InterpreterPool) -> None:
    array = np.arange(LARGE, dtype="f8")

    def work(first: Any, item: Any, *, more: dict[str, Any]) -> list[int]:
        return [one.__array_interface__["data"][0] for one in (first, item, more["array"])]

    before = stats().lent
    function = functools.partial(work, array, more={"array": array})
    assert list(pool.map(function, [array] * TASKS)) == [[pointer(array)] * 3] * TASKS
    assert stats().lent - before == 1


def test_a_buffer_under_an_array_is_free_when_the_map_has_ended(pool: InterpreterPool) -> None:
    data = bytearray(8 * LARGE)
    over = np.frombuffer(data, "f8")
    before = stats()
    results = pool.map(addresses, [(i, over) for i in range(TASKS)], buffersize=2)
    assert list(results) == [[pointer(over)]] * TASKS
    assert stats().lent - before.lent == 1
    del over

    def is_free() -> bool:
        try:
            data.append(0)
        except BufferError:
            return False
        return True

    wait_until(is_free)


def test_memory_of_no_interpreter_is_not_lent(pool: InterpreterPool) -> None:
    shared = memchannel.zeros(LARGE)
    before = stats().lent
    assert list(pool.map(addresses, [(i, shared) for i in range(TASKS)])) == [[pointer(shared)]] * TASKS
    assert stats().lent == before


def test_blocks_share_one_lease_with_the_function(pool: InterpreterPool) -> None:
    array = np.arange(LARGE, dtype="f8")

    def work(block: Any) -> bool:
        return bool((block >= array[0]).all())

    before = stats().lent
    assert list(pool.map_blocks(work, array, blocks=30)) == [True] * 30
    assert stats().lent - before == 1


def test_an_array_that_was_resized_is_lent_anew(pool: InterpreterPool) -> None:
    array = np.zeros(LARGE)

    def items() -> Iterator[Any]:
        yield array
        array.resize(2 * LARGE, refcheck=False)
        array[:] = 1
        yield array

    before = stats().lent
    assert list(pool.map(np.sum, items(), buffersize=1)) == [0, 2 * LARGE]
    assert stats().lent - before == 2


# ---- not for longer than it is needed


def test_arrays_of_a_generator_are_let_go(pool: InterpreterPool) -> None:
    """They are held by their tasks alone: what has been worked off need not fit into memory with the rest."""
    kept = [np.ones(LARGE) for _ in range(5)]
    before = stats().live
    fresh = (np.full(LARGE, i, "f8") for i in range(60))
    items = ((kept[i % 5], one) for i, one in enumerate(fresh))
    for i, result in enumerate(pool.map(lambda pair: pair[1][0], items, buffersize=2)):
        assert result == i
        wait_until(lambda: stats().live - before <= 5 + 10)


def fail_at_last(array: Any, i: int) -> int:
    if i == TASKS - 1:
        raise ZeroDivisionError(i)
    return i


def read(pool: InterpreterPool, array: Any, **options: Any) -> Any:
    results = pool.map(fail_at_last, [array] * 3, range(3), **options)
    assert list(results) == [0, 1, 2]
    return results


def meet_an_error(pool: InterpreterPool, array: Any, **options: Any) -> Any:
    results = pool.map(fail_at_last, [array] * TASKS, range(TASKS), **options)
    with pytest.raises(ZeroDivisionError):
        list(results)
    return results


def drop(pool: InterpreterPool, array: Any, **options: Any) -> None:
    assert next(pool.map(fail_at_last, [array] * TASKS, range(TASKS), **options)) == 0


def run_out_of_items(pool: InterpreterPool, array: Any, **options: Any) -> Any:
    def items() -> Iterator[Any]:
        yield from itertools.repeat(array, 5)
        raise LookupError("no more items")

    held = []
    with pytest.raises(LookupError, match="no more items"):
        held.append(pool.map(len, items(), **options))
        list(held[0])
    return held


def meet_what_cannot_be_sent(pool: InterpreterPool, array: Any, **options: Any) -> Any:
    held = []
    with pytest.raises(pickle.PicklingError, match="cannot pickle 'generator'"):
        held.append(pool.map(len, [(array,)] * 5 + [(array, (i for i in ()))], **options))
        list(held[0])
    return held


def shut_down(pool: InterpreterPool, array: Any, **options: Any) -> Any:
    results = pool.map(fail_at_last, [array] * TASKS, range(TASKS), **options)
    pool.shutdown(cancel_futures=True)
    return results


def time_out(pool: InterpreterPool, array: Any, **options: Any) -> Any:
    gate: Channel[int] = Channel()
    results = pool.map(lambda _: gate.recv(), [array] * TASKS, timeout=0.01, **options)
    with pytest.raises(TimeoutError):
        next(results)
    gate.send(1)
    return results


@pytest.mark.parametrize("buffersize", [None, 1, 3])
@pytest.mark.parametrize(
    "use",
    [read, meet_an_error, drop, run_out_of_items, meet_what_cannot_be_sent, shut_down, time_out],
    ids=lambda use: use.__name__,
)
def test_nothing_is_lent_when_a_map_has_ended(use: Callable[..., Any], buffersize: int | None) -> None:
    _core._await_idle()  # what others gave back is on its way
    before = stats().live
    with InterpreterPool(1) as own:
        held = use(own, np.ones(LARGE), buffersize=buffersize)
        wait_until(lambda: stats().live <= before, "the return of what was lent")
        del held

"""A pytest plugin that repeats tests and fails those that leak.

Active wherever memchannel is installed; ``pytest -p memchannel.testing`` where entry points are not read::

    @pytest.mark.no_leaks
    def test_lends_and_returns():
        ...

    def test_the_same_by_a_fixture(no_leaks):
        ...

The test function runs some times to warm up, then some times more; what grew with *each* of these runs has
leaked, and the failure names it. What is filled once, or grows now and then (caches, the allocators' arenas),
has not: the rule of CPython's own ``-R`` option (Lib/test/libregrtest/refleak.py). Fixtures are set up once
for all runs.
"""

from __future__ import annotations

import _interpreters
import contextlib
import gc
import inspect
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest

from memchannel import _core
from memchannel._listing import interpreter_numbers
from memchannel.statistics import Statistics, stats

__all__ = ["COUNTED", "LeakError", "assert_no_leaks", "growth"]

COUNTED = (
    "leases",
    "abandoned leases",
    "channels",
    "parked calls",
    "shared buffers",
    "interpreters",
    "threads",
    "descriptors",
    "mappings",
    "memory blocks",
    "references",
    "traced memory",
)
"""What is counted; references on debug builds only, traced memory (bytes) if asked for."""

_GRACE = 0.3
"""Seconds that a run's threads and leases on their way home are given to end."""


class LeakError(AssertionError):
    """Something grew with every run."""


def _of_the_core(read: Callable[[Statistics], int]) -> Callable[[], int]:
    return lambda: read(stats())


def _lines(path: str) -> int:
    with open(path, "rb") as file:
        return sum(1 for _ in file)


_COUNTERS: dict[str, Callable[[], int]] = {
    "leases": _of_the_core(lambda now: now.live),
    "abandoned leases": _of_the_core(lambda now: now.abandoned),
    "channels": _of_the_core(lambda now: now.channels),
    "parked calls": _of_the_core(lambda now: now.waiting),
    "shared buffers": _of_the_core(lambda now: now.shared_buffers),
    "interpreters": lambda: len(interpreter_numbers()),
    "threads": lambda: len(os.listdir("/proc/self/task")),
    "descriptors": lambda: len(os.listdir("/proc/self/fd")),
    "mappings": lambda: _lines("/proc/self/maps"),
    "memory blocks": sys.getallocatedblocks,
}
if hasattr(sys, "gettotalrefcount"):
    _COUNTERS["references"] = sys.gettotalrefcount
# These do not come home with a little patience: nothing that is on its way holds them.
_FINAL = {"memory blocks", "references", "traced memory", "mappings"}


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


@contextlib.contextmanager
def _tracing(wanted: bool) -> Iterator[None]:
    started = wanted and not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        yield
    finally:
        if started:
            tracemalloc.stop()


def _collect() -> None:
    """Collect garbage, in other interpreters that run nothing as well."""
    gc.collect()
    for number in interpreter_numbers():
        with contextlib.suppress(_interpreters.InterpreterError):  # ended meanwhile
            if not _interpreters.is_running(number):
                _core._collect_garbage(number)


def _settled(counters: Mapping[str, Callable[[], int]], before: Mapping[str, int]) -> dict[str, int]:
    """Count, waiting a little for what is only on its way."""
    deadline = time.monotonic() + _GRACE
    while True:
        _collect()
        now = {name: count() for name, count in counters.items()}
        late = [name for name in before if now[name] > before[name] and name not in _FINAL]
        if not late or time.monotonic() > deadline:
            return now
        time.sleep(0.005)


def growth(
    use: Callable[[], object],
    *,
    repeat: int = 5,
    warmup: int = 3,
    ignore: Iterable[str] = (),
    trace: bool = False,
    counters: Mapping[str, Callable[[], int]] | None = None,
) -> dict[str, list[int]]:
    """Call something again and again and tell what grew with each call.

    Parameters
    ----------
    use : callable
        Called without arguments.
    repeat : int, optional
        Calls that are measured; as many again, before memory is said to have grown.
    warmup : int, optional
        Calls before them.
    ignore : iterable of str, optional
        Names in `COUNTED` that are not counted. CPython 3.13 itself loses memory blocks and references with
        each interpreter that ends.
    trace : bool, optional
        Count the bytes that `tracemalloc` traces. CPython's tracemalloc keeps file names of the interpreters
        that allocate beyond their end: not for what makes interpreters.
    counters : mapping of str to callable, optional
        Further things to count.

    Returns
    -------
    dict of str to list of int
        By how much each thing grew in each of the calls, for those that grew in all of them.

    Raises
    ------
    ValueError
        `repeat` is less than 1, or a name to ignore is unknown.

    Examples
    --------
    >>> from memchannel.testing import growth
    >>> kept = []
    >>> growth(lambda: kept.append(object()), counters={"kept": lambda: len(kept)})["kept"]
    [1, 1, 1, 1, 1]
    """
    if repeat < 1:
        raise ValueError(f"repeat must be at least 1, not {repeat}")
    ignored = set(ignore)
    if unknown := ignored - set(COUNTED):
        raise ValueError(f"nothing called {sorted(unknown)} is counted; what is: {', '.join(COUNTED)}")
    chosen = {**_COUNTERS, **({"traced memory": _traced} if trace else {})}
    chosen = {name: count for name, count in chosen.items() if name not in ignored} | dict(counters or {})
    with _tracing(trace):
        for _ in range(warmup):
            use()
        grown = _measure(use, repeat, chosen)
        if any(name in _FINAL for name in grown):  # which caches that are still filling may do for a while
            again = _measure(use, repeat, chosen)
            grown = {name: each for name, each in grown.items() if name not in _FINAL or name in again}
    return grown


def _measure(
    use: Callable[[], object], repeat: int, counters: Mapping[str, Callable[[], int]]
) -> dict[str, list[int]]:
    # Made before, so that the results themselves do not count.
    grown: dict[str, list[int]] = {name: [0] * repeat for name in counters}
    before = _settled(counters, {})
    for run in range(repeat):
        use()
        now = _settled(counters, before)
        for name in counters:
            grown[name][run] = now[name] - before[name]
        before = now
    return {name: each for name, each in grown.items() if min(each) > 0}


def assert_no_leaks(use: Callable[[], object], **options: object) -> None:
    """Raise `LeakError` if something grows with each call.

    Parameters
    ----------
    use : callable
        Called without arguments.
    **options : object
        As for `growth`.

    Raises
    ------
    LeakError
        The message says what grew, and by how much in each call.
    """
    if found := _found(growth(use, **options)):  # type: ignore[arg-type]
        raise LeakError(found)


def _found(grown: Mapping[str, Iterable[int]]) -> str:
    what = "; ".join(f"{name} grew by {', '.join(map(str, each))}" for name, each in grown.items())
    return f"leaks in every run: {what}" if what else ""


# ---- the plugin


@pytest.fixture
def no_leaks() -> None:
    """Repeat the test, and fail it if something leaks; see `memchannel.testing`."""


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker."""
    config.addinivalue_line(
        "markers",
        "no_leaks(repeat=5, warmup=3, ignore=(), trace=False): repeat the test and fail it if leases, "
        "channels, interpreters, threads, descriptors, mappings, memory or (debug builds) references grow",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked test as often as it takes."""
    marker = pyfuncitem.get_closest_marker("no_leaks")
    if marker is None and "no_leaks" not in pyfuncitem.fixturenames:
        return None
    function = pyfuncitem.obj
    if inspect.iscoroutinefunction(function):
        pytest.fail("no_leaks repeats plain functions only: call asyncio.run() in the test", pytrace=False)
    names = inspect.signature(function).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in names}
    options = dict(marker.kwargs) if marker is not None else {}
    found = _found(growth(lambda: function(**arguments), **options))
    if found:
        pytest.fail(f"{pyfuncitem.name} {found}", pytrace=False)
    return True

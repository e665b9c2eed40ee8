"""Objects: the rate of small ones beside the standard library's queues, and objects around large arrays.

Both ends are in one thread of one interpreter, without waiting, where nothing else is said.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import json
import pickle
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import memchannel
from memchannel.bench._beside import beside
from memchannel.bench._harness import Benchmark, per_operation
from memchannel.bench._peers import standard_interpreters

bench = Benchmark("objects", __doc__)

STANDARD_QUEUE = "interpreters, Queue"


class Point:
    """A small object of a class."""

    def __init__(self, x: float, y: float) -> None:
        self.x = x
        self.y = y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(slots=True)
class Job:
    """One with slots."""

    name: str
    number: int


SMALL: dict[str, Any] = {
    "None": None,
    "int": 12345,
    "str": "a short text",
    "tuple": ("task", 17, 2.5, None),
    "list": ["task", 17, 2.5, None],
    "dict": {"name": "task", "number": 17, "weights": [1.0, 2.0]},
    "set": {"task", 17, 2.5},
    "frozenset": frozenset((17, 2.5)),
    "instance": Point(1.0, 2.0),
    "instance with slots": Job("task", 17),
    "list of 20 instances": [Point(float(i), 0.5) for i in range(20)],
}
# What has a way of its own to be pickled is pickled here as there: nothing but the rest can be faster.
PICKLED: dict[str, Any] = {
    "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "Decimal": decimal.Decimal("2.5"),
    "function": json.dumps,
}


class Samples:
    """An object with a large array in it, which pickles."""

    def __init__(self, name: str, array: Any) -> None:
        self.name = name
        self.array = array


class Registered(Samples):
    """The same with a sharing protocol."""


memchannel.register(
    Registered,
    lambda samples: (samples.name, [samples.array]),
    lambda name, views: Registered(name, np.asarray(views[0])),
)


def through(send: Callable[[Any], object], recv: Callable[[], object], obj: Any) -> Callable[[], object]:
    """Send an object and receive it."""

    def trip() -> object:
        send(obj)
        return recv()

    return trip


def _side(operation: Callable[[], object], count: int) -> Callable[[], float]:
    operation()
    return lambda: per_operation(operation, count)


def _rivals(obj: Any) -> dict[str, Callable[[], object]]:
    channel = memchannel.Channel[Any]()
    within = queue.SimpleQueue[Any]()
    between = standard_interpreters().create_queue()
    return {
        "memchannel": through(channel.send, channel.recv, obj),
        "threads, SimpleQueue (no copy)": through(within.put, within.get, obj),
        "pickle": lambda: pickle.loads(pickle.dumps(obj, 5)),
        STANDARD_QUEUE: through(between.put, between.get, obj),
    }


@bench.scenario
def small_objects() -> None:
    """Send and receive small objects: 10 us each are 100,000 a second, 0.5 is twice the queue's rate."""
    count = bench.scaled(20_000, 1_000)
    for name, obj in {**SMALL, **PICKLED}.items():
        rivals = _rivals(obj)
        if wrong := [side for side, trip in rivals.items() if trip() != obj]:
            raise RuntimeError(f"{wrong} gave something else than {obj!r}")
        sides = {side: _side(trip, count) for side, trip in rivals.items()}
        reach = 0.5 if name in SMALL else None
        bench.compare(f"send + recv, {name}", sides, against=STANDARD_QUEUE, reach=reach)
        limit = 2e-4 if name.startswith("list of 20") else 1e-5
        bench.record(f"seconds for one, {name}", "memchannel", sides["memchannel"](), reach=limit)


def _between(make: Callable[[], tuple[Any, str]], obj: Any, count: int) -> Callable[[], float]:
    """Time `count` objects to another interpreter; `make` gives what sends, and source that makes `get`."""

    def run() -> float:
        send, source = make()
        source += "\nback.send(0)\nfor _ in range(count):\n    get()\nback.send(1)"
        back = memchannel.Channel[Any]()
        with beside(source, back=back, count=count):
            back.recv()
            start = time.perf_counter()
            for _ in range(count):
                send(obj)
            back.recv()
            elapsed = time.perf_counter() - start
        return elapsed / count

    return run


def _over_channel() -> tuple[Any, str]:
    channel = memchannel.Channel[Any]()
    return channel.send, f"from memchannel import RecvChannel\nget = RecvChannel({channel.id}).recv"


def _over_queue() -> tuple[Any, str]:
    standard = standard_interpreters()
    between = standard.create_queue()
    return between.put, f"from {standard.__name__} import Queue\nget = Queue({between.id}).get"


@bench.scenario
def to_another_interpreter() -> None:
    """Send small objects to another interpreter, which receives them in a loop."""
    count = bench.scaled(50_000, 5_000)
    sides = {
        "memchannel": _between(_over_channel, SMALL["dict"], count),
        STANDARD_QUEUE: _between(_over_queue, SMALL["dict"], count // 100),
    }
    bench.compare("a dict, to another interpreter", sides, against=STANDARD_QUEUE, reach=0.5)


@bench.scenario
def objects_around_arrays() -> None:
    """Send an object that holds a gigabyte: 50 us at most, and the array stays where it is."""
    count = bench.scaled(5_000, 300)
    array = np.empty(2**27)  # of pages that do not exist yet
    for name, obj in {
        "attribute": Samples("x", array),
        "registered": Registered("x", array),
        "dict": {"name": "x", "array": array},
        "list of 100 slices": [array[i :: 2**20] for i in range(100)],
    }.items():
        channel = memchannel.Channel[Any]()
        channel.send(obj)
        received = channel.recv()
        if isinstance(obj, Samples):
            assert np.shares_memory(received.array, array)
        del received
        seconds = _side(through(channel.send, channel.recv, obj), count)
        reach = 5e-5 if name != "list of 100 slices" else None
        bench.record(f"1 GB, {name}", "memchannel", seconds(), reach=reach)


ANSWERING = """
for message in there:
    address = message['array'].__array_interface__['data'][0]
    {drop}
    back.send(address)
"""


@contextlib.contextmanager
def _answering(drop: str) -> Iterator[tuple[memchannel.Channel[Any], memchannel.Channel[Any]]]:
    """Have an interpreter that tells the addresses of arrays."""
    there, back = memchannel.Channel[Any](), memchannel.Channel[Any]()
    shared = {"there": there.ends[0], "back": back.ends[1]}
    with beside(ANSWERING.format(drop=drop), packages=("numpy",), **shared):
        yield there, back
        there.ends[1].close()


@bench.scenario
def array_to_another_interpreter() -> None:
    """Send a gigabyte to a waiting interpreter, which answers with the address that it has there.

    It lets go of the array before it answers, while its owner waits, or keeps it until the next one has come,
    when its owner is about to wait.
    """
    count = bench.scaled(20_000, 1_000)
    array = np.empty(2**27)
    obj = {"name": "x", "array": array}
    for kept, drop, reach in (("", "del message", 5e-5), (", kept until the next", "pass", None)):
        with _answering(drop) as (there, back):

            def trip(there: Any = there, back: Any = back) -> None:
                there.send(obj)
                if back.recv() != array.__array_interface__["data"][0]:
                    raise RuntimeError("the array has another address there")

            name = f"1 GB, there and its address back{kept}"
            bench.record(name, "memchannel", _side(trip, count)(), reach=reach)


def _finding(text: Any, wanted: str) -> Callable[[], float]:
    return lambda: per_operation(lambda: text.find(wanted), 1)


@bench.scenario
def text() -> None:
    """Send a gigabyte of text as a view, and search it."""
    letters = "a" * (2**30 if not bench.quick else 2**24)
    channel = memchannel.MemChannel()

    def trip() -> None:
        channel.send(letters)
        channel.recv().release()

    bench.record("1 GB of text, send + recv + release", "memchannel", _side(trip, bench.scaled(5_000, 300))())
    channel.send(letters)
    with channel.recv() as view:
        for name, wanted in {"one letter": "b", "two letters": "ab", "a word": "abracadabra"}.items():
            sides = {
                "StringView": _finding(view, wanted),
                "str": _finding(letters, wanted),
            }
            bench.compare(f"find {name} that is not there", sides, against="str", reach=None)

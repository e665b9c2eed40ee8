"""Giving lent memory back to its owner, who waits or who computes, at once or deferred.

The owner is another interpreter that has sent views; the receiver is the main interpreter, on its main thread
and on others.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import memchannel
from memchannel import Channel, Event, MemChannel
from memchannel.bench._beside import beside
from memchannel.bench._harness import Benchmark, Side

bench = Benchmark("releases", __doc__)

# Lends as many views as it is asked for, then waits, or computes in pure Python until it is told to stop.
OWNER = """
data = bytes(4096)
for count in orders:
    for _ in range(count):
        views.send(data)
    lent.send(count)
    if busy:
        while not stop.is_set():
            for _ in range(100):
                pass
        stop.clear()
        lent.send(0)
"""


@contextlib.contextmanager
def owner(release: Any, *, busy: bool) -> Iterator[Callable[[int], float]]:
    """Have an interpreter lend views; yields what takes some and returns the seconds of one release."""
    views = MemChannel(release=release)
    orders, lent, stop = Channel[int](), Channel[int](), Event()
    shared: dict[str, Any] = {
        "views": views.ends[1],
        "orders": orders.ends[0],
        "lent": lent.ends[1],
        "stop": stop,
    }
    with beside(OWNER, busy=busy, **shared):

        def burst(count: int) -> float:
            orders.send(count)
            lent.recv()
            held = [views.recv() for _ in range(count)]
            if held[-1] != bytes(4096):
                raise RuntimeError("the owner lent other bytes")
            if busy:
                time.sleep(2 * sys.getswitchinterval())  # until it computes
            begin = time.perf_counter()
            for view in held:
                view.release()
            seconds = (time.perf_counter() - begin) / count
            if busy:
                stop.set()
                lent.recv()
            return seconds

        try:
            yield burst
        finally:
            orders.ends[1].close()


def on_thread(function: Callable[[], float]) -> float:
    """Call a function on a thread of its own."""
    results: list[float] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join()
    return results[0]


@bench.scenario
def idle() -> None:
    """Release a burst of views whose owner waits."""
    count = bench.scaled(2000, 200)
    before = memchannel.stats().abandoned
    for release in ("eager", "deferred"):
        with owner(release, busy=False) as burst:
            sides: dict[str, Side] = {
                f"{release}, main thread": lambda burst=burst: burst(count),  # type: ignore[misc]
                f"{release}, other thread": lambda burst=burst: on_thread(lambda: burst(count)),  # type: ignore[misc]
            }
            for side, one in sides.items():
                bench.compare("release to an idle owner", {side: one}, reach=2e-6)
    if memchannel.stats().abandoned != before:
        raise RuntimeError("a view was abandoned, not given back")


@bench.scenario
def busy() -> None:
    """Release views whose owner computes: at once it takes a switch interval, deferred it takes nothing."""
    with owner("eager", busy=True) as burst:
        interval = sys.getswitchinterval()
        sides: dict[str, Side] = {"eager, one view": lambda: burst(1) / interval}
        bench.compare("release to a busy owner", sides, unit="switch intervals", reach=1.1)
    count = bench.scaled(2000, 200)
    with owner("deferred", busy=True) as burst:
        sides = {"deferred, of a burst": lambda: burst(count)}
        bench.compare("release to a busy owner", sides, reach=2e-6)


@bench.scenario
def others_at_work() -> None:
    """Let an owner work while a receiver releases its views all the time."""
    turns = bench.scaled(3_000_000, 300_000)

    def work() -> float:
        begin = time.perf_counter()
        for _ in range(turns):
            pass
        return (time.perf_counter() - begin) / turns

    sides: dict[str, Side] = {"alone": work}
    with contextlib.ExitStack() as stack:
        for release in ("eager", "deferred"):
            sides[f"{release} releases"] = _beside_releases(stack, release, work)
        bench.compare("a turn of the owner's loop", sides, against="alone")


RECEIVER = """
for count in orders:
    for _ in range(count):
        views.recv().release()
        time.sleep(0.001)
    done.send(count)
"""


def _beside_releases(stack: contextlib.ExitStack, release: Any, work: Callable[[], float]) -> Side:
    """Do work while another interpreter takes views of ours and lets them go, a thousand a second."""
    views, orders, done = MemChannel(release=release), Channel[int](), Channel[int]()
    shared: dict[str, Any] = {"views": views.ends[0], "orders": orders.ends[0], "done": done.ends[1]}
    stack.enter_context(beside("import time\n" + RECEIVER, **shared))
    stack.callback(orders.ends[1].close)

    def measured() -> float:
        views.send_many([b"spam"] * 50)
        orders.send(50)
        seconds = work()
        done.recv()
        return seconds

    return measured

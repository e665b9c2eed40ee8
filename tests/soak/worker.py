"""The process that is soaked, and its control: worker.py SEED MINUTES ROUNDS [SIZE].

Prints one JSON object a line: what the process holds after so many rounds, and at last what it did.
"""

from __future__ import annotations

import _interpreters
import gc
import json
import os
import random
import resource
import sys
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

MOST_ENDED = 1500
"""Interpreters that end in all. 3.13 keeps the heap of each, about 5 MB; later ones that of each from which
anything is left (Objects/obmalloc.c, free_obmalloc_arenas), and so of those that are ended by force."""

LOOKS = 40
"""Lines that are printed in all, by time or by rounds, whichever is over first."""


def held() -> dict[str, int]:
    """Count what this process holds."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    with open("/proc/self/maps") as file:
        mappings = sum(1 for _ in file)
    return {
        "rss": pages * resource.getpagesize(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threads(),
        "mappings": mappings,
        "interpreters": len(_interpreters.list_all()),
    }


def threads() -> int:
    """Count the threads of this process, whoever made them."""
    return len(os.listdir("/proc/self/task"))


# ---- what both sides do


def total(block: Any) -> float:
    """Add up a block; the task of all pools."""
    return float(block.sum())


class Side(ABC):
    """The four things that a round may do, in the same proportions on both sides."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        self.random = random.Random(seed)
        self.array = np.arange(300_000.0)
        self.parts = np.array_split(self.array, 4)
        self.sums = [total(part) for part in self.parts]
        self.done = Counter[str]()

    def round(self, over: float) -> None:
        """Do one of them; so much of the whole is over."""
        ends = 2 if self.ended() <= over * MOST_ENDED else 0
        kinds = [self.use_a_pool, self.lend, self.end_politely, self.end_by_force]
        (kind,) = self.random.choices(kinds, [1, 20, ends, ends])
        kind()
        self.done[kind.__name__] += 1

    def use_a_pool(self) -> None:
        """Make a pool, use it, and shut it down or drop it."""
        pool, results = self.pool(self.random.randint(1, 2))
        assert list(results) == self.sums
        if self.random.random() < 0.5:
            pool.shutdown()
        else:
            self.done["pools dropped"] += 1
            del pool, results
            gc.collect()

    @abstractmethod
    def pool(self, workers: int) -> tuple[Executor, Iterator[float]]:
        """Make a pool, and let it add up the parts."""

    @abstractmethod
    def lend(self) -> None:
        """Let an interpreter lend, and give back one of what was lent before."""

    @abstractmethod
    def end_politely(self) -> None:
        """Make an interpreter that lends, give back what it lent, and end it."""

    @abstractmethod
    def end_by_force(self) -> None:
        """End an interpreter whose memory is read."""

    def ended(self) -> int:
        """Count the interpreters that have ended."""
        return self.done["end_politely"] + self.done["end_by_force"]

    @abstractmethod
    def finish(self) -> dict[str, Any]:
        """Give back what is still lent, and tell what was done."""


ALLOCATED = """
def allocated():  # bytes of this interpreter's objects (Objects/obmalloc.c, _PyObject_DebugMallocStats)
    import os, re, sys
    with open(os.memfd_create("statistics"), "rb+") as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        found = re.findall(rb"# bytes in allocated blocks += +([0-9,]+)", file.read())
    return sum(int(one.replace(b",", b"")) for one in found)
"""


# ---- with memchannel


class Soak(Side):
    """Everything by memchannel."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        from memchannel import InterpreterPool, MemChannel, interpreters

        self.interpreters, self.pool_type = interpreters, InterpreterPool
        self.channels = [MemChannel(release="eager"), MemChannel(release="deferred")]
        # Used here too, so that the sending side is not over when an interpreter that sent ends.
        for channel in self.channels:
            channel.send(b"")
            channel.recv().release()
        self.lenders = [interpreters.create(packages=None) for _ in range(3)]
        self.views: list[Any] = []
        self.threads_at_rest = threads()
        self.threads_of_pools: deque[int] = deque(maxlen=1000)

    def pool(self, workers: int) -> tuple[Executor, Iterator[float]]:
        """Make a pool of interpreters."""
        pool = self.pool_type(workers, name="soak")
        results = pool.map_blocks(total, self.array, blocks=4)
        self.threads_of_pools.append(threads() - self.threads_at_rest)
        return pool, results

    def lend(self) -> None:
        """Send from an interpreter, receive and slice here, release or drop."""
        lender, channel = self.random.choice(self.lenders), self.random.choice(self.channels)
        code = f"ch.send(bytearray({self.random.randint(1, 1 << 16)}))"
        self.interpreters.run(lender, code, ch=channel).check()
        self.views.append(channel.recv()[self.random.randint(0, 9) :])
        if len(self.views) > 20:
            view = self.views.pop(self.random.randrange(20))
            if self.random.random() < 0.5:
                view.release()

    def end_politely(self) -> None:
        """Release the view, then close the interpreter."""
        interpreter, view = self._lent()
        view.release()
        self.interpreters.close(interpreter, timeout=60)

    def end_by_force(self) -> None:
        """Close the interpreter, and go on reading."""
        interpreter, view = self._lent()
        interpreter.close()
        assert bytes(view) == b"soaked"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # abandoned, it says, and is
            del view

    def _lent(self) -> tuple[Any, Any]:
        interpreter, channel = self.interpreters.create(packages=None), self.random.choice(self.channels)
        self.interpreters.run(interpreter, "ch.send(bytearray(b'soaked'))", ch=channel).check()
        return interpreter, channel.recv()

    @staticmethod
    def _workers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("soak")]

    def size(self) -> dict[str, Any]:
        """Tell what an interpreter that has lent holds: modules by name, with their file, and bytes.

        And how many threads there are while a pool is at work, its own and those of others that are ending.
        """
        interpreter, view = self._lent()
        code = (
            "import json, sys\n"
            "files = {name: getattr(module, '__file__', '') for name, module in list(sys.modules.items())}\n"
            "known = {*sys.stdlib_module_names, 'memchannel'} - {'__main__'}\n"
            "files = {name: file for name, file in files.items() if name.split('.')[0] in known}\n"
            "files = {n: f for n, f in files.items() if not f or f.endswith('.py')}\n"
            "ch.send(json.dumps({'modules': files, 'bytes': allocated()}).encode())"
        )
        self.interpreters.run(interpreter, ALLOCATED + code, ch=self.channels[0]).check()
        found: dict[str, Any] = json.loads(bytes(self.channels[0].recv()))
        view.release()
        self.interpreters.close(interpreter, timeout=60)
        return {**found, "threads": list(self.threads_of_pools)}

    def finish(self) -> dict[str, Any]:
        """Tell what the core counts, too."""
        from memchannel import stats

        self.views.clear()
        gc.collect()
        end = time.monotonic() + 60
        while (stats().live or self._workers()) and time.monotonic() < end:
            time.sleep(0.01)
        now = stats()
        counts = {
            name: getattr(now, name) for name in ("live", "abandoned", "lent", "shared_buffers", "waiting")
        }
        return {**self.done, **counts, "size": self.size()}


# ---- without


LEFT = "import ctypes\nctypes.pythonapi.Py_IncRef(ctypes.py_object(x))\n"
"""Something that is left, as what is lent by an interpreter that is ended by force."""


class Control(Side):
    """The same by the standard library: threads for pools, what is lent stays where it is made.

    Interpreters that end hold as much as the soak's, since CPython 3.13 does not give back their heap: they
    import the same modules of the standard library, load the bytecode of memchannel's without running it, and
    make up with objects for the rest of the bytes. Pools have as many threads as there are beside the soak's:
    the C library unmaps the stacks of threads that end beyond the first five, and new ones may come to lie
    elsewhere, between heaps that CPython keeps.
    """

    def __init__(self, seed: int, size: dict[str, Any]) -> None:
        super().__init__(seed)
        self.threads_of_pools: list[int] = size["threads"] or [0]
        self.random_threads = random.Random(seed)
        self.code = (
            "import importlib, importlib.machinery\nkept = []\n"
            f"for name, file in {size['modules']}.items():\n"
            "    if name.split('.')[0] == 'memchannel':\n"
            "        kept.append(importlib.machinery.SourceFileLoader(name, file).get_code(name))\n"
            "    else:\n"
            "        importlib.import_module(name)\n"
            f"{ALLOCATED}"
            "one = bytes(30)\n"
            f"for _ in range(({size['bytes']} - allocated()) // 64):\n"
            "    kept.append(one + b'.')\n"  # 64 bytes each
            "x = bytearray(b'soaked')\n"
        )
        self.lenders = [self._made("lent = []") for _ in range(3)]

    @staticmethod
    def _made(code: str) -> int:
        made: int = _interpreters.create(reqrefs=True)
        _interpreters.incref(made)
        Control._run(made, code)
        return made

    @staticmethod
    def _run(interpreter: int, code: str) -> None:
        problem = _interpreters.exec(interpreter, code)
        assert problem is None, problem

    def pool(self, workers: int) -> tuple[Executor, Iterator[float]]:
        """Make a pool of threads, all of which are there when the work begins."""
        count = max(workers, self.random_threads.choice(self.threads_of_pools))
        pool = ThreadPoolExecutor(count)
        together = threading.Barrier(count)
        list(pool.map(lambda _: together.wait(), range(count)))
        return pool, pool.map(total, self.parts)

    def lend(self) -> None:
        """Let an interpreter keep some bytes, at most seven, as one of three that lend twenty."""
        lender, size = self.random.choice(self.lenders), self.random.randint(1, 1 << 16)
        self._run(lender, f"lent.append(bytearray({size}))\nif len(lent) > 7: del lent[{size} % 7]")

    def end_politely(self) -> None:
        """Drop the last reference."""
        _interpreters.decref(self._made(self.code))

    def end_by_force(self) -> None:
        """Drop the last reference while something is left."""
        _interpreters.decref(self._made(self.code + LEFT))

    def finish(self) -> dict[str, Any]:
        """Tell what was done."""
        return dict(self.done)


def main() -> None:
    """Take rounds until the time is over or there were enough, whichever is first."""
    seed, minutes, rounds = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    side = Control(seed, json.loads(sys.argv[4])) if len(sys.argv) > 4 else Soak(seed)
    begin, count, looks = time.monotonic(), 0, 0
    while (over := max((time.monotonic() - begin) / 60 / minutes, count / rounds)) < 1:
        side.round(over)
        count += 1
        if over * LOOKS >= looks:
            looks += 1
            print(json.dumps({"rounds": count, "ended": side.ended(), **held()}), flush=True)
    seconds = round(time.monotonic() - begin)
    done = side.finish()
    print(json.dumps({"rounds": count, "ended": side.ended(), **held()}))
    print(json.dumps({"seconds": seconds, **done}))


if __name__ == "__main__":
    main()

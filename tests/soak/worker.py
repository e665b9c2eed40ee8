"""The process that is soaked, and its control: worker.py SEED MINUTES ROUNDS [MODULES].

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
from collections import Counter
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
        "threads": len(os.listdir("/proc/self/task")),
        "mappings": mappings,
        "interpreters": len(_interpreters.list_all()),
    }


# ---- with memchannel


def total(block: Any) -> float:
    """Add up a block; the task of all pools."""
    return float(block.sum())


class Soak:
    """The four things that a round may do."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        from memchannel import InterpreterPool, MemChannel, interpreters

        self.np, self.interpreters, self.pool_type = np, interpreters, InterpreterPool
        self.random = random.Random(seed)
        self.array = np.arange(300_000.0)
        self.blocks = [total(block) for block in np.array_split(self.array, 4)]
        self.done = Counter[str]()
        self.channels = [MemChannel(release="eager"), MemChannel(release="deferred")]
        # Used here too, so that the sending side is not over when an interpreter that sent ends.
        for channel in self.channels:
            channel.send(b"")
            channel.recv().release()
        self.lenders = [interpreters.create(packages=None) for _ in range(3)]
        self.views: list[Any] = []

    def round(self, over: float) -> None:
        """Do one of them; so much of the whole is over."""
        ends = 2 if self.ended() <= over * MOST_ENDED else 0
        kinds = [self.use_a_pool, self.lend, self.end_politely, self.end_by_force]
        (kind,) = self.random.choices(kinds, [1, 20, ends, ends])
        kind()
        self.done[kind.__name__] += 1

    def use_a_pool(self) -> None:
        """Make a pool, use it, and shut it down or drop it."""
        pool = self.pool_type(self.random.randint(1, 2), name="soak")
        results = pool.map_blocks(total, self.array, blocks=4)
        assert list(results) == self.blocks
        if self.random.random() < 0.5:
            pool.shutdown()
        else:
            self.done["pools dropped"] += 1
            del pool, results
            gc.collect()

    def lend(self) -> None:
        """Let an interpreter lend, and give back one of what was lent before."""
        lender, channel = self.random.choice(self.lenders), self.random.choice(self.channels)
        code = f"ch.send(bytearray({self.random.randint(1, 1 << 16)}))"
        self.interpreters.run(lender, code, ch=channel).check()
        self.views.append(channel.recv()[self.random.randint(0, 9) :])
        if len(self.views) > 20:
            view = self.views.pop(self.random.randrange(20))
            if self.random.random() < 0.5:
                view.release()

    def end_politely(self) -> None:
        """Make an interpreter that lends, give back what it lent, and close it."""
        interpreter, view = self._lent()
        view.release()
        self.interpreters.close(interpreter, timeout=60)

    def end_by_force(self) -> None:
        """End an interpreter whose memory is read, and go on reading."""
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

    def ended(self) -> int:
        """Count the interpreters that have ended."""
        return self.done["end_politely"] + self.done["end_by_force"]

    def finish(self) -> dict[str, Any]:
        """Give back what is still lent, and tell what the core counts."""
        from memchannel import stats

        self.views.clear()
        gc.collect()
        end = time.monotonic() + 60
        while (stats().live or self._workers()) and time.monotonic() < end:
            time.sleep(0.01)
        now = stats()
        code = (
            "import json, sys\n"
            "files = {name: getattr(module, '__file__', '') for name, module in list(sys.modules.items())}\n"
            "known = {*sys.stdlib_module_names, 'memchannel'} - {'__main__'}\n"
            "files = {name: file for name, file in files.items() if name.split('.')[0] in known}\n"
            "ch.send(json.dumps({n: f for n, f in files.items() if not f or f.endswith('.py')}).encode())"
        )
        self.interpreters.run(self.lenders[0], code, ch=self.channels[0]).check()
        modules = json.loads(bytes(self.channels[0].recv()))
        counts = {
            name: getattr(now, name) for name in ("live", "abandoned", "lent", "shared_buffers", "waiting")
        }
        return {**self.done, **counts, "modules": modules}


# ---- without


LEFT = "import ctypes\nctypes.pythonapi.Py_IncRef(ctypes.py_object(x))\n"
"""Something that is left: half of the soak's interpreters end while their memory is read."""


class Control:
    """Interpreters that come and go, and hold what the soak's do, but none of memchannel's objects.

    They import the same modules of the standard library, and load the bytecode of memchannel's without
    running it: CPython 3.13 does not give back the heap of an interpreter, so that its size counts.
    """

    def __init__(self, modules: dict[str, str]) -> None:
        self.done = Counter[str]()
        self.code = (
            "import importlib, importlib.machinery\nkept = []\n"
            f"for name, file in {modules}.items():\n"
            "    if name.split('.')[0] == 'memchannel':\n"
            "        kept.append(importlib.machinery.SourceFileLoader(name, file).get_code(name))\n"
            "    else:\n"
            "        importlib.import_module(name)\n"
        )

    def round(self, _: float) -> None:
        """Make an interpreter, let it import and allocate, and end it."""
        made = _interpreters.create(reqrefs=True)
        _interpreters.incref(made)
        left = LEFT if self.done["interpreters"] % 2 else ""
        problem = _interpreters.exec(made, self.code + "x = bytearray(b'soaked')\n" + left)
        assert problem is None, problem
        _interpreters.decref(made)  # which ends it
        self.done["interpreters"] += 1

    def ended(self) -> int:
        """Count the interpreters that have ended."""
        return self.done["interpreters"]

    def finish(self) -> dict[str, Any]:
        """Tell what was done."""
        return dict(self.done)


def main() -> None:
    """Take rounds until the time is over or there were enough, whichever is first."""
    seed, minutes, rounds = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    side = Control(json.loads(sys.argv[4])) if len(sys.argv) > 4 else Soak(seed)
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

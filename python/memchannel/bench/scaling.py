"""The constants that a model of many cores starts from: what all workers of a process have in common.

The model itself is computed from the figures, see `memchannel.bench._model`.
"""

from __future__ import annotations

import functools
import subprocess
import time
from typing import Any

import numpy as np

from memchannel import InterpreterPool
from memchannel.bench._harness import Benchmark
from memchannel.bench._machine import core_program, private_memory
from memchannel.bench._processes import in_own_process

bench = Benchmark("scaling", __doc__)

SHARED = {
    "queued": "a message through one channel",
    "counted": "one count up and down",
    "lent": "a lease made and given back",
    "allocated": "a message made and dropped",
    "mapped": "a page mapped and unmapped",
}


def core_turn(what: str, seconds: float, threads: int) -> float:
    """Measure the core without Python: the seconds of one turn of all threads together."""
    command = [str(core_program()), what, str(seconds), str(threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@bench.scenario
def shared() -> None:
    """Let one thread use what all have in common, and two."""
    seconds = 0.3 if not bench.quick else 0.05
    for what, title in SHARED.items():
        for threads in (1, 2):
            sides = {"core": functools.partial(core_turn, what, seconds, threads)}
            bench.compare(title, sides, at=threads)


def _nothing(block: Any) -> None:
    pass


def block_overhead(blocks: int) -> float:
    """Return the seconds that `map_blocks` takes for each block beside the function's."""
    array = np.zeros((blocks, 16_384))  # blocks large enough to be lent, not copied
    with InterpreterPool(2) as pool:
        list(pool.map_blocks(_nothing, array, blocks=blocks))
        begin = time.perf_counter()
        list(pool.map_blocks(_nothing, array, blocks=blocks))
        return (time.perf_counter() - begin) / blocks


@bench.scenario
def owner() -> None:
    """Let the interpreter that has the array lend blocks and take results: work that it does alone."""
    blocks = bench.scaled(2000, 200)
    sides = {"memchannel": lambda: float(in_own_process(block_overhead, blocks))}
    bench.compare("a block lent, done and answered", sides)


def pages_of_interpreter() -> float:
    """Return the pages that another interpreter with NumPy writes to."""
    with InterpreterPool(1) as pool:
        pool.submit(abs, 1).result()
        before = private_memory()
        with InterpreterPool(1) as second:
            second.submit(abs, 1).result()
            return (private_memory() - before) / 4096


@bench.scenario
def pages() -> None:
    """Count the pages of an interpreter, which have to be mapped one after the other."""
    bench.record("pages of one interpreter", "memchannel", in_own_process(pages_of_interpreter), "pages")

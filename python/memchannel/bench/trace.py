"""What recording costs, and what it costs while nothing is recorded.

``job`` is the main job with a trace and without. ``messages`` is a hand-over with nothing
around it, the worst there can be. ``off`` counts instructions, which other programs do not disturb, under
valgrind; MEMCHANNEL_BEFORE=DIR, the built ``python`` folder of another version, compares with that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import memchannel
from memchannel.bench._harness import Benchmark, per_operation
from memchannel.bench._workload import roughness

WORKERS = 2
BLOCKS = 16
bench = Benchmark("trace", __doc__)


@bench.scenario
def job() -> None:
    """Compare the main job with a trace and without; a tracer may cost 5 %."""
    array = np.random.default_rng(0).random((bench.scaled(20_000, 2_000), 256))
    with memchannel.InterpreterPool(WORKERS) as pool:

        def run() -> float:
            begin = time.perf_counter()
            list(pool.map_blocks(roughness, array, blocks=BLOCKS))
            return time.perf_counter() - begin

        def traced() -> float:
            with memchannel.trace() as trace:
                took = run()
            assert sum(event.kind == "task" for event in trace.events) == BLOCKS
            return took

        run()
        name = f"main job, {len(array):,} x 256"
        sides = {"traced": traced, "plain": run}
        bench.compare(name, sides, against="plain", reach=1.05, repeats=3 * bench.repeats)


@bench.scenario
def messages() -> None:
    """Compare hand-overs of a view within one thread."""
    channel = memchannel.MemChannel()
    data = bytearray(64)
    count = bench.scaled(100_000, 20_000)

    def hand_over() -> None:
        channel.send(data)
        channel.recv().release()

    def traced() -> float:
        with memchannel.trace(limit=4 * count + 100):
            return per_operation(hand_over, count)

    sides = {"traced": traced, "plain": lambda: per_operation(hand_over, count)}
    bench.compare("send, recv, release", sides, against="plain")


LOOPS = {
    "send, recv, release of a view": "data = bytearray(64); c = memchannel.MemChannel()\n"
    "def one(): c.send(data); c.recv().release()",
    "send, recv of a number": "c = memchannel.Channel()\ndef one(): c.send(7); c.recv()",
}


def instructions(loop: str, folder: str | None) -> float:
    """Count those of one turn of a loop: of two runs, one of which has more turns, the difference."""
    counts = []
    for turns in (1_000, 3_000):
        code = f"import memchannel\n{loop}\nfor _ in range({turns}): one()"
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        if folder is not None:
            environment["PYTHONPATH"] = folder
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command = [*valgrind, sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found, done.stderr
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / 2_000


@bench.scenario
def off() -> None:
    """Count the instructions of a hand-over while nothing is recorded."""
    if shutil.which("valgrind") is None:
        bench.leave_out("now", "needs valgrind")
        return
    before = os.environ.get("MEMCHANNEL_BEFORE")
    if before is not None and not list(Path(before).glob("memchannel/_core*.so")):
        raise SystemExit(f"MEMCHANNEL_BEFORE={before} has no built memchannel in it")
    for name, loop in LOOPS.items():
        sides = {"now": lambda loop=loop: instructions(loop, None)}
        if before is not None:
            sides["before"] = lambda loop=loop: instructions(loop, before)
        against = "before" if before is not None else None
        reach = 1.02 if before is not None else None
        bench.compare(name, sides, against=against, reach=reach, repeats=1, unit="instructions")

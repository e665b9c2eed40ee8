"""A generator of random programs: a list of steps, told by a seed, and the process that takes them.

A program is a list of (operation, numbers), so that it can be cut short while it still fails. What an
operation does not find (a view, an interpreter) it leaves out, so that every part of a program is a program.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LIMIT = 60.0
"""Seconds after which a program hangs."""

Step = tuple[str, int, int]
Program = list[Step]

# Operation: how often. "numpy" is rare because it takes most of a second.
WEIGHTS = {
    "create": 8,
    "numpy": 1,
    "send": 14,
    "send from": 14,
    "receive": 16,
    "receive in": 8,
    "slice": 6,
    "send on": 6,
    "release": 8,
    "drop": 8,
    "cycle": 4,
    "gc": 4,
    "gc in": 3,
    "close politely": 4,
    "close by force": 3,
    "raise in": 3,
    "fork": 2,
    "thread": 4,
    "daemon thread": 3,
    "signal": 3,
    "channel": 3,
    "close end": 2,
    "poison": 1,
    "stats": 2,
    "take": 4,
    "let go": 4,
    "take in": 5,
    "contend": 3,
    "contend in": 4,
    "wait": 2,
    "wait in": 4,
    "signal waiters": 3,
    "holder dies": 2,
    "member dies": 2,
    "send file": 6,
    "send file from": 5,
    "send lock": 2,
    "close file": 3,
    "list": 4,
    "list in": 2,
    "forget": 4,
    "close twice": 2,
}
ENDINGS = ["fall", "exit", "raise", "_exit", "sigint"]
CODES = {"fall": 0, "exit": 3, "raise": 1, "_exit": 4, "sigint": -2}


class Outcome(NamedTuple):
    """How a program ended."""

    good: bool
    why: str
    stderr: str


def generate(seed: int, length: int = 30) -> Program:
    """Compose the program of a seed."""
    rng = random.Random(seed)
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    steps: Program = [("create", 0, 0), ("create", 0, 0)]
    for name in rng.choices(names, weights, k=rng.randint(5, length)):
        steps.append((name, rng.randrange(1 << 16), rng.randrange(1 << 16)))
    steps.append((rng.choice(ENDINGS), 0, 0))
    return steps


def run(program: Program) -> Outcome:
    """Take the steps in a process of its own, and judge how it ended."""
    worker = Path(__file__).with_name("worker.py")
    try:
        done = subprocess.run(
            # Programs drop open files; debug builds say so of interpreters that end, whatever their filters.
            [
                sys.executable,
                "-W",
                "ignore::ResourceWarning",
                "-X",
                "faulthandler",
                str(worker),
                json.dumps(program),
            ],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        return Outcome(False, "hang", (exc.stderr or b"").decode(errors="replace"))
    expected = CODES.get(program[-1][0], 0) if program else 0
    if done.returncode != expected:
        return Outcome(False, f"status {done.returncode}, not {expected}", done.stderr)
    for line in done.stderr.splitlines():
        if not line.startswith("chaos: on purpose") and line.strip():
            return Outcome(False, f"wrote {line!r}", done.stderr)
    return Outcome(True, "", done.stderr)


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """Leave out steps, halves first, as long as it still fails; the ending stays."""
    size = max(1, len(program) // 2)
    while size:
        start = 0
        while start < len(program) - 1:
            shorter = program[:start] + program[min(start + size, len(program) - 1) :]
            if len(shorter) < len(program) and fails(shorter):
                program = shorter
            else:
                start += size
        size //= 2
    return program

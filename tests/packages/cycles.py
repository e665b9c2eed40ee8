"""Makes interpreters, imports NumPy in them, computes and closes them, again and again.

    python tests/packages/cycles.py                # 1,000 fresh ones, 200 in a process, and 1,000 reused ones
    python tests/packages/cycles.py --count 20     # fewer
    python tests/packages/cycles.py --write        # the figures go into docs/packages.md

Ends with status 1 if a process crashed, a result was wrong, or a reused interpreter grew by more than 20 KiB
a cycle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

FRESH_IN_ONE_PROCESS = 200
MARKS = (10, 50, 100, 200, 1000)
GROWTH_OF_REUSED = 20 * 1024


def compute(n: int) -> float:
    """Use what NumPy loads at once and what it loads later."""
    import numpy as np

    a = np.random.default_rng(n).normal(size=(n, n)) + n * np.eye(n)
    product = a @ np.linalg.inv(a)
    return float(np.abs(np.fft.ifft(np.fft.fft(product)).real - np.eye(n)).max())


def resident() -> int:
    """Return the resident memory of the process in bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cycle(count: int, reuse: bool) -> list[int]:
    """Run cycles in this process; returns the resident memory after each."""
    from memchannel import interpreters

    curve = []
    for _ in range(count):
        interpreter = interpreters.create(packages=("numpy",), reuse=reuse)
        error = interpreters.run(interpreter, compute, n=30).check().value
        assert error < 1e-9, error
        interpreters.close(interpreter, timeout=10)
        curve.append(resident())
    return curve


def processor_seconds() -> float:
    """Return the time that the child processes so far took, which depends little on what else runs."""
    times = os.times()
    return times.children_user + times.children_system


def run(kind: str, count: int) -> tuple[list[list[int]], float, int]:
    """Run cycles in child processes; returns their curves, processor seconds a cycle, and the crashes."""
    curves, crashes, before = [], 0, processor_seconds()
    size = FRESH_IN_ONE_PROCESS if kind == "fresh" else count
    for first in range(0, count, size):
        command = [sys.executable, "-X", "faulthandler", __file__, "--child", kind]
        child = subprocess.run(
            [*command, "--count", str(min(size, count - first))],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if child.returncode:
            crashes += 1
            print(f"{kind}: a process ended with {child.returncode}", file=sys.stderr)
        else:
            curves.append(json.loads(child.stdout))
    return curves, (processor_seconds() - before) / count, crashes


def row(count: int, curves: list[list[int]], seconds: float, crashes: int) -> tuple[list[str], float]:
    """Return the cells of a row, and the bytes that a cycle leaves once everything is warm."""
    longest = max(curves, key=len)
    memory = [f"{longest[mark - 1] / 2**20:.0f}" if len(longest) >= mark else "" for mark in MARKS]
    warm = min(10, len(longest) // 2)
    growth = (longest[-1] - longest[warm]) / max(1, len(longest) - 1 - warm)
    return [f"{count:,}", str(crashes), *memory, f"{growth / 2**20:.2f}", f"{seconds * 1000:.0f}"], growth


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write the figures into docs/packages.md")
    parser.add_argument("--child", choices=["fresh", "reused"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(cycle(arguments.count, arguments.child == "reused")))
        return 0
    failed = False
    for kind in ("fresh", "reused"):
        curves, seconds, crashes = run(kind, arguments.count)
        failed |= crashes > 0
        if not curves:
            continue
        cells, growth = row(arguments.count, curves, seconds, crashes)
        failed |= kind == "reused" and growth > GROWTH_OF_REUSED
        print(kind, *cells, sep=" | ", flush=True)
        if arguments.write:
            import figures

            figures.put_rows("cycles", [platform.python_version(), kind], [cells])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

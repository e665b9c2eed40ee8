"""What NumPy costs in further interpreters of a process: time of the import, memory, mappings."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

from harness import Benchmark, in_own_process

from memchannel import interpreters

bench = Benchmark("images", __doc__)

PACKAGES = {"numpy": "numpy", "numpy with its parts": "numpy.linalg, numpy.random, numpy.fft"}


def seconds_of_import(modules: str) -> float:
    """Import in the current interpreter; returns the seconds."""
    import time

    begin = time.perf_counter()
    exec(f"import {modules}")
    return time.perf_counter() - begin


def plain_import(modules: str) -> float:
    """Import in this main interpreter."""
    return seconds_of_import(modules)


def further_import(modules: str) -> float:
    """Import in a second interpreter, after a first one."""
    for _ in range(2):
        interpreter = interpreters.create(packages=("numpy",))
        seconds: float = interpreters.run(interpreter, seconds_of_import, modules=modules).check().value
    return seconds


def memory() -> tuple[int, int]:
    """Return the private memory of this process in bytes, and its mappings."""
    with Path("/proc/self/smaps_rollup").open(encoding="ascii") as lines:
        private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    with Path("/proc/self/maps").open(encoding="utf-8") as lines:
        return private * 1024, sum(1 for _ in lines)


def cost_of_many(count: int, modules: str) -> dict[str, Any]:
    """Make interpreters that import, and keep them; returns what each one after the first cost."""
    made = [interpreters.create(packages=("numpy",))]
    interpreters.run(made[0], seconds_of_import, modules=modules).check()
    before, begin = memory(), time.perf_counter()
    for _ in range(count):
        made.append(interpreters.create(packages=("numpy",)))
        interpreters.run(made[-1], seconds_of_import, modules=modules).check()
    seconds = time.perf_counter() - begin
    gc.collect()
    after = memory()
    return {
        "total": after[0],
        "bytes": (after[0] - before[0]) / count,
        "mappings": (after[1] - before[1]) / count,
        "seconds": seconds / count,
    }


@bench.scenario
def imports() -> None:
    """Import in a second interpreter, and in a process of its own."""
    for name, modules in PACKAGES.items():
        bench.compare(
            f"import {name}",
            {
                "second interpreter": lambda: float(in_own_process(further_import, modules)),  # noqa: B023
                "plain process": lambda: float(in_own_process(plain_import, modules)),  # noqa: B023
            },
            against="plain process",
            reach=1.2,
        )


@bench.scenario
def many() -> None:
    """Keep a hundred interpreters with NumPy at the same time."""
    count = bench.scaled(100, 5)
    for name, modules in PACKAGES.items():
        cost = in_own_process(cost_of_many, count, modules)
        title = f"{count} interpreters, {name}"
        reach = 2.5 * 1024 if count == 100 and name == "numpy" else None
        bench.record(title, "private memory of all", cost["total"] / 2**20, "MiB", reach=reach)
        bench.record(title, "private memory of each", cost["bytes"] / 2**20, "MiB")
        bench.record(title, "mappings of each", cost["mappings"], "")
        bench.record(title, "creation and import", cost["seconds"])


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    bench.main()

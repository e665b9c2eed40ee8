"""What NumPy costs in further interpreters of a process: time of the import, memory, mappings."""

from __future__ import annotations

import gc
import random
import statistics
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

from memchannel import interpreters
from memchannel.bench._harness import Benchmark
from memchannel.bench._machine import private_memory
from memchannel.bench._processes import in_own_process

bench = Benchmark("images", __doc__)

PACKAGES = {"numpy": "numpy", "numpy with its parts": "numpy.linalg, numpy.random, numpy.fft"}


def seconds_of_import(modules: str) -> dict[str, float]:
    """Import in the current interpreter; returns seconds of time, of the processor, and of parts of that."""
    import time
    from importlib.machinery import ExtensionFileLoader

    parts: dict[str, float] = {}

    def measure(owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)

        def measured(*arguments: Any, **keywords: Any) -> Any:
            begin = time.thread_time()
            try:
                return function(*arguments, **keywords)
            finally:
                parts[part] = parts.get(part, 0.0) + time.thread_time() - begin

        setattr(owner, name, measured)

    measure(ExtensionFileLoader, "create_module", "creating extension modules")
    try:
        from memchannel.images import _elf, _image, _loader
    except ImportError:
        pass
    else:
        measure(_loader.PrivateImageLoader, "create_module", "creating extension modules")
        measure(_elf.ElfFile, "__init__", "reading ELF files")
        measure(_image, "_fill", "copying files")
        measure(_image, "_open", "linking")
        measure(_image, "_share", "sharing pages again")
    begin, processor = time.perf_counter(), time.thread_time()
    exec(f"import {modules}")
    return {"time": time.perf_counter() - begin, "processor time": time.thread_time() - processor, **parts}


def plain_import(modules: str) -> dict[str, float]:
    """Import in this main interpreter."""
    return seconds_of_import(modules)


def further_import(modules: str) -> dict[str, float]:
    """Import in a second interpreter, after a first one."""
    for _ in range(2):
        interpreter = interpreters.create(packages=("numpy",))
        seconds: dict[str, float] = (
            interpreters.run(interpreter, seconds_of_import, modules=modules).check().value
        )
    return seconds


def memory() -> tuple[int, int]:
    """Return the private memory of this process in bytes, and its mappings."""
    with Path("/proc/self/maps").open(encoding="utf-8") as lines:
        return private_memory(), sum(1 for _ in lines)


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
        sides = {"second interpreter": further_import, "serial, plain process": plain_import}
        samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        repeats = 5 * bench.repeats
        for _ in range(repeats):
            for side in random.sample(list(sides), len(sides)):
                samples[side].append(in_own_process(sides[side], modules))
        for what in ("time", "processor time"):  # the latter is what a busy machine leaves comparable
            bench.compare(
                f"import {name}, {what}",
                {side: map(itemgetter(what), samples[side]).__next__ for side in sides},
                against="serial, plain process",
                reach=1.2,
                repeats=repeats,
            )
        for side in sides:
            for part in [part for part in samples[side][0] if "time" not in part]:
                seconds = statistics.median(sample[part] for sample in samples[side])
                bench.record(f"import {name}, {part}", side, seconds)


@bench.scenario
def many() -> None:
    """Keep a hundred interpreters with NumPy at the same time."""
    count = bench.scaled(100, 5)
    for name, modules in PACKAGES.items():
        cost = in_own_process(cost_of_many, count, modules)
        title = f"{count} interpreters, {name}"
        reach = 2500 if count == 100 and name == "numpy" else None
        bench.record(title, "private memory of all", cost["total"] / 1e6, "MB", reach=reach)
        bench.record(title, "private memory of each", cost["bytes"] / 2**20, "MiB")
        bench.record(title, "mappings of each", cost["mappings"], "")
        bench.record(title, "creation and import", cost["seconds"])

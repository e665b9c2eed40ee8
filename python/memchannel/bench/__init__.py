"""The benchmarks: how fast this is, beside what else there is, and what each figure should be.

``memchannel bench`` runs them; the page `docs/performance.md` shows what came out. Each module holds the
scenarios of one question. Nothing of this is imported by ``import memchannel``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memchannel.bench._harness import Benchmark

__all__ = ["NAMES", "load"]

NAMES = (
    "main_job",
    "round_trips",
    "ends",
    "waiting",
    "arrays",
    "objects",
    "releases",
    "growth",
    "selects",
    "executors",
    "startup",
    "images",
    "many_pools",
    "primitives",
    "trace",
    "integrations",
    "scaling",
)


def load(name: str) -> Benchmark:
    """Import one of the benchmarks.

    Raises
    ------
    ValueError
        There is none of that name.
    ModuleNotFoundError
        It needs a package that is not installed.
    """
    if name not in NAMES:
        raise ValueError(f"there is no benchmark {name!r}; there are: {', '.join(NAMES)}")
    bench: Benchmark = importlib.import_module(f"memchannel.bench.{name}").bench
    return bench

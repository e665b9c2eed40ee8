"""The benchmarks: how fast this is, beside what else there is, and what each figure should be.

``memchannel bench`` runs them; the page `docs/performance.md` shows what came out. Each module holds the
scenarios of one question. Nothing of this is imported by ``import memchannel``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memchannel.bench._harness import Benchmark

__all__ = ["FURTHER", "NAMES", "load"]

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

# By their names only: they need what the others do not, scikit-learn and Dask, and valgrind.
FURTHER = ("integrations", "trace")


def load(name: str) -> Benchmark:
    """Import one of the benchmarks.

    Raises
    ------
    ValueError
        There is none of that name.
    ImportError
        It needs a package that is not installed.
    """
    if name not in NAMES + FURTHER:
        raise ValueError(f"there is no benchmark {name!r}; there are: {', '.join(NAMES + FURTHER)}")
    bench: Benchmark = importlib.import_module(f"memchannel.bench.{name}").bench
    return bench

"""Arrays that Hypothesis makes up arrive as they were, here and where another image of NumPy is.

    python tests/test_array_examples.py --examples 100000 --write  # figures go into docs/array-examples.md

Run by pytest it tries a few hundred, always the same ones; MEMCHANNEL_EXAMPLES changes their number.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings

import memchannel
from array_strategies import arrays
from array_support import assert_same, traits
from array_tables import Table
from memchannel import ArrayChannel, Channel
from second_interpreter import SecondInterpreter
from source_commit import source_commit

DOCUMENT = Path(__file__).parent.parent / "docs" / "array-examples.md"
EXAMPLES = int(os.environ.get("MEMCHANNEL_EXAMPLES", "300"))
AT_ONCE = 2000
"""Examples of one run of Hypothesis, which remembers all of them."""

_THERE = """
import array_support
def answer():
    got = arrays.recv()
    traits = array_support.traits(got)
    back.send(got)
    answers.send(traits)
"""


def kinds_of(array: Any) -> set[str]:
    """Name what is special about an array."""
    dtype = array.dtype
    overlapping = array.size > 1 and np.lib.array_utils.byte_bounds(array)
    found = {
        "structured": dtype.names is not None,
        "nested": any(dtype[name].names is not None for name in dtype.names or ()),
        "with titles": any(len(entry) > 2 for entry in (dtype.fields or {}).values()),
        "with sub-arrays": any(dtype[name].subdtype is not None for name in dtype.names or ()),
        "with metadata": bool(dtype.metadata),
        "datetime64, timedelta64": dtype.kind in "mM",
        "of foreign byte order": not dtype.isnative,
        "negative strides": any(step < 0 for step in array.strides),
        "zero strides": any(step == 0 for step in array.strides),
        "overlapping elements": bool(overlapping) and overlapping[1] - overlapping[0] < array.nbytes,
        "unaligned": not array.flags.aligned,
        "0-d": not array.ndim,
        "empty": not array.size,
        "itemsize 0": not dtype.itemsize,
    }
    return {name for name, true in found.items() if true}


class Comparison:
    """Sends arrays to itself and to another interpreter, which tells what it got and sends it back."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.examples = 0
        self.different: set[int] = set()
        self.dtypes: set[str] = set()

    def __enter__(self) -> Comparison:
        self.here: ArrayChannel[Any] = ArrayChannel()
        self.there: ArrayChannel[Any] = ArrayChannel()
        self.back: ArrayChannel[Any] = ArrayChannel()
        self.answers: Channel[Any] = Channel()
        self.other = SecondInterpreter(numpy=True)
        ends = {"arrays": self.there.ends[0], "back": self.back.ends[1], "answers": self.answers.ends[1]}
        self.other.run(_THERE, **ends)
        return self

    def __exit__(self, *_: object) -> None:
        self.other.end()

    def check(self, sent: Any) -> None:
        """Compare an array with what arrives; its references must be as before."""
        references = sys.getrefcount(sent), sys.getrefcount(sent.base)
        copied = memchannel.stats().bytes_copied
        self.here.send(sent)
        got = self.here.recv()
        assert_same(got, sent)
        del got
        self.there.send(sent)
        self.other.run("answer()")
        got = self.back.recv()
        assert_same(got, sent)
        del got
        wanted = traits(sent)
        assert self.answers.recv() == wanted
        assert (sys.getrefcount(sent), sys.getrefcount(sent.base)) == references
        assert memchannel.stats().bytes_copied == copied
        self.examples += 1
        self.kinds.update(kinds_of(sent))
        self.different.add(hash((wanted[1], sent.shape, sent.strides)))
        self.dtypes.add(repr(sent.dtype))

    def run(self, count: int, number: int | None) -> None:
        """Check as many examples as asked for; without a seed always the same ones."""
        run = given(arrays())(lambda sent: self.check(sent))
        options = settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=number is None,
            suppress_health_check=list(HealthCheck),
        )
        (options(run) if number is None else seed(number)(options(run)))()


@pytest.mark.usefixtures("level_leases")
def test_arrays_of_all_kinds_arrive_as_they_were() -> None:
    with Comparison() as tester:
        tester.run(EXAMPLES, None)
        assert tester.examples >= EXAMPLES // 2
        if EXAMPLES >= 300:
            assert {"structured", "negative strides", "zero strides", "unaligned", "empty"} <= set(
                tester.kinds
            )


# ---- the script


def put(name: str, row: str) -> None:
    """Replace the row of a Python, or add it, in the table of that name."""
    table = Table(DOCUMENT, name)
    heading, rows = table.lines[:2], table.lines[2:]
    key = row.split("|")[1]
    table.write([*heading, *sorted([line for line in rows if line.split("|")[1] != key] + [row])])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--write", action="store_true", help=f"write the figures into {DOCUMENT.name}")
    arguments = parser.parse_args()
    start, commit = time.perf_counter(), source_commit()
    with Comparison() as tester:
        number = arguments.seed
        while tester.examples < arguments.examples:
            tester.run(min(AT_ONCE, arguments.examples - tester.examples), number)
            number += 1
            print(f"{tester.examples:,} after {time.perf_counter() - start:.0f} s", flush=True)
    python = f"{platform.python_version()} {' '.join(platform.python_build())}, {platform.python_compiler()}"
    if sysconfig.get_config_var("Py_DEBUG"):
        python += ", debug"
    cells = [
        *(python, np.__version__, commit, f"{arguments.seed} to {number - 1}", f"{tester.examples:,}"),
        *(f"{len(tester.different):,}", f"{len(tester.dtypes):,}", "0"),
    ]
    print(row := f"| {' | '.join(cells)} |")
    kinds = [name.strip() for name in Table(DOCUMENT, "kinds").lines[0].split("|")[2:-1]]
    assert set(tester.kinds) <= set(kinds), set(tester.kinds) - set(kinds)
    print(row_of_kinds := f"| {python} | {' | '.join(f'{tester.kinds[name]:,}' for name in kinds)} |")
    if arguments.write:
        put("runs", row)
        put("kinds", row_of_kinds)


if __name__ == "__main__":
    main()

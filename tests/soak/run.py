"""Soak a process beside a control: python tests/soak/run.py --minutes 30 --report docs/reports/soak."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from reports import Run, origin, replacing, table, told, update_report

LEVEL = {"descriptors": 0, "threads": 0, "mappings": 40, "rss": 30_000_000}
"""What may be held at the end beyond what was held after the warm-up, and what the control grows by."""

WARM = 0.25
"""The part of the rounds after which everything that is made once has been made."""


class Soaked(NamedTuple):
    """What one process said."""

    looks: list[dict[str, int]]
    done: dict[str, Any]

    def since_warm(self, name: str) -> int:
        """From the end of the warm-up to the end."""
        return self.looks[-1][name] - self.looks[int(WARM * len(self.looks))][name]

    def growth(self) -> dict[str, int]:
        """What is to stay level."""
        return {name: self.since_warm(name) for name in LEVEL}


def soak(seed: int, minutes: float, rounds: int, *size: str) -> Soaked:
    """Run one process to its end.

    Raises
    ------
    subprocess.CalledProcessError
        It did not end well.
    """
    worker = Path(__file__).with_name("worker.py")
    arguments = [str(seed), str(minutes), str(rounds), *size]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(worker), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *looks, last = map(json.loads, done.stdout.splitlines())
    return Soaked(looks, last)


def soak_both(seed: int, minutes: float, rounds: int) -> tuple[Soaked, Soaked]:
    """Soak, and let a process that has no memchannel do as many rounds."""
    ours = soak(seed, minutes, rounds)
    size = json.dumps(ours.done.pop("size"))
    return ours, soak(seed, sys.maxsize, ours.looks[-1]["rounds"], size)


def faults(ours: Soaked, control: Soaked) -> list[str]:
    """Say what grew that should not have."""
    grown, expected = ours.growth(), control.growth()
    found = [
        f"{name} grew by {grown[name]}, by {expected[name]} in the control"
        for name, allowed in LEVEL.items()
        if grown[name] > max(0, expected[name]) + allowed
    ]
    if ours.done["live"] or ours.done["waiting"]:
        found.append(f"{ours.done['live']} leases are out, {ours.done['waiting']} calls parked")
    return found


RESULTS = (
    "Python, commit, date, minutes, rounds, pools, interpreters ended, leases, RSS in MB, control, "
    "descriptors, threads, mappings, control, faults"
)
COURSE = "rounds, interpreters ended, alive, RSS in MB, descriptors, threads, mappings"


def _cells(one: Run) -> tuple[object, ...]:
    grown, control, done = one["growth"], one["control"], one["done"]
    memory = [f"{side['rss'] / 1e6:+.1f}" for side in (grown, control)]
    rest = [grown["descriptors"], grown["threads"], grown["mappings"], control["mappings"]]
    counts = (one["rounds"], done["use_a_pool"], one["ended"], done["lent"])
    faults = "; ".join(one["faults"]) or "none"
    return *told(one), f"{done['seconds'] / 60:.0f}", *counts, *memory, *(f"{n:+d}" for n in rest), faults


def _look(look: dict[str, int]) -> tuple[object, ...]:
    names = ("rounds", "ended", "interpreters", "rss", "descriptors", "threads", "mappings")
    return tuple(f"{look[name] / 1e6:.1f}" if name == "rss" else look[name] for name in names)


def page(runs: list[Run]) -> str:
    """Write the Markdown page."""
    lines = [
        "# Soak",
        "",
        "Written by `tests/soak/run.py`; do not edit. Pools are made, used and shut down or dropped,",
        "interpreters lend and end politely or by force, views are released or dropped, at random, in one",
        "process. Its control does as many rounds of the same kinds without memchannel: pools of as many",
        "threads, interpreters of the same size that end, half of them with something left. Growth is",
        "counted after the first quarter.",
        "",
        *table(RESULTS, map(_cells, runs)),
    ]
    for one in runs:
        lines += ["", f"{one['python']}, what the process holds as time goes:", ""]
        lines += table(COURSE, map(_look, one["looks"][:: max(1, len(one["looks"]) // 12)]))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Soak; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args()
    made_with = origin()
    ours, control = soak_both(options.seed, options.minutes, options.rounds)
    found = faults(ours, control)
    result = {
        **made_with,
        "rounds": ours.looks[-1]["rounds"],
        "ended": ours.looks[-1]["ended"],
        "growth": ours.growth(),
        "control": control.growth(),
        "done": ours.done,
        "looks": ours.looks,
        "faults": found,
    }
    print(page([result]))
    if options.report is not None:
        update_report(options.report, replacing(result), page)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

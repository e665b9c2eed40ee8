"""Run the programs and their controls: run.py --repeat 20 --report docs/reports/exits."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from exits.programs import ENDINGS, SITUATIONS, Outcome, program, run
from reports import Run, origin, replacing, table, told, update_report


class Failed(NamedTuple):
    """A program that did not always end as it should."""

    program: str
    failures: int
    statuses: dict[str, int]
    control: int | None
    """Failures of as many runs of its control, 0 if they lack a kind that it has itself; None: no control."""

    def __str__(self) -> str:
        statuses = ", ".join(f"{status} in {count}" for status, count in self.statuses.items())
        control = "it has no control" if self.control is None else f"its control: {self.control}"
        return f"{self.program}: {self.failures} failures (status {statuses}), {control}"


def excuse(failures: list[Outcome], controls: list[Outcome]) -> int:
    """Count the failures of the control; 0 if the program failed in a way in which its control did not."""
    failed = [one.code for one in controls if not one.good]
    return len(failed) if {one.code for one in failures} <= set(failed) else 0


def judge(situation: str, ending: str, repeat: int, verbose: bool) -> Failed | None:
    """Run one program so many times, and its control if it failed."""
    expected = ENDINGS[ending].code
    outcomes = [run(program(situation, ending), expected) for _ in range(repeat)]
    failures = [outcome for outcome in outcomes if not outcome.good]
    if not failures:
        return None
    control = None
    if SITUATIONS[situation].control is not None:
        source = program(situation, ending, control=True)
        control = excuse(failures, [run(source, expected) for _ in range(repeat)])
    if verbose:
        print(failures[0].stderr[-3000:])
    statuses = Counter("none, it hung" if one.code is None else str(one.code) for one in failures)
    return Failed(f"{situation} / {ending}", len(failures), dict(statuses), control)


RESULTS = "Python, commit, date, programs, times, failed, of these without an excuse"


def _cells(one: Run) -> tuple[object, ...]:
    failures = sum(failed["failures"] for failed in one["failed"])
    return *told(one), one["programs"], one["repeat"], failures, one["unexplained"]


def page(runs: list[Run]) -> str:
    """Write the Markdown page."""
    lines = [
        "# Ways to end",
        "",
        "Written by `tests/exits/run.py`; do not edit. Each program of `tests/exits/programs.py` brings a",
        "process into a situation and ends it; exit status and standard error are checked. What fails is",
        "compared with a control, which does the same without memchannel.",
        "",
        *table(
            "Python, commit, date, programs, times, failed, of these without an excuse", map(_cells, runs)
        ),
    ]
    for one in runs:
        texts = [str(Failed(**failed)) for failed in one["failed"]]
        if texts:
            lines += ["", f"{one['python']}:", "", *(f"- {text}" for text in texts)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print one line for each program that failed, and a summary; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", default="", help="part of a situation's name")
    parser.add_argument("--jobs", type=int, default=os.process_cpu_count(), help="programs at a time")
    parser.add_argument("--verbose", action="store_true", help="show what failing programs wrote")
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args()
    # What a shell starts in the background ignores it, and so would the programs that are to end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made_with = origin()
    chosen = [pair for pair in itertools.product(SITUATIONS, ENDINGS) if options.only in pair[0]]
    failed = []
    with ThreadPoolExecutor(options.jobs) as threads:
        for one in threads.map(lambda pair: judge(*pair, options.repeat, options.verbose), chosen):
            if one is not None:
                print(one, flush=True)
                failed.append(one)
    unexplained = sum(not one.control for one in failed)
    result = {
        **made_with,
        "programs": len(chosen),
        "repeat": options.repeat,
        "failed": [one._asdict() for one in failed],
        "unexplained": unexplained,
    }
    print(
        f"{result['python']}: {len(chosen)} programs, {options.repeat} times, {len(failed)} failed, "
        f"{unexplained} without an excuse"
    )
    if options.report is not None:
        update_report(options.report, replacing(result), page)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())

"""Run random programs and write a report: run.py --count 20000 --report docs/reports/chaos."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.programs import Outcome, Program, generate, run, shrink
from reports import Added, Run, origin, table, told, update_report


def page(runs: list[Run]) -> str:
    """Write the Markdown page."""
    lines = [
        "# Random programs",
        "",
        "Written by `tests/chaos/run.py`; do not edit. Each program composes steps from the list in",
        "`tests/chaos/programs.py` over up to eight interpreters and runs in a process of its own; exit",
        "status, standard error and the account of leases are checked.",
        "",
        *table(
            "Python, commit, date, seeds, programs, steps, failed",
            (
                (
                    *told(one),
                    f"{one['first']} to {one['last']}",
                    one["programs"],
                    one["steps"],
                    len(one["failures"]),
                )
                for one in runs
            ),
        ),
    ]
    failures = [(one["python"], failure) for one in runs for failure in one["failures"]]
    programs = sum(one["programs"] for one in runs)
    lines += ["", f"In all {programs:,} programs, of which {len(failures)} failed."]
    if failures:
        lines += ["", "Failures:", ""]
        lines += [f"- {python}, seed {one['seed']}: {one['why']}" for python, one in failures]
    return "\n".join(lines) + "\n"


def extending(new: Run) -> Added:
    """Add a run; seeds that follow those of another one of the same Python and commit extend that."""

    def added(runs: list[Run]) -> list[Run]:
        for one in runs:
            same = all(one[key] == new[key] for key in ("python", "commit"))
            if same and one["last"] + 1 == new["first"]:
                one.update({key: one[key] + new[key] for key in ("programs", "steps", "failures")})
                one.update({key: new[key] for key in ("date", "last")})
                return runs
        return [*runs, new]

    return added


def outcomes(
    first: int, count: int, minutes: float | None, jobs: int
) -> Iterator[tuple[int, Program, Outcome]]:
    """Run the programs of so many seeds, some at a time; none begins after so many minutes."""
    started = time.monotonic()

    def outcome_of(seed: int) -> tuple[int, Program, Outcome] | None:
        if minutes is not None and time.monotonic() - started > 60 * minutes:
            return None
        program = generate(seed)
        return seed, program, run(program)

    with ThreadPoolExecutor(jobs) as threads:
        yield from takewhile(bool, threads.map(outcome_of, range(first, first + count)))  # type: ignore[misc]


def main() -> int:
    """Run the programs; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=None, help="stop after so long")
    parser.add_argument("--jobs", type=int, default=os.process_cpu_count(), help="programs at a time")
    parser.add_argument("--report", type=Path, default=None)
    parser.add_argument("--shrink", action="store_true", help="print a shorter program that fails as well")
    options = parser.parse_args()
    # What a shell starts in the background ignores it, and so would the programs that are to end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made_with = origin()
    failures, steps, done = [], 0, 0
    for seed, program, outcome in outcomes(options.first, options.count, options.minutes, options.jobs):
        done += 1
        steps += len(program)
        if outcome.good:
            continue
        print(f"seed {seed}: {outcome.why}\n{outcome.stderr[-2000:]}", flush=True)
        failures.append({"seed": seed, "why": outcome.why})
        if options.shrink:

            def fails(shorter: Program, why: str = outcome.why) -> bool:
                return any(run(shorter).why == why for _ in range(3))

            print(json.dumps(shrink(program, fails)), flush=True)
    result = {
        **made_with,
        "first": options.first,
        "last": options.first + done - 1,
        "programs": done,
        "steps": steps,
        "failures": failures,
    }
    print({**result, "failures": len(failures)})
    if options.report is not None:
        update_report(options.report, extending(result), page)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the programs many times, with their controls: python tests/exits/run.py --repeat 20."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from exits.programs import ENDINGS, SITUATIONS, program, run


def main() -> int:
    """Print one line for each program that failed, and a summary; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", default="", help="part of a situation's name")
    parser.add_argument("--verbose", action="store_true", help="show what failing programs wrote")
    options = parser.parse_args()
    total, unexplained = Counter[str](), 0
    for situation, ending in itertools.product(SITUATIONS, ENDINGS):
        if options.only not in situation:
            continue
        expected = ENDINGS[ending].code
        failures = []
        for _ in range(options.repeat):
            outcome = run(program(situation, ending), expected)
            total["programs"] += 1
            if not outcome.good:
                failures.append(outcome)
        if not failures:
            continue
        controls = 0
        if SITUATIONS[situation].control is not None:
            source = program(situation, ending, control=True)
            controls = sum(not run(source, expected).good for _ in range(options.repeat))
        total["failures"] += len(failures)
        unexplained += controls == 0
        codes = dict(Counter(outcome.code for outcome in failures))
        print(
            f"{situation} / {ending}: {len(failures)} of {options.repeat} {codes}, control {controls}",
            flush=True,
        )
        if options.verbose:
            print(failures[0].stderr[-3000:])
    print(
        f"{sys.version.split()[0]}: {total['programs']} runs, {total['failures']} failures, "
        f"{unexplained} programs without an excuse"
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())

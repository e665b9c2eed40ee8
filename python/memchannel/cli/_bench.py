"""``memchannel bench``: how fast this is, beside what else there is, and whether each goal is reached."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memchannel.cli._colours import painted
from memchannel.cli._common import (
    FAILURE,
    CommandError,
    check_destination,
    positive_int,
    replacing,
    say,
    writing,
)

if TYPE_CHECKING:
    from memchannel.bench._harness import Benchmark
    from memchannel.bench._results import Results

DESCRIPTION = """\
Measure memchannel beside its peers: the standard library's queues and pools, and joblib, loky, Ray, Dask,
iceoryx2 where they are installed. Sides are interleaved; a ratio is that of the medians of one run. Each row
says what is to be reached and whether it was. The exit status tells of errors only, never of a speed.
"""

EXAMPLES = """\
examples:
  memchannel bench --quick                    all, small: does it run?
  memchannel bench main_job                   the main job on pools of every kind
  memchannel bench arrays --against memoryview,ray
  memchannel bench --json FILE --plots DIR    all figures, and pictures of how they grow
  memchannel bench --from FILE --plots DIR    the same pictures from figures that were measured before
"""


def add_parser(commands: Any) -> None:
    """Add ``bench`` to the subparsers of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="measure, beside other ways to do the same",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="benchmarks, see --list (default: all)",
    )
    parser.add_argument(
        "--list", action="store_true", help="name the benchmarks, scenarios and peers, and end"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--quick", dest="form", action="store_const", const="quick", help="small, to see that it runs"
    )
    forms.add_argument(
        "--scale", dest="form", action="store_const", const="scale", help="more samples of how cost grows"
    )
    parser.add_argument("--against", metavar="PEER,...", help="compare with these only (default: all)")
    parser.add_argument("--only", default="", metavar="TEXT", help="scenarios whose names have it")
    parser.add_argument("--repeats", type=positive_int, metavar="N", help="how often each side is run")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="measure nothing, read this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures there (needs Matplotlib)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="fill the tables of this Markdown page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; errors are raised as `CommandError`."""
    # Before NumPy is there: its library's threads would compete with the workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from memchannel import bench
        from memchannel.bench import _harness, _plots, _results
    except ImportError as error:
        raise CommandError(f"the benchmarks cannot be loaded: {error}", FAILURE) from error
    try:
        names = dict.fromkeys(args.names)
        benches = [bench.load(name) for name in names] if names else _all_benchmarks()
        peers = None if args.against is None else [one.strip() for one in args.against.split(",")]
        _harness.check_peers(peers or ())
    except ModuleNotFoundError as error:
        raise CommandError(f"{error}: pip install 'memchannel[bench]'", FAILURE) from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    if args.list:
        _list(benches)
        return 0
    _check_outputs(args)
    page = None if args.page is None else _page(args.page)
    if args.source is None:
        _check_scenarios(benches, args.only)
        results = _measure(benches, peers, args)
    else:
        results = _read(args)
        say(results.origin())
        if args.json is not None:
            _write(args.json, results.to_json())
    _conclude(results)
    if page is not None:
        _write(args.page, _results.fill(page, results))
    if args.plots is not None:
        with writing(args.plots):
            say("plots: " + (", ".join(map(str, _plots.draw(results, args.plots))) or "no figures for any"))
    return 0


def _all_benchmarks() -> list[Benchmark]:
    """Import all benchmarks but those of packages that are not installed, which are told."""
    from memchannel import bench

    found = []
    for name in bench.NAMES:
        try:
            found.append(bench.load(name))
        except ModuleNotFoundError as error:
            say(f"{name}: not measured: {error}: pip install 'memchannel[bench]'")
    return found


def _list(benches: list[Benchmark]) -> None:
    from memchannel.bench._peers import PEERS, missing

    for one in benches:
        say(f"{one.name:<24}{one.title}")
        for name, scenario in one.scenarios.items():
            say(f"  {name:<22}{(scenario.__doc__ or '').splitlines()[0]}")
    say("\npeers:")
    for name, peer in PEERS.items():
        why = missing(name)
        say(f"  {name:<24}{peer.what}" + (f" [{why}]" if why else ""))


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what could not be written, before minutes are spent on it."""
    for path in (args.json, args.page):
        if path is not None:
            check_destination(path)
    if args.page is not None and not args.page.exists():
        raise CommandError(f"there is no page {str(args.page)!r} to fill")
    if args.plots is not None:
        if not args.plots.is_dir():
            raise CommandError(f"there is no directory {str(args.plots)!r} for the plots; make it first")
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise CommandError("plots need Matplotlib: pip install 'memchannel[plot]'", FAILURE) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {str(path)!r}: {error}") from error


def _read(args: argparse.Namespace) -> Results:
    """Read the figures of an earlier run; what would choose those of a new one is refused."""
    from memchannel.bench._results import Results

    options = [f"--{args.form}" if args.form else "", *(f"--{name}" for name in _CHOICES if vars(args)[name])]
    if useless := [one for one in [*args.names, *options] if one]:
        raise CommandError(f"--from measures nothing: leave out {', '.join(useless)}")
    text = _text(args.source)
    try:
        return Results.from_json(text)
    except ValueError as error:
        raise CommandError(f"cannot read {str(args.source)!r}: {error}") from error


_CHOICES = ("against", "only", "repeats")


def _page(path: Path) -> str:
    """Read the page to fill, which has a place for figures."""
    from memchannel.bench._results import places

    text = _text(path)
    try:
        found = places(text)
    except ValueError as error:
        raise CommandError(f"{str(path)!r} {error}") from error
    if not found:
        raise CommandError(
            f"there is no place for figures in {str(path)!r}: put <!-- figures: goals -->, "
            "and <!-- end --> on a line below, where they are to stand"
        )
    return text


def _check_scenarios(benches: list[Benchmark], only: str) -> None:
    there = [name for one in benches for name in one.scenarios]
    if not any(only in name for name in there):
        raise CommandError(f"no scenario has {only!r} in its name; there are: {', '.join(there)}")


def _write(path: Path, text: str) -> None:
    with writing(path), replacing(check_destination(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _measure(benches: list[Benchmark], peers: list[str] | None, args: argparse.Namespace) -> Results:
    from memchannel.bench._harness import REPEATS
    from memchannel.bench._machine import machine
    from memchannel.bench._peers import PEERS
    from memchannel.bench._results import Results

    packages = {(peer.package or peer.module or "").partition("[")[0] for peer in PEERS.values()} - {""}
    form = args.form or "full"
    results = Results(form, machine(sorted(packages)))
    say(f"{form}: " + ", ".join(f"{key} {value}" for key, value in results.machine.items()))
    say(f"{'':<48} {'side':<30} {'minimum':>10} {'median':>10} {'spread':>7} {'ratio':>9} goal")
    for one in benches:
        one.form, one.peers, one.say = form, peers, say
        one.repeats = args.repeats or REPEATS[form]
        one.figures, one.absent = [], {}
        begin = time.monotonic()
        one.run(args.only)
        results.seconds[one.name] = round(time.monotonic() - begin, 1)
        results.figures += one.figures
        results.absent |= {f"{scenario}: {side}": why for (scenario, side), why in one.absent.items()}
        if args.json is not None:  # each time: minutes are lost if a later one fails
            _write(args.json, results.to_json())
    return results


def _conclude(results: Results) -> None:
    """Print the goals that were measured."""
    from memchannel.bench._results import summary

    rows = [row for row in summary(results) if row[2] != "not measured"]
    if rows:
        say("\n== goals")
    for goal, measured, outcome in rows:
        plain = outcome.replace("*", "")
        told = painted(plain, "good" if plain.startswith("reached") else "bad", sys.stdout)
        say(f"{goal.what:<66.66} {told:<24} {measured}")

"""``memchannel demo``: the sky-view factor of a real terrain, serially and in several interpreters."""

from __future__ import annotations

import argparse
import functools
import io
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memchannel.cli._common import (
    FAILURE,
    CommandError,
    check_destination,
    default_workers,
    format_bytes,
    replacing,
    say,
    worker_count,
    writing,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

RADIUS = 2000.0  # metres

DESCRIPTION = """\
Compute the sky-view factor of each cell of a real digital elevation model, the Jacksboro fault in Tennessee:
a Python loop over rays, which the GIL keeps on one core. Run it serially and in several interpreters, check
that both agree to the last bit, and draw the result. Needs the extra: pip install 'memchannel[demo]'
"""

EXAMPLES = """\
examples:
  memchannel demo                           all cells; the picture goes to memchannel-demo.png
  memchannel demo --quick -j 2 -o sky.png   a second, with two interpreters
"""


def add_parser(commands: Any) -> None:
    """Add ``demo`` to the subparsers of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="run a real job serially and in parallel, and draw a picture",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-j", "--workers", metavar="N", type=worker_count, help="interpreters (default: one for each CPU)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PNG",
        type=Path,
        default=Path("memchannel-demo.png"),
        help="where the picture goes (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="every second cell and half the rays: a second, not a quarter minute",
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Run:
    """One way of doing the job: its result and what it took.

    Attributes
    ----------
    sky_view : ndarray, float64
        The result.
    seconds : float
        Wall-clock time, the start of the interpreters included.
    peak : int
        Largest resident memory of the process up to its end, in bytes.
    lent, copied : int
        Bytes lent to the workers, and bytes copied on the way, as the core counted them.
    """

    sky_view: NDArray[np.float64]
    seconds: float
    peak: int
    lent: int
    copied: int


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; errors are raised as `CommandError`."""
    from memchannel import demo

    picture = check_destination(args.output)
    try:
        terrain = demo.load_jacksboro(2 if args.quick else 1)
    except demo.DemoUnavailableError as error:
        raise CommandError(str(error), FAILURE) from error
    elevation = terrain.elevation
    search = terrain.search(radius=RADIUS, directions=16 if args.quick else 32)
    sky_view = functools.partial(demo.sky_view_factor, **search)
    halo, _ = demo.search_reach(**search)
    workers = args.workers or default_workers()
    rows, columns = elevation.shape
    say(f"{terrain.name}: {rows} x {columns} cells of {terrain.dx:.0f} x {terrain.dy:.0f} m")
    say(f"sky-view factor: {search['directions']} rays of {RADIUS / 1000:g} km for each cell\n")

    serial = _measure(lambda: sky_view(elevation))
    _report("serially", serial)
    parallel = _measure(lambda: _in_parallel(sky_view, elevation, halo, workers))
    _report(f"{workers} interpreters", parallel)
    slower = args.quick and parallel.seconds > serial.seconds
    hint = "; this job is too short to gain from it" if slower else ""
    say(f"\nspeed-up {serial.seconds / parallel.seconds:.2f}x, with the start of the interpreters{hint}")

    differing = int((serial.sky_view.view("u8") != parallel.sky_view.view("u8")).sum())
    if differing:
        raise CommandError(f"the two results differ in {differing} of {elevation.size} cells", FAILURE)
    say(f"results equal to the last bit in all {elevation.size} cells")
    _save(demo.draw(terrain, parallel.sky_view), picture)
    say(f"picture in {args.output}")
    return 0


def _measure(work: Callable[[], NDArray[np.float64]]) -> Run:
    import memchannel

    before = memchannel.stats()
    start = time.perf_counter()
    sky_view = work()
    seconds = time.perf_counter() - start
    after = memchannel.stats()
    return Run(
        sky_view,
        seconds,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        after.bytes_lent - before.bytes_lent,
        after.bytes_copied - before.bytes_copied,
    )


def _in_parallel(
    function: Callable[..., NDArray[np.float64]], elevation: NDArray[np.int16], halo: int, workers: int
) -> NDArray[np.float64]:
    import memchannel

    with memchannel.InterpreterPool(workers, packages=("numpy",)) as pool:
        out = memchannel.empty(elevation.shape, "f8")
        whole: NDArray[np.float64] = pool.map_blocks(function, elevation, overlap=halo, out=out)
    return whole


def _report(label: str, run: Run) -> None:
    say(
        f"{label:<16} {run.seconds:7.2f} s, peak memory {format_bytes(run.peak)}, "
        f"lent {format_bytes(run.lent)}, copied {format_bytes(run.copied)}"
    )


def _save(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    with writing(path), replacing(path) as temporary:
        temporary.write_bytes(picture.getvalue())

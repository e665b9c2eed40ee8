"""``memchannel map``: one array in a file, one Python function, several interpreters."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memchannel.cli._common import (
    FAILURE,
    CommandError,
    check_destination,
    complain,
    format_bytes,
    natural_int,
    positive_int,
    print_table,
    replacing,
    say,
    worker_count,
    writing,
)
from memchannel.errors import RemoteTraceback

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memchannel._trace import Trace
    from memchannel.cli._npy import Assembly

DESCRIPTION = """\
Apply a Python function to blocks of an array in several interpreters of one process, each with a GIL of its
own. The array is mapped into memory and shared, never copied.

FUNCTION gets a block, a read-only NumPy array, and returns a number or an array. Numbers are stacked; arrays
are put together along the axis. With --overlap N the block has up to N more rows on either side, fewer at the
array's edges, and results shaped like the block have them cut off.

OUT.npy gets its name when all of it is written: after an error, Ctrl-C or another signal, whatever had that
name before is there as it was.
"""

EXAMPLES = """\
examples:
  memchannel map heights.npy numpy:median
  memchannel map heights.npy filters:smooth --overlap 5 -o smooth.npy     smooth() in ./filters.py
  memchannel map movie.npy tracking:count_cells --axis 2 -j 4 --packages numpy,scipy
  memchannel map heights.npy numpy:median --trace run.json                how evenly was the work shared out?
"""


def add_parser(commands: Any) -> None:
    """Add ``map`` to the subparsers of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "map",
        help="apply a function to blocks of an array in several interpreters",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA.npy", type=Path, help="the array, as numpy.save writes it")
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="module as in an import, also from here")
    parser.add_argument("--axis", type=int, default=0, help="axis along which the array is cut (default: 0)")
    parser.add_argument(
        "--overlap", metavar="N", type=natural_int, default=0, help="halo of each block (default: 0)"
    )
    parser.add_argument(
        "--blocks", metavar="N", type=positive_int, help="number of blocks (default: four for each worker)"
    )
    parser.add_argument(
        "--packages",
        metavar="LIST",
        type=_packages,
        default="all",
        help="packages with extension modules that the function needs, with commas between them, "
        "or 'all' (default: all)",
    )
    parser.add_argument(
        "-j",
        "--workers",
        metavar="N",
        type=worker_count,
        help="number of interpreters (default: one for each CPU)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT.npy",
        type=Path,
        help="where the result goes (default: it is printed, shortened)",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE.json",
        type=Path,
        help="record what the interpreters did, for https://ui.perfetto.dev",
    )
    parser.set_defaults(run=run)


def _packages(text: str) -> str | tuple[str, ...]:
    if text == "all":
        return text
    names = tuple(name.strip() for name in text.split(","))
    if not all(name.isidentifier() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of packages like numpy,scipy, nor 'all'")
    return names


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; errors are raised as `CommandError`."""
    import memchannel
    from memchannel.cli._function import load_function
    from memchannel.cli._npy import Assembly, file_allocator, open_array

    data = open_array(args.data)
    axis = _axis_of(data, args)
    _check_packages(args)
    trace_file = _trace_file(args)
    trace = None if trace_file is None else memchannel.trace()
    function = load_function(args.function)
    if args.output is None:
        assembly = Assembly(axis, data.shape[axis])
        lines = _collect(args, function, data, axis, assembly, trace)
        result = assembly.finish()
        place = ""
    else:
        with replacing(check_destination(args.output)) as temporary:
            assembly = Assembly(axis, data.shape[axis], file_allocator(temporary))
            lines = _collect(args, function, data, axis, assembly, trace)
            with writing(args.output):
                result = assembly.finish()
        place = f", in {args.output}"
    rows = [("data", f"{_layout(data)}, mapped from {args.data}"), *lines]
    rows.append(("result", f"{_layout(result)}{place}"))
    try:
        if trace is not None and trace_file is not None:
            rows.append(("trace", _saved(trace, trace_file, args.trace)))
    finally:  # the result is there, whether or not its trace can be written
        print_table(rows)
        if args.output is None:
            say(result)
    return 0


def _layout(array: NDArray[Any]) -> str:
    return f"shape {array.shape}, {array.dtype}, {format_bytes(array.nbytes)}"


def _axis_of(data: NDArray[Any], args: argparse.Namespace) -> int:
    if not -data.ndim <= args.axis < data.ndim:
        remedy = f"give one from {-data.ndim} to {data.ndim - 1}" if data.ndim else "there is nothing to cut"
        raise CommandError(f"--axis is {args.axis}, but {str(args.data)!r} has shape {data.shape}; {remedy}")
    axis: int = args.axis % data.ndim
    if data.shape[axis] == 0:
        raise CommandError(f"{str(args.data)!r} has shape {data.shape}: axis {axis} is empty, nothing to map")
    return axis


def _check_packages(args: argparse.Namespace) -> None:
    from memchannel import _making

    try:
        _making.package_names(args.packages)
    except ImportError as error:
        raise CommandError(f"--packages: {error}") from error


def _trace_file(args: argparse.Namespace) -> Path | None:
    """Give the file for the trace, if one is asked for; refuse one that would take another's place."""
    if args.trace is None:
        return None
    target = check_destination(args.trace)
    if target.exists() and target.samefile(args.data):
        raise CommandError(f"--trace would overwrite the data in {str(args.data)!r}: name another file")
    if args.output is not None and target == Path(os.path.realpath(args.output)):
        raise CommandError(f"--trace and --output are both {str(args.trace)!r}: name two files")
    return target


def _saved(trace: Trace, target: Path, path: Path) -> str:
    """Write the trace to `target`, where `path` leads, and return what there is to tell."""
    with replacing(target) as temporary, writing(path):
        trace.save(temporary)
    lost = f", {trace.dropped} more dropped" if trace.dropped else ""
    return f"{len(trace.events)} events{lost}, in {path}"


def _collect(
    args: argparse.Namespace,
    function: Callable[..., Any],
    data: NDArray[Any],
    axis: int,
    assembly: Assembly,
    trace: Trace | None,
) -> list[tuple[str, str]]:
    """Run the function over all blocks, put the results into `assembly`, return what there is to tell."""
    import memchannel
    from memchannel.blocks import BLOCKS_PER_WORKER, split

    before = memchannel.stats()
    start = time.perf_counter()
    recording = contextlib.nullcontext() if trace is None else trace
    with recording, memchannel.InterpreterPool(args.workers, packages=args.packages) as pool:
        workers = pool._max_workers  # the name that the standard library's executors have for it
        cut = split(data.shape[axis], args.blocks or BLOCKS_PER_WORKER * workers, overlap=0)
        blocks = [slice(block.start, block.stop) for block in cut]
        try:
            results = pool.map_blocks(
                function, data, axis=axis, blocks=blocks, overlap=args.overlap, progress=_wants_progress()
            )
            for block in blocks:
                _take(results, block, assembly, args)
        except BrokenExecutor as error:
            # A worker could not start, before the first result was asked for.
            raise CommandError(f"{args.function} cannot run: {error}", FAILURE) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    elapsed = time.perf_counter() - start
    after = memchannel.stats()
    return [
        ("workers", f"{min(workers, len(blocks))} interpreters, {len(blocks)} blocks along axis {axis}"),
        ("time", f"{elapsed:.2f} s"),
        ("shared", format_bytes(after.bytes_lent - before.bytes_lent)),
        ("copied", format_bytes(after.bytes_copied - before.bytes_copied)),
    ]


def _take(results: Iterator[Any], block: slice, assembly: Assembly, args: argparse.Namespace) -> None:
    """Take the next result, which is that of `block`."""
    where = f"{args.function} on the block {block.start}:{block.stop} of axis {args.axis}"
    try:
        result = next(results)
    except BaseException as raised:
        error = _of_the_function(raised)
        # The worker's traceback is the cause, as it is with the standard library's executors. What comes from
        # a worker is a failure even if it is KeyboardInterrupt or SystemExit: the user's Ctrl-C has no cause.
        if isinstance(error.__cause__, RemoteTraceback):
            complain(str(error.__cause__).strip())
        elif not isinstance(error, Exception):
            raise
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise CommandError(f"{where} failed: {what}", FAILURE) from error
    try:
        with writing(args.output):
            assembly.add(result, block)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{where} {error}", FAILURE) from error


def _of_the_function(raised: BaseException) -> BaseException:
    """Undo PEP 479, which makes a RuntimeError of a StopIteration that passes a generator."""
    if isinstance(raised, RuntimeError) and isinstance(raised.__cause__, StopIteration):
        return raised.__cause__
    return raised


def _wants_progress() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None

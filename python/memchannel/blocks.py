"""One array, many interpreters, one function over its blocks."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from memchannel import _core
from memchannel._arguments import integer
from memchannel._block_arrays import Output, Source, along, received, stored
from memchannel._progress import load_bar, with_progress
from memchannel._results import Results
from memchannel._worker import Parts, function_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memchannel.pool import InterpreterPool

__all__ = ["Block", "call_block", "map_blocks", "split"]

_hidden_in_tracebacks = True

BLOCKS_PER_WORKER = 4


class Block(NamedTuple):
    """A block and its halo, along one axis of length n: ``0 <= low <= start <= stop <= high <= n``."""

    number: int
    start: int
    stop: int
    low: int
    high: int


def split(n: int, blocks: int | Iterable[slice], overlap: int) -> list[Block]:
    """Cut an axis of length `n` into blocks.

    Parameters
    ----------
    n : int
        Length of the axis.
    blocks : int or iterable of slice
        How many, of nearly equal length (the first ones are one longer, as `numpy.array_split` does), or
        which.
    overlap : int
        Length of the halo on each side; cut short at the ends of the axis.

    Raises
    ------
    ValueError
        If a number or a slice is out of range.
    TypeError
        If `blocks` holds something else than slices.
    """
    overlap = integer("overlap", overlap, least=0)
    if hasattr(blocks, "__index__"):
        ranges = _even(n, integer("blocks", blocks, least=1))
    elif isinstance(blocks, Iterable):
        ranges = [_bounds(n, one) for one in blocks]
    else:
        raise TypeError(f"blocks must be a count or slices, not {blocks!r}")
    return [
        Block(i, start, stop, max(0, start - overlap), min(n, stop + overlap))
        for i, (start, stop) in enumerate(ranges)
    ]


def _even(n: int, count: int) -> list[tuple[int, int]]:
    count = min(count, max(n, 1))
    size, longer = divmod(n, count)
    starts = [i * size + min(i, longer) for i in range(count + 1)]
    return list(itertools.pairwise(starts))


def _bounds(n: int, one: slice) -> tuple[int, int]:
    if not isinstance(one, slice):
        raise TypeError(f"blocks must be a count or slices, not {one!r}")
    try:
        start, stop, step = one.indices(n)
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"blocks must be a count or slices of integers, not {one!r}: {exc}") from None
    if step != 1 or start > stop:
        raise ValueError(f"a block must be a slice with step 1, its end not before its start, not {one!r}")
    if one.stop is not None and one.stop > n:
        raise ValueError(f"block {one!r} reaches past the length {n} of the axis")
    return start, stop


def call_block(
    fn: Callable[..., Any] | None,
    parts: Parts | None,
    where: tuple[tuple[int, int, int, int, int], int, bool],
    arrays: tuple[Any, ...],
    out: NDArray[Any] | None,
) -> Any:
    """Call the function for one block, in a worker; `where` is the block, the axis, and whether to trim."""
    block, axis, trim = Block(*where[0]), where[1], where[2]
    try:
        result = function_of(fn, parts)(*map(received, arrays))
        if trim and block.high - block.low != block.stop - block.start:
            result = _trimmed(result, block, axis)
        if out is None:
            return result
        stored(result, out)
    except BaseException as exc:
        exc.add_note(f"block {block.number} of map_blocks(): [{block.start}:{block.stop}] along axis {axis}")
        raise
    return None


def _trimmed(result: Any, block: Block, axis: int) -> Any:
    shape = getattr(result, "shape", ())
    if len(shape) <= axis or shape[axis] != block.high - block.low:
        return result  # not block-shaped: a number, a summary
    return result[along(axis, block.start - block.low, block.stop - block.low)]


def _axes(arrays: tuple[NDArray[Any], ...], axis: int | tuple[int, ...]) -> list[int]:
    import numpy as np

    axes: list[int]
    try:
        axes = [operator.index(axis)] * len(arrays)  # type: ignore[arg-type]
    except TypeError:
        try:
            axes = [operator.index(one) for one in axis]  # type: ignore[union-attr]
        except TypeError:
            raise TypeError(f"axis must be an int or a tuple of ints, not {axis!r}") from None
        if len(axes) != len(arrays):
            raise ValueError(
                f"axis must be an int or one for each of the {len(arrays)} arrays, not {axis!r}"
            ) from None
    normal = []
    for array, one in zip(arrays, axes, strict=True):
        if not -array.ndim <= one < array.ndim:
            raise np.exceptions.AxisError(one, array.ndim)
        normal.append(one % array.ndim)
    return normal


def _common_length(arrays: tuple[NDArray[Any], ...], axes: list[int]) -> int:
    lengths = [array.shape[axis] for array, axis in zip(arrays, axes, strict=True)]
    if len(set(lengths)) != 1:
        raise ValueError(f"the arrays have different lengths along their axes: {lengths}")
    return int(lengths[0])


def map_blocks(
    pool: InterpreterPool,
    fn: Callable[..., Any],
    arrays: tuple[Any, ...],
    *,
    axis: int | tuple[int, ...],
    blocks: int | Iterable[slice] | None,
    overlap: int,
    trim: bool,
    out: NDArray[Any] | None,
    progress: bool,
) -> Any:
    """See `InterpreterPool.map_blocks`."""
    from memchannel.codecs.array import require_numpy
    from memchannel.pool import _name_of

    require_numpy("splitting arrays into blocks needs")
    if not arrays:
        raise TypeError("map_blocks() needs at least one array")
    crew = pool._crew
    workers = pool._max_workers
    sources = tuple(map(Source, arrays))
    axes = _axes(tuple(source.array for source in sources), axis)
    n = _common_length(tuple(source.array for source in sources), axes)
    cut = split(n, BLOCKS_PER_WORKER * workers if blocks is None else blocks, overlap)
    output = None if out is None else Output(out, axes[0], n, cut)
    if progress:
        load_bar()  # before anything runs
    shipment = crew.ship(fn)
    if output is not None:
        output.check_against(sources, axes, overlap)
    lendings = _core.Lendings()
    wrapper = (_name_of(call_block), shipment.name)

    def submit(block: Block) -> Any:
        views = tuple(
            source.block(one, block.low, block.high) for source, one in zip(sources, axes, strict=True)
        )
        target = None if output is None else output.block(block.start, block.stop)
        task = (shipment.parts, (tuple(block), axes[0], bool(trim)), views, target)
        return crew.submit(wrapper, task, None, lend_from=0, lendings=lendings)

    # Enough in flight to keep all busy, few enough that results of a file larger than memory do not pile up.
    ahead = min(2 * BLOCKS_PER_WORKER * workers, len(cut))
    results = Results(pool, submit, cut, ahead, lendings, finish=True, wait=output is not None)
    if output is None:
        results.start()
        return with_progress(results, len(cut)) if progress else results
    try:
        output.claim()
        _fill(results, len(cut), progress)
    finally:
        output.release()
    return out


def _fill(results: Results, total: int, progress: bool) -> None:
    """Read all results, and come back when nobody has anything of the tasks, in whatever way that ends."""
    try:
        results.start()
        for _ in with_progress(results, total) if progress else results:
            pass
    except BaseException as exc:  # also Ctrl-C between two results
        results.give_up(exc)
        raise

"""What `map_blocks` splits and fills: arrays lent block by block, and the array that results go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memchannel.codecs.array import STRING_DTYPE, arrays_of, loads
from memchannel.memory import WritableBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memchannel.blocks import Block

__all__ = ["Output", "Source", "along", "received", "stored"]

_hidden_in_tracebacks = True


def along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """Index what lies between two bounds along one axis."""
    return (*(slice(None),) * axis, slice(start, stop))


class Source:
    """An array that is handed out in blocks.

    Parameters
    ----------
    obj : array
        Masked and record arrays reach the function as such; other subclasses as plain arrays.

    Raises
    ------
    TypeError
        It is no array, or holds Python objects.
    """

    def __init__(self, obj: object) -> None:
        import numpy as np

        prepared: Any = obj if type(obj) is np.ndarray else arrays_of(obj)
        self._payload: bytes | None = None
        self._items: list[Any] = [prepared]
        if isinstance(prepared, tuple):
            if not isinstance(prepared[0], bytes):  # of an ArrayView
                self._items = [np.asarray(obj)]
            else:
                self._payload, self._items = prepared[0], list(prepared[1])
        self.array: NDArray[Any] = self._items[0]
        for item in self._items:
            if item.dtype.hasobject and item.dtype.num != STRING_DTYPE:
                raise TypeError(
                    f"cannot split an array of dtype {item.dtype!r}: Python objects belong to one "
                    "interpreter; convert it to a numeric dtype, or map() over the objects"
                )

    def block(self, axis: int, start: int, stop: int) -> Any:
        """Give what travels to a worker for a block; `received` makes the block of it."""
        parts = [item[along(axis, start, stop)] for item in self._items]
        return parts[0] if self._payload is None else (self._payload, parts)


def received(block: Any) -> Any:
    """Make the block that the function is called with, in a worker."""
    return loads(*block) if type(block) is tuple else block


class Output:
    """The array that workers write results to, each to its own blocks.

    Parameters
    ----------
    array : numpy.ndarray
        Made by `memchannel.empty`.
    axis, n : int
        The axis that blocks are cut along, and its length.
    blocks : list of Block
        They must cover the axis, each part once.

    Raises
    ------
    TypeError, ValueError
        The array does not fit.
    """

    def __init__(self, array: Any, axis: int, n: int, blocks: list[Block]) -> None:
        import numpy as np

        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"out must be an array made by memchannel.empty(), not {type(array).__name__}")
        if array.ndim <= axis or array.shape[axis] != n:
            raise ValueError(
                f"out has shape {array.shape}; it must have length {n} along axis {axis}, as the array has"
            )
        if _overlaps_itself(array):
            raise ValueError(
                f"elements of out may share memory (shape {array.shape}, strides {array.strides}): some "
                "workers would write what others write, too; give an array that does not overlap itself"
            )
        _check_cover(n, blocks)
        self._array = array
        self._axis = axis
        self._claim: WritableBlock | None = None

    def check_against(self, sources: tuple[Source, ...], axes: list[int], overlap: int) -> None:
        """Refuse memory that one worker would read while another writes it.

        Raises
        ------
        ValueError
            An input lies in the same memory, otherwise than each block in its own block's place.
        """
        import numpy as np

        for number, (source, axis) in enumerate(zip(sources, axes, strict=True)):
            for part in source._items:
                if _lies_alike(part, self._array) and axis == self._axis and overlap == 0:
                    continue
                try:
                    shared = np.shares_memory(part, self._array, max_work=10_000_000)
                except np.exceptions.TooHardError:
                    shared = True
                if shared:
                    raise ValueError(
                        f"out shares memory with array {number}: some workers would read what others wrote "
                        "already; give another out, or the same array without overlap"
                    )

    def claim(self) -> None:
        """Claim the whole, before any block is written.

        Raises
        ------
        BufferError
            Somebody else may write to a part of it.
        TypeError, ValueError
            It is memory of an interpreter, or read-only.
        """
        self._claim = WritableBlock(self._array)

    def block(self, start: int, stop: int) -> WritableBlock:
        """Give what travels to a worker, once: there it is a writable array."""
        assert self._claim is not None
        return self._claim.part(along(self._axis, start, stop))

    def release(self) -> None:
        """Give the claim up; blocks that are out keep their part of it."""
        self._claim = None


def _check_cover(n: int, blocks: list[Block]) -> None:
    at = 0
    for start, stop in [*sorted((block.start, block.stop) for block in blocks), (n, n)]:
        if start < at:
            raise ValueError(
                f"blocks overlap at {start}:{min(at, stop)}: with out= only one worker may write to each part"
            )
        if start > at:
            raise ValueError(f"no block writes {at}:{start} of out; with out= blocks cover the whole axis")
        at = stop


def _overlaps_itself(array: NDArray[Any]) -> bool:
    """Whether two elements may lie in the same memory: not if each stride spans what smaller ones reach."""
    if array.size == 0:
        return False
    reach = array.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False


def _lies_alike(left: NDArray[Any], right: NDArray[Any]) -> bool:
    facts = [
        (array.__array_interface__["data"][0], array.shape, array.strides, array.itemsize)
        for array in (left, right)
    ]
    return bool(facts[0] == facts[1])


def stored(result: Any, out: NDArray[Any]) -> None:
    """Write a block's result to its place, in a worker.

    Raises
    ------
    TypeError
        The result has a mask, or its dtype cannot be cast safely enough.
    ValueError
        It has another shape.
    """
    import numpy as np

    if isinstance(result, np.ma.MaskedArray):
        raise TypeError("the result is a masked array, and out has no place for its mask: return .filled()")
    array = np.asarray(result)
    if array.shape != out.shape:
        raise ValueError(f"the result has shape {array.shape}, its block of out has {out.shape}")
    np.copyto(out, array, casting="same_kind")

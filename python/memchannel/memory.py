"""Arrays over memory that belongs to no interpreter.

Such memory is counted by the core: sending it never switches interpreters to give it back, it outlives the
interpreter that made it, and blocks of it can be lent writable, each to one holder at a time.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

from memchannel import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

_STRING_DTYPE = 2056  # NPY_VSTRING (numpy/_core/include/numpy/ndarraytypes.h)

__all__ = ["WritableBlock", "array", "empty", "zeros"]


@overload
def empty(shape: int | Sequence[int], *, order: Literal["C", "F"] = "C") -> NDArray[np.float64]: ...
@overload
def empty[S: np.generic](
    shape: int | Sequence[int], dtype: type[S] | np.dtype[S], *, order: Literal["C", "F"] = "C"
) -> NDArray[S]: ...
@overload
def empty(
    shape: int | Sequence[int], dtype: DTypeLike, *, order: Literal["C", "F"] = "C"
) -> NDArray[Any]: ...
def empty(
    shape: int | Sequence[int], dtype: DTypeLike = float, *, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """Make an array over a new `SharedBuffer`.

    Parameters
    ----------
    shape : int or sequence of int
        Shape of the array.
    dtype : dtype_like, optional
        Any dtype that holds no Python objects.
    order : {"C", "F"}, optional
        Memory layout.

    Returns
    -------
    numpy.ndarray
        Writable, aligned to 64 bytes. Its contents are zero, because fresh memory is.

    Raises
    ------
    ImportError
        If this interpreter cannot import NumPy.
    TypeError
        If the dtype holds Python objects.
    ValueError
        If a dimension is negative, the size is no address, or `order` is unknown.
    MemoryError
        If the memory cannot be had.
    """
    _require_numpy()
    import numpy as np

    kind = np.dtype(dtype)
    if kind.num == _STRING_DTYPE:
        raise TypeError(f"texts of {kind} lie outside of the array; use a dtype of fixed size, like 'U20'")
    if kind.hasobject:
        raise TypeError(
            f"dtype {kind} holds Python objects, which belong to one interpreter; use a numeric dtype"
        )
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F', not {order!r}")
    dims = _dimensions(shape)
    size = math.prod(dims) * kind.itemsize
    if size > sys.maxsize:
        raise ValueError(f"array is too big: shape {dims} and dtype {kind} take {size} bytes")
    buffer = _core.SharedBuffer(size)
    return np.ndarray(dims, kind, buffer=buffer, order=order)


def _dimensions(shape: Any) -> tuple[int, ...]:
    try:
        dims = (operator.index(shape),) if hasattr(shape, "__index__") else tuple(map(operator.index, shape))
    except TypeError:
        raise TypeError(f"shape must be an integer or a sequence of integers, not {shape!r}") from None
    if any(n < 0 for n in dims):
        raise ValueError(f"negative dimensions are not allowed: {dims}")
    return dims


@overload
def zeros(shape: int | Sequence[int], *, order: Literal["C", "F"] = "C") -> NDArray[np.float64]: ...
@overload
def zeros[S: np.generic](
    shape: int | Sequence[int], dtype: type[S] | np.dtype[S], *, order: Literal["C", "F"] = "C"
) -> NDArray[S]: ...
@overload
def zeros(
    shape: int | Sequence[int], dtype: DTypeLike, *, order: Literal["C", "F"] = "C"
) -> NDArray[Any]: ...
def zeros(
    shape: int | Sequence[int], dtype: DTypeLike = float, *, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """Make an array of zeros over a new `SharedBuffer`.

    Parameters
    ----------
    shape, dtype, order
        As for `empty`.

    Returns
    -------
    numpy.ndarray
        As from `empty`.
    """
    return empty(shape, dtype, order=order)


@overload
def array[S: np.generic](
    a: NDArray[S], dtype: None = None, *, order: Literal["C", "F"] = "C"
) -> NDArray[S]: ...
@overload
def array[S: np.generic](
    a: ArrayLike, dtype: type[S] | np.dtype[S], *, order: Literal["C", "F"] = "C"
) -> NDArray[S]: ...
@overload
def array(
    a: ArrayLike, dtype: DTypeLike | None = None, *, order: Literal["C", "F"] = "C"
) -> NDArray[Any]: ...
def array(a: ArrayLike, dtype: DTypeLike | None = None, *, order: Literal["C", "F"] = "C") -> NDArray[Any]:
    """Copy an array into one over a new `SharedBuffer`. The copy counts as ``stats().bytes_copied``.

    Parameters
    ----------
    a : array_like
        What `numpy.asarray` takes.
    dtype : dtype_like, optional
        Of the new array; by default that of `a`.
    order : {"C", "F"}, optional
        Memory layout.

    Returns
    -------
    numpy.ndarray
        As from `empty`.

    Raises
    ------
    ImportError
        If this interpreter cannot import NumPy.
    TypeError
        If the array is masked, or its dtype holds Python objects.
    """
    _require_numpy()
    import numpy as np

    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(
            "a masked array has two arrays, data and mask: copy a.data and a.mask, or a.filled(value)"
        )
    source = np.asarray(a, dtype=dtype)
    target = empty(source.shape, source.dtype, order=order)
    np.copyto(target, source)
    _core._count_copied(source.nbytes)
    return target


def _require_numpy() -> None:
    if "numpy" not in sys.modules:
        from memchannel.codecs.array import require_numpy  # late: it imports pickle

        require_numpy("arrays over shared memory need")


class WritableBlock:
    """A block of a shared array, on its way to the one who may write to it.

    Sent through a `Channel` (once), it arrives as a writable array. While that array, or this object, lives,
    nobody else can claim an overlapping block; the creator's own array stays writable.

    Parameters
    ----------
    block : numpy.ndarray
        An array, or a slice of one, that `empty`, `zeros` or `array` made.

    Raises
    ------
    BufferError
        If it overlaps a block that is claimed already.
    TypeError
        If its memory belongs to an interpreter.
    ValueError
        If it is read-only.
    """

    def __init__(self, block: np.ndarray[Any, Any]) -> None:
        self._claimed: NDArray[Any] | None = _core._claim_block(block)

    def part(self, index: Any) -> WritableBlock:
        """Give a part that travels by itself, under the same claim, which ends with the last of them.

        The caller sees to it that parts of different holders do not overlap.
        """
        if self._claimed is None:
            raise ValueError("this block was sent already: it has no parts any more")
        made = object.__new__(WritableBlock)
        made._claimed = self._claimed[index]
        return made

    def take(self) -> NDArray[Any]:
        """Give the claimed array away; a second call raises ValueError."""
        claimed, self._claimed = self._claimed, None
        if claimed is None:
            raise ValueError("this block was sent already: one holder at a time may write to it")
        return claimed

"""``.npy`` files: the input mapped into memory, and the blocks' results put together."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from memchannel.cli._common import CommandError, kind_of_file

Array = NDArray[Any]


def open_array(path: Path) -> Array:
    """Map a ``.npy`` file into memory, read-only.

    Raises
    ------
    CommandError
        The file is missing, unreadable, a pipe or a device, not a ``.npy`` file, truncated, or holds Python
        objects.
    """
    _refuse_pipe(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(npy.MAGIC_PREFIX))
        if start == npy.MAGIC_PREFIX:
            return np.asarray(npy.open_memmap(path, mode="r"))
    except OSError as error:
        raise CommandError(f"cannot read {str(path)!r}: {error.strerror}; give a .npy file") from error
    except Exception as error:  # also SyntaxError, TokenError and OverflowError come out of NumPy's parser
        raise CommandError(f"cannot read {str(path)!r}: {_damage(path) or _unreadable(error)}") from error
    if not start:
        raise CommandError(f"{str(path)!r} is empty; write an array into it with numpy.save")
    if start.startswith(b"PK"):
        raise CommandError(
            f"{str(path)!r} is an archive of arrays; save the one you want as .npy: "
            f"numpy.save('one.npy', numpy.load({str(path)!r})['name'])"
        )
    raise CommandError(
        f"{str(path)!r} is not a .npy file: it starts with {start!r}; write one with numpy.save"
    )


def _refuse_pipe(path: Path) -> None:
    """Refuse what cannot be mapped, before it is opened: that waits for whoever writes into a pipe."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return  # opening it says why
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise CommandError(
            f"cannot read {str(path)!r}: it is {kind_of_file(status)}, and only files can be mapped into "
            "memory; save the array in one"
        )


def _unreadable(error: Exception) -> str:
    return f"its header is damaged ({error}); write it again with numpy.save"


def _damage(path: Path) -> str | None:
    """Why a file that starts as a ``.npy`` file cannot be mapped; None if its header tells nothing."""
    readers: dict[tuple[int, int], Callable[[BinaryIO], Any]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
        (3, 0): _read_array_header_3_0,
    }
    try:
        with path.open("rb") as file:
            shape, _, dtype = readers[npy.read_magic(file)](file)
            offset = file.tell()
    except Exception:
        return None
    if dtype.hasobject:
        return f"its dtype {dtype} holds Python objects; save a numeric dtype, e.g. array.astype(float)"
    expected = offset + dtype.itemsize * int(np.prod(shape, dtype=object))
    present = path.stat().st_size
    if present < expected:
        return (
            f"truncated: an array of shape {shape} and dtype {dtype} takes {expected} bytes, "
            f"the file has {present}; write it again"
        )
    return None


def _read_array_header_3_0(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read a header of version 3.0, which NumPy offers no function for: 2.0's with UTF-8 (NEP 1)."""
    length = file.read(4)
    text = file.read(int.from_bytes(length, "little")).decode("utf-8")
    escaped = text.encode("ascii", "backslashreplace")  # names stand in string literals
    header = io.BytesIO(len(escaped).to_bytes(4, "little") + escaped)
    return npy.read_array_header_2_0(header)


def file_allocator(path: Path) -> Callable[[tuple[int, ...], np.dtype[Any]], Array]:
    """Make a function that lays out an array in a new ``.npy`` file at `path` and maps it for writing."""

    def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        path.unlink(missing_ok=True)
        array = npy.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        # A mapped hole that finds the disk full ends the process by SIGBUS; this raises OSError instead.
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    return allocate


class Assembly:
    """Puts the blocks' results together in the order of the blocks: scalars stacked, arrays concatenated.

    An array as long as its block goes straight to its place in the whole, so that results do not pile up;
    once there is one of another length, results are kept until the end, when the whole length is known.

    Parameters
    ----------
    axis : int
        The axis along which the input was cut, not negative; results are concatenated along it.
    length : int
        Length of the input along it.
    allocate : callable
        Makes the whole from shape and dtype; called anew if the first guess was wrong.
    """

    def __init__(
        self, axis: int, length: int, allocate: Callable[[tuple[int, ...], np.dtype[Any]], Array] = np.empty
    ) -> None:
        self._axis = axis
        self._length = length
        self._allocate = allocate
        self._first: str | None = None  # layout of the first result, which all others must have
        self._whole: Array | None = None  # filled up to where the next block starts; None if results are kept
        self._kept: list[Array] = []

    def add(self, result: Any, block: slice) -> None:
        """Take the next block's result.

        Raises
        ------
        TypeError, ValueError
            It is neither a number nor an array, or does not go with the results before it.
        OSError
            There is no room for the whole.
        """
        array = self._checked(result)
        as_long = array.ndim > 0 and array.shape[self._axis] == block.stop - block.start
        if self._first is None:
            self._first = self._layout(array)
            if as_long:
                self._whole = self._allocate(self._resized(array, self._length), array.dtype)
        if self._whole is not None:
            if as_long:
                self._whole[self._along(block.start, block.stop)] = array
                return
            self._kept.append(self._whole[self._along(0, block.start)])
            self._whole = None
        self._kept.append(array)

    def finish(self) -> Array:
        """Return the whole, once every block's result was added; if it lies in a file, it is on the disk."""
        if self._whole is None:
            self._whole = self._joined()
        if isinstance(self._whole, np.memmap):
            self._whole.flush()
        return self._whole

    def _joined(self) -> Array:
        if self._kept[0].ndim == 0:
            values = np.stack(self._kept)
            whole = self._allocate(values.shape, values.dtype)
            whole[...] = values
            return whole
        length = sum(array.shape[self._axis] for array in self._kept)
        whole = self._allocate(self._resized(self._kept[0], length), self._kept[0].dtype)
        return np.concatenate(self._kept, axis=self._axis, out=whole)

    def _checked(self, result: Any) -> Array:
        if not isinstance(result, np.ndarray | np.generic | bool | int | float | complex):
            kind = "None" if result is None else f"a {type(result).__name__}"
            raise TypeError(f"returned {kind}; return a number or a NumPy array")
        if isinstance(result, np.ma.MaskedArray):
            raise TypeError(
                "returned a masked array, and .npy files hold no mask; return array.filled(value)"
            )
        array = np.asarray(result)
        if array.dtype.hasobject:
            raise TypeError(
                f"returned dtype {array.dtype}, which holds Python objects; return a numeric dtype"
            )
        if 0 < array.ndim <= self._axis:
            raise ValueError(
                f"returned shape {array.shape}, which has no axis {self._axis} to put blocks together along; "
                "keep that axis, e.g. with keepdims=True"
            )
        if self._first is not None and self._layout(array) != self._first:
            raise ValueError(
                f"returned {self._layout(array)}, but {self._first} for the first block; "
                "return the same kind for every block"
            )
        return array

    def _layout(self, array: Array) -> str:
        if array.ndim == 0:
            return "a number"
        lengths = ["n" if axis == self._axis else str(length) for axis, length in enumerate(array.shape)]
        return f"an array of shape ({', '.join(lengths)}) and dtype {array.dtype}"

    def _resized(self, array: Array, length: int) -> tuple[int, ...]:
        return (*array.shape[: self._axis], length, *array.shape[self._axis + 1 :])

    def _along(self, start: int, stop: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self._axis, slice(start, stop))

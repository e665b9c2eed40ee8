"""A `.npy` file whose parts are mapped as they are asked for: Dask's blocks of a large file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NpyFile"]


@dataclass(frozen=True, slots=True)
class NpyFile:
    """An array in a file. Pickled, it is the file's name and what its header says.

    Indexing maps the rows that are asked for (columns, in Fortran order), and no more: mapped memory is the
    file's own, so that the system may drop it, and is unmapped with the last array over it.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    """``"C"`` or ``"F"``."""
    offset: int
    """Of the first element, in bytes."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> NpyFile:
        """Read the header.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is no `.npy` file, or holds Python objects.
        """
        name = os.path.abspath(path)
        mapped = np.load(name, mmap_mode="r")
        if not isinstance(mapped, np.memmap):
            mapped.close()
            raise ValueError(f"{name!r} is an archive of arrays: extract the .npy file")
        order = "C" if mapped.flags.c_contiguous else "F"
        return cls(name, mapped.shape, mapped.dtype, order, int(mapped.offset))

    @classmethod
    def create(cls, path: str | os.PathLike[str], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NpyFile:
        """Make a file of zeros.

        Raises
        ------
        OSError
            There is no room for it.
        """
        np.lib.format.open_memmap(path, "w+", dtype, shape)
        # A mapped hole that finds the disk full ends the process by SIGBUS.
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return cls.open(path)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def _map(self, index: Any, mode: Any) -> tuple[NDArray[Any], Any]:
        """Map what the index needs; give it, and the index into it."""
        shape, offset = list(self.shape), self.offset
        index = index if isinstance(index, tuple) else (index,)
        slow = 0 if self.order == "C" else self.ndim - 1
        if len(index) == self.ndim and self.ndim and isinstance(index[slow], slice):
            start, stop, step = index[slow].indices(shape[slow])
            if step > 0:
                shape[slow] = max(stop - start, 0)
                others = math.prod(shape[:slow] + shape[slow + 1 :])
                offset += start * others * self.dtype.itemsize
                index = (*index[:slow], slice(None, None, step), *index[slow + 1 :])
        if 0 in shape:
            return np.empty(shape, self.dtype), index  # nothing to map
        mapped = np.memmap(self.path, self.dtype, mode, offset, tuple(shape), self.order)  # type: ignore[call-overload]
        return np.asarray(mapped), index

    def __getitem__(self, index: Any) -> NDArray[Any]:
        array, inner = self._map(index, "r")
        found: NDArray[Any] = array[inner]
        return found

    def __setitem__(self, index: Any, value: Any) -> None:
        array, inner = self._map(index, "r+")
        array[inner] = value

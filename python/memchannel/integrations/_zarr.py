"""A zarr array that interpreters can read, where zarr's own way of reading needs a daemon thread."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memchannel._interrupts import _is_main_interpreter
from memchannel.integrations._require import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ZarrFile"]


@dataclass(frozen=True, slots=True)
class ZarrFile:
    """An array in a folder. Pickled, it is the folder's name and what its metadata say."""

    path: str
    component: str | None
    """Of the array inside a group."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]

    @classmethod
    def open(cls, path: str | os.PathLike[str], component: str | None) -> ZarrFile:
        """Read the metadata.

        Raises
        ------
        OSError
            There is no such array.
        ImportError
            zarr is not installed, or older than 3.
        """
        zarr = require("zarr", (3,), extra="zarr")
        name = os.path.abspath(path)
        array = zarr.open_array(store=name, path=component, mode="r")
        return cls(name, component, array.shape, np.dtype(array.dtype), array.chunks)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if _is_main_interpreter():
            import zarr

            found = zarr.open_array(store=self.path, path=self.component, mode="r")[index]
        else:
            # zarr/core/sync.py runs all its coroutines on an event loop in a daemon thread.
            found = asyncio.run(self._read(index))
        return np.asarray(found)

    async def _read(self, index: Any) -> Any:
        from zarr.api import asynchronous

        array = await asynchronous.open_array(store=self.path, path=self.component, mode="r")
        return await array.getitem(index)

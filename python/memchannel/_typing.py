"""Types of what can be sent, for annotations only: nothing here is imported at run time."""

from __future__ import annotations

from collections.abc import Buffer, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memchannel._core import StringView

__all__ = ["ArraySource", "BlockOptions", "MapOptions", "MemSource"]


class _WithArray(Protocol):
    def __array__(self) -> NDArray[Any]: ...


class _WithArrayInterface(Protocol):
    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class _WithDLPack(Protocol):
    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class _WithArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]: ...


class _WithArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


type MemSource = Buffer | str | StringView
"""What a `MemChannel` takes."""

type ArraySource = (
    Buffer | _WithArray | _WithArrayInterface | _WithDLPack | _WithArrowArray | _WithArrowStream
)
"""What an `ArrayChannel` and `InterpreterPool.map_blocks` take; lists and str are none of it."""


class MapOptions(TypedDict, total=False):
    """Keyword arguments of `InterpreterPool.map`."""

    timeout: float | None
    chunksize: int
    buffersize: int | None


class BlockOptions(TypedDict, total=False):
    """Keyword arguments of `InterpreterPool.map_blocks` that do not change the type of its result."""

    axis: int | tuple[int, ...]
    blocks: int | Iterable[slice] | None
    overlap: int
    trim: bool
    progress: bool

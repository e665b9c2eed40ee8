"""Frames and columns of Polars in the objects of a `Channel`: their Arrow buffers stay in place.

They travel as an Arrow stream (the Arrow PyCapsule interface, ``__arrow_c_stream__``), which the receiver's
Polars takes for its own without copying; their own pickle is a copy.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from memchannel import _core

if TYPE_CHECKING:
    from types import CapsuleType  # whose lookup loads _socket

__all__ = ["reduce_polars"]


def _holds_objects(dtype: Any) -> bool:
    """Tell whether Python objects are in a column of that dtype, or in its parts."""
    parts = [getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", None) or ())]
    return str(dtype) == "Object" or any(_holds_objects(part) for part in parts if part is not None)


def reduce_polars(obj: Any, lend_from: int) -> Any:
    """Reduce a Series or DataFrame, for `pickle`; one that should be, or must be, copied in its own way."""
    columns = obj.get_columns() if hasattr(obj, "get_columns") else [obj]
    if obj.estimated_size() < lend_from or any(_holds_objects(one.dtype) for one in columns):
        return NotImplemented
    # Arrow has no word for the order of values.
    order = [one.flags["SORTED_ASC"] - one.flags["SORTED_DESC"] for one in columns]
    batches = pickle.PickleBuffer(_core._arrow_batches(obj.__arrow_c_stream__()))
    return _load_polars, (type(obj), batches, order)


class _Stream:
    """What Polars takes an Arrow stream from."""

    def __init__(self, capsule: CapsuleType) -> None:
        self.capsule = capsule

    def __arrow_c_stream__(self, requested_schema: object = None) -> CapsuleType:
        return self.capsule


def _load_polars(kind: Any, batches: memoryview, order: list[int]) -> Any:
    made = kind(_Stream(_core._arrow_stream(batches)))
    columns = made.get_columns() if hasattr(made, "get_columns") else [made]
    marked = [
        one.set_sorted(descending=sign < 0) if sign else one for one, sign in zip(columns, order, strict=True)
    ]
    if not any(order):
        return made
    return kind(marked) if hasattr(made, "get_columns") else marked[0]

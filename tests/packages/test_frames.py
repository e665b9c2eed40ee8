"""Series, frames and tables over a `Channel`: their blocks and buffers arrive in place."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

import memchannel
from memchannel import interpreters

pytestmark = pytest.mark.usefixtures("level_leases")

ROWS = 10_000


def received(obj: Any) -> Any:
    """Send it to ourselves; memchannel must not have copied anything."""
    channel: memchannel.Channel[Any] = memchannel.Channel()
    before = memchannel.stats()
    channel.send(obj)
    got = channel.recv()
    after = memchannel.stats()
    assert after.bytes_copied == before.bytes_copied
    assert after.bytes_lent > before.bytes_lent
    return got


def address(array: Any) -> int:
    return int(np.asarray(array).__array_interface__["data"][0])


def blocks(frame: Any) -> list[int]:
    """Return where the blocks of a frame or Series are."""
    return [address(block.values) for block in frame._mgr.blocks]


NUMBERS = np.arange(ROWS, dtype="f8")
FRAMES: dict[str, Any] = {
    "Series": lambda: pd.Series(NUMBERS, name="x"),
    "Series of times": lambda: pd.Series(np.arange(ROWS).astype("M8[ns]").view("i8")).astype(
        "datetime64[ns]"
    ),
    "one block": lambda: pd.DataFrame(np.arange(4.0 * ROWS).reshape(4, ROWS).T, columns=list("abcd")),
    "several dtypes": lambda: pd.DataFrame(
        {"a": NUMBERS, "b": np.arange(ROWS), "c": np.zeros(ROWS, "?"), "d": np.arange(ROWS, dtype="f4")}
    ),
    "an index of its own": lambda: pd.DataFrame({"a": NUMBERS}, index=pd.Index(NUMBERS * 2, name="key")),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_blocks_of_pandas_stay_where_they_are(name: str) -> None:
    sent = FRAMES[name]()
    got = received(sent)
    assert type(got) is type(sent)
    assert got.equals(sent)
    assert blocks(got) == blocks(sent)
    if name == "an index of its own":
        assert address(got.index) == address(sent.index)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: pd.array([1, None] * ROWS, dtype="Int64"), ["_data", "_mask"]),
        (lambda: pd.Categorical(["a", "b"] * ROWS), ["codes"]),
    ],
)
def test_extension_arrays_of_pandas(make: Any, parts: list[str]) -> None:
    sent = pd.Series(make())
    got = received(sent)
    pd.testing.assert_series_equal(got, sent)
    for part in parts:
        assert address(getattr(got.array, part)) == address(getattr(sent.array, part))


def buffers(array: Any) -> list[int | None]:
    """Return where the buffers of an Arrow array or of a table's columns are."""
    arrays = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    if isinstance(array, pa.Table):
        arrays = [chunk for column in array.columns for chunk in column.chunks]
    return [buffer and buffer.address for one in arrays for buffer in one.buffers()]


ARROW: dict[str, Any] = {
    "numbers": lambda: pa.array(NUMBERS),
    "with nulls": lambda: pa.array([1, None] * ROWS, pa.int32()),
    "text": lambda: pa.array(["some", "text", None] * ROWS),
    "structs": lambda: pa.array([{"a": 1, "b": 2.5}] * ROWS),
    "table": lambda: pa.table({"a": NUMBERS, "b": pa.array([True, None] * (ROWS // 2)), "c": ["x"] * ROWS}),
    "table of chunks": lambda: pa.concat_tables([pa.table({"a": NUMBERS}), pa.table({"a": NUMBERS * 2})]),
}


@pytest.mark.parametrize("name", ARROW)
def test_the_buffers_of_arrow_stay_where_they_are(name: str) -> None:
    sent = ARROW[name]()
    got = received(sent)
    assert got.equals(sent)
    assert buffers(got) == buffers(sent)


TEXT = pa.chunked_array([["some", "text"], ["x", None] * ROWS], pa.large_string())
ARROW_COLUMNS: dict[str, Any] = {
    "numbers": lambda: pd.array(pa.array(NUMBERS), dtype=pd.ArrowDtype(pa.float64())),
    "text": lambda: pd.array(["x"] * ROWS, dtype="str"),
    "text in chunks": lambda: pd.arrays.ArrowExtensionArray(TEXT),
    "a slice": lambda: pd.array(pa.array(NUMBERS)[5:], dtype=pd.ArrowDtype(pa.float64())),
    "empty": lambda: pd.array([], dtype=pd.ArrowDtype(pa.float64())),
}


@pytest.mark.parametrize("name", ARROW_COLUMNS)
def test_columns_of_pandas_that_arrow_holds(name: str) -> None:
    sent = pd.Series(ARROW_COLUMNS[name]()).to_frame("a")
    got = received(sent)
    pd.testing.assert_frame_equal(got, sent)
    assert type(got["a"].array) is type(sent["a"].array)
    if len(sent):
        assert buffers(got["a"].array._pa_array) == buffers(sent["a"].array._pa_array)


def test_xarray_data() -> None:
    sent = xr.Dataset({"a": (("x", "y"), np.arange(2.0 * ROWS).reshape(2, ROWS))})
    got = received(sent)
    assert got.identical(sent)
    assert address(got["a"].data) == address(sent["a"].data)


def test_a_frame_in_another_interpreter() -> None:
    """Read there from the same addresses; a frame made there is read here."""
    there, back = memchannel.Channel[Any](), memchannel.Channel[Any]()
    sent = FRAMES["several dtypes"]()
    there.send(sent)
    interpreter = interpreters.create(packages=("numpy", "pandas"))
    source = """
        import gc
        frame = there.recv()
        where = [block.values.__array_interface__["data"][0] for block in frame._mgr.blocks]
        back.send((where, float(frame["a"].sum()), frame * 2))
        del frame
        gc.collect()
    """
    try:
        interpreters.run(interpreter, source, shared={"there": there.ends[0], "back": back.ends[1]}).check()
        where, total, doubled = back.recv()
        assert where == blocks(sent)
        assert total == NUMBERS.sum()
        pd.testing.assert_frame_equal(doubled, sent * 2)
        del doubled
        gc.collect()
    finally:
        interpreters.close(interpreter, timeout=20)

"""Arrays of other libraries over an `ArrayChannel`: in place, by a counted copy, or refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from PIL import Image

import memchannel

sys.path.insert(0, str(Path(__file__).parent.parent))
from array_tables import check_table, outcome

BASE = np.arange(12.0)


def received(obj: Any) -> Any:
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(obj)
    return channel.recv()


IN_PLACE: dict[str, Any] = {
    "pandas Series": (pd.Series(BASE, copy=False), BASE),
    "pandas Index": (pd.Index(BASE, copy=False), BASE),
    "xarray DataArray": (xr.DataArray(BASE), BASE),
    "pyarrow Array": (pa.array(BASE), pa.array(BASE).to_numpy()),
    **{
        name: (np.zeros(3, getattr(ml_dtypes, name)),) * 2
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
    },
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_arrives_with_its_values_and_dtype(name: str) -> None:
    sent, like = IN_PLACE[name]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert got.dtype == like.dtype
    assert got.tolist() == like.tolist()
    assert np.shares_memory(got, np.asarray(sent))
    assert memchannel.stats().bytes_copied == before


def test_polars_series() -> None:
    sent = pl.Series([1.5, 2.5])
    assert received(sent).tolist() == [1.5, 2.5]
    got = received(pl.Series([1.5, None, 2.5])[1:])
    assert (type(got), got.tolist()) == (np.ma.MaskedArray, [None, 2.5])


def test_arrow_nulls_arrive_masked() -> None:
    sent = pa.array([1, None, 3, None, 5], pa.int32())[1:]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert type(got) is np.ma.MaskedArray
    assert got.dtype == np.int32
    assert got.tolist() == [None, 3, None, 5]
    assert memchannel.stats().bytes_copied - before == 4
    assert got.__array_interface__["data"][0] == sent.buffers()[1].address + 4
    with pytest.raises(TypeError, match="no dtype for its values, of Arrow's format 'u'"):
        received(pa.array(["a", None]))


MISSING: dict[str, Any] = {
    "pyarrow bool": (pa.array([True, None]), [True, None]),
    "pyarrow times": (pa.array([1, None], pa.timestamp("us")).cast(pa.timestamp("us")), None),
    "pyarrow durations": (pa.array([1, None], pa.duration("ns")), None),
    "pyarrow chunks": (pa.chunked_array([[1, None]]), [1, None]),
    "pandas Int64": (pd.Series([1, None], dtype="Int64"), [1, None]),
    "pandas Float32": (pd.Series([1.5, None], dtype="Float32"), [1.5, None]),
    "pandas boolean": (pd.Series([True, None], dtype="boolean"), [True, None]),
    "pandas array": (pd.array([1, None], dtype="UInt8"), [1, None]),
    "pandas Index": (pd.Index([1, None], dtype="Int64"), [1, None]),
    "pandas of Arrow": (pd.Series([1, None], dtype=pd.ArrowDtype(pa.int16())), [1, None]),
    "polars ints": (pl.Series([1, None], dtype=pl.Int8), [1, None]),
    "polars bool": (pl.Series([True, None]), [True, None]),
    "polars times": (pl.Series([1, None]).cast(pl.Datetime("ms")), None),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_masked_and_never_nan(name: str) -> None:
    sent, values = MISSING[name]
    got = received(sent)
    assert type(got) is np.ma.MaskedArray
    assert got.mask.tolist() == [False, True]
    assert got.dtype.kind in "mM" if values is None else got.tolist() == values


DATES: dict[str, tuple[Any, str, list[int]]] = {
    "date32": (pa.array([9, None, 20_000], pa.int32()).cast(pa.date32()), "M8[D]", [9, 20_000]),
    "date64": (pa.array([86_400_000, None, 0], pa.int64()).cast(pa.date64()), "M8[ms]", [86_400_000, 0]),
    "zone": (pa.array([5, None, -7], pa.timestamp("ms", "Europe/Rome")), "M8[ms]", [5, -7]),
    "pandas date32": (
        pd.Series([1, None, 2], dtype="int32[pyarrow]").astype("date32[pyarrow]"),
        "M8[D]",
        [1, 2],
    ),
    "pandas zone": (
        pd.Series([1, None, 2], dtype=pd.ArrowDtype(pa.timestamp("ns", "UTC"))),
        "M8[ns]",
        [1, 2],
    ),
    "polars Date": (pl.Series([9, None, 20_000]).cast(pl.Date), "M8[D]", [9, 20_000]),
    "polars zone": (pl.Series([9, None, 1]).cast(pl.Datetime("us", "UTC")), "M8[us]", [9, 1]),
}


@pytest.mark.parametrize("name", DATES)
def test_dates_and_times_of_zones_arrive_masked(name: str) -> None:
    """Times in UTC, whatever zone they are to be shown in; only days in four bytes are copied."""
    sent, dtype, present = DATES[name]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    copied = memchannel.stats().bytes_copied - before
    assert (type(got), got.dtype, got.mask.tolist()) == (np.ma.MaskedArray, dtype, [False, True, False])
    assert got.compressed().astype("i8").tolist() == present
    assert copied == 3 + (24 if dtype == "M8[D]" else 0)
    tail = received(sent[1:])
    assert (tail.mask.tolist(), tail[1]) == ([True, False], got[2])


TABLES: dict[str, Any] = {
    "pyarrow table": pa.table({"a": [1.0, None], "b": [3.0, 4.0]}),
    "pyarrow batch": pa.RecordBatch.from_pydict({"a": [1.0, None]}),
    "pandas frame": pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
    "polars frame": pl.DataFrame({"a": [1.0, None]}),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_with_nulls_are_refused_and_others_are_numpys(name: str) -> None:
    with pytest.raises(TypeError, match="send its columns one by one"):
        received(TABLES[name])


def test_columns_that_no_mask_helps() -> None:
    with pytest.raises(TypeError, match="2 chunks"):
        received(pa.chunked_array([[1, None], [3]]))
    for sent in (pa.array(["a", None]).dictionary_encode(), pa.nulls(3), pl.Series(["a", None])):
        with pytest.raises(TypeError, match="no dtype for its values"):
            received(sent)
    with pytest.raises(TypeError, match="missing values"):
        received(pd.Series(["a", None], dtype="category"))
    assert received(pd.Series([1.5, np.nan])).tolist()[0] == 1.5  # a NaN of NumPy's is a value
    assert received(pl.DataFrame({"a": [1.0, 2.0]})).tolist() == [[1.0], [2.0]]


class Both:
    """A column of Arrow's that makes NaN of what is missing when NumPy asks, and counts nothing."""

    def __init__(self, column: Any) -> None:
        self.column = column

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return self.column.__arrow_c_array__(requested_schema)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.column.to_numpy(zero_copy_only=False)


def test_columns_that_count_nothing() -> None:
    for column in (pa.array([1, None]), pa.array([3, 1, None])[1:]):
        got = received(Both(column))
        assert (type(got), got.tolist()) == (np.ma.MaskedArray, [1, None])
    for column in (pa.array([1, 2]), pa.array([None, 1, 2])[1:]):
        got = received(Both(column))
        assert (type(got), got.tolist()) == (np.ndarray, [1, 2])


CODED = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([1.5, None]))
HIDDEN: dict[str, Any] = {
    "dictionary": CODED,
    "dictionary of pandas": pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([CODED]))),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), pa.array([1.5, None])),
    "polars array": pl.Series([[1, None], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
    "polars struct": pl.Series([{"a": 1, "b": None}, {"a": 2, "b": 3.0}]),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_missing_inside_is_never_nan(name: str) -> None:
    with pytest.raises(TypeError, match="missing"):
        received(HIDDEN[name])


def test_nothing_missing_inside() -> None:
    whole = pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))
    assert received(whole).tolist() == [[1, 2], [3, 4]]
    assert received(pa.array([1.5, 2.5]).dictionary_encode()).tolist() == [1.5, 2.5]


def test_a_table_with_a_column_named_as_an_attribute() -> None:
    with pytest.raises(TypeError, match="send its columns one by one"):
        received(pd.DataFrame({"array": pd.array([1, None], "Int64"), "b": pd.array([3, 4], "Int64")}))


def test_xarray_over_a_nullable_column() -> None:
    got = received(xr.DataArray(pd.Series([1, None], dtype="Int64")))
    assert (type(got), got.dtype, got.tolist()) == (np.ma.MaskedArray, np.int64, [1, None])


def test_masked_in_place() -> None:
    series = pd.Series([1, None, 3], dtype="Int64")
    before = memchannel.stats().bytes_copied
    got = received(series)
    assert memchannel.stats().bytes_copied == before
    assert np.shares_memory(got.data, series.array._data)
    assert np.shares_memory(got.mask, series.array._mask)
    arrow = pa.array([1.0, None, 3.0] * 100)[1:]
    got = received(arrow)
    assert got.data.ctypes.data == arrow.buffers()[1].address + 8
    assert got.mask.tolist() == [value is None for value in arrow.to_pylist()]


def test_pil_images_and_h5py_datasets_are_read(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 3), (1, 2, 3))
    assert received(image).tolist() == np.asarray(image).tolist()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = BASE
        assert received(file["a"]).tolist() == BASE.tolist()


@pytest.mark.parametrize(
    "kind", [pd.Series, pd.DataFrame, pd.Index, pl.Series, pl.DataFrame, pa.Array, pa.Table, xr.DataArray]
)
def test_classes_are_refused_as_such(kind: type) -> None:
    with pytest.raises(TypeError, match=f"it is the class '{kind.__name__}'; send an object of it"):
        received(kind)


def test_queries_of_polars_are_no_arrays() -> None:
    for sent in (pl.DataFrame({"a": [1]}).lazy(), pl.col("a")):
        with pytest.raises(TypeError, match="it is no array"):
            received(sent)


def test_an_arrow_file_truncated_under_its_mapping(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(100_000.0)})
    with pa.OSFile(str(tmp_path / "a"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    column = pa.ipc.open_file(pa.memory_map(str(tmp_path / "a"))).read_all()["a"]
    assert received(column)[-1] == 99_999
    os.truncate(tmp_path / "a", 1 << 16)
    for sent in (column, column.chunk(0), column.chunk(0).buffers()[1]):
        with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
            received(sent)


def test_pandas_missing_values_are_not_made_nan() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        received(pd.Series(["a", None], dtype=object))


def test_the_table_of_libraries(tmp_path: Path) -> None:
    """What docs/arrays.md says of them is what happens."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = BASE
        sent: dict[str, Any] = {
            "`pandas.Series` of numbers": pd.Series(BASE, copy=False),
            "`pandas.Series` of times": pd.Series(BASE.astype("M8[ns]"), copy=False),
            "`pandas.Series`, nullable, none missing": pd.Series([1, 2], dtype="Int64"),
            "`pandas.Series` of text": pd.Series(["a", None], dtype=object),
            "`pandas.Index`": pd.Index(BASE, copy=False),
            "column of a `pandas.DataFrame`": pd.DataFrame({"a": BASE, "b": BASE})["b"],
            "`pandas.DataFrame` of one dtype": pd.DataFrame(BASE.reshape(3, 4), copy=False),
            "`xarray.DataArray`": xr.DataArray(BASE),
            "`pyarrow.Array` of numbers": pa.array(BASE),
            "the same with nulls": pa.array([1.0, None, 3.0]),
            "`pyarrow.Array` of text with nulls": pa.array(["a", None]),
            "`pyarrow.ChunkedArray` of one chunk": pa.chunked_array([pa.array(BASE)]),
            "`polars.Series` of numbers": pl.Series(BASE),
            "`pandas.Series`, nullable, some missing": pd.Series([1, None], dtype="Int64"),
            "`pyarrow.Table` with nulls": pa.table({"a": [1.0, None]}),
            "the same with nulls, polars": pl.Series([1.0, None]),
            "`PIL.Image`": Image.new("RGB", (4, 3), (1, 2, 3)),
            "`h5py.Dataset`": file["a"],
            **{
                f"`{name}` of `ml_dtypes`": np.zeros(3, getattr(ml_dtypes, name))
                for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
            },
        }
        rows = {
            name: {"`ArrayChannel`": outcome(memchannel.ArrayChannel(), one)} for name, one in sent.items()
        }
    check_table("libraries", rows)

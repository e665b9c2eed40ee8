"""Arrays of other libraries over an `ArrayChannel`: in place, by a counted copy, or refused."""

from __future__ import annotations

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
    with pytest.raises(TypeError, match="nulls"):
        received(pl.Series([1.5, None]))


def test_arrow_nulls_arrive_masked() -> None:
    sent = pa.array([1, None, 3, None, 5], pa.int32())[1:]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert type(got) is np.ma.MaskedArray
    assert got.dtype == np.int32
    assert got.tolist() == [None, 3, None, 5]
    assert memchannel.stats().bytes_copied - before == 4
    assert got.__array_interface__["data"][0] == sent.buffers()[1].address + 4
    with pytest.raises(TypeError, match="nulls"):
        received(pa.array(["a", None]))


def test_pil_images_and_h5py_datasets_are_read(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 3), (1, 2, 3))
    assert received(image).tolist() == np.asarray(image).tolist()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = BASE
        assert received(file["a"]).tolist() == BASE.tolist()


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

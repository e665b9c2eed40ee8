"""What docs/arrays.md says of dtypes and exporters is what happens."""

from __future__ import annotations

import array
import ctypes
import mmap
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import DTYPES, filled
from array_tables import check_table, outcome

pytestmark = pytest.mark.usefixtures("level_leases")

CHANNELS = {
    kind.__name__: kind for kind in (memchannel.ArrayChannel, memchannel.Channel, memchannel.MemChannel)
}


def outcomes(obj: Any) -> dict[str, str]:
    return {f"`{name}`": outcome(kind(), obj) for name, kind in CHANNELS.items()}


def shown(name: str) -> str:
    return f"`{name}`" if " " not in name and name != "struct" and len(name) < 9 else name


def test_dtypes() -> None:
    rows = {shown(name): outcomes(filled((2, 3), DTYPES[name])) for name in DTYPES if name != "V0"}
    rows["`StringDType`"] = outcomes(np.array(["a", "b"], np.dtypes.StringDType()))
    check_table("dtypes", rows)


class Interface:
    """Nothing but `__array_interface__`."""

    array = np.arange(3.0)
    __array_interface__ = array.__array_interface__


class Array:
    """Nothing but `__array__`."""

    array = np.arange(3.0)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


class Tensor:
    """Nothing but DLPack."""

    array = np.arange(3.0)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_exporters(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10.0))
    base = np.arange(12.0).reshape(3, 4)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    sent: dict[str, Any] = {
        "`ndarray`, contiguous": base,
        "`ndarray`, reversed and sliced": base[::-1, ::2],
        "`ndarray`, broadcast": np.broadcast_to(base[0], (100, 4)),
        "NumPy scalar": np.float64(1.5),
        "`numpy.ma.MaskedArray`": np.ma.MaskedArray([1.0, 2.0], [False, True]),
        "`numpy.recarray`": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        "`numpy.load(mmap_mode='r')`": np.load(tmp_path / "a.npy", mmap_mode="r"),
        "`bytes`": b"abc",
        "`bytearray`": bytearray(b"abc"),
        "`memoryview`, cast and sliced": memoryview(bytes(24)).cast("d")[1:],
        "`array.array`": array.array("d", [1, 2]),
        "`mmap.mmap`": memory,
        "`ctypes` array": (ctypes.c_int * 3)(1, 2, 3),
        "`pickle.PickleBuffer`": pickle.PickleBuffer(b"abc"),
        "`memchannel.empty`": memchannel.zeros(3, "f8"),
        "`__array_interface__`": Interface(),
        "`__array__`": Array(),
        "`__dlpack__`": Tensor(),
        "`ndarray` of objects": np.array([None, 1]),
        "`list`": [1, 2],
        "`str`": "text",
        "`None`": None,
    }
    check_table(
        "exporters",
        {name: {"`ArrayChannel`": outcome(memchannel.ArrayChannel(), one)} for name, one in sent.items()},
    )

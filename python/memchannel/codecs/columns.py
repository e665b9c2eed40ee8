"""Columns with missing values, Arrow's and pandas' nullable ones: NumPy would silently make NaN of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memchannel import _core
from memchannel.codecs.array import refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["array_of", "must_be_read", "unwrapped"]

# Formats of the Arrow C data interface whose values NumPy has as well.
_DTYPES = {
    **dict(
        zip("cCsSiIlLefg", ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"), strict=True)
    ),
    **{f"ts{unit[0]}:": f"M8[{unit}]" for unit in ("s", "ms", "us", "ns")},
    **{f"tD{unit[0]}": f"m8[{unit}]" for unit in ("s", "ms", "us", "ns")},
    "tdm": "M8[ms]",
}
_TABLE = "it has missing values in a table; send its columns one by one"
_XARRAY = ("xarray.core.dataarray", "xarray.core.variable")
_WAYS = ("__array_interface__", "__array__", "__dlpack__", "__buffer__")


def _speaks_arrow(obj: Any) -> bool:
    return hasattr(obj, "__arrow_c_array__") or hasattr(obj, "__arrow_c_stream__")


def _batches(held: Any) -> _core.ArrowBatches:
    if hasattr(held, "__arrow_c_array__"):
        return _core._arrow_batches(*held.__arrow_c_array__())
    return _core._arrow_batches(held.__arrow_c_stream__())


def _has_missing(obj: Any) -> bool:
    """Tell whether values are missing which a dtype of NumPy cannot say."""
    import numpy as np

    if hasattr(obj, "isna"):  # pandas; a NaN in a column of NumPy's is a value
        is_table = getattr(obj, "ndim", 1) == 2  # its columns are attributes as well
        dtypes = list(obj.dtypes) if is_table else [getattr(obj, "dtype", np.dtype("O"))]
        if all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return False
        if bool(np.asarray(obj.isna()).any()):
            return True
        obj = None if is_table else getattr(getattr(obj, "array", obj), "_pa_array", None)
    elif hasattr(obj, "null_count"):  # an attribute in pyarrow, a method in polars
        count = obj.null_count() if callable(obj.null_count) else obj.null_count
        if bool(sum(count.row(0)) if hasattr(count, "row") else count):
            return True
    if not _speaks_arrow(obj):
        return False
    # Not counted: what is missing in a dictionary, in runs, in the columns of a table, in parts of elements.
    try:
        return _core._arrow_values(_batches(obj))[2]
    except ImportError:  # without pyarrow some libraries cannot tell
        return False


def unwrapped(obj: Any) -> Any:
    """Take the data out of an array of xarray's, whose own conversion makes NaN of what is missing in it."""
    return obj.data if type(obj).__module__ in _XARRAY else obj


def must_be_read(obj: Any) -> bool:
    """Tell whether NumPy itself would lose what is missing in a column, or find no way to its values."""
    if not any(hasattr(obj, way) for way in _WAYS):
        return _speaks_arrow(obj)  # not looked into: a stream is read once
    return _has_missing(obj)


def array_of(obj: Any) -> NDArray[Any] | np.ma.MaskedArray[Any, Any]:
    """Lay an array over the values of a column, masked where some are missing.

    Raises
    ------
    TypeError
        The values are no numbers or times, or come in several columns or chunks.
    """
    import numpy as np

    if hasattr(obj, "isna") and getattr(obj, "ndim", 1) == 2:
        raise refuse(obj, _TABLE)
    held = getattr(obj, "array", obj)  # of a pandas Series or Index
    data, mask = getattr(held, "_data", None), getattr(held, "_mask", None)
    if isinstance(data, np.ndarray) and isinstance(mask, np.ndarray):  # pandas' nullable numbers
        return _masked(data, mask)
    held = getattr(held, "_pa_array", held)
    if not _speaks_arrow(held):
        raise refuse(obj, "it has missing values; fill them, or send its values and its mask")
    return _read(obj, held)


def _masked(data: NDArray[Any], mask: NDArray[Any]) -> np.ma.MaskedArray[Any, Any]:
    import numpy as np

    masked: Any = data.view(np.ma.MaskedArray)
    masked._mask = mask
    masked._sharedmask = True
    return masked  # type: ignore[no-any-return]


class _Elements:
    """Memory of Arrow's for `numpy.asarray`, which keeps this object."""

    def __init__(self, batches: _core.ArrowBatches, address: int, dtype: np.dtype[Any], length: int) -> None:
        self.batches = batches
        self.__array_interface__ = {
            "version": 3,
            "shape": (length,),
            "typestr": dtype.str,
            "data": (address, True),
        }


def _read(obj: Any, held: Any) -> NDArray[Any] | np.ma.MaskedArray[Any, Any]:
    import numpy as np

    batches = _batches(held)
    code, arrays, _ = _core._arrow_values(batches)
    if code == "+s":
        raise refuse(obj, _TABLE)
    if code.startswith("ts"):
        code = code[:4]  # what follows is the zone in which times, all of UTC, are shown
    if code not in _DTYPES and code not in ("b", "tdD"):
        raise refuse(
            obj,
            f"NumPy has no dtype for its values, of Arrow's format {code!r}, or none that can be missing; "
            "fill them, or send its values and its mask",
        )
    if len(arrays) > 1:
        raise refuse(obj, f"it is in {len(arrays)} chunks; make one of them")
    length, nulls, offset, validity, values = arrays[0] if arrays else (0, 0, 0, 0, 0)

    def bits(address: int) -> NDArray[Any]:
        first, last = offset // 8, (offset + length + 7) // 8
        packed = np.asarray(_Elements(batches, address + first, np.dtype("u1"), last - first))
        _core._count_copied(length)
        start = offset - 8 * first
        return np.unpackbits(packed, bitorder="little")[start : start + length].view("?")

    if not length:
        return np.empty(0, {"b": "?", "tdD": "M8[D]"}.get(code) or _DTYPES[code])
    if code == "b":
        data = bits(values)
    elif code == "tdD":  # days in four bytes; NumPy's have eight
        days = _Elements(batches, values + offset * 4, np.dtype("i4"), length)
        data = np.asarray(days).astype("M8[D]")
        _core._count_copied(data.nbytes)
    else:
        dtype = np.dtype(_DTYPES[code])
        data = np.asarray(_Elements(batches, values + offset * dtype.itemsize, dtype, length))
    return _masked(data, ~bits(validity)) if nulls and validity else data

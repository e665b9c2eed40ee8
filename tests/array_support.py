"""Arrays of every kind, and what makes two of them the same. Imported on both sides of a channel."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from typing import Any, Literal

import numpy as np


def address(array: Any) -> int:
    """Return where the first element is."""
    return int(array.__array_interface__["data"][0])


def raw_bytes(array: Any) -> bytes:
    """Read everything from the lowest to the highest byte that the array touches."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return ctypes.string_at(low, high - low) if array.size else b""


def dtype_traits(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Collect all that a dtype is made of, down to the titles and metadata that ``==`` does not look at."""
    fields: tuple[Any, ...] = ()
    if dtype.names is not None and dtype.fields is not None:
        # By name and by title: both are keys.
        fields = tuple((key, dtype_traits(entry[0]), *entry[1:]) for key, entry in dtype.fields.items())
    sub = () if dtype.subdtype is None else (dtype_traits(dtype.subdtype[0]), dtype.subdtype[1])
    # Unpickling an aligned dtype leaves further bits in its flags than NumPy documents (np.dtype.flags).
    return (
        *(repr(dtype), str(dtype), dtype.str, dtype.num, dtype.byteorder, dtype.itemsize, dtype.alignment),
        *(dtype.isalignedstruct, dtype.flags & 0xFF, f"{dtype.type.__module__}.{dtype.type.__qualname__}"),
        *(dtype.names, fields, sub, repr(dict(dtype.metadata)) if dtype.metadata else ""),
        repr(_descr(dtype)),
    )


def _descr(dtype: np.dtype[Any]) -> Any:
    try:
        return dtype.descr
    except ValueError as exc:  # overlapping fields, fields out of order
        return str(exc)


def traits(array: Any) -> tuple[Any, ...]:
    """Collect all that an array is: equal on both sides of a channel."""
    flags = array.view().flags  # computed anew: NumPy leaves some out for new arrays of no bytes
    return (
        *(type(array).__name__, dtype_traits(array.dtype), array.shape, array.strides, address(array)),
        *(flags.c_contiguous, flags.f_contiguous, flags.aligned),
        hashlib.sha256(raw_bytes(array)).hexdigest(),
    )


def assert_same(received: Any, sent: Any) -> None:
    """Check that an array arrived as what it was, at the same place, read-only."""
    assert traits(received) == traits(sent)
    assert received.dtype == sent.dtype
    assert not received.flags.writeable
    assert not received.flags.owndata


# ---- dtypes

PLAIN_DTYPES = [
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G"),
    *("l", "L", "q", "Q", "p", "P"),
]
"""Native dtypes that a number names."""

DATE_UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
OWN_ORDER: Literal["<", ">"] = "<" if sys.byteorder == "little" else ">"


def spelled(dtype: Any) -> np.dtype[Any]:
    """Make a dtype that says this machine's byte order in so many words."""
    return np.dtype(dtype).newbyteorder(OWN_ORDER)


DTYPES: dict[str, Any] = {
    **{name: name for name in PLAIN_DTYPES},
    **{f">{name}": f">{name}" for name in ("i2", "u4", "i8", "f2", "f4", "f8", "g", "c8", "c16")},
    **{f"{kind}[{unit}]": f"{kind}[{unit}]" for kind in ("M8", "m8") for unit in DATE_UNITS},
    **{name: name for name in ("M8", "m8", "M8[25s]", "m8[7D]", ">M8[ns]", ">m8[10us]")},
    **{name: name for name in ("S1", "S7", "U1", "U5", ">U3", "V1", "V8", "V0")},
    **{f">{name}": f">{name}" for name in "qQ"},
    "long long in a struct": [("a", ">q"), ("b", [("c", "Q")]), ("d", "q", 2)],
    "struct": [("a", "i4"), ("b", "f8"), ("c", "S3")],
    "dates in a struct": [("t", "M8[s]"), ("v", "f4")],
    "aligned": np.dtype([("a", "u1"), ("b", "f8"), ("c", "i2")], align=True),
    "nested": [("p", [("x", ">f4"), ("y", [("z", "i2"), ("w", "c8")])]), ("q", "?")],
    "nested aligned": np.dtype([("p", np.dtype("u1,f8", align=True)), ("q", "u1")], align=True),
    "subarray": [("a", "i4", (2, 3)), ("b", "f8", 4)],
    "subarray of subarrays": [("p", ((np.int32, (3,)), (2,)))],
    "subarray of a struct": [("p", [("x", "u1"), ("y", "M8[D]")], (2,))],
    "one element subarray": [("a", "i4", (1,))],
    "title": [(("Title", "a"), "i4"), ("b", "f8")],
    "titles and offsets": {
        "names": ["x", "y"],
        "formats": ["i4", ">f8"],
        "offsets": [8, 16],
        "titles": ["the x", None],
        "itemsize": 40,
    },
    "padded itemsize": {"names": ["x"], "formats": ["u1"], "offsets": [0], "itemsize": 4},
    "overlapping": {"names": ["whole", "low"], "formats": ["u4", "u2"], "offsets": [0, 0]},
    "fields out of order": {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [4, 0]},
    "unaligned field": {"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 1]},
    "no fields": np.dtype([]),
    "no fields but bytes": {"names": [], "formats": [], "offsets": [], "itemsize": 8},
    "odd names": [("a b", "i4"), ("é", "i4"), (":x:", "u1"), ("", "i8")],
    "empty string field": [("a", "S0"), ("b", "i4")],
    "metadata": np.dtype("f8", metadata={"unit": "m", "scale": (1, 2.5)}),
    "metadata of a struct": np.dtype([("a", "i4"), ("b", "S2")], metadata={"source": b"here"}),
    "metadata of a field": [("a", np.dtype("M8[s]", metadata={"zone": "UTC"})), ("b", "u1")],
    "metadata of bytes": np.dtype("S4", metadata={"encoding": "latin-1"}),
    "scalar type of its own": np.dtype((np.record, [("r", "u1"), ("g", "u1"), ("b", "f4")])),
    "base and fields": np.dtype(("i4", {"low": ("u2", 0), "high": ("u2", 2)})),
    **{f"{name}, order spelled out": spelled(name) for name in ("f8", "q", "U3", "M8[25s]", "c16", "g")},
    "order spelled out, metadata": spelled(np.dtype("i4", metadata={"unit": "m"})),
    "order spelled out in fields": spelled([("a", "u1"), ("b", "i4", 2), ("c", "f4")]),
    "order spelled out in one": np.dtype([("a", "i4"), ("b", spelled("i4")), ("c", spelled("i4"), 2)]),
    "order spelled out over fields": np.dtype((spelled("i4"), {"x": (">u2", 0), "y": ("u2", 2, "title")})),
}

SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (0,), (3, 4), (0, 3), (3, 0, 2), (2, 3, 4), (1,) * 12]


def filled(shape: tuple[int, ...], dtype: Any) -> Any:
    """Make an array whose bytes tell where they belong."""
    kind = np.dtype(dtype)
    array = np.empty(shape, kind)
    size = array.nbytes
    pattern = np.arange(size, dtype="u8") * 2654435761 >> 7
    if kind == np.bool_:
        pattern &= 1
    low = (pattern & 127).astype("u1")  # no code point past the last one in U, no signalling NaN in a double
    if kind.kind == "U":
        wide = (pattern[: size // 4] % 0x500).astype(kind.newbyteorder("=").str[0] + "u4")
        low = wide.astype(("<" if kind.byteorder in "<=" else ">") + "u4").view("u1")
    if size:
        ctypes.memmove(address(array), low.tobytes(), size)
    return array


# ---- layouts

LAYOUTS: dict[str, Any] = {
    "reversed": lambda a: a[::-1],
    "every other, backwards": lambda a: a[::2, ::-1],
    "Fortran": np.asfortranarray,
    "transposed": lambda a: a.T,
    "one row": lambda a: a[2],
    "one column": lambda a: a[:, 3],
    "one element": lambda a: a[1:2, 2:3],
    "broadcast row": lambda a: np.broadcast_to(a[0], (9, 6)),
    "broadcast column": lambda a: np.broadcast_to(a[:, :1], (4, 5)),
    "broadcast element": lambda a: np.broadcast_to(a[1, 1], (1000, 1000, 1000)),
    "broadcast backwards": lambda a: np.broadcast_to(a[0, ::-1], (3, 6))[::-1],
    "sliding window": lambda a: np.lib.stride_tricks.sliding_window_view(a, (2, 3)),
    "overlapping": lambda a: np.lib.stride_tricks.as_strided(a, (3, 4), (8, 8)),
    "empty slice": lambda a: a[2:2],
    "empty slice past the end": lambda a: a[4:],
    "empty backwards": lambda a: a[:0:-1, :0],
    "0-d": lambda a: a[1, 2, ...],
    "newaxis": lambda a: a[:, None, ::-2],
    "swapped axes": lambda a: a.reshape(2, 3, 4).swapaxes(0, 2),
    "unaligned": lambda a: a.view("u1").reshape(-1)[3:163].view("f8"),
    "unaligned slice": lambda a: a.view("u1").reshape(-1)[5:165].view("f8")[::-3],
    "field": lambda a: a.view([("x", "f4"), ("y", "f4")])["y"],
    "real part": lambda a: a.view("c16").imag,
    "smaller dtype": lambda a: a.view("u1"),
    "read-only": lambda a: np.frombuffer(a.tobytes(), "f8"),
    "odd strides": lambda a: np.lib.stride_tricks.as_strided(a.view("i2"), (5, 3), (14, 6)),
}

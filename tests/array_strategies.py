"""Hypothesis strategies: arrays of every dtype and layout of NumPy but those of objects and text.

Few draws make an array, all from strategies that are made once: drawing takes longer than sending.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from array_support import spelled

LARGEST = 1 << 16
"""Bytes from the lowest to the highest one that an array touches."""

_NAMES = ["x", "field", "é", "a b", ":x:", " ", "f0", "\U0001f600", "names", "O", "_", "a" * 40]
_UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
_bits = st.integers(0, 255)
_counts = st.integers(0, 4)
_offsets = st.integers(0, 40)
_rotations = st.integers(0, len(_NAMES) - 1)
_shapes_of_fields = st.sampled_from([(), (), (), (1,), (3,), (2, 2), (1, 3)])
_metadata = st.one_of(
    st.integers().map(lambda number: {"number": number}),
    st.sampled_from(_NAMES).map(lambda name: {name: (name.encode(), 1.5, None), "unit": name}),
)
_plain: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([np.dtype(code) for code in "?bBhHiIlLqQpPefdgFDG"]),
    st.sampled_from([np.dtype(f">{code}") for code in "hHiIlLqQefdgFDG"]),
    hnp.scalar_dtypes(),
    st.sampled_from([spelled(code) for code in "hHiIlLqQefdgFDG"] + [spelled("M8[7s]"), spelled("U3")]),
    st.builds(
        lambda order, kind, count, unit: np.dtype(f"{order}{kind}8[{count}{unit}]"),
        *(st.sampled_from("<>"), st.sampled_from("mM"), st.integers(1, 1000), st.sampled_from(_UNITS)),
    ),
    st.sampled_from([np.dtype(f"{order}{kind}8") for order in "<>" for kind in "mM"]),
    st.builds(lambda kind, size: np.dtype(f"{kind}{size}"), st.sampled_from(["S", "V"]), st.integers(0, 20)),
    st.builds(lambda order, size: np.dtype(f"{order}U{size}"), st.sampled_from("<>"), st.integers(0, 6)),
)


def _annotated(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda kind, metadata: np.dtype(kind, metadata=metadata), kinds, _metadata)


def _names_and_titles(draw: st.DrawFn, count: int) -> list[tuple[str, str | None]]:
    first, titled = draw(_rotations), draw(_bits)
    names = [_NAMES[(first + i) % len(_NAMES)] for i in range(count)]
    return [
        (name, f"title of {name}" if titled & 0x11 << i == 0x11 << i else None)
        for i, name in enumerate(names)
    ]


@st.composite
def _packed(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> np.dtype[Any]:
    """Fields one after the other, aligned or not, some with titles and sub-arrays."""
    fields = []
    for name, title in _names_and_titles(draw, draw(_counts)):
        kind = draw(inner)
        # NumPy takes a size of 0 for one yet to be given and would not repeat it.
        shape = draw(_shapes_of_fields) if kind.itemsize else ()
        key: Any = (title, name) if title else name
        fields.append((key, kind, shape) if shape else (key, kind))
    return np.dtype(fields, align=bool(draw(_bits) & 1))


@st.composite
def _placed(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> np.dtype[Any]:
    """Fields at any offsets, in any order, over one another, with room after them."""
    keys = _names_and_titles(draw, draw(_counts) + 1)
    kinds = [draw(inner) for _ in keys]
    offsets = [draw(_offsets) for _ in keys]
    end = max(offset + kind.itemsize for offset, kind in zip(offsets, kinds, strict=True))
    layout: Any = {
        "names": [name for name, _ in keys],
        "titles": [title for _, title in keys],
        "formats": kinds,
        "offsets": offsets,
        "itemsize": end + draw(_counts),
    }
    return np.dtype(layout)


_simple = _plain | _annotated(_plain)
_structures = _packed(_simple) | _placed(_simple)
_nested = _packed(_simple | _structures) | _placed(_simple | _structures)
dtypes: st.SearchStrategy[Any] = _simple | _structures | _nested | _annotated(_structures)
"""Numbers, times, strings, structures in structures, any of them with metadata."""

_lengths = st.lists(st.integers(0, 6), max_size=5).map(tuple)
_ways = st.sampled_from(["C", "F", "elements", "bytes", "broadcast"])
_steps = st.integers(-64, 64)


def _strides(draw: st.DrawFn, way: str, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    if way in "CF":
        order = shape if way == "C" else shape[::-1]
        packed = [itemsize * math.prod(order[i + 1 :]) for i in range(len(order))]
        return tuple(packed if way == "C" else packed[::-1])
    strides = []
    room = LARGEST
    for length in shape:
        step = draw(_steps)
        if way != "bytes":
            step = step // 16 * itemsize
        reach = abs(step) * max(0, length - 1)
        strides.append(step if reach <= room else 0)
        room -= reach if reach <= room else 0
    return tuple(strides)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Make ndarrays over bytes, bytearrays or other arrays: any dtype, shape, strides and alignment."""
    dtype, shape, way, bits = draw(dtypes), draw(_lengths), draw(_ways), draw(_bits)
    strides = _strides(draw, way, shape, dtype.itemsize)
    if way == "broadcast":  # larger than any memory
        shape, strides = ((bits + 1) * 4099, *shape), (0, *strides)
    reaches = [(length - 1) * step for length, step in zip(shape, strides, strict=True) if length]
    offset = (0, 0, 1, 8)[bits & 3] - sum(min(0, reach) for reach in reaches)
    size = offset + sum(max(0, reach) for reach in reaches) + dtype.itemsize
    pattern = np.arange(size, dtype="u4") * np.uint32(2654435761) >> np.uint32(9)
    memory: Any = pattern.astype("u1")
    if bits & 4:
        memory = bytes(memory) if bits & 8 else bytearray(memory)
    return np.ndarray(shape, dtype, memory, offset, strides)

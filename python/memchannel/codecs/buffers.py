"""Buffers as arrays: with NumPy, also where it does not know their formats, and without it."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

from memchannel.codecs.array import OWN_ORDER, needs_numpy, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["array_of", "description_of"]

# In formats of the buffer protocol (PEP 3118): names of fields; pointers to data, void, text and functions.
_FIELD_NAME = re.compile(":[^:]*:")
_POINTER = re.compile("[&PzX]|Z(?![fdg])")
# Letters of ctypes that are no dtypes: wchar_t and, from Python 3.15 on, complex numbers.
_LETTERS = {"u": "U1", "Zf": "F", "Zd": "D", "Zg": "G"}

# NumPy's type numbers (numpy/ndarraytypes.h) of the letters of the struct module, in native sizes and, as
# NumPy reads them, in standard ones.
_NATIVE = {**{letter: number for number, letter in enumerate("?bBhHiIlLqQfd")}, "n": 7, "N": 8, "e": 23}
_INT64 = "l" if struct.calcsize("l") == 8 else "q"
_STANDARD = {
    **{letter: _NATIVE[letter] for letter in "?bBhHiIfde"},
    "l": _NATIVE["i"],
    "L": _NATIVE["I"],
    "q": _NATIVE[_INT64],
    "Q": _NATIVE[_INT64.upper()],
}


def array_of(obj: object, memory: memoryview) -> NDArray[Any]:
    """Lay an array over a buffer; the exporter itself, if that is bytes, NumPy would take for a scalar."""
    import numpy as np

    try:
        array: NDArray[Any] = np.asarray(memory)
    except (TypeError, ValueError) as exc:
        if _POINTER.search(_FIELD_NAME.sub("", memory.format)):
            raise refuse(
                obj,
                f"its buffer, of format {memory.format!r}, holds pointers, which do not say how much they "
                "point to; send numpy.ctypeslib.as_array(pointer, shape), or use a memchannel.MemChannel",
            ) from exc
        dtype = _dtype_of_ctypes(memory)
        if dtype is not None and dtype.itemsize == memory.itemsize and memory.c_contiguous:
            return np.ndarray(memory.shape or (), dtype, memory)
        raise refuse(
            obj,
            f"NumPy has no dtype for the format {memory.format!r} of its buffer ({exc}); "
            "send it over a memchannel.MemChannel",
        ) from exc
    if array.nbytes != memory.nbytes:  # NumPy took a lack of memory for one of a buffer, and read the items
        raise MemoryError
    return array


def _dtype_of_ctypes(memory: memoryview) -> np.dtype[Any] | None:
    """Find the dtype of ctypes' long doubles and others, of whose letters in buffers NumPy knows nothing."""
    import ctypes

    import numpy as np

    kind: Any = type(memory.obj)
    while issubclass(kind, ctypes.Array):
        kind = kind._type_
    if not issubclass(kind, (ctypes._SimpleCData, ctypes.Structure, ctypes.Union)):
        return None
    try:
        dtype: np.dtype[Any] = np.dtype(_LETTERS.get(getattr(kind, "_type_", ""), kind))
    except (TypeError, NotImplementedError):
        return None
    return dtype


def _type_number(code: str) -> int | None:
    order, letter = code[:-1], code[-1:]
    if order in ("", "@"):
        return _NATIVE.get(letter)
    return _STANDARD.get(letter) if order in ("=", OWN_ORDER) else None


def description_of(obj: object) -> tuple[Any, ...]:
    """Describe a buffer of native numbers as an array, for interpreters without NumPy.

    Raises
    ------
    ImportError
        It holds something else, or only NumPy knows how to make an array of it.
    TypeError
        It is no array at all.
    """
    try:
        memory = memoryview(obj)  # type: ignore[arg-type]
    except TypeError:
        ways = ("__array_interface__", "__array__", "__dlpack__", "__arrow_c_array__", "__arrow_c_stream__")
        if isinstance(obj, type) or not any(hasattr(obj, way) for way in ways):
            raise refuse(obj, "it exports no buffer; use a memchannel.Channel") from None
        raise needs_numpy(f"sending a {type(obj).__name__!r} as an array needs") from None
    number = _type_number(memory.format)
    if number is None:
        raise needs_numpy(f"sending a buffer of format {memory.format!r} as an array needs")
    return memory, 0, memory.shape, memory.strides, memory.itemsize, number, b""

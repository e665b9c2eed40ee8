"""`ArrayView`: a received array where NumPy is not wanted or cannot be imported."""

from __future__ import annotations

import io
import math
import operator
import pickle
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from memchannel import _core, _display

if TYPE_CHECKING:
    from types import CapsuleType  # whose lookup loads _socket

__all__ = ["ArrayView"]

# Array interface letter of each of NumPy's type numbers that say everything (numpy/ndarraytypes.h).
_KINDS = {
    0: "b",
    **dict.fromkeys((23, 11, 12, 13), "f"),
    **dict.fromkeys((14, 15, 16), "c"),
    **dict.fromkeys((1, 3, 5, 7, 9), "i"),
    **dict.fromkeys((2, 4, 6, 8, 10), "u"),
}
_STRUCT = {
    ("b", 1): "?",
    ("f", 2): "e",
    ("f", 4): "f",
    ("f", 8): "d",
    ("c", 8): "ff",
    ("c", 16): "dd",
    **{("i", size): code for size, code in zip((1, 2, 4, 8), "bhiq", strict=True)},
    **{("u", size): code for size, code in zip((1, 2, 4, 8), "BHIQ", strict=True)},
    **{(kind, 8): "q" for kind in "mM"},
}
# DLPack's type codes (dlpack.h, DLDataTypeCode) and Arrow's format letters (the Arrow C data interface).
_DLPACK = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_ARROW = {
    **{("i", size): code for size, code in zip((1, 2, 4, 8), "csil", strict=True)},
    **{("u", size): code for size, code in zip((1, 2, 4, 8), "CSIL", strict=True)},
    **{("f", size): code for size, code in zip((2, 4, 8), "efg", strict=True)},
}
_CPU = (1, 0)
_NATIVE = "<" if struct.pack("=h", 1)[0] else ">"


class _Stand:
    """What a pickled numpy.dtype says, where NumPy is not there to read it."""

    def __init__(self, code: object = "V", *_: object) -> None:
        self.code = code
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


def _spelled(dtype: _Stand, fields: _Stand | None) -> _Stand:
    """Take what `memchannel.codecs.array` says of a dtype that spells this machine's byte order out."""
    if fields is not None:
        dtype.state = (*dtype.state[:3], *fields.state[3:5], *dtype.state[5:])
    return dtype


def _extension(kind: object, order: str, itemsize: int, metadata: object, fields: _Stand | None) -> _Stand:
    """Take what it says of a dtype of another library: so many bytes."""
    stand = fields or _Stand()
    stand.state = (4, "|", None, *(stand.state[3:5] or (None, None)), itemsize)
    return stand


class _DtypeReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in ("_spell_order", "_extension_dtype"):
            return _spelled if name == "_spell_order" else _extension
        if module.partition(".")[0] in ("builtins", "_codecs"):
            return super().find_class(module, name)
        return _Stand


class _Layout:
    """One element: its array-interface string and how to read it from bytes."""

    def __init__(self, kind: str, itemsize: int, order: str = _NATIVE, unit: str = "") -> None:
        self.kind, self.itemsize = kind, itemsize
        self.order = "|" if kind in "bSV" or itemsize == 1 else order
        self.unit = unit
        self.fields: dict[str, tuple[_Layout, int]] = {}
        self.titles: dict[str, str] = {}
        self.shape: tuple[int, ...] = ()  # of a sub-array of `base`
        self.base: _Layout | None = None
        code = _STRUCT.get((kind, itemsize))
        self.reader = struct.Struct((order if order in "<>" else _NATIVE) + code) if code else None

    @property
    def plain(self) -> bool:
        """Whether an element is a native number or bool that has a format in `struct`."""
        known = (self.kind, self.itemsize) in _STRUCT and self.kind not in "mM"
        return known and self.order in (_NATIVE, "|") and not self.fields and self.base is None

    @property
    def typestr(self) -> str:
        size = self.itemsize // 4 if self.kind == "U" else self.itemsize
        return f"{self.order}{self.kind}{size}{self.unit}"

    @property
    def descr(self) -> list[Any]:
        """The fields as the array interface has them, if one follows the other.

        Room between them would be fields without a name, for which NumPy makes up one that may be taken.
        """
        fields: list[Any] = []
        at = 0
        for name, (part, offset) in self.fields.items():
            key = (self.titles[name], name) if name in self.titles else name
            kind = part.described
            fields.append((key, *kind) if isinstance(kind, tuple) else (key, kind))
            at = at + part.itemsize if offset == at else -1
        return fields if fields and at == self.itemsize else [("", self.typestr)]

    @property
    def described(self) -> Any:
        """What stands for it in the description of a struct that it is in."""
        if self.base is not None:
            return self.base.described, self.shape
        return self.typestr if self.descr[0][0] == "" else self.descr

    def read(self, data: memoryview) -> Any:
        if self.base is not None:
            size = self.base.itemsize
            flat = [self.base.read(data[i * size : (i + 1) * size]) for i in range(math.prod(self.shape))]
            return _nested(flat, self.shape)
        if self.fields:
            return tuple(part.read(data[at : at + part.itemsize]) for part, at in self.fields.values())
        if self.reader is not None:
            values = self.reader.unpack(data)
            return complex(*values) if self.kind == "c" else values[0]
        if self.kind == "U":
            # NumPy's texts may have lone surrogates, as Python's.
            text = bytes(data).decode("utf-32-le" if self.order == "<" else "utf-32-be", "surrogatepass")
            return text.rstrip("\0")
        return bytes(data).rstrip(b"\0") if self.kind == "S" else bytes(data)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return flat
    step = math.prod(shape[1:])
    return [_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _layout(stand: _Stand, itemsize: int | None = None) -> _Layout:
    # A scalar type of its own, as numpy.record, is no text. Long long is spelled by its letter.
    code = {"q": "i8", "Q": "u8"}.get(stand.code, stand.code) if isinstance(stand.code, str) else "V"
    kind, digits = code[:1], code[1:]
    state: list[Any] = [*stand.state, *[None] * 6]
    _, order, sub, names, fields, size, *rest = state
    order = _NATIVE if order in (None, "=", "|") else order
    if size is None or size < 0:
        size = int(digits) if digits.isdigit() else itemsize or 0
    unit = ""
    if kind in "mM" and rest[2:] and isinstance(rest[2], tuple):
        name, count = rest[2][-1][:2]
        name = name.decode() if isinstance(name, bytes) else name
        unit = "" if name == "generic" else f"[{count if count != 1 else ''}{name}]"
    made = _Layout(kind if kind in "biufcmMSUV" else "V", size, order, unit)
    if sub:
        made.base, made.shape = _layout(sub[0]), sub[1] if isinstance(sub[1], tuple) else (sub[1],)
    for name in names or ():
        part, at, *title = fields[name]
        made.fields[name] = (_layout(part), at)
        if title:
            made.titles[name] = title[0]
    return made


def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))


class ArrayView:
    """A read-only array over memory that another interpreter lends; it needs no NumPy.

    ``recv(as_view=True)`` of an `ArrayChannel` makes one. Elements are Python's own: int, float, bool,
    complex, bytes, str; tuples for structs, ints for datetime64 and timedelta64 (as many of `dtype`'s unit),
    bytes for what Python has no type for (longdouble, bfloat16). Basic slicing gives further views,
    without copies.

    Attributes
    ----------
    shape, strides : tuple of int
        As of an ndarray; strides in bytes.
    dtype : str
        Array-interface type string, such as ``'<f8'``.
    """

    __slots__ = ("__weakref__", "_code", "_layout", "_memory", "_offset", "_type_num", "shape", "strides")

    _memory: Any  # LentMemory
    _offset: int  # of the first element in it
    _layout: _Layout
    _type_num: int
    _code: bytes
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self) -> None:
        raise TypeError("ArrayView objects are made by recv(as_view=True) of an ArrayChannel")

    @property
    def dtype(self) -> str:
        """Array-interface type string."""
        return self._layout.typestr

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._layout.itemsize

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements would take if packed: ``size * itemsize``."""
        return self.size * self.itemsize

    @property
    def interpreter(self) -> int | None:
        """The id of the interpreter that owns the memory; None if it belongs to none."""
        number: int | None = self._memory.interpreter
        return number

    def _with(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> ArrayView:
        return _make(self._memory, self._layout, self._type_num, self._code, offset, shape, strides)

    def _item(self) -> Any:
        with memoryview(self._memory) as data:
            return self._layout.read(data[self._offset : self._offset + self.itemsize])

    def _expanded(self, key: Any) -> list[Any]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if sum(one is ... for one in keys) > 1:
            raise IndexError("an index can only have a single ellipsis ('...')")
        used = sum(one is not None and one is not ... for one in keys)
        if used > self.ndim:
            raise IndexError(f"too many indices: the array has {self.ndim} dimensions, {used} were indexed")
        at = next((i for i, one in enumerate(keys) if one is ...), len(keys))
        return [*keys[:at], *[slice(None)] * (self.ndim - used), *keys[at + 1 :]]

    def __getitem__(self, key: Any) -> Any:
        offset, axis = self._offset, 0
        shape: list[int] = []
        strides: list[int] = []
        for one in self._expanded(key):
            if one is None:
                shape.append(1)
                strides.append(0)
                continue
            length, stride = self.shape[axis], self.strides[axis]
            if isinstance(one, slice):
                start, stop, step = one.indices(length)
                count = len(range(start, stop, step))
                offset += start * stride if count else 0
                shape.append(count)
                strides.append(stride * step)
            elif isinstance(one, bool) or not hasattr(one, "__index__"):
                raise IndexError(f"only integers, slices, ... and None are valid indices, not {one!r}")
            else:
                index = operator.index(one)
                if not -length <= index < length:
                    raise IndexError(f"index {index} is out of bounds for axis {axis} with size {length}")
                offset += index % length * stride
            axis += 1
        made = self._with(offset, tuple(shape), tuple(strides))
        keys = key if isinstance(key, tuple) else (key,)
        return made if shape or any(one is ... for one in keys) or not keys else made._item()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-dimensional array")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def tolist(self) -> Any:
        """Return the elements as nested lists, or the element of a 0-d array."""
        if not self.shape:
            return self._item()
        return [one.tolist() if isinstance(one, ArrayView) else one for one in self]

    def tobytes(self) -> bytes:
        """Return the elements' bytes in C order."""
        if not self.size:
            return b""  # of any number of rows
        with memoryview(self._memory) as data:
            if self.strides == _contiguous(self.shape, self.itemsize):
                return bytes(data[self._offset : self._offset + self.nbytes])
        offsets = (self._offset + i * self.strides[0] for i in range(self.shape[0]))
        return b"".join(self._with(at, self.shape[1:], self.strides[1:]).tobytes() for at in offsets)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ArrayView):
            return self.shape == other.shape and (not self.size or bool(self.tolist() == other.tolist()))
        return bool(self.tolist() == other) if isinstance(other, list) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment] # the owner can write the memory

    def __repr__(self) -> str:
        if not self.size:
            shown = "[]"  # an array of no elements can have any number of rows
        else:
            shown = repr(self.tolist()) if self.size <= 20 else f"[{', '.join(self._first(3))}, ...]"
        return f"ArrayView({shown}, shape={self.shape}, dtype={self.dtype!r})"

    _repr_html_ = _display.html_of

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:
        return _display.fields(self)

    def _first(self, count: int) -> list[str]:
        view = self
        while view.ndim > 1:
            view = view[0]
        return [repr(one) for one in view[:count]]

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype,
            "descr": self._layout.descr,
            "data": (self._memory.address + self._offset, True),
            "strides": self.strides,
        }

    def __buffer__(self, flags: int) -> memoryview:
        if self.strides != _contiguous(self.shape, self.itemsize):
            raise BufferError(
                "an ArrayView exports its buffer only with the strides of a C contiguous array, the "
                f"only ones that a memoryview can be given, not {self.strides}; use tobytes()"
            )
        code = _STRUCT.get((self._layout.kind, self.itemsize), "")
        if not self._layout.plain or len(code) != 1 or (not self.size and self.ndim != 1):
            raise BufferError(f"memoryview has no format for dtype {self.dtype!r} and shape {self.shape}")
        flat = memoryview(self._memory)[self._offset : self._offset + self.nbytes]
        return flat.cast(code, self.shape) if self.size else flat.cast(code)  # type: ignore[call-overload, no-any-return]

    def __dlpack_device__(self) -> tuple[int, int]:
        """Say that the memory is the CPU's: ``(kDLCPU, 0)``."""
        return _CPU

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType:
        """Export the elements to another array library; see the Python array API standard.

        Parameters
        ----------
        stream : None
            There are no streams on the CPU.
        max_version : tuple of int, optional
            The newest DLPack that the caller understands. Before 1.0 it cannot say that memory is read-only,
            so that only copies are exported.
        dl_device : tuple of int, optional
            None or the CPU's.
        copy : bool, optional
            True exports an own, writable copy, which counts in ``stats().bytes_copied``.

        Raises
        ------
        BufferError
            DLPack has no such dtype or strides, or cannot be told that the memory is read-only.
        """
        if stream is not None or dl_device not in (None, _CPU):
            raise BufferError(f"an ArrayView is in CPU memory, not on device {dl_device}, stream {stream!r}")
        if not self._layout.plain:
            raise BufferError(f"DLPack has no type for dtype {self.dtype!r} of these elements")
        versioned = max_version is not None and max_version[0] >= 1
        if not versioned and not copy:
            raise BufferError(
                "a received array is read-only, which DLPack before 1.0 cannot say: ask with "
                "max_version=(1, 0), or for a copy with copy=True"
            )
        size = self.itemsize
        if not copy and any(stride % size for stride in self.strides):
            raise BufferError(
                f"DLPack counts strides in elements of {size} bytes: not {self.strides}; use copy=True"
            )
        code = _DLPACK[self._layout.kind]
        where = (self._memory, self._offset, self.shape, self.strides)
        return _core._dlpack(*where, size, code, bool(copy), versioned)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[CapsuleType, CapsuleType]:
        """Export the elements to an Arrow library: one dimension of native integers or floats.

        Parameters
        ----------
        requested_schema : object, optional
            Not followed: the array goes out as what it is, as the protocol allows.

        Raises
        ------
        BufferError
            An Arrow array cannot lie over such elements.
        """
        code = _ARROW.get((self._layout.kind, self.itemsize)) if self._layout.plain else None
        if code is None or self.ndim != 1 or (self.size > 1 and self.strides[0] != self.itemsize):
            raise BufferError(
                "an Arrow array is one dimension of native integers or floats, one after the other, not "
                f"shape {self.shape}, strides {self.strides}, dtype {self.dtype!r}"
            )
        return _core._arrow_array(self._memory, self._offset, self.size, self.itemsize, code)

    def __reduce__(self) -> Any:
        raise TypeError("an ArrayView cannot be pickled: send it over an ArrayChannel, or its tolist()")

    def _description(self) -> tuple[Any, ...]:
        """Say what the channel needs to send it on: the lease is on the first owner's memory."""
        where = (self._memory, self._offset, self.shape, self.strides)
        return (*where, self.itemsize, self._type_num, self._code)


def _make(
    memory: Any,
    layout: _Layout,
    number: int,
    code: bytes,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> ArrayView:
    made: ArrayView = object.__new__(ArrayView)
    made._memory, made._layout, made._type_num, made._code = memory, layout, number, code
    made._offset, made.shape, made.strides = offset, shape, strides
    return made


def _rebuild(
    memory: Any,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    itemsize: int,
    number: int,
    code: bytes,
) -> ArrayView:
    layout = (
        _Layout(_KINDS[number], itemsize)
        if number >= 0
        else _layout(_DtypeReader(io.BytesIO(code)).load(), itemsize)
    )
    layout.itemsize = itemsize
    return _make(memory, layout, number, code, offset, shape, strides)

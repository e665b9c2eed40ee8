"""The array codec: dtypes that need more than a number, and things that are not plain ndarrays."""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any, Literal

from memchannel import _core

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "OWN_ORDER",
    "STRING_DTYPE",
    "arrays_of",
    "decode_dtype",
    "encode_dtype",
    "import_numpy",
    "load_masked",
    "loads",
    "masked_parts",
    "needs_numpy",
    "prepare",
    "reduce_dtype",
    "refuse",
    "require_numpy",
]


STRING_DTYPE = 2056
"""NPY_VSTRING: the array's own memory refers to an arena of the dtype's."""
_FIRST_EXTENSION = 256  # NPY_USERDEF
# Memory that the CPU reads: kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged (dlpack.h, DLDeviceType).
_HOST_DEVICES = (1, 3, 11, 13)

# What newbyteorder(), asked for this machine's order, leaves in a dtype; others say "=", and
# dtype.__setstate__ makes that of it.
OWN_ORDER: Literal["<", ">"] = "<" if sys.byteorder == "little" else ">"


def _fields_of(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the fields of a dtype, numbers' too, as a structure that keeps the byte order of each."""
    import numpy as np

    if dtype.names is None or dtype.fields is None:
        return None
    entries: list[Any] = [dtype.fields[name] for name in dtype.names]
    return np.dtype(
        {
            "names": list(dtype.names),
            "formats": [entry[0] for entry in entries],
            "offsets": [entry[1] for entry in entries],
            "titles": [entry[2] if len(entry) > 2 else None for entry in entries],
            "itemsize": dtype.itemsize,
        }
    )


def _spell_order(dtype: np.dtype[Any], fields: np.dtype[Any] | None) -> np.dtype[Any]:
    import numpy as np

    spelled = dtype.newbyteorder(OWN_ORDER)
    return spelled if fields is None else np.dtype((spelled, fields))


def _extension_dtype(
    kind: type, order: str, itemsize: int, metadata: dict[Any, Any] | None, fields: np.dtype[Any] | None
) -> np.dtype[Any]:
    """Make a dtype of a type that a library added to NumPy; `ArrayView`, without NumPy, reads the size."""
    import numpy as np

    made: np.dtype[Any] = np.dtype(kind)
    if made.itemsize != itemsize:
        raise TypeError(f"{made!r} has {made.itemsize} bytes here and {itemsize} where it comes from")
    if order != made.byteorder:
        made = made.newbyteorder(order)  # type: ignore[arg-type]
    if metadata:
        made = np.dtype(made, metadata=metadata)
    return made if fields is None else np.dtype((made, fields))


def reduce_dtype(dtype: np.dtype[Any]) -> Any:
    """Reduce a dtype, for `pickle`, where NumPy's own reduction forgets what it is."""
    if dtype.num >= _FIRST_EXTENSION and dtype.num != STRING_DTYPE:
        # NumPy unpickles into the one dtype object that the type has in an interpreter, so that byte order
        # and metadata of one array would become those of all.
        metadata = dict(dtype.metadata) if dtype.metadata else None
        what = (dtype.type, dtype.byteorder, dtype.itemsize, metadata, _fields_of(dtype))
        return _extension_dtype, what
    if dtype.byteorder == OWN_ORDER:
        return _spell_order, (dtype.newbyteorder("="), _fields_of(dtype))
    # i8 is said of both C types of eight bytes, long and long long.
    if dtype.char in ("q", "Q"):
        reduced: Any = dtype.__reduce__()
        make, (_, *rest), state = reduced
        return make, (dtype.char, *rest), state
    return NotImplemented


class _DtypePickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        import numpy as np

        return reduce_dtype(obj) if isinstance(obj, np.dtype) else NotImplemented


def encode_dtype(dtype: np.dtype[Any]) -> bytes:
    """Describe a dtype for another NumPy: field offsets, titles, alignment and metadata are kept."""
    file = io.BytesIO()
    _DtypePickler(file, 5).dump(dtype)
    return file.getvalue()


def decode_dtype(code: bytes) -> np.dtype[Any]:
    """Make the dtype that `encode_dtype` described, with this interpreter's NumPy."""
    dtype: np.dtype[Any] = pickle.loads(code)
    return dtype


# Where NumPy was looked for in vain, and why: looking costs milliseconds.
_no_numpy: tuple[list[Any], ImportError] | None = None


def import_numpy(required: bool) -> bool:
    """Import this interpreter's NumPy, and tell whether there is one.

    Raises
    ------
    ImportError
        It is required, but not installed, or the interpreter was made without it.
    """
    global _no_numpy  # noqa: PLW0603 - one answer for the interpreter
    places = [*sys.meta_path, *sys.path]
    if _no_numpy is None or _no_numpy[0] != places:
        try:
            import numpy  # noqa: F401
        except ImportError as exc:
            _no_numpy = (places, exc.with_traceback(None))
        else:
            _no_numpy = None
            return True
    if required:
        raise needs_numpy("receiving this needs (the message is still there)")
    return False


def needs_numpy(what: str) -> ImportError:
    """Make the exception for what cannot be done without NumPy, after `import_numpy` has looked for it."""
    error = ImportError(
        f"this interpreter cannot import NumPy, which {what}: make the interpreter with "
        "memchannel.interpreters.create(packages=('numpy',)), or call memchannel.images.enable('numpy') in it"
    )
    error.__cause__ = _no_numpy[1] if _no_numpy else None
    return error


def require_numpy(what: str) -> None:
    """Import this interpreter's NumPy.

    Raises
    ------
    ImportError
        There is none, which `what` needs.
    """
    if not import_numpy(False):
        raise needs_numpy(what)


def refuse(obj: object, reason: str) -> TypeError:
    """Make the exception for what an `ArrayChannel` does not send."""
    return TypeError(f"{type(obj).__name__!r} cannot be shared as an array: {reason}")


def prepare(obj: object) -> NDArray[Any] | tuple[Any, ...]:
    """Make an ndarray of what is not exactly one, without copying what it holds.

    Returns
    -------
    numpy.ndarray, or tuple
        As from `arrays_of`; texts of a StringDType, which has them elsewhere, are copied into two arrays.

    Raises
    ------
    TypeError
        For lists, strings and everything else that holds no array.
    """
    prepared = arrays_of(obj)
    if isinstance(prepared, tuple) or prepared.dtype.num != STRING_DTYPE:
        return prepared
    return _dump_text(prepared)


def arrays_of(obj: object) -> NDArray[Any] | tuple[Any, ...]:
    """Make an ndarray of what is not exactly one, or the ndarrays that it consists of.

    Returns
    -------
    numpy.ndarray, or tuple
        ``(bytes, list)`` for what is more than one array, which `loads` puts together again; for an
        `ArrayView`, and for a buffer where there is no NumPy, what an `ArrayView` is made of.

    Raises
    ------
    TypeError
        As `prepare`.
    """
    if type(obj).__module__ == "memchannel.arrayview":
        description: tuple[Any, ...] = obj._description()  # type: ignore[attr-defined]
        return description
    if not import_numpy(False):
        from memchannel.codecs import buffers

        return buffers.description_of(obj)
    import numpy as np

    if not isinstance(obj, np.generic) and isinstance(
        obj, (list, tuple, str, dict, set, frozenset, int, float, complex, type(None))
    ):
        raise refuse(obj, "make it an array with numpy.asarray(), or use a memchannel.Channel")
    if isinstance(obj, type):
        raise refuse(obj, f"it is the class {obj.__qualname__!r}; send an object of it")
    if isinstance(obj, np.ma.MaskedArray):
        return _dump_masked(obj)
    if isinstance(obj, np.recarray):
        return _dump("recarray", None, [obj.view(np.ndarray)])
    if not isinstance(obj, np.ndarray | np.generic):
        from memchannel.codecs import columns

        obj = columns.unwrapped(obj)
        if columns.must_be_read(obj):
            column = columns.array_of(obj)
            return _dump_masked(column) if isinstance(column, np.ma.MaskedArray) else column
    return _as_array(obj)


def _as_array(obj: Any) -> NDArray[Any]:
    import numpy as np

    if isinstance(obj, np.ndarray):
        return np.asarray(obj)
    if isinstance(obj, np.generic):
        array = np.asarray(obj)
        if array.base is None:  # an element of a structured array lies in that
            _core._count_copied(array.nbytes)
        return array
    has_array = hasattr(obj, "__array_interface__") or hasattr(obj, "__array__")
    has_dlpack = hasattr(obj, "__dlpack__")
    if hasattr(obj, "__buffer__"):
        try:
            memory = memoryview(obj)
        except Exception:
            if not (has_array or has_dlpack):
                raise
        else:
            from memchannel.codecs import buffers

            return buffers.array_of(obj, memory)
    if has_array:
        return np.asarray(obj)
    if has_dlpack:
        device = obj.__dlpack_device__()
        if device[0] not in _HOST_DEVICES:
            raise refuse(
                obj, f"it is in the memory of DLPack device {tuple(map(int, device))}; copy it to the CPU"
            )
        return np.from_dlpack(obj)
    raise refuse(obj, "it is no array and exports no buffer, __array_interface__, __array__ or __dlpack__")


def _dump(kind: str, extra: object, items: list[Any]) -> tuple[bytes, list[Any]]:
    return pickle.dumps((kind, extra), 5), items


def masked_parts(obj: np.ma.MaskedArray[Any, Any]) -> tuple[NDArray[Any], NDArray[Any] | None, Any, bool]:
    """Take a masked array apart into what `load_masked` takes, without copying data or mask."""
    import numpy as np

    mask = None if obj.mask is np.ma.nomask else np.asarray(obj.mask)
    # _fill_value is None until somebody asked for it, and need not fit the dtype's default.
    return obj.view(np.ndarray), mask, obj._fill_value, obj.hardmask  # type: ignore[attr-defined]


def load_masked(data: NDArray[Any], mask: NDArray[Any] | None, fill_value: Any, hard: bool) -> Any:
    """Make a masked array of data and mask, which it does not copy."""
    import numpy as np

    masked: Any = data.view(np.ma.MaskedArray)
    # MaskedArray(data, mask) would copy a mask that it may not write.
    masked._mask = np.ma.nomask if mask is None else mask
    masked._sharedmask = True
    masked._fill_value = fill_value
    masked._hardmask = hard
    return masked


def _dump_masked(obj: np.ma.MaskedArray[Any, Any]) -> tuple[bytes, list[Any]]:
    data, mask, *rest = masked_parts(obj)
    if data.dtype.num == STRING_DTYPE:
        raise refuse(obj, "a masked array of StringDType; send its data and mask one by one")
    return _dump("masked", tuple(rest), [data] if mask is None else [data, mask])


def _dump_text(array: NDArray[Any]) -> tuple[bytes, list[Any]]:
    import numpy as np

    dtype: Any = array.dtype
    offsets = np.zeros(array.size + 1, "i8")
    missing = np.zeros(array.size, "?")
    pieces = []
    for i, text in enumerate(array.ravel()):
        missing[i] = not isinstance(text, str) or text is getattr(dtype, "na_object", None)
        pieces.append(b"" if missing[i] else text.encode("utf-8", "surrogatepass"))
        offsets[i + 1] = offsets[i] + len(pieces[-1])
    characters = np.frombuffer(b"".join(pieces), "u1")
    _core._count_copied(characters.nbytes + offsets.nbytes + missing.nbytes)
    return _dump("text", (dtype, array.shape), [offsets, characters, missing])


def _load_text(parts: list[NDArray[Any]], dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    import numpy as np

    offsets, characters, missing = parts
    array: NDArray[Any] = np.empty(len(missing), dtype)
    text = characters.tobytes()
    for i, absent in enumerate(missing):
        piece = text[offsets[i] : offsets[i + 1]].decode("utf-8", "surrogatepass")
        array[i] = dtype.na_object if absent else piece
    return array.reshape(shape)


def loads(payload: bytes, items: list[Any]) -> object:
    """Put an array together that was sent in several parts, or is more than an ndarray."""
    import numpy as np

    kind, extra = pickle.loads(payload)
    if kind == "recarray":
        return items[0].view(np.recarray)
    if kind == "masked":
        return load_masked(items[0], items[1] if len(items) > 1 else None, *extra)
    return _load_text(items, *extra)

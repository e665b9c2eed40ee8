"""The array codec: dtypes that need more than a number, and things that are not plain ndarrays."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["decode_dtype", "encode_dtype", "import_numpy", "loads", "prepare"]


def encode_dtype(dtype: np.dtype[Any]) -> bytes:
    """Describe a dtype for another NumPy: field offsets, titles, alignment and metadata are kept."""
    return pickle.dumps(dtype, 5)


def decode_dtype(code: bytes) -> np.dtype[Any]:
    """Make the dtype that `encode_dtype` described, with this interpreter's NumPy."""
    dtype: np.dtype[Any] = pickle.loads(code)
    return dtype


def import_numpy() -> bool:
    """Import this interpreter's NumPy.

    Raises
    ------
    ImportError
        It is not installed, or the interpreter was made without it.
    """
    try:
        import numpy  # noqa: F401
    except ImportError as exc:
        raise ImportError(
            "this interpreter cannot import NumPy, which receiving an array needs: make the interpreter with "
            "memchannel.interpreters.create(packages=('numpy',)), or call memchannel.images.enable('numpy') "
            "in it"
        ) from exc
    return True


def _refuse(obj: object, reason: str) -> TypeError:
    return TypeError(f"an ArrayChannel cannot send {type(obj).__name__!r}: {reason}")


def prepare(obj: object) -> NDArray[Any]:
    """Make an ndarray of what is not exactly one, without copying what it holds.

    Raises
    ------
    TypeError
        For lists, strings and everything else that holds no array.
    """
    if isinstance(obj, (list, tuple, str, dict, set, frozenset, int, float, complex, type(None))):
        raise _refuse(obj, "make it an array with numpy.asarray(), or use a memchannel.Channel")
    import numpy as np

    if isinstance(obj, np.ma.MaskedArray):
        raise _refuse(obj, "masked arrays are not supported yet; send .data and .mask")
    if isinstance(obj, (np.ndarray, np.generic)) or any(
        hasattr(obj, name) for name in ("__array_interface__", "__array__", "__buffer__")
    ):
        array = np.asarray(obj)
    elif hasattr(obj, "__dlpack__"):
        array = np.from_dlpack(obj)
    else:
        raise _refuse(
            obj, "it is no array and exports no buffer, __array_interface__, __array__ or __dlpack__"
        )
    if type(array.dtype).__name__ == "StringDType":
        raise _refuse(
            obj, "StringDType keeps its text outside the array; use astype('U') or a memchannel.Channel"
        )
    return array


def loads(payload: bytes, items: list[Any]) -> object:
    """Put an array of several parts together; no array is sent in several parts so far."""
    raise TypeError(f"an array of {len(items)} parts, made by another version of memchannel")

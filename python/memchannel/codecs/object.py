"""The object codec: pickle protocol 5 with arrays, buffers and channel ends beside the pickle, not in it.

Arrays are taken out by ``reducer_override`` rather than left to NumPy's own reduction, which copies arrays
that are not contiguous (``ndarray.__reduce_ex__`` falls back to ``tobytes``).
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from memchannel import _core, sharing
from memchannel.codecs import descriptors
from memchannel.codecs.array import STRING_DTYPE, load_masked, masked_parts, reduce_dtype
from memchannel.codecs.frames import reduce_polars

__all__ = ["ByValue", "dumps", "loads"]

_ENDS = (_core.RecvChannel, _core.SendChannel, _core.MemChannel, _core.ArrayChannel, _core.Channel)
_PRIMITIVES = (
    *(_core.Lock, _core.RLock, _core.Semaphore, _core.BoundedSemaphore),
    *(_core.Event, _core.Condition, _core.Barrier, _core.Counter),
)
_REFERRED = frozenset(
    (*_ENDS, *_PRIMITIVES, _core.CrossInterpreterView, _core.Share, _core.StringView, _core.Descriptor)
)

UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError)
"""What pickling raises (Modules/_pickle.c, Lib/copyreg.py), besides errors of the objects themselves."""

NEVER = sys.maxsize
"""As `lend_from`: nothing is lent, and nothing shared as `memchannel.register` has it."""

_INTERPRETER_MODULES = ("concurrent.interpreters", "backports.interpreters")


class _Decoding(threading.local):
    """What a decode in progress takes its items from; nested decodes stack."""

    items: list[Any] = []  # noqa: RUF012 - replaced in each thread, and never changed


_current = _Decoding()


class ByValue:
    """Sent over a `Channel`, stands for `value`, functions and classes in it by value where they must be."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: object = value


def _item(index: int) -> object:
    """Give the unpickler one of the parts that travelled beside the pickle."""
    return _current.items[index]


def _rebuild(name: str, meta: object, first: int, parts: int, count: int) -> object:
    return sharing.rebuild(name, meta, _current.items[first : first + parts], count)


def _restore(taken: Any, payload: bytes | None, first: int, count: int, buffers: set[int]) -> BaseException:
    from memchannel.exceptions import unpack

    items = _current.items[first : first + count]
    return unpack(taken, payload, [memoryview(v) if i in buffers else v for i, v in enumerate(items)])


def _open_interpreter(number: int) -> object:
    from memchannel.interpreters import _by_number

    return _by_number(number)


def _reduce_plainly(exc: BaseException) -> Any:
    """Reduce as the exception's class says, also where tblib is installed.

    Dask does that for all classes (`tblib.pickling_support.install`). Its reducers add what snapshots have,
    and leave attributes out.
    """
    reducer = copyreg.dispatch_table.get(type(exc))
    if getattr(reducer, "__module__", None) == "tblib.pickling_support":
        return exc.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return NotImplemented


def _reduce_arrow_backed(obj: Any) -> Any:
    # pandas' own __getstate__ copies the chunks into one; its __setstate__ takes a list of them as well.
    chunks = obj._pa_array.chunks
    if not chunks:
        return NotImplemented
    state = {**obj.__dict__, "_pa_array": chunks, "_cache": {}}
    return copyreg.__newobj__, (type(obj),), state  # type: ignore[attr-defined]


def _keeps_contents_elsewhere(array: Any) -> bool:
    """Tell whether the array's own memory holds references only."""
    return bool(array.dtype.hasobject) or array.dtype.num == STRING_DTYPE


def _view_as(array: Any, kind: type) -> Any:
    return array.view(kind)


def _reduce_subclass(array: Any) -> Any:
    """Reduce to the ndarray inside, which can be lent; NumPy's own reduction copies those of subclasses."""
    import numpy as np

    kind = type(array)
    if kind in copyreg.dispatch_table:
        return NotImplemented
    if kind is np.ma.MaskedArray:
        return load_masked, masked_parts(array)
    for name in ("__reduce__", "__reduce_ex__", "__setstate__"):
        if getattr(kind, name) is not getattr(np.ndarray, name):
            return NotImplemented  # it has state of its own
    return _view_as, (array.view(np.ndarray), kind)


class _LibraryTypes(NamedTuple):
    """Types of libraries that have ways of their own here; nothing has them where they are not imported."""

    array: Any = None
    arrays: Any = ()
    """For isinstance(), with subclasses."""
    dtypes: Any = ()
    polars: tuple[Any, ...] = (None, None)


_library_types = _LibraryTypes()


def _look_for_libraries() -> _LibraryTypes:
    global _library_types  # noqa: PLW0603 - replaced as a whole when a library was imported
    if _library_types.array is None and (array := getattr(sys.modules.get("numpy"), "ndarray", None)):
        dtype = getattr(sys.modules["numpy"], "dtype", ())  # the base of all dtypes' types
        _library_types = _library_types._replace(array=array, arrays=array, dtypes=dtype)
    if _library_types.polars[0] is None and (polars := sys.modules.get("polars")):
        found = (getattr(polars, "DataFrame", None), getattr(polars, "Series", None))
        _library_types = _library_types._replace(polars=found)
    return _library_types


class _Taken:
    """What one dump leaves beside the pickle. It does not know the pickler, which would hold itself by it."""

    __slots__ = ("items", "lend_from")

    def __init__(self, items: list[Any], lend_from: int) -> None:
        self.items = items
        self.lend_from = lend_from

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        with memoryview(buffer) as view:
            if view.nbytes < self.lend_from and type(view.obj) is not _core.ArrowBatches:
                _core._check_copied(buffer)
                _core._count_copied(view.nbytes)
                return True  # in the pickle
        self.items.append(buffer)
        return False


class _Pickler(pickle.Pickler):
    def __init__(
        self,
        file: Any,
        taken: _Taken,
        known: sharing.Known | None = None,
        plain_exceptions: bool = False,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=taken.take_buffer)
        self._taken = taken
        self._known = known
        self._plain_exceptions = plain_exceptions or taken.lend_from == NEVER

    @property
    def _items(self) -> list[Any]:
        return self._taken.items

    @property
    def _lend_from(self) -> int:
        return self._taken.lend_from

    def reduce(self, obj: Any) -> Any:
        """Reduce what does not travel as pickle has it; NotImplemented for what does."""
        kind = type(obj)
        registers = sharing.is_needed() and self._lend_from != NEVER
        if registers and (found := sharing.registration_of(kind)):
            return self._share(obj, found)
        library = _look_for_libraries()
        if kind is library.array:
            if _keeps_contents_elsewhere(obj):
                return NotImplemented
            return self._refer(obj) if obj.nbytes >= self._lend_from else self._copy(obj)
        if isinstance(obj, library.arrays):
            return NotImplemented if _keeps_contents_elsewhere(obj) else _reduce_subclass(obj)
        if isinstance(obj, library.dtypes):
            return reduce_dtype(obj)
        if kind in _REFERRED:
            return self._refer(obj)
        if issubclass(kind, descriptors.kinds()):
            return descriptors.reduce(obj)
        if isinstance(obj, BaseException):
            return _reduce_plainly(obj) if self._plain_exceptions else self._reduce_exception(obj)
        return self._reduce_known(obj, kind)

    # `reduce` is asked for objects of those types only that it may have something to do with.
    reducer_override = _core._leaving_ordinary(reduce)

    def _reduce_known(self, obj: Any, kind: type[Any]) -> Any:
        if kind is memoryview:
            raise pickle.PicklingError(
                "a memoryview cannot be pickled: send it over a MemChannel, or as an array"
            )
        if kind.__module__ == "memchannel.memory" and kind.__qualname__ == "WritableBlock":
            return self._refer((obj.take(), True))
        if kind.__qualname__ == "Interpreter" and kind.__module__ in _INTERPRETER_MODULES:
            # Kept from ending while it is on the way.
            self._items.append(_core.Share(b"", _core.Ticket(obj, None)))
            return _open_interpreter, (obj.id,)
        if kind in _library_types.polars:
            return reduce_polars(obj, self._lend_from)
        if str(kind.__module__).startswith("pandas.") and hasattr(obj, "_pa_array"):
            return _reduce_arrow_backed(obj)
        # Of the class first: a tensor's class has it wherever its data is, and the tensor may not.
        if hasattr(kind, "__cuda_array_interface__") and hasattr(obj, "__cuda_array_interface__"):
            raise pickle.PicklingError(
                f"a {kind.__module__}.{kind.__qualname__} lies in the memory of a GPU, which is not shared: "
                "send a copy in host memory, such as cupy.asnumpy(array) or tensor.cpu().numpy()"
            )
        return NotImplemented

    def _known_objects(self) -> sharing.Known:
        if self._known is None:
            self._known = sharing.Known()
        return self._known

    def _share(self, obj: Any, registration: Any) -> Any:
        name, meta, parts, count = sharing.share(obj, registration, self._known_objects())
        first = len(self._items)
        self._items.extend(parts)
        return _rebuild, (name, meta, first, len(parts), count)

    def _reduce_exception(self, exc: BaseException) -> Any:
        from memchannel.exceptions import pack

        taken, payload, items = pack(exc, self._lend_from, self._known_objects())
        first = len(self._items)
        # As shares: buffers of this pickle are counted off among the items (see `loads`).
        buffers = {index for index, item in enumerate(items) if type(item) is pickle.PickleBuffer}
        for index, item in enumerate(items):
            self._items.append(_core.Share(item, None) if index in buffers else item)
        return _restore, (taken, payload, first, len(items), buffers)

    def _copy(self, array: Any) -> Any:
        _core._check_copied(array)
        reduced = array.__reduce_ex__(5)
        if type(reduced[1][0]) is not pickle.PickleBuffer:  # which is counted where it is taken
            _core._count_copied(array.nbytes)
        return reduced

    def _refer(self, item: object) -> tuple[Callable[[int], object], tuple[int]]:
        self._items.append(item)
        return (_item, (len(self._items) - 1,))


class _Output:
    """A pickler for one object after the other: to make one takes as long as to pickle a small object."""

    __slots__ = ("file", "pickler", "taken")

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.taken = _Taken([], 0)
        self.pickler = _Pickler(self.file, self.taken)

    def dump(self, obj: object, lend_from: int) -> tuple[bytes, list[Any]]:
        self.taken.lend_from = lend_from
        self.pickler.dump(obj)
        return self.file.getvalue(), self.taken.items

    def clear(self) -> None:
        """Keep nothing of the last object."""
        self.pickler.clear_memo()
        self.pickler._known = None
        self.taken.items = []
        self.file.seek(0)
        self.file.truncate()


_idle: list[_Output] = []
"""Not at work. Pickling may pickle, and so may other threads meanwhile."""

_MOST_KEPT = 1 << 16  # bytes of a pickle, after which a pickler is not used again: its memo does not shrink


def _say_where(exc: BaseException, obj: object, known: sharing.Known, lend_from: int) -> None:
    from memchannel.codecs.functions import say_where

    def dump(part: object) -> None:
        output = _Output()
        output.pickler._known = known  # nothing is asked twice how it is shared
        output.dump(part, lend_from)

    if not known.failed:
        say_where(exc, obj, dump)


def _an_output() -> _Output:
    try:
        return _idle.pop()
    except IndexError:
        return _Output()


def dumps(obj: object, lend_from: int = 0) -> tuple[bytes, list[Any]]:
    """Pickle `obj`; arrays and buffers of `lend_from` bytes and more come as items beside it."""
    if type(obj) is ByValue:
        from memchannel.codecs.functions import dumps_sent_by_value

        return dumps_sent_by_value(obj.value, lend_from)
    output = _an_output()
    try:
        result = output.dump(obj, lend_from)
    except UNPICKLABLE as exc:
        _say_where(exc, obj, output.pickler._known_objects(), lend_from)
        raise
    if len(result[0]) <= _MOST_KEPT:  # and one that failed is not used again
        output.clear()
        _idle.append(output)
    return result


loads_alone = pickle.loads
"""As `loads`, where nothing came beside the pickle."""


def loads(payload: bytes, items: list[Any]) -> object:
    """Make the object again; the items are arrays, views and ends of this interpreter."""
    outer = _current.items
    _current.items = items
    try:
        return pickle.loads(payload, buffers=[item for item in items if type(item) is memoryview])
    except BaseException:
        descriptors.close_made(items)
        raise
    finally:
        _current.items = outer

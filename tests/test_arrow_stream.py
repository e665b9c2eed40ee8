"""Arrow streams that are lent whole, by a producer and a consumer that know nothing but the C interface."""

from __future__ import annotations

import ctypes
import gc
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import memchannel
from memchannel import _core

pytestmark = pytest.mark.usefixtures("level_leases")

POINTER = ctypes.POINTER


class Schema(ctypes.Structure):
    """``struct ArrowSchema``."""


class Array(ctypes.Structure):
    """``struct ArrowArray``."""


class Stream(ctypes.Structure):
    """``struct ArrowArrayStream``."""


RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Schema._fields_ = [
    *((name, ctypes.c_char_p) for name in ("format", "name", "metadata")),
    *((name, ctypes.c_int64) for name in ("flags", "n_children")),
    *(("children", POINTER(POINTER(Schema))), ("dictionary", POINTER(Schema))),
    *(("release", RELEASE), ("private_data", ctypes.c_void_p)),
]
Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", POINTER(ctypes.c_void_p)),
    *(("children", POINTER(POINTER(Array))), ("dictionary", POINTER(Array))),
    *(("release", RELEASE), ("private_data", ctypes.c_void_p)),
]
GET_SCHEMA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, POINTER(Schema))
GET_NEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, POINTER(Array))
LAST_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
Stream._fields_ = [
    ("get_schema", GET_SCHEMA),
    ("get_next", GET_NEXT),
    ("get_last_error", LAST_ERROR),
    ("release", RELEASE),
    ("private_data", ctypes.c_void_p),
]

new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
pointer_in.restype = ctypes.c_void_p
pointer_in.argtypes = [ctypes.py_object, ctypes.c_char_p]
NAME = b"arrow_array_stream"


class Producer:
    """Two batches of a struct with a column of int64 and one with a dictionary; counts what is released."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.given = 0
        self.released: list[str] = []
        self.values = (ctypes.c_int64 * 6)(*range(6))
        self.reason = ctypes.create_string_buffer(b"the disk is full")
        self._schemas = [
            Schema(format=code, name=name) for code, name in ((b"l", b"a"), (b"i", b"b"), (b"u", b""))
        ]
        self._keep: list[Any] = []
        self._schemas[1].dictionary = ctypes.pointer(self._schemas[2])
        self._release_schema = RELEASE(lambda at: self._end(Schema, at, "schema"))
        self._release_array = RELEASE(lambda at: self._end(Array, at, "array"))
        self.stream = Stream(
            GET_SCHEMA(self._get_schema),
            GET_NEXT(self._get_next),
            LAST_ERROR(lambda _: ctypes.addressof(self.reason)),
            RELEASE(lambda at: self._end(Stream, at, "stream")),
        )
        self.capsule = new_capsule(ctypes.addressof(self.stream), NAME, None)

    def _end(self, kind: Any, at: int, name: str) -> None:
        self.released.append(name)
        kind.from_address(at).release = RELEASE()

    def _pointers(self, kind: Any, items: list[Any]) -> Any:
        made = (POINTER(kind) * len(items))(*map(ctypes.pointer, items))
        self._keep += [made, items]
        return ctypes.cast(made, POINTER(POINTER(kind)))

    def _get_schema(self, _: int, to: Any) -> int:
        to[0] = Schema(format=b"+s", n_children=2, release=self._release_schema)
        to[0].children = self._pointers(Schema, self._schemas[:2])
        return 0

    def _array(self, first: int, count: int) -> Array:
        buffers = (ctypes.c_void_p * 2)(None, ctypes.addressof(self.values) + 8 * first)
        self._keep.append(buffers)
        return Array(length=count, n_buffers=2, buffers=ctypes.cast(buffers, POINTER(ctypes.c_void_p)))

    def _get_next(self, _: int, to: Any) -> int:
        if self.given == self.fails_at:
            return 28  # ENOSPC
        to[0] = Array()
        if self.given < 2:
            columns = [self._array(3 * self.given, 3), self._array(0, 3)]
            words = self._array(2, 1)
            self._keep.append(words)
            columns[1].dictionary = ctypes.pointer(words)
            to[0] = Array(length=3, n_children=2, release=self._release_array)
            to[0].children = self._pointers(Array, columns)
            self.given += 1
        return 0


def lent(producer: Producer) -> memoryview:
    """Send the batches to ourselves."""
    channel: memchannel.Channel[Any] = memchannel.Channel()
    channel.send([pickle.PickleBuffer(_core._arrow_batches(producer.capsule))])
    view: memoryview = channel.recv()[0]
    return view


def consumed(capsule: Any) -> Stream:
    """Look at the stream in a capsule; the capsule must stay alive."""
    return Stream.from_address(pointer_in(capsule, NAME))


def next_of(stream: Stream) -> Array:
    array = Array()
    assert stream.get_next(ctypes.addressof(stream), ctypes.pointer(array)) == 0
    return array


def test_schema_and_batches_arrive_in_place() -> None:
    producer = Producer()
    capsule = _core._arrow_stream(lent(producer))
    stream = consumed(capsule)
    schema = Schema()
    assert stream.get_schema(ctypes.addressof(stream), ctypes.pointer(schema)) == 0
    children = [schema.children[i][0] for i in range(schema.n_children)]
    assert (schema.format, [(one.format, one.name) for one in children]) == (
        b"+s",
        [(b"l", b"a"), (b"i", b"b")],
    )
    assert children[1].dictionary[0].format == b"u"
    first, second, end = (next_of(stream) for _ in range(3))
    assert not end.release
    assert (first.length, second.n_children) == (3, 2)
    for number, array in enumerate((first, second)):
        assert array.children[0][0].buffers[1] == ctypes.addressof(producer.values) + 24 * number
        assert array.children[1][0].dictionary[0].buffers[1] == ctypes.addressof(producer.values) + 16
    assert producer.released == ["stream"]
    for structure in (schema, first, second):
        structure.release(ctypes.addressof(structure))
        assert not structure.release
    assert producer.released == ["stream"]
    del capsule, stream
    assert sorted(producer.released) == ["array", "array", "schema", "stream"]


def test_a_child_outlives_its_parent_and_ends_on_any_thread() -> None:
    producer = Producer()
    array = next_of(consumed(capsule := _core._arrow_stream(lent(producer))))
    child = Array.from_buffer_copy(array.children[0][0])
    array.children[0][0].release = RELEASE()  # moved out
    array.release(ctypes.addressof(array))
    del capsule
    gc.collect()
    assert producer.released == ["stream"]
    assert child.buffers[1] == ctypes.addressof(producer.values)
    thread = threading.Thread(target=child.release, args=(ctypes.addressof(child),))
    thread.start()
    thread.join()
    assert sorted(producer.released) == ["array", "array", "schema", "stream"]


def test_every_receiver_of_a_broadcast_reads_them() -> None:
    producer = Producer()
    channel: memchannel.Channel[Any] = memchannel.Channel()
    receivers = [channel.broadcast(), channel.broadcast()]
    channel.send([pickle.PickleBuffer(_core._arrow_batches(producer.capsule))])
    for receiver in receivers:
        stream = consumed(capsule := _core._arrow_stream(receiver.recv()[0]))
        for _ in range(2):
            array = next_of(stream)
            array.release(ctypes.addressof(array))
        del capsule, stream
    assert sorted(producer.released) == ["array", "array", "schema", "stream"]


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_stream_that_fails_says_why(fails_at: int) -> None:
    producer = Producer(fails_at)
    with pytest.raises(ValueError, match=r"cannot read the Arrow stream .* the disk is full \(errno 28\)"):
        _core._arrow_batches(producer.capsule)
    assert sorted(producer.released) == ["array"] * fails_at + ["schema", "stream"]


def test_what_is_no_stream() -> None:
    producer = Producer()
    producer.stream.release = RELEASE()
    with pytest.raises(ValueError, match="taken already"):
        _core._arrow_batches(producer.capsule)
    with pytest.raises(ValueError, match="PyCapsule"):
        _core._arrow_batches(object())  # type: ignore[arg-type]
    for memory in (memoryview(bytes(24)), memoryview(b"")):
        with pytest.raises(TypeError, match="ArrowBatches"):
            _core._arrow_stream(memory)


class Column:
    """What has nothing but `__arrow_c_array__`: numbers from an offset on, some of them missing."""

    def __init__(self, code: bytes, values: Any, offset: int = 0, valid: list[int] | None = None) -> None:
        self.released: list[str] = []
        self.values, self.code, self.offset = values, code, offset
        self.valid = None if valid is None else (ctypes.c_uint8 * len(valid))(*valid)
        self._release_schema = RELEASE(lambda at: self._end(Schema, at, "schema"))
        self._release_array = RELEASE(lambda at: self._end(Array, at, "array"))

    def _end(self, kind: Any, at: int, name: str) -> None:
        self.released.append(name)
        kind.from_address(at).release = RELEASE()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]:
        where = None if self.valid is None else ctypes.addressof(self.valid)
        self.buffers = (ctypes.c_void_p * 2)(where, ctypes.addressof(self.values))
        self.schema = Schema(format=self.code, release=self._release_schema)
        self.array = Array(
            length=len(self.values) - self.offset,
            null_count=0 if self.valid is None else -1,
            offset=self.offset,
            n_buffers=2,
            buffers=ctypes.cast(self.buffers, POINTER(ctypes.c_void_p)),
            release=self._release_array,
        )
        return (
            new_capsule(ctypes.addressof(self.schema), b"arrow_schema", None),
            new_capsule(ctypes.addressof(self.array), b"arrow_array", None),
        )


def sent(column: Column) -> Any:
    """Send it to ourselves as an array."""
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(column)
    return channel.recv()


def test_numbers_arrive_in_place() -> None:
    column = Column(b"l", (ctypes.c_int64 * 5)(*range(5)), 2)
    copied = memchannel.stats().bytes_copied
    got = sent(column)
    assert (type(got), got.dtype, got.tolist()) == (np.ndarray, np.int64, [2, 3, 4])
    assert got.ctypes.data == ctypes.addressof(column.values) + 16
    assert memchannel.stats().bytes_copied == copied
    assert column.released == []
    del got
    assert sorted(column.released) == ["array", "schema"]


@pytest.mark.parametrize("offset", [0, 3, 8, 11])
def test_what_is_missing_is_masked(offset: int) -> None:
    column = Column(b"tsu:", (ctypes.c_int64 * 14)(*range(14)), offset, [0b11110101, 0b00101111])
    copied = memchannel.stats().bytes_copied
    got = sent(column)
    assert got.dtype == "M8[us]"
    assert got.data.ctypes.data == ctypes.addressof(column.values) + 8 * offset
    assert got.mask.tolist() == [at in (1, 3, 12) for at in range(offset, 14)]
    assert memchannel.stats().bytes_copied - copied == 14 - offset
    del got
    assert sorted(column.released) == ["array", "schema"]


def test_bits_are_copied_and_no_values_are_none() -> None:
    got = sent(Column(b"b", (ctypes.c_uint8 * 2)(0b101, 0)))
    assert (got.dtype, got.tolist()) == (np.bool_, [True, False])
    assert sent(Column(b"f", (ctypes.c_float * 2)(), 2)).shape == (0,)


def test_times_of_zones_arrive_in_place_as_those_of_utc() -> None:
    column = Column(b"tsu:Europe/Berlin", (ctypes.c_int64 * 2)(3, 4))
    got = sent(column)
    assert (got.dtype, got.view("i8").tolist()) == (np.dtype("M8[us]"), [3, 4])
    assert got.ctypes.data == ctypes.addressof(column.values)


def test_days_are_copied() -> None:
    copied = memchannel.stats().bytes_copied
    got = sent(Column(b"tdD", (ctypes.c_int32 * 3)(7, -1, 20_000), 1))
    assert (got.dtype, got.view("i8").tolist()) == (np.dtype("M8[D]"), [-1, 20_000])
    assert memchannel.stats().bytes_copied - copied == got.nbytes


@pytest.mark.parametrize("code", [b"u", b"+l", b"ttu", b"w:3", b"d:5,2"])
def test_other_columns_are_refused_and_released(code: bytes) -> None:
    column = Column(code, (ctypes.c_int64 * 2)())
    with pytest.raises(TypeError, match=code.decode().replace("+", "[+]")):
        sent(column)
    gc.collect()
    assert sorted(column.released) == ["array", "schema"]

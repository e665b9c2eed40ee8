"""Arrays that are more than an ndarray: masked ones, records, text, mapped files, other subclasses."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import address, assert_same

pytestmark = pytest.mark.usefixtures("level_leases")


def received(obj: Any, **options: Any) -> Any:
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(obj)
    return channel.recv(**options)


MASKED: dict[str, Any] = {
    "some": np.ma.MaskedArray(np.arange(6).reshape(2, 3), [[0, 1, 0], [1, 0, 0]]),
    "nomask": np.ma.MaskedArray(np.arange(3.0)),
    "default fill of small ints": np.ma.MaskedArray(np.arange(3, dtype="u1"), [0, 1, 0]),
    "fill value": np.ma.MaskedArray(np.arange(3.0), [0, 1, 0], fill_value=-7.5),
    "hard": np.ma.MaskedArray(np.arange(3.0), [0, 1, 0], hard_mask=True),
    "struct": np.ma.MaskedArray([(1, 2.0), (3, 4.0)], [(0, 1), (1, 0)], dtype=[("a", "i4"), ("b", "f8")]),
    "times": np.ma.MaskedArray(np.array(["2020-01-01", "NaT"], "M8[ns]"), [1, 0]),
    "reversed": np.ma.MaskedArray(np.arange(6), [0, 1, 0, 1, 0, 0])[::-2],
    "0-d": np.ma.MaskedArray(5, True),
    "empty": np.ma.MaskedArray(np.zeros((0, 3)), np.zeros((0, 3), bool)),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_arrays_stay_masked_in_place(name: str) -> None:
    sent = MASKED[name]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert type(got) is np.ma.MaskedArray
    assert memchannel.stats().bytes_copied == before
    assert_same(got.view(np.ndarray), sent.view(np.ndarray))
    assert repr(got) == repr(sent)
    assert repr(got.fill_value) == repr(sent.fill_value)
    assert type(got.fill_value) is type(sent.fill_value)
    assert got.hardmask == sent.hardmask
    if sent.mask is np.ma.nomask:
        assert got.mask is np.ma.nomask
    else:
        assert_same(got.mask, sent.mask)
    assert repr(got.filled()) == repr(sent.filled())


def test_copies_of_masked_arrays_are_writable() -> None:
    sent = MASKED["some"]
    got = received(sent, copy=True)
    got[0, 0] = 9
    got[0, 2] = np.ma.masked
    assert got.tolist() == [[9, None, None], [None, 4, 5]]
    assert sent.tolist() == [[0, None, 2], [None, 4, 5]]


def test_record_arrays_arrive_as_such_in_place() -> None:
    sent = np.rec.array([(1, "ab"), (2, "c")], dtype=[("n", "i4"), ("s", "U2")])
    got = received(sent)
    assert type(got) is np.recarray
    assert_same(got, sent)
    assert got.s.tolist() == ["ab", "c"]
    assert type(got[0]) is np.record
    with pytest.raises(ValueError, match="read-only"):
        got.n[0] = 1


class Labelled(np.ndarray[Any, Any]):
    """A subclass that the other side cannot know."""


class Named(Labelled):
    """One with state of its own."""

    def __array_finalize__(self, obj: Any) -> None:
        self.label = getattr(obj, "label", "none")


@pytest.mark.parametrize(
    "make", [lambda a: a.view(Labelled), lambda a: np.ndarray.__new__(Named, a.shape, a.dtype)]
)
def test_other_subclasses_arrive_as_ndarray_in_place(make: Any) -> None:
    sent = make(np.array([b"ab", b"c"]))
    got = received(sent)
    assert type(got) is np.ndarray
    assert_same(got, sent.view(np.ndarray))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_mapped_files_arrive_as_views_of_the_same_pages(mode: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10_000.0).reshape(100, 100))
    sent = np.load(tmp_path / "a.npy", mmap_mode=mode)
    for part in (sent, sent[5:7, ::-1]):
        got = received(part)
        assert type(got) is np.ndarray
        assert_same(got, part.view(np.ndarray))


def test_a_file_truncated_under_its_mapping_is_found_when_it_is_sent(tmp_path: Path) -> None:
    page = mmap.PAGESIZE
    (tmp_path / "a").write_bytes(bytes(range(256)) * (4 * page // 256))
    sent = np.memmap(tmp_path / "a", "u1", "r")
    received(sent)
    with open(tmp_path / "a", "r+b") as file:
        file.truncate(2 * page)
    for gone in (sent, sent[::-1], sent[page:], memoryview(sent)):
        with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
            received(gone)
    with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
        memchannel.MemChannel().send(sent)
    left = received(sent[: 2 * page])
    assert left[-1] == 255


TEXTS: dict[str, Any] = {
    "plain": np.array(["a", "", "héllo", "\U0001f600" * 40], np.dtypes.StringDType()),
    "missing": np.array(["a", None, "c"], np.dtypes.StringDType(na_object=None)),
    "missing as nan": np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan)),
    "no coercion": np.array([["a", "b"], ["c", "d"]], np.dtypes.StringDType(coerce=False))[::-1],
    "empty": np.array([], np.dtypes.StringDType()),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_arrives_by_a_copy_that_is_counted(name: str) -> None:
    sent = TEXTS[name]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert memchannel.stats().bytes_copied > before
    assert got.shape == sent.shape
    assert repr(got.dtype) == repr(sent.dtype)
    assert repr(got.tolist()) == repr(sent.tolist())
    assert address(got) != address(sent) or not sent.size


class OnTheGpu:
    """A tensor that must not even be asked for its memory."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("asked for")


def test_tensors_elsewhere_are_refused() -> None:
    with pytest.raises(TypeError, match=r"DLPack device \(2, 1\); copy it to the CPU"):
        received(OnTheGpu())


def test_masked_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        received(np.ma.MaskedArray([object()], [True]))


# ---- buffers of all kinds


class BytesSubclass(bytes):
    """NumPy makes neither a scalar nor an array of it."""


class Exporter:
    """What exports a buffer by PEP 688; the other ways, which are worse, must not be taken."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.memory)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AssertionError("the buffer serves")


class CannotExport:
    """The other way must be taken."""

    array = np.arange(3)

    def __buffer__(self, flags: int) -> memoryview:
        raise BufferError("not now")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


def shared_buffer() -> Any:
    memory = memchannel.SharedBuffer(8)
    memoryview(memory)[:] = b"abcdef\0\0"
    return memory


def mapped() -> mmap.mmap:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[:3] = b"abc"
    return memory


EXPORTERS: dict[str, Any] = {
    "bytes": lambda: b"abc\0\0",
    "one byte": lambda: b"\0",
    "bytes subclass": lambda: BytesSubclass(b"abc\0"),
    "bytearray": lambda: bytearray(b"abc\0"),
    "memoryview": lambda: memoryview(b"abc\0\0")[1:],
    "2-d memoryview": lambda: memoryview(bytes(range(6))).cast("B", (2, 3)),
    "chars": lambda: memoryview(b"abc\0").cast("c"),
    "array.array": lambda: array.array("h", [1, -2, 0]),
    "array.array of text": lambda: array.array("w" if "w" in array.typecodes else "u", "abc"),
    "mmap": mapped,
    "ctypes array": lambda: (ctypes.c_double * 3)(1, 2, 0),
    "ctypes chars": lambda: (ctypes.c_char * 5)(*b"abc"),
    "ctypes scalar": lambda: ctypes.c_int(7),
    "PickleBuffer": lambda: pickle.PickleBuffer(b"abc\0"),
    "SharedBuffer": shared_buffer,
    "PEP 688": lambda: Exporter(b"abc\0"),
}


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_buffer_arrives_as_an_array_over_its_memory(name: str) -> None:
    sent = EXPORTERS[name]()
    before = memchannel.stats()
    got = received(sent)
    expected = np.asarray(memoryview(sent))
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.ctypes.data == expected.ctypes.data
    assert got.tobytes() == bytes(memoryview(sent))
    assert not got.flags.writeable
    assert memchannel.stats().bytes_copied == before.bytes_copied
    del got, expected
    gc.collect()
    assert memchannel.stats().live == before.live


def test_an_empty_buffer_arrives_as_no_element() -> None:
    got = received(b"")
    assert (got.dtype, got.shape) == (np.uint8, (0,))


@pytest.mark.parametrize("send", [lambda view: view, BytesSubclass], ids=["view", "bytes of it"])
def test_a_received_view_arrives_as_an_array(send: Any) -> None:
    channel = memchannel.MemChannel()
    channel.send(b"abc\0")
    with channel.recv() as view:
        got = received(send(view))
    assert (got.dtype, got.tolist()) == (np.uint8, [97, 98, 99, 0])


def test_what_cannot_export_its_buffer_is_asked_for_its_array() -> None:
    got = received(CannotExport())
    assert got.ctypes.data == CannotExport.array.ctypes.data


def test_a_scalar_that_is_copied_is_counted() -> None:
    before = memchannel.stats().bytes_copied
    assert received(np.float64(1.5)) == 1.5
    assert memchannel.stats().bytes_copied - before == 8


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


def closed() -> mmap.mmap:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory.close()
    return memory


@pytest.mark.parametrize(("make", "message"), [(released, "released memoryview"), (closed, "mmap closed")])
def test_a_buffer_that_is_gone(make: Any, message: str) -> None:
    for kind in (memchannel.ArrayChannel, memchannel.MemChannel):
        with pytest.raises(ValueError, match=message):
            kind().send(make())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (ctypes.c_void_p * 2)(), r"'c_void_p_Array_2' cannot be.*format '<P'.*MemChannel"),
        (lambda: memoryview(bytes(16)).cast("P"), r"'memoryview' cannot be.*format 'P'.*MemChannel"),
        (lambda: (ctypes.py_object * 2)(), "Python objects belong to one interpreter"),
    ],
)
def test_buffers_without_a_dtype_are_refused(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        received(make())

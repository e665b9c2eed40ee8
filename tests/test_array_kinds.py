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


class Interface:
    """An array that only says where it is."""

    def __init__(self, array: Any) -> None:
        self.kept = array
        self.__array_interface__ = array.__array_interface__


SIZE = 4 * mmap.PAGESIZE
OVER_FILES: dict[str, Any] = {
    "mmap": lambda memory: memory,
    "memoryview": memoryview,
    "PickleBuffer": pickle.PickleBuffer,
    "frombuffer": lambda memory: np.frombuffer(memory, "u1"),
    "reversed": lambda memory: np.frombuffer(memory, "u1")[::-1],
    "the second half": lambda memory: np.frombuffer(memory, "u1")[SIZE // 2 :],
    "masked": lambda memory: np.ma.MaskedArray(np.frombuffer(memory, "u1")),
    "DLPack": lambda memory: np.from_dlpack(np.frombuffer(memory, "u1")),
    "__array_interface__": lambda memory: Interface(np.frombuffer(memory, "u1")),
    "ctypes": lambda memory: (ctypes.c_char * SIZE).from_buffer(memory),
    "memoryview of ctypes": lambda memory: memoryview((ctypes.c_ubyte * SIZE).from_buffer(memory))[1:],
    "array over ctypes": lambda memory: np.asarray((ctypes.c_ubyte * SIZE).from_buffer(memory)),
    "address": lambda memory: (ctypes.c_ubyte * SIZE).from_address(np.frombuffer(memory, "u1").ctypes.data),
    "PEP 688": lambda memory: Exporter(memory),
}


@pytest.mark.parametrize("name", OVER_FILES)
def test_a_file_truncated_under_its_mapping_is_found_when_it_is_sent(name: str, tmp_path: Path) -> None:
    """Whatever chain of exporters leads to the file, also one that does not tell."""
    (tmp_path / "a").write_bytes(bytes(range(256)) * (SIZE // 256))
    with open(tmp_path / "a", "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
        sent = OVER_FILES[name](memory)
        received(sent)
        file.truncate(SIZE // 2)
        for kind in (memchannel.ArrayChannel, memchannel.MemChannel):
            if kind is memchannel.ArrayChannel or not isinstance(sent, Interface):
                with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
                    kind().send(sent)
        if isinstance(sent, np.ndarray):
            with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
                memchannel.Channel[Any]().send([sent])


def test_what_is_left_of_a_truncated_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * (SIZE // 256))
    sent = np.memmap(tmp_path / "a", "u1", "r")
    with open(tmp_path / "a", "r+b") as file:
        file.truncate(SIZE // 2)
    with pytest.raises(ValueError, match=r"truncated.*SIGBUS"):
        received(sent)
    assert received(sent[: SIZE // 2])[-1] == 255
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(sent[: SIZE // 2])
    assert channel.recv(as_view=True)[-1] == 255


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


class Numbers(ctypes.Structure):
    _fields_ = (("a", ctypes.c_longdouble), ("b", ctypes.c_int * 2))


CTYPES: dict[str, Any] = {
    "c_longdouble": (ctypes.c_longdouble, np.dtype("g")),
    "c_wchar": (ctypes.c_wchar, np.dtype("U1")),
    "structure": (Numbers, np.dtype([("a", "g"), ("b", "i4", 2)], align=True)),
    **{
        name: (getattr(ctypes, name), np.dtype(code))
        for name, code in zip(
            ("c_float_complex", "c_double_complex", "c_longdouble_complex"), "FDG", strict=True
        )
        if hasattr(ctypes, name)  # from Python 3.14 on
    },
}


@pytest.mark.parametrize("name", CTYPES)
def test_ctypes_that_numpy_does_not_find_in_buffers(name: str) -> None:
    kind, dtype = CTYPES[name]
    before = memchannel.stats().bytes_copied
    for sent in (kind(), (kind * 3)(), (kind * 3 * 2)(), (kind * 0)()):
        ctypes.memset(ctypes.addressof(sent), 1 if name != "c_wchar" else 0, ctypes.sizeof(sent))
        for one in (sent, memoryview(sent), pickle.PickleBuffer(sent)):
            got = received(one)
            assert (got.dtype, got.shape) == (dtype, memoryview(sent).shape)
            assert got.tobytes() == bytes(memoryview(sent))
            assert not got.size or got.ctypes.data == ctypes.addressof(sent)
    assert memchannel.stats().bytes_copied == before


def test_an_array_over_ctypes_keeps_them() -> None:
    sent = memoryview((ctypes.c_longdouble * 3)(1, 2, 3))
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(sent)
    del sent
    gc.collect()
    assert channel.recv().tolist() == [1, 2, 3]


class HasPointer(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int), ("data", ctypes.POINTER(ctypes.c_double)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (ctypes.c_void_p * 2)(), r"'c_void_p_Array_2' cannot be.*format '<P'.*MemChannel"),
        (lambda: memoryview(bytes(16)).cast("P"), r"'memoryview' cannot be.*format 'P'.*MemChannel"),
        (
            lambda: ctypes.pointer(ctypes.c_int(3)),
            r"'LP_c_int' cannot.*holds pointers.*as_array\(pointer, shape",
        ),
        (lambda: ctypes.c_char_p(b"a"), r"'c_char_p' cannot.*holds pointers.*as_array\(pointer, shape\)"),
        (lambda: memoryview((ctypes.c_longdouble * 3)())[::2], r"no dtype for the format '<g'.*MemChannel"),
        (HasPointer, r"'HasPointer' cannot.*holds pointers.*as_array\(pointer, shape\)"),
        (lambda: (ctypes.py_object * 2)(), "Python objects belong to one interpreter"),
    ],
)
def test_buffers_without_a_dtype_are_refused(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        received(make())

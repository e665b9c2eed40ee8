"""`ArrayChannel`: every dtype and layout arrives as it was, in place; what cannot travel says so."""

from __future__ import annotations

import gc
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy._core._rational_tests import rational

import memchannel
from array_support import (
    DTYPES,
    LAYOUTS,
    PLAIN_DTYPES,
    SHAPES,
    assert_same,
    dtype_traits,
    filled,
    spelled,
    traits,
)
from channel_support import HANG, level_leases
from memchannel import ArrayChannel
from second_interpreter import SecondInterpreter


@pytest.fixture(scope="module", autouse=True)
def all_leases_return() -> Iterator[None]:
    """Nothing stays lent when all tests are done."""
    with level_leases():
        yield


def received(obj: Any, **options: Any) -> Any:
    """Send an object to ourselves."""
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(obj)
    return channel.recv(**options)


class Other(SecondInterpreter):
    """An interpreter with a NumPy image of its own, which tells what it gets."""

    def __init__(self) -> None:
        super().__init__(numpy=True)
        self.arrays: ArrayChannel[Any] = ArrayChannel()
        self.answers: memchannel.Channel[Any] = memchannel.Channel()
        self.back: ArrayChannel[Any] = ArrayChannel()
        self.run(
            "import array_support",
            arrays=self.arrays.ends[0],
            answers=self.answers.ends[1],
            back=self.back.ends[1],
        )

    def traits(self, array: Any) -> Any:
        """Send an array there and ask what arrived."""
        self.arrays.send(array)
        self.run("got = arrays.recv(); answers.send(array_support.traits(got)); back.send(got); del got")
        return self.answers.recv(timeout=HANG)


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    with Other() as made:
        yield made


# ---- the same array


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name: str) -> None:
    for shape in SHAPES:
        sent = filled(shape, DTYPES[name])
        assert_same(received(sent), sent)


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_in_another_image_of_numpy(name: str, other: Other) -> None:
    sent = filled((3, 4), DTYPES[name])
    there = other.traits(sent)
    assert_same(other.back.recv(), sent)
    assert there == traits(sent)


def test_dtypes_that_libraries_add(other: Other) -> None:
    """Those of NumPy's tests; NumPy unpickles the byte order of one array into all of its type."""
    plain = np.zeros(3, rational)
    kinds = [plain.dtype.newbyteorder(), spelled(rational), np.dtype(plain.dtype, metadata={"unit": "m"})]
    for kind in (plain.dtype, *kinds, np.dtype([("a", kinds[0]), ("b", "i4")])):
        for sent in (np.zeros(3, kind), plain):
            there = other.traits(sent)
            assert_same(other.back.recv(), sent)
            assert there == traits(sent)
            assert received(sent, as_view=True).tobytes() == sent.tobytes()
    assert plain.dtype.isnative
    assert plain.dtype.metadata is None


@pytest.mark.parametrize("inside", [[], ["s"]], ids=["flat", "nested"])
def test_fields_renamed_in_place(inside: list[str]) -> None:
    """``dtype.names = ...`` changes the dtype of one array, and of none that is sent or arrives later."""

    def pair(array: Any) -> Any:
        kind = array.dtype
        for name in inside:
            kind = kind[name]
        return kind

    flat = np.dtype([("a", "i4"), ("b", "f8")])
    sent: Any = np.ones(3, [("s", flat), ("t", "u1")] if inside else flat)
    first, second = received(sent), received(sent)
    pair(first).names = ("c", "d")
    assert [pair(array).names for array in (first, second, received(sent), sent)] == [
        ("c", "d"),
        *[("a", "b")] * 3,
    ]
    pair(sent).names = ("e", "f")
    for _ in range(2):
        assert_same(received(sent), sent)
    assert second.dtype != sent.dtype


def test_dtypes_in_objects() -> None:
    """Not only those of arrays that are lent."""
    channel: memchannel.Channel[Any] = memchannel.Channel()
    kinds = {name: np.dtype(kind) for name, kind in DTYPES.items()}
    channel.send(kinds)
    got = channel.recv()
    assert {name: dtype_traits(kind) for name, kind in got.items()} == {
        name: dtype_traits(kind) for name, kind in kinds.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    sent = LAYOUTS[layout](np.arange(24.0).reshape(4, 6))
    assert_same(received(sent), sent)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_in_another_image_of_numpy(layout: str, other: Other) -> None:
    sent = LAYOUTS[layout](np.arange(24.0).reshape(4, 6))
    there = other.traits(sent)
    assert_same(other.back.recv(), sent)
    assert there == traits(sent)


@pytest.mark.parametrize("dtype", ["f8", "M8[ns]", [("a", "u1"), ("b", ">f4")]])
def test_64_dimensions(dtype: Any) -> None:
    sent = filled((1,) * 30 + (2, 2) + (1,) * 32, dtype)
    assert_same(received(sent), sent)


@pytest.mark.parametrize("kind", ["S0", "U0"])
def test_strings_of_no_characters(kind: str) -> None:
    sent = np.zeros(3, [("a", kind), ("b", "i4")])["a"]  # the only way to have them
    assert sent.dtype.itemsize == 0
    assert_same(received(sent), sent)


def test_plain_dtypes_are_the_singletons_of_numpy() -> None:
    for name in PLAIN_DTYPES:
        assert received(np.zeros(2, name)).dtype is np.dtype(name)


def test_dtypes_that_differ_in_metadata_only_are_kept_apart() -> None:
    for unit in ("m", "s", "m", "kg"):
        kind = np.dtype("i4", metadata={"unit": unit})
        assert received(np.zeros(2, kind)).dtype.metadata == {"unit": unit}
    assert received(np.zeros(2, "i4")).dtype.metadata is None


def test_more_dtypes_than_are_remembered() -> None:
    for size in [*range(1, 600), *range(1, 600)]:
        sent = np.zeros(2, f"S{size}")
        assert_same(received(sent), sent)


@pytest.mark.parametrize("scalar", [np.float64(2.5), np.int8(-3), np.datetime64("2020-01-01"), np.str_("é")])
def test_numpy_scalars_arrive_as_0_d_arrays(scalar: Any) -> None:
    got = received(scalar)
    assert type(got) is np.ndarray
    assert (got.shape, got.dtype) == ((), scalar.dtype)
    assert got[()] == scalar


# ---- values


def test_not_a_time_and_not_a_number_stay() -> None:
    times = np.array(["2020-01-01", "NaT"], "M8[ns]")
    assert np.isnat(received(times)).tolist() == [False, True]
    payload = np.array([0x7FF8_0000_0000_1234, 0xFFF8_0000_0000_0000], "u8").view("f8")
    assert received(payload).view("u8").tolist() == payload.view("u8").tolist()


def test_writes_of_the_sender_are_seen() -> None:
    sent = np.zeros((3, 3))
    got = received(sent[::-1])
    sent[0, 0] = 5
    assert got[2, 0] == 5


# ---- read-only, copies


def test_received_arrays_are_read_only() -> None:
    got = received(np.zeros(4))
    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        got.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        got[1:].flags.writeable = True


@pytest.mark.parametrize("name", DTYPES)
def test_copies_are_ones_own(name: str) -> None:
    sent = filled((3, 4), DTYPES[name])
    before = memchannel.stats()
    got = received(sent, copy=True)
    after = memchannel.stats()
    assert after.bytes_copied - before.bytes_copied == sent.nbytes
    assert after.live == before.live
    assert got.flags.writeable
    assert got.flags.owndata
    assert not np.shares_memory(got, sent)
    assert got.dtype == sent.dtype
    assert repr(got.dtype.metadata) == repr(sent.dtype.metadata)
    if sent.dtype.kind != "V":  # the padding of structs is not copied
        assert got.tobytes() == sent.tobytes()
    if sent.dtype.kind != "M":  # dates past what NumPy can print
        assert str(got) == str(sent)


def test_copies_keep_the_order_of_memory() -> None:
    sent = np.arange(24.0).reshape(4, 6).T
    assert received(sent, copy=True).flags.f_contiguous
    assert (received(sent[::-1], copy=True) == sent[::-1]).all()


# ---- lifetime


def test_the_sender_is_kept_and_let_go() -> None:
    sent = np.zeros(1000)
    before = sys.getrefcount(sent)
    got = received(sent)
    assert sys.getrefcount(sent) > before
    part = got[10:20]
    del got
    assert sys.getrefcount(sent) > before
    del part
    assert sys.getrefcount(sent) == before


def test_rebinding_the_received_array_holds_two_leases_at_most() -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    before = memchannel.stats().live
    part = None
    for _ in range(1000):
        channel.send(np.ones(10**4))
        part = channel.recv()[:1]
        assert memchannel.stats().live - before <= 2
    del part
    assert memchannel.stats().live == before


def test_sending_on_does_not_nest() -> None:
    sent = np.arange(12.0).reshape(3, 4)
    before = memchannel.stats()
    got = received(received(received(sent)[1:])[:, ::-1])
    assert_same(got, sent[1:, ::-1])
    assert memchannel.stats().lent - before.lent == 1


def test_a_bytearray_under_an_array_cannot_be_resized() -> None:
    memory = bytearray(64)
    got = received(np.ndarray((4,), "f8", buffer=memory, offset=8))
    with pytest.raises(BufferError):
        memory.append(0)
    del got
    memory.append(0)


def test_an_mmap_under_an_array_cannot_be_closed() -> None:
    memory = mmap.mmap(-1, 4096)
    got = received(np.frombuffer(memory, "u1")[::-1])
    with pytest.raises(BufferError):
        memory.close()
    del got
    gc.collect()
    memory.close()


def test_what_is_lent_is_the_extent_of_the_array() -> None:
    base = np.zeros((100, 100))
    for sent, extent in [
        (base[10:20], 8000),
        (base[::-1], 80000),
        (base[3, ::2], 8 * 99),
        (np.broadcast_to(base[0, :2], (1000, 2)), 16),
        (base[4:4], 0),
    ]:
        before = memchannel.stats().bytes_lent
        got = received(sent)
        assert memchannel.stats().bytes_lent - before == extent
        assert memoryview(got.base).nbytes == extent
        if extent:
            low, high = np.lib.array_utils.byte_bounds(sent)
            assert (got.base.address, got.base.address + extent) == (low, high)


# ---- more than 4 GiB


def test_offsets_past_2_and_4_gib(other: Other) -> None:
    size = 5 * 2**30
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE) as memory:
        sent = np.frombuffer(memory, "u1")
        marks = [0, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 8, size - 1]
        writable = np.ndarray((size,), "u1", buffer=memory)
        for value, mark in enumerate(marks, 1):
            writable[mark] = value
        other.arrays.send(sent)
        other.arrays.send(sent[::-1])
        other.arrays.send(sent[:: 2**30])
        other.run(
            f"forth, back, strided = (arrays.recv() for _ in range(3)); marks = {marks!r}\n"
            "answers.send((forth.nbytes, [int(forth[i]) for i in marks], [int(back[-1 - i]) for i in marks],"
            " strided.tolist()))\n"
            "del forth, back, strided"
        )
        values = list(range(1, len(marks) + 1))
        assert other.answers.recv() == (size, values, values, [1, 0, 3, 0, 5])
        del sent, writable


# ---- refusals


class NoArray:
    def __repr__(self) -> str:
        return "<no array>"


REFUSED: dict[str, tuple[Any, str]] = {
    "list": ([1, 2, 3], r"'list' cannot be shared as an array.*numpy\.asarray"),
    "tuple": ((1, 2), r"'tuple' cannot be shared as an array.*numpy\.asarray"),
    "str": ("text", r"'str' cannot be shared as an array"),
    "None": (None, r"'NoneType' cannot be shared as an array"),
    "float": (1.5, r"'float' cannot be shared as an array"),
    "dict": ({}, r"'dict' cannot be shared as an array"),
    "other": (NoArray(), r"'NoArray' cannot be shared as an array.*exports no buffer"),
    "objects": (np.array([object(), None]), r"dtype\('O'\).*numeric.*memchannel\.Channel"),
    "objects in a struct": (np.zeros(2, [("a", "i4"), ("b", "O")]), r"Python objects.*memchannel\.Channel"),
    "objects in a subarray": (np.zeros(2, [("a", "O", 3)]), r"Python objects"),
    "object scalars": (np.array(object()), r"Python objects"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sent_says_so_and_leaves_nothing_behind(name: str) -> None:
    obj, message = REFUSED[name]
    channel: ArrayChannel[Any] = ArrayChannel()
    references, before = sys.getrefcount(obj), memchannel.stats()
    with pytest.raises(TypeError, match=message):
        channel.send(obj)
    with pytest.raises(TypeError, match=message):
        channel.send_nowait(obj)
    with pytest.raises(TypeError, match=message):
        channel.send_many([np.zeros(2), obj])
    after = memchannel.stats()
    assert len(channel) == 0
    assert after.live == before.live
    assert sys.getrefcount(obj) == references


@pytest.mark.parametrize("kind", [np.ndarray, np.float64, np.ma.MaskedArray, bytearray, memchannel.ArrayView])
def test_classes_are_no_arrays(kind: type) -> None:
    with pytest.raises(TypeError, match=rf"it is the class '{kind.__name__}'; send an object of it"):
        ArrayChannel[Any]().send(kind)


def test_metadata_that_cannot_be_pickled() -> None:
    sent = np.zeros(2, np.dtype("f8", metadata={"function": lambda: None}))
    before = memchannel.stats().live
    with pytest.raises(Exception, match=r"pickle|lambda"):
        received(sent)
    assert memchannel.stats().live == before


def test_options_exclude_each_other() -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(np.arange(3))
    with pytest.raises(ValueError, match="exclude each other"):
        channel.recv(copy=True, as_view=True)
    assert channel.recv().tolist() == [0, 1, 2]

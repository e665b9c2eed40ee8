"""Arrays that users of other libraries reported as lost or changed on their way; the ids name the reports."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import address, assert_same, filled, traits
from channel_support import HANG, level_leases
from second_interpreter import SecondInterpreter


@pytest.fixture(scope="module", autouse=True)
def all_leases_return() -> Iterator[None]:
    """Nothing stays lent when all tests are done."""
    with level_leases():
        yield


def received(obj: Any, kind: Any = memchannel.ArrayChannel, **options: Any) -> Any:
    """Send an object to ourselves."""
    channel = kind()
    channel.send(obj)
    return channel.recv(**options)


X = np.arange(24.0).reshape(4, 6)
TIMES = np.array(["2020-01-01", "NaT"], "M8[ns]")
NUMBERS: dict[str, Any] = {
    name: filled((3,), name) for name in (">f8", "<f8", "f2", "?", "c16", "g", "U3", "S3")
}
REPORTS: dict[str, Any] = {
    # The buffer protocol has no format for them.
    "numpy#4983 datetime64": TIMES,
    "numpy#4983 timedelta64": TIMES - TIMES[0],
    "numpy#7270 datetime64 in a struct": np.array(
        [("2020-01-01", 1.5), ("NaT", 2)], [("t", "M8[s]"), ("v", "f4")]
    ),
    # What memoryview and the .npy format lose of a dtype.
    "numpy#7797 padding after the last field": filled(
        (3,), {"names": ["x"], "formats": ["u1"], "offsets": [0], "itemsize": 4}
    ),
    "numpy#7797 overlapping fields": filled(
        (3,), {"names": ["whole", "high"], "formats": ["u4", "u2"], "offsets": [0, 2]}
    ),
    "numpy#7797 void": filled((3,), "V8"),
    "numpy#9049 title": filled((3,), [(("T", "a"), "i4")]),
    "numpy#9049 sub-array of sub-arrays": filled((3,), [("p", ((np.int32, (3,)), (2,)))]),
    "numpy#9049 metadata": filled((3,), np.dtype("i4", metadata={"unit": "m"})),
    # Layouts that were copied, or came out in another order.
    "joblib#1019 backwards": X[::-1],
    "joblib#1019 every other row, backwards": X[::2, ::-1],
    "joblib#1703 Fortran order": np.asfortranarray(X),
    "joblib#1703 transposed": X.T,
    "joblib#133 broadcast": np.broadcast_to(X[0], (9, 6)),
    # Formats that memoryview exports, but cannot index.
    **{f"cpython#90751 {name}": array for name, array in NUMBERS.items()},
    "cpython#146241 struct": np.array(
        [(1, 2.5, b"ab"), (3, 4, b"c")], [("a", "i4"), ("b", "f8"), ("c", "S3")]
    ),
    # Shapes that a consumer of buffers changes.
    "numpy#10265 0-d": np.array(2.5),
    "numpy#10265 no rows": np.zeros((0, 3)),
    "cpython#85516 no elements": np.array([], "M8[ns]"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_same_array_arrives(name: str) -> None:
    sent = REPORTS[name]
    assert_same(received(sent), sent)
    assert_same(received([sent], memchannel.Channel)[0], sent)


@pytest.fixture(scope="module")
def answers() -> Iterator[Any]:
    """What another interpreter, with an image of NumPy of its own, tells of the arrays that it gets."""
    arrays, told = memchannel.ArrayChannel[Any](), memchannel.Channel[Any]()
    with SecondInterpreter(numpy=True) as other:
        other.run("import array_support", arrays=arrays.ends[0], told=told.ends[1])

        def ask(sent: Any) -> Any:
            arrays.send(sent)
            other.run("told.send(array_support.traits(arrays.recv()))")
            return told.recv(timeout=HANG)

        yield ask


@pytest.mark.parametrize("name", REPORTS)
def test_the_same_array_arrives_in_another_image_of_numpy(name: str, answers: Any) -> None:
    assert answers(REPORTS[name]) == traits(REPORTS[name])


NO_FORMAT = [
    name for name in REPORTS if "datetime64" in name or name.endswith(("timedelta64", "overlapping fields"))
]


@pytest.mark.parametrize("name", NO_FORMAT)
def test_views_of_what_has_no_buffer_format_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(TypeError, match="ArrayChannel"):
        memchannel.MemChannel().send(REPORTS[name])


@pytest.mark.parametrize("name", [name for name in REPORTS if name.startswith("cpython#")])
def test_a_view_is_indexed_as_a_memoryview_is(name: str) -> None:
    sent = REPORTS[name]
    if sent.dtype.kind == "M":
        return  # refused above
    plain = memoryview(sent)
    with received(sent, memchannel.MemChannel) as view:
        array = np.asarray(view)
        assert array.tobytes() == sent.tobytes()
        assert array.dtype == sent.dtype
        del array
        try:
            expected: Any = plain[1]
        except NotImplementedError:
            with pytest.raises(NotImplementedError):
                view[1]
        else:
            assert view[1] == expected


@pytest.mark.parametrize("name", [name for name in REPORTS if name.startswith("cpython#")])
def test_an_array_view_has_the_values(name: str) -> None:
    sent = REPORTS[name]
    got = received(sent, as_view=True).tolist()
    if name == "cpython#90751 g":  # Python has no such float
        assert b"".join(got) == sent.tobytes()
    else:
        assert repr(got) == repr(sent.tolist())


# dask#12260, dask#4225: the default fill value, 999999, does not fit, and a comparison of masks never ended.
MASKED: dict[str, Any] = {
    "default fill value": np.ma.MaskedArray(np.arange(3, dtype="u1"), [0, 1, 0]),
    "no mask": np.ma.MaskedArray(np.arange(3, dtype="u1")),
    "hard mask": np.ma.MaskedArray(np.arange(3, dtype="u1"), [0, 1, 0], hard_mask=True),
    "structured mask": np.ma.MaskedArray(
        [(1, 2.0), (3, 4.0)], [(0, 1), (1, 0)], dtype=[("a", "u1"), ("b", "f8")]
    ),
    "fill value": np.ma.MaskedArray(np.arange(3, dtype="u1"), [0, 1, 0], fill_value=7),
}


@pytest.mark.parametrize("kind", [memchannel.ArrayChannel, memchannel.Channel])
@pytest.mark.parametrize("name", MASKED)
def test_masked_bytes(name: str, kind: Any) -> None:
    sent = MASKED[name]
    got = received(sent, kind)
    assert type(got) is np.ma.MaskedArray
    assert repr(got) == repr(sent)
    assert (got.fill_value == sent.fill_value, got.hardmask) == (True, sent.hardmask)
    assert address(got) == address(sent)
    assert (got.mask is np.ma.nomask) == (sent.mask is np.ma.nomask)


# ray#37573: a record array came by value, and as a plain one.
def test_record_arrays() -> None:
    sent = np.rec.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    for got in (received(sent), received([sent], memchannel.Channel)[0]):
        assert type(got) is np.recarray
        assert_same(got, sent)
        assert got.b.tolist() == [2.5, 4.5]


# Several projects had limits at 2 and 4 GiB, where a size was kept in 32 bits.
def test_past_4_gib_without_touching_the_pages() -> None:
    size = 2**32 + 8
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE) as memory:
        memory[-1] = 9
        sent = np.frombuffer(memory, "u1")
        before = resident()
        got = received(sent)
        assert (got.nbytes, int(got[-1]), int(got[2**31]), int(got[2**32])) == (size, 9, 0, 0)
        assert resident() - before < 2**28
        del got, sent


def resident() -> int:
    """Count the bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def test_memory_of_no_element() -> None:
    made = memchannel.empty((0, 3), "f8")
    got = received(made)
    assert (got.shape, got.dtype) == ((0, 3), np.dtype("f8"))


# ray#5592, scikit-learn#5956: "assignment destination is read-only", deep inside of a library.
def test_ways_out_of_read_only_arrays() -> None:
    sent = np.zeros(3)
    got = received(sent)
    with pytest.raises(ValueError, match="^assignment destination is read-only$"):
        got[0] = 1
    with pytest.raises(ValueError, match="^output array is read-only$"):
        np.add(got, 1, out=got)
    # NumPy's texts are in its C code; where the memory came from is told by what is under the array.
    assert repr(got.base) == "<memory lent by interpreter 0, 24 bytes>"
    with pytest.raises(ValueError, match="WRITEABLE"):
        got.flags.writeable = True
    for own in (got.copy(), received(sent, copy=True)):
        own[0] = 1
        assert own.flags.owndata
    assert sent[0] == 0


# JuliaLang/julia#20424, ray#2430: what is received in a loop piles up until a collector comes by.
def test_received_in_a_loop_nothing_piles_up() -> None:
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    references, live = sys.getrefcount(X), memchannel.stats().live
    part = None
    for _ in range(1000):
        channel.send(X)
        part = channel.recv()[:1]
        assert memchannel.stats().live - live <= 2
    del part
    assert memchannel.stats().live == live
    assert sys.getrefcount(X) == references

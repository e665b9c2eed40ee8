"""`ArrayView`: received arrays without NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import DTYPES, LAYOUTS, SHAPES, address, assert_same, filled
from memchannel import ArrayChannel, ArrayView

pytestmark = pytest.mark.usefixtures("level_leases")


def viewed(obj: Any) -> ArrayView:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(obj)
    view: Any = channel.recv(as_view=True)
    assert type(view) is ArrayView
    return view


def plain_values(array: Any) -> Any:
    if array.dtype.kind in "mM":
        return array.view(array.dtype.str[0] + "i8").tolist()
    return array.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    sent = LAYOUTS[layout](np.arange(24.0).reshape(4, 6))
    view = viewed(sent)
    assert (view.shape, view.strides, view.nbytes) == (sent.shape, sent.strides, sent.nbytes)
    assert view.__array_interface__["data"] == (address(sent), True)
    if sent.size < 10**6:
        assert view.tolist() == sent.tolist()
        assert view.tobytes() == sent.tobytes()
    assert_same(np.asarray(view), sent)


NO_VALUE = {"g", ">g", "G", "g, order spelled out"}  # longdouble: bytes
OVER_FIELDS = {"base and fields", "order spelled out over fields"}


@pytest.mark.parametrize("name", [name for name in DTYPES if np.dtype(DTYPES[name]).kind != "V"])
def test_values_of_every_plain_dtype(name: str) -> None:
    for shape in SHAPES:
        sent = filled(shape, DTYPES[name])
        view = viewed(sent)
        if name not in OVER_FIELDS:
            assert view.dtype == sent.dtype.str
            assert np.asarray(view).dtype == sent.dtype
        if name in NO_VALUE:
            assert view.tobytes() == sent.tobytes()
        elif name not in OVER_FIELDS:
            assert repr(view.tolist()) == repr(plain_values(sent))


class Interface:
    """What NumPy itself says of an array."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


PACKED = {
    *("long long in a struct", "struct", "dates in a struct", "nested", "subarray", "subarray of a struct"),
    *("one element subarray", "title", "unaligned field", "odd names", "metadata of a field"),
    *(
        "empty string field",
        "metadata of a struct",
        "order spelled out in one",
        "order spelled out in fields",
    ),
}


@pytest.mark.parametrize("name", [name for name in DTYPES if np.dtype(DTYPES[name]).kind == "V"])
def test_structs_of_the_array_interface(name: str) -> None:
    """Fields are there where one follows the other; their bytes always are."""
    sent = filled((2, 3), DTYPES[name])
    view = viewed(sent)
    assert len(view.tolist()) == 2
    got = np.asarray(view)
    assert got.dtype.itemsize == sent.dtype.itemsize
    assert got.tobytes() == sent.tobytes()
    assert name not in PACKED or got.dtype == sent.dtype
    if got.dtype.names and name != "metadata of a field":  # of which NumPy writes what it does not read
        assert got.dtype.descr == np.asarray(Interface(sent)).dtype.descr


STRUCTS = ["struct", "nested", "aligned", "overlapping", "unaligned field", "padded itemsize", "title"]


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_are_tuples(name: str) -> None:
    sent = filled((3, 2), DTYPES[name])
    assert repr(viewed(sent).tolist()) == repr(sent.tolist())


def test_subarrays_are_lists() -> None:
    sent = np.array([([[1, 2, 3], [4, 5, 6]], [1.5, 2, 3, 4])], DTYPES["subarray"])
    assert viewed(sent).tolist() == [([[1, 2, 3], [4, 5, 6]], [1.5, 2.0, 3.0, 4.0])]


KEYS: list[Any] = [
    *(0, -1, slice(None), slice(1, 3), slice(None, None, -2), slice(5, 1), ..., None, (1, 2, 3), (1, ..., 0)),
    *((slice(None), 1), (None, 0, ..., None), (slice(2, 0, -1), slice(None), slice(1, None, 2)), ()),
    *((1, 2, 3, ...), (None, 1, 2, 3), (np.int8(1), np.int64(-1))),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("make", [lambda a: a, lambda a: a[::-1, :, ::2], lambda a: a.T[:, :, :2]])
def test_basic_indexing_is_numpys_without_a_copy(key: Any, make: Any) -> None:
    sent = make(np.arange(60.0).reshape(3, 4, 5))
    try:
        expected = sent[key]
    except IndexError:
        with pytest.raises(IndexError):
            viewed(sent)[key]
        return
    got = viewed(sent)[key]
    if isinstance(expected, np.ndarray):
        assert got.shape == expected.shape
        assert got.tolist() == expected.tolist()
        if expected.size:
            assert got.__array_interface__["data"][0] == address(expected)
    else:
        assert got == expected
        assert type(got) is float


@pytest.mark.parametrize("key", [1.5, "a", True, [0], (0, 0, 0, 0), 3, -4, (..., ...)], ids=repr)
def test_other_indices_are_refused(key: Any) -> None:
    with pytest.raises(IndexError):
        viewed(np.zeros((3, 4, 5)))[key]


def test_sequences_comparison_and_repr() -> None:
    view = viewed(np.arange(6).reshape(2, 3))
    assert len(view) == 2
    assert [row.tolist() for row in view] == [[0, 1, 2], [3, 4, 5]]
    assert view == viewed(np.arange(6).reshape(2, 3))
    assert view == [[0, 1, 2], [3, 4, 5]]
    assert view != viewed(np.arange(6))
    assert repr(view) == "ArrayView([[0, 1, 2], [3, 4, 5]], shape=(2, 3), dtype='<i8')"
    assert "[0, 1, 2, ...]" in repr(viewed(np.arange(100)))
    assert view.interpreter == 0
    with pytest.raises(TypeError, match="0-dimensional"):
        len(viewed(np.array(1)))
    with pytest.raises(TypeError, match="as_view"):
        ArrayView()


def test_buffers() -> None:
    with memoryview(viewed(np.arange(6, dtype="i4").reshape(2, 3))) as memory:
        assert (memory.format, memory.shape, memory.readonly) == ("i", (2, 3), True)
        assert memory.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(BufferError, match="C contiguous"):
        memoryview(viewed(np.arange(6)[::2]))


def test_rows_without_elements_take_no_time() -> None:
    rows = np.empty((2**60, 0), "i1")
    assert viewed(rows).tobytes() == viewed(rows[:, ::-1]).tobytes() == b""
    assert viewed(rows) == viewed(rows)
    assert viewed(rows) != viewed(rows[1:])


def test_lone_surrogates() -> None:
    for kind in ("<U2", ">U2"):
        assert viewed(np.array(["\ud800x", "a"], kind)).tolist() == ["\ud800x", "a"]


def test_no_elements_are_shown_at_once() -> None:
    assert repr(viewed(np.empty((2**60, 0), "i1"))) == f"ArrayView([], shape=({2**60}, 0), dtype='|i1')"


def test_pickling_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="ArrayView cannot be pickled: send it over an ArrayChannel"):
        memchannel.Channel[Any]().send(viewed(np.arange(3)))


def test_sending_a_view_on_does_not_nest() -> None:
    sent = np.arange(24.0).reshape(4, 6)
    before = memchannel.stats()
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(viewed(sent)[::-1, 1:])
    got = channel.recv()
    assert memchannel.stats().lent - before.lent == 1
    assert_same(got, sent[::-1, 1:])


def test_an_interpreter_without_numpy_reads_arrays(neighbour: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(np.array([(1, b"ab"), (2, b"c")], [("n", ">i4"), ("s", "S3")]))
    channel.send(np.array(["2020-01-01"], "M8[D]"))
    neighbour.do("first, second = channel.recv(as_view=True), channel.recv(as_view=True)", channel=channel)
    assert neighbour.do("first.tolist()") == [(1, b"ab"), (2, b"c")]
    assert neighbour.do("(second.dtype, second[0], second.interpreter)") == ("<M8[D]", 18262, 0)
    neighbour.do("del first, second; globals().pop('channel')")

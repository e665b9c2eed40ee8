"""`MemChannel`: what it takes, what arrives, and what it refuses."""

from __future__ import annotations

import array
import ctypes
import mmap
import pickle
import sys
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import DTYPES, LAYOUTS, filled
from memchannel import MemChannel

pytestmark = pytest.mark.usefixtures("level_leases")


class Pair(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int16), ("y", ctypes.c_double))


EXPORTERS: dict[str, Any] = {
    "bytes": b"spam",
    "empty bytes": b"",
    "bytearray": bytearray(b"spam"),
    **{f"array {code}": array.array(code, [1, 2, 3]) for code in "bBhHiIlLqQfd"},
    "memoryview": memoryview(b"spam"),
    "slice": memoryview(b"abcdefgh")[1:7:2],
    "backwards": memoryview(array.array("h", range(9)))[::-2],
    "cast": memoryview(bytes(48)).cast("B").cast("d", (2, 3)),
    "0-d": memoryview(array.array("q", [7])).cast("B").cast("q", ()),
    "PickleBuffer": pickle.PickleBuffer(bytearray(b"spam")),
    "ctypes 2-d": ((ctypes.c_int32 * 3) * 2)(),
    "ctypes structs": (Pair * 2)((1, 2.0), (3, 4.0)),
    "Fortran": np.arange(6.0).reshape(2, 3).T,
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "shared": memchannel.SharedBuffer(8),
}


@pytest.mark.parametrize("name", EXPORTERS)
def test_the_view_is_the_exporters_memory(name: str) -> None:
    sent = EXPORTERS[name]
    channel = MemChannel()
    channel.send(sent)
    with memoryview(sent) as plain, channel.recv() as got:
        for field in ("nbytes", "itemsize", "ndim", "shape", "strides", "suboffsets"):
            assert getattr(got, field) == getattr(plain, field)
        native = {"<l": "l", "<i": "i", "<d": "d", "<q": "l"}
        assert got.format == native.get(plain.format, plain.format)
        assert got.readonly
        assert got.tobytes() == plain.tobytes()
        if plain.nbytes:
            assert np.asarray(got).ctypes.data == np.asarray(plain).ctypes.data


def test_a_map_is_lent_and_cannot_be_closed() -> None:
    channel = MemChannel()
    with mmap.mmap(-1, 4096) as memory:
        memory[10:14] = b"spam"
        channel.send(memory)
        with channel.recv() as got:
            assert bytes(got[10:14]) == b"spam"
            with pytest.raises(BufferError):
                memory.close()


def exports_buffer(obj: Any) -> bool:
    try:
        memoryview(obj).release()
    except (ValueError, BufferError, TypeError):
        return False
    return True


@pytest.mark.parametrize("name", DTYPES)
def test_arrays_of_every_dtype_arrive_or_are_refused_with_the_way_out(name: str) -> None:
    sent = filled((3, 4), DTYPES[name])
    channel = MemChannel()
    references = sys.getrefcount(sent)
    if not exports_buffer(sent):
        with pytest.raises((TypeError, ValueError), match="ArrayChannel"):
            channel.send(sent)
        assert sys.getrefcount(sent) == references
        return
    channel.send(sent)
    with memoryview(sent) as plain, channel.recv() as got:
        assert (got.shape, got.strides, got.itemsize) == (plain.shape, plain.strides, plain.itemsize)
        assert got.tobytes() == plain.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_every_layout(layout: str) -> None:
    sent = LAYOUTS[layout](np.arange(24.0).reshape(4, 6))
    channel = MemChannel()
    channel.send(sent)
    with memoryview(sent) as plain, channel.recv() as got:  # NumPy exports its own strides for one element
        assert (got.shape, got.strides) == (plain.shape, plain.strides)
        there = np.asarray(got)
        assert there.ctypes.data == sent.ctypes.data
        del there


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "list": ([1], TypeError, "list: it exports no buffer.*memchannel.Channel"),
    "tuple": ((1, 2), TypeError, "tuple: it exports no buffer"),
    "int": (3, TypeError, "int: it exports no buffer.* and is no str"),
    "None": (None, TypeError, "NoneType: it exports no buffer"),
    "class": (bytearray, TypeError, "the class bytearray: send an object of it"),
    "objects": (np.array([None]), TypeError, "Python objects.*memchannel.Channel"),
    "ctypes objects": ((ctypes.py_object * 2)(), TypeError, "Python objects"),
    "dates": (np.zeros(2, "M8[s]"), TypeError, "ArrayChannel"),
    "times": (np.zeros(2, "m8[s]"), TypeError, "ArrayChannel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sent_says_so_and_leaves_nothing_behind(name: str) -> None:
    obj, error, message = REFUSED[name]
    channel = MemChannel()
    references = sys.getrefcount(obj)
    for send in (channel.send, channel.send_nowait, lambda one: channel.send_many([b"first", one])):
        with pytest.raises(error, match=message):
            send(obj)
    assert len(channel) == 0
    assert sys.getrefcount(obj) == references


def test_a_released_view_is_refused_by_its_own_error() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        MemChannel().send(view)


@pytest.mark.parametrize("option", ["copy", "as_view"])
def test_options_of_array_channels_lose_no_message(option: str) -> None:
    channel: Any = MemChannel()
    channel.send(b"kept")
    with pytest.raises(TypeError, match="ArrayChannel only"):
        channel.recv(**{option: True})
    with channel.recv() as got:
        assert bytes(got) == b"kept"

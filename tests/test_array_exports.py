"""`ArrayView` for other libraries: DLPack and Arrow capsules over the lent memory."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import DTYPES, LAYOUTS, address
from channel_support import level_leases
from memchannel import ArrayChannel, ArrayView
from second_interpreter import SecondInterpreter


@pytest.fixture(scope="module", autouse=True)
def all_leases_return() -> Iterator[None]:
    """Nothing stays lent when all tests are done."""
    with level_leases():
        yield


pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
pointer_in.restype = ctypes.c_void_p
pointer_in.argtypes = [ctypes.py_object, ctypes.c_char_p]


def viewed(obj: Any) -> ArrayView:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(obj)
    view: Any = channel.recv(as_view=True)
    return view


# ---- DLPack

IN_DLPACK = [*"?bBhHiIlLqQefdFD"]


@pytest.mark.parametrize("code", IN_DLPACK)
def test_dlpack_of_every_dtype_it_has(code: str) -> None:
    sent = np.arange(6).astype(code).reshape(2, 3)
    got = np.from_dlpack(viewed(sent))
    assert (got.dtype, got.shape, got.strides) == (sent.dtype, sent.shape, sent.strides)
    assert address(got) == address(sent)
    assert not got.flags.writeable
    assert got.tolist() == sent.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dlpack_of_layouts(layout: str) -> None:
    sent = LAYOUTS[layout](np.arange(24.0).reshape(4, 6))
    view = viewed(sent)
    if any(stride % sent.itemsize for stride in sent.strides):
        with pytest.raises(BufferError, match="strides in elements"):
            view.__dlpack__(max_version=(1, 0))
    else:
        got = np.from_dlpack(view)
        assert (got.shape, address(got)) == (sent.shape, address(sent))
        assert got.size > 10**6 or got.tolist() == sent.tolist()
    if sent.size > 10**6:
        return
    copied = memchannel.stats().bytes_copied
    own: Any = np.from_dlpack(view, copy=True)
    assert own.flags.writeable
    assert own.flags.c_contiguous
    assert own.tolist() == sent.tolist()
    assert memchannel.stats().bytes_copied - copied == sent.nbytes


def test_an_export_outlives_the_view() -> None:
    live = memchannel.stats().live
    sent = np.arange(5.0)
    got = np.from_dlpack(viewed(sent)[::-1])
    assert memchannel.stats().live == live + 1
    sent[4] = 7
    assert got.tolist() == [7, 3, 2, 1, 0]
    del got
    assert memchannel.stats().live == live


def test_dlpack_before_1_0_has_copies_only() -> None:
    view = viewed(np.arange(3.0))
    for version in (None, (0, 8)):
        with pytest.raises(BufferError, match="read-only"):
            view.__dlpack__(max_version=version)
        assert '"dltensor"' in repr(view.__dlpack__(max_version=version, copy=True))
    assert view.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("name", [">f8", "g", "S7", "M8[s]", "struct", "V8", "base and fields"])
def test_dlpack_refuses_other_dtypes(name: str) -> None:
    view = viewed(np.zeros(3, DTYPES[name]))
    for options in ({"max_version": (1, 0)}, {"copy": True}):
        with pytest.raises(BufferError, match="DLPack has no type"):
            view.__dlpack__(**options)


@pytest.mark.parametrize("options", [{"stream": 1}, {"dl_device": (2, 0)}])
def test_dlpack_is_on_the_cpu(options: Any) -> None:
    with pytest.raises(BufferError, match="CPU memory"):
        viewed(np.zeros(3)).__dlpack__(max_version=(1, 0), **options)
    got = viewed(np.zeros(3)).__dlpack__(max_version=(1, 0), dl_device=(1, 0))
    assert "dltensor_versioned" in repr(got)


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("flags", ctypes.c_uint64),
    )


def _consume(capsule: Any) -> tuple[int, Any]:
    """Take a tensor as a consumer in C does; returns it and its deleter, called without the GIL."""
    where = pointer_in(capsule, b"dltensor_versioned")
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    _consume.name = ctypes.c_char_p(b"used_dltensor_versioned")  # type: ignore[attr-defined] # must stay alive
    rename(capsule, _consume.name)  # type: ignore[attr-defined]
    tensor = _Versioned.from_address(where)
    assert (tensor.major, tensor.flags) == (1, 1)
    return where, tensor.deleter


def test_a_consumer_may_end_it_without_the_gil_on_any_thread() -> None:
    live = memchannel.stats().live
    where, deleter = _consume(viewed(np.arange(3.0)).__dlpack__(max_version=(1, 0)))
    assert memchannel.stats().live == live + 1
    deleter(where)
    assert memchannel.stats().live == live
    where, deleter = _consume(viewed(np.arange(3.0)).__dlpack__(max_version=(1, 0)))
    thread = threading.Thread(target=deleter, args=(where,))
    thread.start()
    thread.join()
    assert memchannel.stats().live == live


def test_memory_of_another_interpreter() -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    with SecondInterpreter(numpy=True) as other:
        other.run("channel.send(np.arange(4.0))", channel=channel.ends[1])
        view: Any = channel.recv(as_view=True)
        got = np.from_dlpack(view)
        where, deleter = _consume(view.__dlpack__(max_version=(1, 0)))
        capsules = view.__arrow_c_array__()
        number = view.interpreter
        del view
        assert got.tolist() == [0, 1, 2, 3]
        assert memchannel._core._lent_by(number)[0] == 1
        del got
        deleter(where)
        assert memchannel._core._lent_by(number)[0] == 1
        del capsules
        assert memchannel._core._lent_by(number)[0] == 0


def test_capsules_that_nobody_takes() -> None:
    live = memchannel.stats().live
    view = viewed(np.arange(3.0))
    made: list[Any] = [
        view.__dlpack__(max_version=(1, 0)),
        view.__dlpack__(copy=True),
        view.__arrow_c_array__(),
    ]
    del view
    gc.collect()
    assert memchannel.stats().live == live + 1
    made.clear()
    assert memchannel.stats().live == live


# ---- Arrow


class _Schema(ctypes.Structure):
    _fields_ = (("format", ctypes.c_char_p), ("name", ctypes.c_char_p))


class _Array(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    )


ARROW = dict(zip("bBhHiIlLefd", ["c", "C", "s", "S", "i", "I", "l", "L", "e", "f", "g"], strict=True))


@pytest.mark.parametrize("code", ARROW)
def test_arrow_of_every_dtype_it_has(code: str) -> None:
    sent = np.arange(5).astype(code)
    schema, array = viewed(sent[1:]).__arrow_c_array__()
    described = _Schema.from_address(pointer_in(schema, b"arrow_schema"))
    assert described.format == ARROW[code].encode()
    data = _Array.from_address(pointer_in(array, b"arrow_array"))
    assert (data.length, data.null_count, data.offset, data.n_buffers, data.n_children) == (4, 0, 0, 2, 0)
    assert data.buffers[0] is None
    assert data.buffers[1] == address(sent) + sent.itemsize


@pytest.mark.parametrize(
    "sent",
    [
        np.zeros((2, 2)),
        np.array(1.0),
        np.zeros(4)[::2],
        np.zeros(4)[::-1],
        np.zeros(3, ">f8"),
        np.zeros(3, "?"),  # Arrow's are bits
        np.zeros(3, "c16"),
        np.array(["2020-01-01", "NaT"], "M8[s]"),  # NaT would be a value
        np.zeros(3, "S3"),
        np.zeros(3, [("a", "f8")]),
    ],
    ids=repr,
)
def test_arrow_refuses_the_rest(sent: Any) -> None:
    with pytest.raises(BufferError, match="one dimension of native integers or floats"):
        viewed(sent).__arrow_c_array__()


def test_descriptions_that_reach_outside_are_refused() -> None:
    view: Any = viewed(np.arange(4.0))
    view.shape = (5,)
    with pytest.raises(ValueError, match="outside its memory"):
        view.__dlpack__(max_version=(1, 0))
    with pytest.raises(ValueError, match="outside its memory"):
        view.__arrow_c_array__()
    with pytest.raises(TypeError, match="lent memory"):
        memchannel._core._arrow_array(bytes(8), 0, 1, 8, "g")  # type: ignore[arg-type]

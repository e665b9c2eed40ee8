"""Arrays in interpreters that cannot import NumPy, or what a dtype needs: nothing is lost."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import address, assert_same
from channel_support import RemoteFailure, level_leases, run_script
from memchannel import ArrayChannel, Channel
from second_interpreter import SecondInterpreter


@pytest.fixture(scope="module", autouse=True)
def all_leases_return() -> Iterator[None]:
    """Nothing stays lent when all tests are done."""
    with level_leases():
        yield


SENT = np.arange(6.0).reshape(2, 3)
MASKED = np.ma.MaskedArray([1, 2], [0, 1])


@pytest.fixture
def there(neighbour: Any) -> Any:
    yield neighbour
    neighbour.do("for name in ('channel', 'got', 'one'): globals().pop(name, None)")


RECEIVES = {
    "recv": "got = channel.recv()",
    "recv_nowait": "got = channel.recv_nowait()",
    "recv_many": "got, = channel.recv_many(5)",
    "for": "got = next(iter(channel))",
    "select": "got = select(channel)[1]",
}


@pytest.mark.parametrize("receive", RECEIVES)
def test_an_array_view_arrives(receive: str, there: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(SENT[::-1])
    there.do(RECEIVES[receive], channel=channel)
    assert there.do("(type(got).__name__, got.shape, got.tolist())") == (
        "ArrayView",
        (2, 3),
        SENT[::-1].tolist(),
    )


def test_an_array_view_arrives_for_every_dtype_that_travels_alone(there: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(np.array([(1, b"ab")], [("n", ">i4"), ("s", "S3")]))
    there.do("got = channel.recv()", channel=channel)
    assert there.do("got.tolist()") == [(1, b"ab")]


BUFFERS: dict[str, tuple[str, Any]] = {
    "bytes": ("b'abc'", np.frombuffer(b"abc", "u1")),
    "nothing": ("b''", np.frombuffer(b"", "u1")),
    "bytearray": ("bytearray(b'abc')", np.frombuffer(b"abc", "u1")),
    "sliced": ("memoryview(bytes(range(9)))[::-2]", np.arange(9, dtype="u1")[::-2]),
    "2-d": (
        "memoryview(bytes(range(16))).cast('H', (2, 4))",
        np.arange(16, dtype="u1").view("H").reshape(2, 4),
    ),
    **{
        f"array of {code}": (f"array.array({code!r}, range(1, 6))", np.arange(1, 6).astype(code))
        for code in "bBhHiIlLqQfd"
    },
    **{
        f"memoryview of {code}": (
            f"memoryview(bytes(range(8))).cast({code!r})",
            np.asarray(memoryview(bytes(range(8))).cast(code)),  # type: ignore[call-overload]
        )
        for code in "neN?"
    },
    **{
        name: (f"(ctypes.{name} * 3)(1, 2, 3)", np.asarray((getattr(ctypes, name) * 3)(1, 2, 3)))
        for name in ("c_bool", "c_byte", "c_ushort", "c_int", "c_ulong", "c_longlong", "c_float", "c_double")
    },
    "ctypes scalar": ("ctypes.c_int64(7)", np.asarray(ctypes.c_int64(7))),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_is_sent_as_the_array_that_numpy_makes_of_it(name: str, there: Any) -> None:
    """In place, by an interpreter without NumPy to itself and to one that has it."""
    source, expected = BUFFERS[name]
    channel: ArrayChannel[Any] = ArrayChannel()
    copied = memchannel.stats().bytes_copied
    there.do("import array, ctypes")
    there.do(f"one = {source}; channel.send(one); channel.send(one)", channel=channel)
    assert there.do("channel.recv().tolist()") == expected.tolist()
    got = channel.recv()
    assert (got.dtype, got.dtype.num, got.shape) == (expected.dtype, expected.dtype.num, expected.shape)
    assert got.strides == expected.strides
    if name.startswith("array"):
        assert address(got) == there.do("one.buffer_info()[0]")
    assert got.tobytes() == expected.tobytes()
    assert not got.flags.writeable
    assert memchannel.stats().bytes_copied == copied


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("memchannel.empty(3)", "arrays over shared memory need"),
        ("memchannel.zeros((2, 3), 'f4')", "arrays over shared memory need"),
        ("memchannel.array([1.5])", "arrays over shared memory need"),
        ("memchannel.InterpreterPool(1).map_blocks(len, b'abc')", "splitting arrays into blocks needs"),
    ],
)
def test_what_makes_arrays_says_how_to_get_numpy(source: str, what: str, there: Any) -> None:
    there.do("import memchannel")
    with pytest.raises(RemoteFailure, match=rf"ImportError: .*NumPy, which {what}: .*images\.enable"):
        there.do(source)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "[1, 2]",
            "TypeError: 'list' cannot be shared as an array: it exports no buffer.*memchannel.Channel",
        ),
        ("bytes", "TypeError: 'type' cannot be shared as an array"),
        (
            "array.array('w', 'ab')",
            r"ImportError: .*NumPy, which sending a buffer of format 'w'.*images\.enable",
        ),
        ("type('A', (), {'__array__': 1})()", r"ImportError: .*NumPy, which sending a 'A'.*images\.enable"),
    ],
)
def test_what_only_numpy_can_send(source: str, error: str, there: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    there.do("import array")
    with pytest.raises(RemoteFailure, match=error):
        there.do(f"channel.send({source})", channel=channel)
    assert len(channel) == 0


@pytest.mark.parametrize(
    ("sent", "kind", "receive"),
    [
        (SENT, ArrayChannel, "channel.recv(copy=True)"),
        (SENT, ArrayChannel, "channel.recv_nowait(copy=True)"),
        (SENT, ArrayChannel, "channel.recv_many(5, copy=True)"),
        (MASKED, ArrayChannel, "channel.recv()"),
        (MASKED, ArrayChannel, "channel.recv(as_view=True)"),
        (MASKED, ArrayChannel, "channel.recv_many(5)"),
        (MASKED, ArrayChannel, "select(channel)"),
        ({"a": SENT}, Channel, "channel.recv()"),
    ],
    ids=str,
)
def test_what_needs_numpy_says_so_and_stays(sent: Any, kind: Any, receive: str, there: Any) -> None:
    channel = kind()
    channel.send(sent)
    channel.send(SENT)
    for _ in range(2):
        with pytest.raises(RemoteFailure, match=r"ImportError: .*still there.*images\.enable\('numpy'\)"):
            there.do(receive, channel=channel)
        assert len(channel) == 2
    got = channel.recv()
    assert repr(got) == repr(sent)
    assert_same(channel.recv(), SENT)


def test_several_at_once_come_up_to_the_one_that_needs_numpy(there: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send_many([SENT, SENT, MASKED, SENT])
    there.do("got = channel.recv_many(5)", channel=channel)
    assert there.do("[type(one).__name__ for one in got]") == ["ArrayView"] * 2
    assert len(channel) == 2
    assert type(channel.recv()) is np.ma.MaskedArray


def test_an_event_loop_loses_nothing_either(there: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    channel.send(MASKED)
    with pytest.raises(RemoteFailure, match="still there"):
        there.do("import asyncio; asyncio.run(channel.recv_async())", channel=channel)
    assert len(channel) == 1
    assert type(asyncio.run(channel.recv_async())) is np.ma.MaskedArray


def test_ndarrays_arrive_once_numpy_can_be_imported() -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    with SecondInterpreter() as other:
        channel.send_many([SENT, SENT])
        other.run("names = [type(channel.recv()).__name__]", channel=channel.ends[0])
        other.run("import memchannel.images; memchannel.images.enable('numpy')")
        other.run("names.append(type(channel.recv()).__name__)")
        other.run("assert names == ['ArrayView', 'ndarray'], names; channel.close(); del channel")


def test_numpy_is_looked_for_again_only_when_there_is_somewhere_else_to_look(there: Any) -> None:
    channel: ArrayChannel[Any] = ArrayChannel()
    there.do(
        "import builtins; counted = []; original = builtins.__import__\n"
        "def count(name, *rest, **options):\n"
        "    counted.append(name == 'numpy')\n"
        "    return original(name, *rest, **options)\n"
        "builtins.__import__ = count",
        channel=channel,
    )
    try:
        for _ in range(3):
            channel.send(SENT)
            there.do("channel.recv().tolist()")
        first = there.do("sum(counted)")
        there.do("import sys; sys.path.append('/nowhere')")
        channel.send(SENT)
        there.do("channel.recv().tolist()")
        assert there.do("sum(counted)") == first + 1
        assert first <= 1  # an earlier test may have looked
    finally:
        there.do(
            "builtins.__import__ = original; sys.path.remove('/nowhere') if '/nowhere' in sys.path else None"
        )


class Unit:
    """Metadata of a dtype, in a module that can be made to vanish."""


def test_a_dtype_that_cannot_be_made_here_leaves_its_array_there(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("vanishing_units")
    module.Unit = Unit
    monkeypatch.setattr(Unit, "__module__", "vanishing_units")
    monkeypatch.setitem(sys.modules, "vanishing_units", module)
    channel: ArrayChannel[Any] = ArrayChannel()
    sent = np.zeros(3, np.dtype("f8", metadata={"unit": Unit()}))
    channel.send(sent)
    with monkeypatch.context() as gone:
        gone.delitem(sys.modules, "vanishing_units")
        for receive in (channel.recv, channel.recv_nowait, lambda: channel.recv_many(3)):
            with pytest.raises(ModuleNotFoundError, match="vanishing_units"):
                receive()
    assert len(channel) == 1
    assert memchannel.stats().live >= 1
    got = channel.recv()
    assert got.ctypes.data == sent.ctypes.data
    assert type(got.dtype.metadata["unit"]) is Unit


def test_numpy_whose_import_was_interrupted_is_imported_first() -> None:
    source = """
import numpy as np
from memchannel import ArrayChannel, interpreters
channel = ArrayChannel()
channel.send(np.arange(3.0))
other = interpreters.create()
result = interpreters.run(other, '''
import sys
import numpy._core._multiarray_umath

class Interrupted:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "numpy":
            sys.meta_path.remove(Interrupted)
            raise KeyboardInterrupt

del sys.modules["numpy"]  # as after an import that was interrupted: what it imported stays
sys.meta_path.insert(0, Interrupted)
try:
    channel.recv()
except KeyboardInterrupt:
    print(len(channel))
''', shared={"channel": channel}, capture_output=True)
print(result.check().stdout)
"""
    assert run_script(source).split() == ["1"]

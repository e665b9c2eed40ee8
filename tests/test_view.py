"""`CrossInterpreterView`: a memoryview in every respect, and the way its memory goes back."""

from __future__ import annotations

import array
import copy
import ctypes
import functools
import gc
import operator
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import memchannel
from memchannel import CrossInterpreterView, MemChannel
from memchannel.testing import assert_no_leaks
from second_interpreter import SecondInterpreter

pytestmark = pytest.mark.usefixtures("level_leases")


def received(obj: Any) -> CrossInterpreterView:
    """Send an object to ourselves."""
    channel = MemChannel()
    channel.send(obj)
    view: CrossInterpreterView = channel.recv()
    return view


def live() -> int:
    return memchannel.stats().live


def is_resizable(exporter: bytearray) -> bool:
    """Whether nobody has the buffer: bytearray refuses to resize while somebody has."""
    try:
        exporter.append(0)
    except BufferError:
        return False
    exporter.pop()
    return True


def outcome(function: Callable[[memoryview], object], view: memoryview) -> object:
    """Compute something from a view; an exception is a result as well."""
    try:
        return function(view)
    except Exception as error:
        return type(error), str(error).replace("memchannel.CrossInterpreterView", "memoryview")


# ---- a memoryview


def test_is_a_memoryview() -> None:
    with received(b"abc") as view:
        assert type(view) is CrossInterpreterView
        assert isinstance(view, memoryview)
        assert CrossInterpreterView.__mro__ == (CrossInterpreterView, memoryview, object)


def test_only_receiving_makes_one() -> None:
    with pytest.raises(TypeError, match="cannot create 'memchannel.CrossInterpreterView' instances"):
        CrossInterpreterView(b"abc")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (CrossInterpreterView,), {})


def test_memoryview_itself_stays_final() -> None:
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (memoryview,), {})


EXPORTERS: dict[str, Any] = {
    "bytes": b"abcabc",
    "bytearray": bytearray(b"abcabc"),
    "empty": b"",
    "array of int": array.array("i", [3, -1, 2, 3]),
    "array of double": array.array("d", [1.5, float("nan"), 0.0]),
    "slice": memoryview(b"abcdefgh")[1:7:2],
    "reversed": memoryview(array.array("h", range(9)))[::-2],
    "chars": memoryview(b"abc").cast("c"),
    "2-d": memoryview(bytes(range(12))).cast("B", (3, 4)),
    "0-d": memoryview(array.array("q", [7])).cast("B").cast("q", ()),
    "Fortran order": np.arange(6.0).reshape(2, 3).T,
    "half": np.array([1, 0.5], "e"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "big-endian": np.array([1, 2], ">i4"),
    "struct": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    "ctypes": (ctypes.c_double * 3)(1, 2, 3),
}
OPERATIONS: dict[str, Callable[[memoryview], object]] = {
    "list": list,
    "len": len,
    "bool": bool,
    "bytes": bytes,
    "tobytes": lambda view: [view.tobytes(order) for order in ("C", "F", "A")],
    "tolist": lambda view: view.tolist(),
    "hex": lambda view: view.hex(),
    "reversed": lambda view: list(reversed(view)),
    "first": lambda view: view[0],
    "last": lambda view: view[-1],
    "past the end": lambda view: view[100],
    "tuple index": lambda view: view[0, 1],
    "all": lambda view: view[...] is view,
    "wrong index": lambda view: view["a"],  # type: ignore[call-overload]
    "slice": lambda view: view[1:].tobytes(),
    "slice backwards": lambda view: view[::-2].tolist(),
    "contains": lambda view: [value in view for value in (97, 3, 1.5, b"a", "a", None)],
    "equal to bytes": lambda view: [view == b"abcabc", view != b"abcabc", view == b"abcabc"],
    "equal to others": lambda view: [view == other for other in (None, "abcabc", [1], object)],
    "less": lambda view: view < b"abcabc",  # type: ignore[operator]
    "add": lambda view: view + view,  # type: ignore[operator]
    "cast": lambda view: view.cast("B").cast("H").tolist(),
    "cast to 2-d": lambda view: view.cast("B", [2, 3]).tolist(),
    "wrong cast": lambda view: view.cast("x"),  # type: ignore[call-overload]
    "assign": lambda view: operator.setitem(view, 0, 1),
    "delete": lambda view: operator.delitem(view, 0),  # type: ignore[arg-type]
    "shape": lambda view: (view.shape, view.strides, view.suboffsets, view.ndim, view.nbytes, view.itemsize),
    "contiguous": lambda view: (view.c_contiguous, view.f_contiguous, view.contiguous),
    "toreadonly": lambda view: view.toreadonly().tolist(),
    "array": lambda view: array.array("B", view).tolist(),
    "asarray": lambda view: np.asarray(view).tobytes(),
    "join": lambda view: b"".join([view, view]),
    "str": lambda view: str(view, "latin-1"),
    "unpack": lambda view: [*view],
    "memoryview": lambda view: memoryview(view).tolist(),
    "readonly buffer": lambda view: memoryview(view).readonly,
    "count": lambda view: view.count(97),
    "index": lambda view: view.index(99),
    "index from": lambda view: view.index(97, 1),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_operations_give_what_a_memoryview_gives(exporter: str) -> None:
    with memoryview(EXPORTERS[exporter]).toreadonly() as plain, received(EXPORTERS[exporter]) as view:
        if exporter == "ctypes":  # whose "<d" memoryview cannot index, and ours can
            plain = plain.cast("B").cast("d")
        got = {name: repr(outcome(function, view)) for name, function in OPERATIONS.items()}
        assert got == {name: repr(outcome(function, plain)) for name, function in OPERATIONS.items()}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_comparison_goes_both_ways(exporter: str) -> None:
    with (
        memoryview(EXPORTERS[exporter]) as plain,
        received(EXPORTERS[exporter]) as view,
        received(EXPORTERS[exporter]) as again,
    ):
        expected = plain == memoryview(EXPORTERS[exporter])
        if exporter == "ctypes":
            expected = True
        for left, right in ((view, plain), (plain, view), (view, again), (again, view)):
            assert (left == right) is expected
            assert (left != right) is not expected
        with pytest.raises(TypeError, match="'<' not supported"):
            view < again  # type: ignore[operator]  # noqa: B015


def test_iteration_ends_with_the_view() -> None:
    view = received(b"abc")
    iterator = iter(view)
    assert next(iterator) == 97
    view.release()
    with pytest.raises(ValueError, match="released"):
        next(iterator)


def test_hashes_like_bytes_where_nobody_can_write() -> None:
    with received(b"abcdef") as view:
        assert hash(view) == hash(b"abcdef") == hash(view)
        assert {view: 1}[b"abcdef"] == 1  # type: ignore[index]
        assert hash(view[::2]) == hash(b"ace")
    assert hash(view) == hash(b"abcdef"), "kept, as memoryview keeps it"


@pytest.mark.parametrize("source", [bytearray(b"abc"), memoryview(bytearray(b"abc")).toreadonly()])
def test_does_not_hash_what_the_owner_can_write(source: Any) -> None:
    with received(source) as view, received(view) as relayed:
        for changing in (view, view[:2], view.cast("b"), relayed):
            with pytest.raises(ValueError, match="can still write"):
                hash(changing)


def test_reads_what_the_owner_writes() -> None:
    source = bytearray(b"abc")
    with received(source) as view:
        source[0] = 122
        assert bytes(view) == b"zbc"


@pytest.mark.parametrize("source", [bytearray(b"abc"), array.array("i", [1]), np.zeros(3)])
def test_is_read_only_whatever_was_sent(source: Any) -> None:
    with received(source) as view:
        assert view.readonly
        with pytest.raises(TypeError, match="cannot modify read-only memory"):
            view[0] = 0
        for derived in (view, view[:], view.cast("B"), memoryview(view)):
            assert derived.readonly
            with pytest.raises(TypeError, match="not writable|read-write|read-only"):
                ctypes.c_char.from_buffer(derived)
        assert not np.asarray(view).flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            np.asarray(view).flags.writeable = True


def test_cannot_be_copied_or_pickled_as_memoryview_cannot() -> None:
    with received(b"abc") as view:
        for function in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot pickle"):
                function(view)


def test_takes_weak_references() -> None:
    view = received(b"abc")
    reference = weakref.ref(view)
    assert reference() is view
    view.release()
    del view
    assert reference() is None


def test_repr_names_owner_and_layout() -> None:
    with received(np.zeros((2, 3), "i2")) as view:
        assert repr(view) == "<CrossInterpreterView of interpreter 0: format 'h', shape (2, 3)>"
    assert "released memory" in repr(view)


def test_interpreter_is_the_owners_id() -> None:
    with received(b"abc") as view:
        assert view.interpreter == 0
    with pytest.raises(ValueError, match="released"):
        _ = view.interpreter
    with received(memchannel.SharedBuffer(8)) as view:
        assert view.interpreter is None


# ---- the way back


def test_release_gives_back_at_once() -> None:
    source = bytearray(b"abc")
    view = received(source)
    assert not is_resizable(source)
    view.release()
    assert is_resizable(source)
    view.release()  # again: nothing happens


def test_with_block_gives_back() -> None:
    source = bytearray(b"abc")
    with received(source) as view:
        assert not is_resizable(source)
    assert is_resizable(source)
    with pytest.raises(ValueError, match="released"), view:
        pass


def test_deallocation_gives_back() -> None:
    source = bytearray(b"abc")
    view = received(source)
    with pytest.warns(ResourceWarning):
        del view
    assert is_resizable(source)


USERS: dict[str, Callable[[CrossInterpreterView], object]] = {
    "slice": lambda view: view[1:],
    "cast": lambda view: view.cast("H"),
    "readonly": lambda view: view.toreadonly(),
    "memoryview": memoryview,
    "slice of a cast": lambda view: view.cast("H")[1:],
    "PickleBuffer": pickle.PickleBuffer,
    "asarray": np.asarray,
    "frombuffer": lambda view: np.frombuffer(view, "H"),
    "ndarray": lambda view: np.ndarray((2,), "H", buffer=view),
    "ndarray of a slice": lambda view: np.ndarray((1,), "H", buffer=view[1:3]),
    "array slice": lambda view: np.asarray(view)[1:],
}


@pytest.mark.parametrize("release", [True, False], ids=["released", "dropped"])
@pytest.mark.parametrize("user", USERS)
def test_users_keep_the_lease(user: str, release: bool) -> None:
    source = bytearray(b"abcd")
    view = received(source)
    kept = USERS[user](view)
    if release:
        view.release()  # as on a plain memoryview, whoever uses its memory
    del view
    assert not is_resizable(source)
    assert live() == 1
    assert bytes(kept)[:1] in b"abcd"  # type: ignore[call-overload]
    with warnings.catch_warnings(action="error"):
        del kept
    assert is_resizable(source)


def test_an_array_that_borrowed_a_released_view_can_be_sent_on() -> None:
    source = bytearray(b"abcd")
    view = received(source)
    borrowing = np.ndarray((4,), "u1", buffer=view)
    view.release()
    with received(borrowing) as again:
        del borrowing, view
        assert bytes(again) == b"abcd"
        assert live() == 1
    assert is_resizable(source)


def test_warns_like_an_unclosed_file() -> None:
    view = received(b"abc")
    with pytest.warns(ResourceWarning, match="unreleased <CrossInterpreterView of interpreter 0: format 'B'"):
        del view


def test_a_warning_that_is_an_error_goes_where_unraisable_errors_go(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_type))
    source = bytearray(b"abc")
    view = received(source)
    with warnings.catch_warnings(action="error"):
        del view
    assert seen == [ResourceWarning]
    assert is_resizable(source)


@pytest.mark.parametrize("keeps", [lambda view: view[:1], np.asarray, memoryview, iter])
def test_does_not_warn_while_others_use_the_memory(keeps: Callable[[memoryview], object]) -> None:
    view = received(b"abc")
    kept = keeps(view)
    with warnings.catch_warnings(action="error"):
        if keeps is iter:
            view.release()
        del view
        del kept


def test_a_cycle_is_collected_and_gives_back() -> None:
    source = bytearray(b"abc")
    cycle: list[object] = [pickle.PickleBuffer(received(source))]
    cycle.append(cycle)
    del cycle
    with warnings.catch_warnings(action="ignore"):
        gc.collect()
    assert is_resizable(source)


def test_a_view_in_a_cycle_warns_once() -> None:
    cycle: list[object] = [received(b"abc")]
    cycle.append(cycle)
    del cycle
    with pytest.warns(ResourceWarning) as caught:
        gc.collect()
    assert len(caught) == 1


def test_a_cycle_on_the_senders_side_is_collected() -> None:
    class Source(bytearray):
        itself: Source

    source = Source(b"abc")
    source.itself = source
    gone = weakref.ref(source)
    view = received(source)
    del source
    gc.collect()
    assert gone() is not None
    view.release()
    gc.collect()
    assert gone() is None


def test_is_given_back_from_another_thread() -> None:
    source = bytearray(b"abc")
    view = received(source)
    thread = threading.Thread(target=view.release)
    thread.start()
    thread.join()
    assert is_resizable(source)


OWNER = """
import threading, _interpreters
released = []
class Source:
    def __buffer__(self, flags):
        return memoryview(b'abcd')
    def __release_buffer__(self, view):
        released.append(int(_interpreters.get_current()[0]))
        view.release()
"""


@pytest.mark.parametrize("user", USERS)
def test_is_given_back_in_the_owner_once(user: str) -> None:
    channel = MemChannel()
    with SecondInterpreter() as other:
        other.run(OWNER + "s.send(Source())", s=channel.ends[1])
        view = channel.recv()
        assert view.interpreter == other.id
        assert bytes(view) == b"abcd"
        kept = USERS[user](view)
        view.release()
        del view
        other.run("assert released == [], released")
        del kept
        other.run("assert released == [me], released", me=other.id)


def test_a_failing_release_in_the_owner_does_not_reach_the_receiver(
    capfd: pytest.CaptureFixture[str],
) -> None:
    channel = MemChannel()
    with SecondInterpreter() as other:
        source = """
        class Source:
            def __buffer__(self, flags):
                return memoryview(b'abcd')
            def __release_buffer__(self, view):
                raise OSError("the owner's own trouble")
        s.send(Source())
        """
        other.run(source, s=channel.ends[1])
        channel.recv().release()
        assert live() == 0
    assert "the owner's own trouble" in capfd.readouterr().err


def test_the_sender_is_kept_until_the_view_is_gone() -> None:
    channel = MemChannel()
    with SecondInterpreter() as other:
        other.run("import weakref; import array; a = array.array('i', [1]); gone = weakref.ref(a)")
        other.run("s.send(a); del a; assert gone() is not None", s=channel.ends[1])
        view = channel.recv()
        other.run("assert gone() is not None")
        view.release()
        other.run("assert gone() is None")


def test_a_cycle_in_another_interpreter_gives_back_here() -> None:
    channel = MemChannel()
    source = bytearray(b"abc")
    with SecondInterpreter() as other:
        channel.send(source)
        other.run(
            """
            import gc, pickle, warnings
            warnings.simplefilter("ignore")
            cycle = [pickle.PickleBuffer(r.recv())]
            cycle.append(cycle)
            del cycle
            """,
            r=channel.ends[0],
        )
        assert not is_resizable(source)
        other.run("gc.collect()")
        assert is_resizable(source)


def test_warns_in_the_receiving_interpreter() -> None:
    channel = MemChannel()
    with SecondInterpreter() as other:
        channel.send(b"abc")
        other.run(
            """
            import warnings
            with warnings.catch_warnings(record=True, action="always") as caught:
                view = r.recv()
                del view
            assert [w.category for w in caught] == [ResourceWarning], caught
            assert "interpreter 0" in str(caught[0].message)
            """,
            r=channel.ends[0],
        )


# ---- sending on


FORWARDED: dict[str, Callable[[CrossInterpreterView], object]] = {"view": lambda view: view, **USERS}


@pytest.mark.parametrize("user", FORWARDED)
def test_sending_on_does_not_nest(user: str) -> None:
    source = bytearray(b"abcd")
    view = received(source)
    lent = memchannel.stats().lent
    with received(FORWARDED[user](view)) as again:
        assert memchannel.stats().lent == lent, "the lease of the original owner serves"
        view.release()
        assert not is_resizable(source)
        assert bytes(again)[:1] in b"abcd"
    del view
    assert is_resizable(source)


def test_sent_on_by_another_interpreter_it_belongs_to_the_first() -> None:
    there, back = MemChannel(), MemChannel()
    source = bytearray(b"abcd")
    with SecondInterpreter() as other:
        there.send(source)
        other.run("view = r.recv(); s.send(view[1:]); view.release()", r=there.ends[0], s=back.ends[1])
        view = back.recv()
        assert (view.interpreter, bytes(view)) == (0, b"bcd")
    assert not is_resizable(source), "the interpreter in between is gone, the lease is not"
    view.release()
    assert is_resizable(source)


# ---- level


WITHOUT_NUMPY = [name for name in FORWARDED if "arr" not in name and "from" not in name]


@pytest.mark.parametrize("numpy", [False, True], ids=["plain", "numpy"])
def test_references_stay_level(numpy: bool) -> None:
    """References to what is involved in every build, and all references in debug builds."""
    source = bytearray(b"abcdef")
    channel = MemChannel()
    users = [FORWARDED[name] for name in (FORWARDED if numpy else WITHOUT_NUMPY)]

    def use() -> None:
        channel.send(source)
        with channel.recv() as view:
            for user in users:
                user(view)
            _ = (list(view), 97 in view, view == b"abcdef", view == view[:], repr(view), view.interpreter)
            with pytest.raises(ValueError, match="can still write"):
                hash(view)
        with pytest.raises(ValueError, match="released"):
            list(view)

    def use_often() -> None:
        for _ in range(20):
            use()

    involved = (CrossInterpreterView, memoryview, memchannel._core.LentMemory)
    counters = {one.__name__: functools.partial(sys.getrefcount, one) for one in involved}
    counters["source"] = functools.partial(sys.getrefcount, source)
    ignore = [
        "memory blocks"
    ]  # of the whole process, in which other tests have left threads and interpreters
    if numpy:
        ignore.append("references")  # NumPy's wheels are release builds, which do not count all of them
    # repr() goes on filling caches for some hundred calls.
    assert_no_leaks(use_often, counters=counters, ignore=ignore, warmup=20)

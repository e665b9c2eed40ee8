"""Types with a sharing protocol, registered with memchannel."""

from __future__ import annotations

import array
import asyncio
import gc
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
import registered_types
from channel_support import Neighbour, RemoteFailure, run_script, wait_until
from memchannel import Channel, CrossInterpreterView, InterpreterPool, interpreters, sharing
from registered_types import Silent, SubTrack, Track, returned

pytestmark = pytest.mark.usefixtures("level_leases")


@pytest.fixture(autouse=True)
def none_returned() -> Iterator[None]:
    returned.clear()
    yield
    returned.clear()


@pytest.fixture
def own_registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    registries: list[dict[Any, Any]] = [sharing._registered, sharing._named, sharing._inherited]
    before = [dict(one) for one in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def track(name: object = "take") -> Track:
    return Track(name, array.array("i", [1, 2]), bytearray(b"abc"), np.arange(6.0).reshape(2, 3)[:, ::-1])


def address(view: Any) -> int:
    return int(np.asarray(view).__array_interface__["data"][0])


# ---- sharing


def test_several_arrays_arrive_where_they_are() -> None:
    ch, sent = Channel[Any](), track({"rate": 44100})
    ch.send(sent)
    received = ch.recv()
    assert type(received) is Track
    assert received.name == {"rate": 44100}
    ints, text, floats = received.channels
    assert all(type(view) is CrossInterpreterView and view.readonly for view in received.channels)
    assert (ints.format, ints.tolist(), bytes(text)) == ("i", [1, 2], b"abc")
    assert (np.asarray(floats) == sent.channels[2]).all()
    assert [*map(address, received.channels)] == [*map(address, sent.channels)]


def test_other_interpreters_read_the_same_memory(neighbour: Neighbour) -> None:
    there, back = Channel[Any](), Channel[Any]()
    sent = track()
    there.send(sent)
    neighbour.do("import registered_types")
    code = (
        "back.send([v.interpreter for v in t.channels] + [registered_types.sums([t])[0]]) or type(t).__name__"
    )
    sent.channels = sent.channels[:1]
    assert neighbour.do("t = there.recv()", there=there) is None
    there.send(sent)
    neighbour.do("t = there.recv()")
    assert neighbour.do(code, back=back) == "Track"
    assert back.recv(20) == [0, 3]
    assert returned[0].channels == sent.channels
    neighbour.do("del t")
    assert returned == [sent, sent]


def test_the_type_is_registered_by_the_import_that_unpickling_would_do(interp: Any) -> None:
    ch = Channel[Any]()
    ch.send(Silent("by import", b"xy"))

    def receive(ch: Any) -> Any:
        import sys

        before = "registered_types" in sys.modules
        silent = ch.recv()
        return before, type(silent).__name__, bytes(silent.channels[0])

    assert interpreters.run(interp, receive, ch=ch).check().value == (False, "Silent", b"xy")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: [x],
        lambda x: {"key": (x, x)},
        lambda x: Track(x),
        lambda x: SubTrack("outer", x),
        lambda x: {x},
        lambda x: RuntimeError(x),
    ],
    ids=["list", "dict", "meta", "attribute", "set", "exception"],
)
def test_they_are_shared_wherever_they_are_nested(wrap: Callable[[Track], Any]) -> None:
    ch, sent = Channel[Any](), track()
    ch.send(wrap(sent))
    received = ch.recv()
    (inner,) = [one for one in _reachable(received) if type(one) is Track and one.channels]
    assert address(inner.channels[0]) == address(sent.channels[0])
    del inner, received
    gc.collect()
    assert returned.count(sent) == 1


def _reachable(root: Any) -> list[Any]:
    found: dict[int, Any] = {}
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set)):
            todo += one
        elif isinstance(one, Track):
            todo += [one.name, *one.channels]
        elif isinstance(one, BaseException):
            todo += one.args
    return list(found.values())


def test_one_object_sent_twice_in_a_message_arrives_as_one() -> None:
    ch, sent = Channel[Any](), track()
    ch.send([sent, {"again": sent}])
    first, second = ch.recv()
    assert first is second["again"]
    del first, second
    assert returned == [sent]


def test_buffers_of_one_object_inside_another_are_told_apart() -> None:
    ch = Channel[Any]()
    inner = Track("inner", b"i1", b"i2")
    ch.send([Track(inner, b"o1"), Track("last", b"l1"), np.arange(3), b"x" * 70_000])
    outer, last, numbers, _ = ch.recv()
    assert [bytes(view) for view in outer.name.channels] == [b"i1", b"i2"]
    assert [bytes(view) for view in (*outer.channels, *last.channels)] == [b"o1", b"l1"]
    assert numbers.tolist() == [0, 1, 2]
    assert returned == []


def test_a_subclass_travels_as_if_nothing_was_registered() -> None:
    ch, sent = Channel[Any](), SubTrack("sub", array.array("i", [5]))
    sent.extra = "kept"  # type: ignore[attr-defined]
    ch.send(sent)
    received = ch.recv()
    assert (type(received), received.extra, received.channels) == (SubTrack, "kept", sent.channels)
    assert type(received.channels[0]) is array.array
    assert returned == []


def test_pickling_and_copying_are_not_concerned() -> None:
    sent = Track("plain", b"xy")
    copied = pickle.loads(pickle.dumps(sent))
    assert (copied.name, copied.channels) == ("plain", (b"xy",))


@pytest.mark.usefixtures("own_registry")
def test_the_last_registration_of_a_type_counts() -> None:
    class Twice:
        pass

    memchannel.register(Twice, lambda obj: (1, []), lambda meta, views: meta)
    memchannel.register(Twice, lambda obj: (2, []), lambda meta, views: [meta, views])
    ch = Channel[Any]()
    ch.send(Twice())
    assert ch.recv() == [2, []]


def test_views_of_an_object_are_dropped_without_a_warning() -> None:
    ch = Channel[Any]()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ch.send(track())
        ch.recv()
    assert seen == []


@pytest.mark.usefixtures("own_registry")
def test_what_arrived_is_sent_on_without_nesting_unless_its_return_is_to_be_told(
    neighbour: Neighbour,
) -> None:
    ch = Channel[Any]()
    neighbour.do("import registered_types; data = bytearray(b'remote')")
    neighbour.do("ch.send(registered_types.Silent('there', data))", ch=ch)
    received = ch.recv(20)
    ch.send(received)
    again = ch.recv()
    assert again.channels[0].interpreter == neighbour.id
    ch.send(Track("mine", again.channels[0]))
    told = ch.recv()
    assert told.channels[0].interpreter == 0
    assert bytes(told.channels[0]) == b"remote"
    assert returned == []
    del told
    assert len(returned) == 1
    returned.clear()


# ---- pools


def test_arguments_and_results_of_pools_are_shared() -> None:
    with InterpreterPool(2, packages=None) as pool:
        tracks = [Track(number, array.array("i", [number, 1])) for number in range(4)]
        results = list(pool.map(registered_types.doubled, tracks))
        assert [one.name for one in results] == [0, 1, 2, 3]
        assert [one.channels[0].tolist() for one in results] == [[0, 2], [2, 2], [4, 2], [6, 2]]
        assert all(one.channels[0].interpreter != 0 for one in results)
        assert pool.submit(registered_types.sums, tracks).result() == [1, 2, 3, 4]
        del results
    wait_until(lambda: len(returned) == 8, "the return of what each task got")
    assert all(returned.count(one) == 2 for one in tracks)


def test_a_function_by_value_takes_registered_objects_along() -> None:
    sent = Track("closure", array.array("i", [4, 5]))
    with InterpreterPool(1, packages=None) as pool:
        assert pool.submit(lambda: registered_types.sums([sent])).result() == [9]
    wait_until(lambda: returned == [sent], "the return of what the function took along")


@pytest.mark.usefixtures("own_registry")
def test_interpreters_inherit_what_is_registered_when_they_are_made() -> None:
    source = """
import memchannel
from memchannel import Channel, InterpreterPool, interpreters

class Pair:
    def __init__(self, first, second):
        self.first, self.second = first, second

memchannel.register(Pair, lambda pair: (None, [pair.first, pair.second]), lambda _, views: Pair(*views))
pair = Pair(bytearray(b"abc"), bytearray(b"defg"))

def swap(pair):
    assert [type(view).__name__ for view in (pair.first, pair.second)] == ["CrossInterpreterView"] * 2
    return Pair(bytearray(pair.second), bytearray(pair.first))

with InterpreterPool(1, packages=None) as pool:
    swapped = pool.submit(swap, pair).result()
    assert type(swapped) is Pair and swapped.first.interpreter != 0
    print(bytes(swapped.first), bytes(swapped.second))
    del swapped

def nested(pair):
    from memchannel import Channel, interpreters
    ch = Channel()
    ch.send(pair)
    child = interpreters.create(packages=None)
    value = interpreters.run(child, lambda ch: bytes(ch.recv().first), ch=ch).check().value
    interpreters.close(child, timeout=20)
    return value

parent = interpreters.create(packages=None)
print(interpreters.run(parent, nested, pair=pair).check().value)
interpreters.close(parent, timeout=20)
"""
    assert run_script(source).splitlines() == ["b'defg' b'abc'", "b'abc'"]


def test_a_class_made_in_a_function_is_inherited_and_comes_back() -> None:
    class Local:
        def __init__(self, memory: Any) -> None:
            self.memory = memory

    Local.__module__ = "__main__"  # so that it cannot be imported there
    memchannel.register(Local, lambda one: (None, [one.memory]), lambda _, views: Local(views[0]))
    there, back = Channel[Any](), Channel[Any]()
    other = interpreters.create(packages=None)

    def answer(there: Any, back: Any) -> str:
        got = there.recv()
        back.send(type(got)(bytearray(got.memory) + b"!"))
        return type(got).__name__

    there.send(Local(b"hey"))
    assert interpreters.run(other, answer, there=there, back=back).check().value == "Local"
    received = back.recv()
    assert (type(received), bytes(received.memory)) == (Local, b"hey!")
    del received
    interpreters.close(other, timeout=20)


@pytest.mark.usefixtures("own_registry")
def test_what_cannot_be_inherited_says_so_where_it_is_needed() -> None:
    source = """
import threading
import memchannel
from memchannel import Channel, interpreters

class Locked: pass
class Told: pass

lock = threading.Lock()
memchannel.register(Locked, lambda obj: (1, [b"x"]), lambda meta, views, lock=lock: meta)
def tell(obj):
    with lock:
        pass
memchannel.register(Told, lambda obj: ("told", [b"x"]), lambda meta, views: meta, tell)

def receive(ch):
    try:
        return ch.recv()
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

def send(ch, kind):
    ch.send(kind())

ch = Channel()
child = interpreters.create(packages=None)
for obj in (Locked(), Told(), "goes on"):
    ch.send(obj)
for _ in range(3):
    print(interpreters.run(child, receive, ch=ch).check().value)
failure = interpreters.run(child, send, ch=ch, kind=Told).exception
print(failure)
interpreters.close(child, timeout=20)
"""
    locked, told, rest, failure = run_script(source).splitlines()
    assert locked.startswith("UnpicklingError: '__main__.Locked' is registered")
    assert "its rebuild cannot be pickled" in locked
    assert "cannot pickle '_thread.lock' object" in locked
    assert (told, rest) == ("told", "goes on")
    assert failure.startswith("_pickle.PicklingError: '__main__.Told' is registered")
    assert "its on_returned cannot be pickled" in failure


def test_a_reused_interpreter_has_what_its_maker_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import memchannel
from memchannel import Channel, interpreters

def attempt(ch):
    try:
        return ch.recv()
    except Exception as exc:
        return type(exc).__name__

def use(ch):
    child = interpreters.create(packages=None, reuse=True)
    value = interpreters.run(child, attempt, ch=ch).check().value
    number = child.id
    interpreters.close(child, timeout=20)
    return number, value

ch = Channel()
class Kind: pass
memchannel.register(Kind, lambda obj: (1, []), lambda meta, views: "first")
ch.send(Kind())
first = use(ch)
memchannel.register(Kind, lambda obj: (1, []), lambda meta, views: "second")
ch.send(Kind())
second = use(ch)
memchannel.sharing.forget({"__main__"})
ch.send(first)
third = use(ch)
assert first[0] == second[0] == third[0]
print(first[1], second[1])
"""
    assert run_script(source).split() == ["first", "second"]


# ---- on_returned


def test_it_is_told_once_after_the_last_share_of_each_send() -> None:
    ch, sent = Channel[Any](), track()
    ch.send(sent)
    ch.send(sent)
    first, second = ch.recv(), ch.recv()
    part = second.channels[0][1:]
    del first
    assert returned == [sent]
    del second
    assert returned == [sent]
    part.release()
    assert returned == [sent, sent]


def test_it_finds_the_buffer_released() -> None:
    data = bytearray(b"abc")

    class Resized(Track):
        pass

    seen = []

    def extend(obj: Track) -> None:
        obj.channels[0].extend(b"de")
        seen.append(bytes(obj.channels[0]))

    memchannel.register(Resized, registered_types.share, registered_types.rebuild, extend)
    try:
        ch = Channel[Any]()
        ch.send(Resized("", data))
        with pytest.raises(BufferError):
            data.append(1)
        ch.recv()
        assert seen == [b"abcde"]
    finally:
        sharing.forget({__name__})


def test_one_without_buffers_is_told_when_it_was_received_or_dropped() -> None:
    ch, sent = Channel[Any](), Track("meta alone")
    ch.send(sent)
    assert returned == []
    assert ch.recv().channels == ()
    assert returned == [sent]
    ch.send(sent)
    del ch
    assert returned == [sent, sent]


def test_a_message_that_nobody_receives_is_told_of() -> None:
    ch, sent = Channel[Any](), track()
    ch.send(sent)
    ch.poison()
    assert returned == [sent]


def test_all_receivers_of_a_broadcast_have_to_drop_it() -> None:
    news, sent = Channel[Any](), track()
    ends = [news.broadcast(), news.broadcast()]
    news.send(sent)
    first = ends[0].recv()
    second = ends[1].recv()
    del first
    assert returned == []
    del second
    assert returned == [sent]


def test_it_is_called_in_the_senders_interpreter(neighbour: Neighbour) -> None:
    ch = Channel[Any]()
    neighbour.do(
        """
import registered_types, _interpreters
told_in = []
def tell(obj): told_in.append(_interpreters.get_current()[0])
registered_types.memchannel.register(
    registered_types.Track, registered_types.share, registered_types.rebuild, tell)
"""
    )
    try:
        neighbour.do("ch.send(registered_types.Track('there', b'xy'))", ch=ch)
        received = ch.recv(20)
        assert neighbour.do("told_in") == []
        thread = threading.Thread(target=received.channels[0].release)
        thread.start()
        thread.join(20)
        assert neighbour.do("told_in") == [neighbour.id]
    finally:
        neighbour.do("import sys; del sys.modules['registered_types'], registered_types, ch")


def test_deferred_returns_are_told_of_too(neighbour: Neighbour) -> None:
    ch = Channel[Any](release="deferred")
    sent = track()
    ch.send(sent)
    neighbour.do("import registered_types")
    neighbour.do("t = ch.recv()", ch=ch)
    assert returned == []
    neighbour.do("del t, ch")
    wait_until(lambda: returned == [sent], "the deferred return")


def test_a_failed_send_is_not_told_of() -> None:
    full = Channel[Any](maxsize=1)
    full.send(0)
    assert not full.send_nowait(track())
    with pytest.raises(TimeoutError):
        full.send(track(), timeout=0.01)
    with pytest.raises(TimeoutError):
        memchannel.select((full, track()), timeout=0)
    closed = Channel[Any]()
    closed.close()
    for attempt in (closed.send, closed.send_nowait, lambda obj: closed.send_many([obj])):
        with pytest.raises(ValueError, match="closed"):
            attempt(track())
    assert memchannel.stats().live == 0 or returned == []
    assert returned == []


def test_of_a_batch_that_was_cut_short_what_went_out_is_told_of() -> None:
    bounded = Channel[Any](maxsize=2)
    sent = [Track(number, b"x") for number in range(4)]
    with pytest.raises(TimeoutError) as caught:
        bounded.send_many(sent, timeout=0.01)
    assert caught.value.sent == 2  # type: ignore[attr-defined]
    assert returned == []
    assert [one.name for one in bounded.recv_many(9)] == [0, 1]
    assert returned == sent[:2]


def test_selects_and_event_loops_tell_too() -> None:
    ch, sent = Channel[Any](), track()
    memchannel.select((ch, sent))
    assert returned == []
    ch.recv()
    assert returned == [sent]

    async def both() -> None:
        await ch.send_async(sent)
        await ch.recv_async()
        full = Channel[Any](maxsize=1)
        full.send(0)
        waiting = asyncio.ensure_future(full.send_async(sent))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del waiting
        waiting = asyncio.ensure_future(full.send_async(sent))
        await asyncio.sleep(0)
        full.recv()
        await waiting
        assert returned == [sent, sent]
        full.recv()

    asyncio.run(both())
    assert returned == [sent, sent, sent]


@pytest.mark.usefixtures("own_registry")
def test_its_errors_are_reported_and_nothing_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append((args.exc_value, args.object)))

    def fail(obj: object) -> None:
        raise LookupError(obj)

    memchannel.register(Track, registered_types.share, registered_types.rebuild, fail)
    ch, sent = Channel[Any](), track()
    ch.send(sent)
    received = [ch.recv()]

    def drop_while_raising() -> None:
        try:
            raise KeyError("kept")
        finally:
            received.clear()

    with pytest.raises(KeyError, match="kept"):
        drop_while_raising()
    ((error, where),) = seen
    assert type(error) is LookupError
    assert error.args == (sent,)
    assert where is fail
    seen.clear()


@pytest.mark.usefixtures("own_registry")
def test_it_may_send_again() -> None:
    ch = Channel[Any]()
    rounds: list[Track] = []

    def resend(obj: Track) -> None:
        rounds.append(obj)
        if len(rounds) < 5:
            ch.send(obj)

    memchannel.register(Track, registered_types.share, registered_types.rebuild, resend)
    sent = track()
    ch.send(sent)
    for count in range(1, 6):
        ch.recv()
        assert len(rounds) == count
    assert rounds == [sent] * 5


def test_the_object_lives_as_long_as_its_shares() -> None:
    ch = Channel[Any]()
    ch.send(Track("alone", bytearray(b"kept")))
    received = ch.recv()
    gc.collect()
    assert bytes(received.channels[0]) == b"kept"
    del received
    assert [one.name for one in returned] == ["alone"]


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, len, len), "is no class: 1"),
        ((Track, None, len), "share is not callable: None"),
        ((Track, len, "x"), "rebuild is not callable: 'x'"),
        ((Track, len, len, 3), "on_returned must be callable or None, not 3"),
        ((str, len, len), "'str' cannot be registered"),
        ((dict, len, len), "'dict' cannot be registered"),
        ((memchannel.Lock, len, len), "'Lock' cannot be registered"),
    ],
    ids=str,
)
def test_what_cannot_be_registered(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        memchannel.register(*arguments)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"share\(\) of 'registered_types.Track' must return \(meta, buffers\), not None"),
        ((1, 2, 3), r"must return \(meta, buffers\), not \(1, 2, 3\)"),
        ((1, 2), "must return an iterable of buffers, not 2"),
        ((1, [b"x", "text"]), "buffer 1 is 'str'"),
        ((1, [np.array([object()])]), "send numbers, or the object"),
        ((threading.Lock(), [b"x"]), "cannot pickle '_thread.lock' object"),
        (ZeroDivisionError("half-way"), "half-way"),
    ],
    ids=str,
)
@pytest.mark.parametrize("by_value", [False, True])
def test_a_share_that_fails_loses_nothing(result: Any, message: str, by_value: bool) -> None:
    calls = []

    def give(obj: Track) -> Any:
        calls.append(obj)
        if obj.name == "good":
            return registered_types.share(obj)
        if isinstance(result, Exception):
            raise result
        return result

    memchannel.register(Track, give, registered_types.rebuild, returned.append)
    ch = Channel[Any]()
    before = memchannel.stats().live
    good, bad = Track("good", bytearray(b"x")), track()
    kind = type(result) if isinstance(result, Exception) else TypeError
    with pytest.raises(kind, match=message):
        ch.send([good, bad], by_value=by_value)
    assert memchannel.stats().live == before
    assert (len(ch), returned) == (0, [])
    assert calls == [good, bad], "each was asked once"
    good.channels[0].append(1)  # not lent
    ch.send("goes on")
    assert ch.recv() == "goes on"


@pytest.mark.usefixtures("own_registry")
def test_a_rebuild_that_fails_costs_its_own_message_only() -> None:
    def refuse(meta: object, views: list[Any]) -> None:
        raise ZeroDivisionError(meta)

    memchannel.register(Track, registered_types.share, refuse, returned.append)
    ch, sent = Channel[Any](), track("no")
    ch.send(sent)
    ch.send("goes on")
    with pytest.raises(ZeroDivisionError, match="no"):
        ch.recv()
    gc.collect()
    assert returned == [sent]
    assert ch.recv() == "goes on"


def test_a_type_unknown_to_the_receiver_is_a_clear_error_and_the_channel_goes_on(
    neighbour: Neighbour,
) -> None:
    class Unknown(Track):
        pass

    Unknown.__module__ = "__main__"
    Unknown.__qualname__ = "Unknown"
    memchannel.register(Unknown, registered_types.share, registered_types.rebuild, returned.append)
    try:
        ch = Channel[Any]()
        sent = Unknown("x", b"xy")
        ch.send(sent)
        ch.send("goes on")
        with pytest.raises(
            RemoteFailure, match=r"UnpicklingError: '__main__.Unknown' is registered .* not here"
        ):
            neighbour.do("ch.recv()", ch=ch)
        neighbour.do("import gc; gc.collect()")
        assert returned == [sent]
        assert neighbour.do("ch.recv()") == "goes on"
        neighbour.do("del ch")
    finally:
        sharing.forget({"__main__"})


def test_a_missing_module_is_a_clear_error(neighbour: Neighbour) -> None:
    class Elsewhere(Track):
        pass

    Elsewhere.__module__ = "no_such_module"
    memchannel.register(Elsewhere, registered_types.share, registered_types.rebuild)
    try:
        ch = Channel[Any]()
        ch.send(Elsewhere("x", b"xy"))
        with pytest.raises(RemoteFailure, match="ModuleNotFoundError: No module named 'no_such_module'"):
            neighbour.do("ch.recv()", ch=ch)
        neighbour.do("del ch; import gc; gc.collect()")
    finally:
        sharing.forget({"no_such_module"})

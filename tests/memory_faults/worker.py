"""Takes each step with its first allocation failing, then its second, and so on until none fails.

Each time the step either raises MemoryError, loses nothing and works when it is taken again; or it goes well.
Prints how many allocations of each step have failed.

What crashes by itself is spared: CPython's Pickler.__init__ and its making of closures, NumPy's
dtype.__reduce__ (arraydescr_reduce uses what it could not make) and its making of a datetime64 dtype (a
reference too few). Other faults of NumPy's are passed by: exceptions that replace a MemoryError, after which
only leaks are looked for, and an export too many where numpy.frombuffer fails.
"""

from __future__ import annotations

import functools
import gc
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import hook
import numpy

import memchannel
from memchannel import ArrayChannel, Channel, CrossInterpreterView, MemChannel, _core, interpreters
from memchannel.codecs import array as array_codec
from memchannel.codecs import columns
from memchannel.codecs import object as object_codec


def spared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function whose allocations do not fail."""

    @functools.wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        hook.pause(True)
        try:
            return function(*args, **more)
        finally:
            hook.pause(False)

    return call


array_codec.encode_dtype = spared(array_codec.encode_dtype)
array_codec.decode_dtype = spared(array_codec.decode_dtype)
array_codec._dump = spared(array_codec._dump)
columns.must_be_read = spared(columns.must_be_read)
object_codec._Pickler.__init__ = spared(object_codec._Pickler.__init__)  # type: ignore[method-assign]

MOST = 5000  # allocations of one step
HANG = 20.0  # seconds

MEMORY = bytearray(b"memory" * 100)
RETURNED: list[Any] = []


class Registered:
    """What travels by a sharing protocol."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Registered) and bytes(self.memory) == bytes(other.memory)

    __hash__ = None  # type: ignore[assignment]


class Plain:
    """What travels without pickle."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return len(vars(self))


class Slots:
    """The same with slots."""

    __slots__ = ("one", "two")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slots) and self.two == other.two

    __hash__ = None  # type: ignore[assignment]


SLOTS = Slots()
SLOTS.two = [2]  # type: ignore[attr-defined]
memchannel.register(
    Registered, lambda one: ("meta", [one.memory]), lambda _, views: Registered(views[0]), RETURNED.append
)
OBJECTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "memory": (MemChannel, MEMORY),
    "array": (ArrayChannel, numpy.arange(1000.0).reshape(10, 100)[::2]),
    "record": (ArrayChannel, numpy.zeros(9, [("a", "<i4"), ("b", ">f8", (2,)), ("c", "M8[3us]")])),
    "masked": (ArrayChannel, numpy.ma.masked_greater(numpy.arange(9.0), 5)),
    "buffer": (ArrayChannel, MEMORY),
    "nested": (Channel, {"big": numpy.arange(50_000.0), "more": [1, None, "x" * 50]}),
    "text": (Channel, "text"),
    "end": (Channel, MemChannel(name="sent").ends[0]),
    "long text": (MemChannel, "text" * 30_000),
    "registered": (Channel, Registered(MEMORY)),
    "sets": (Channel, [{1, 2.5, 3j}, frozenset(("x", frozenset((2**80,)))), bytearray(b"y")]),
    "plain": (Channel, Plain(a=1, b=[Plain(c={Plain(d="e")})], ü="€")),
    "slots": (Channel, SLOTS),
    "lists": (Channel, [[1, {"two": b"2"}], (3.0, [None])]),
}


def same(got: Any, sent: Any) -> bool:
    """Whether what was received is what was sent."""
    if isinstance(got, dict):
        return got.keys() == sent.keys() and all(same(got[key], sent[key]) for key in got)
    if isinstance(got, numpy.ndarray):
        array = numpy.ma.asanyarray(sent) if isinstance(sent, numpy.ma.MaskedArray) else numpy.asarray(sent)
        return got.dtype == array.dtype and repr(got) == repr(array)
    if isinstance(got, CrossInterpreterView):
        return got.tobytes() == bytes(sent)
    return bool(got == sent)


REPLACED = SystemError, TypeError, pickle.PicklingError  # what NumPy and pickle make of a MemoryError


class Step(NamedTuple):
    """One step: `work` is done on what was made; `check` looks at the result and what is left."""

    make: Callable[[], Any]
    work: Callable[[Any], Any]
    check: Callable[[Any, Any], bool]


def queue(make: Callable[..., Any], obj: Any, count: int = 1) -> Any:
    """Make a channel with messages in it."""
    channel = make()
    for _ in range(count):
        channel.send(obj)
    return channel


def arrives(obj: Any, count: int = 1) -> Callable[[Any, Any], bool]:
    """Whether the channel holds the messages, and no others."""

    def check(channel: Any, result: Any) -> bool:
        good = all(same(channel.recv(timeout=0), obj) for _ in range(count))
        return good and channel.recv_nowait("nothing more") == "nothing more"

    return check


def steps() -> dict[str, Step]:
    """Name all steps."""
    found = {}
    for name, (kind, obj) in OBJECTS.items():
        for release in ("eager", "deferred"):

            def make(kind: Any = kind, release: str = release) -> Any:
                return kind(release=release)

            def queued(make: Any = make, obj: Any = obj) -> Any:
                return queue(make, obj)

            def received(channel: Any, result: Any, obj: Any = obj) -> bool:
                return same(result, obj)

            about = f"{name}, {release}"
            found[f"send {about}"] = Step(make, lambda channel, obj=obj: channel.send(obj), arrives(obj))
            found[f"recv {about}"] = Step(queued, lambda channel: channel.recv(timeout=0), received)
        found[f"send_many {name}"] = Step(
            kind, lambda channel, obj=obj: channel.send_many([obj] * 3), arrives(obj, 3)
        )
        found[f"recv_many {name}"] = Step(
            lambda kind=kind, obj=obj: queue(kind, obj, 3),
            lambda channel: channel.recv_many(3, timeout=0),
            lambda channel, result, obj=obj: (
                all(same(one, obj) for one in result) and arrives(obj, 3 - len(result))(channel, None)
            ),
        )
        found[f"select {name}"] = Step(
            lambda kind=kind, obj=obj: (queue(kind, obj), kind()),
            lambda two: memchannel.select(two[1], two[0], timeout=0),
            lambda two, result, obj=obj: result[0] is two[0] and same(result[1], obj),
        )
    view = Step(
        lambda: queue(MemChannel, bytes(MEMORY)).recv(),
        lambda view: (view[1:], view.cast("H"), view.tolist(), view == MEMORY, hash(view)),
        lambda view, result: result[0] == MEMORY[1:] and result[2] == list(MEMORY) and result[3],
    )
    found["use a view"] = view
    found["release a view"] = view._replace(work=lambda view: view.release(), check=lambda view, result: True)
    for release in ("eager", "deferred"):
        found[f"release another interpreter's view, {release}"] = Step(
            functools.partial(
                lent_by_another, interpreters.create(packages=None), MemChannel(release=release)
            ),
            lambda view: view.release(),
            lambda view, result: comes_home(),
        )
    found["copy"] = Step(
        lambda: queue(ArrayChannel, OBJECTS["array"][1]),
        lambda channel: channel.recv(timeout=0, copy=True),
        lambda channel, result: same(result, OBJECTS["array"][1]) and result.flags.writeable,
    )
    found["as_view"] = found["copy"]._replace(
        work=lambda channel: channel.recv(timeout=0, as_view=True),
        check=lambda channel, result: result.tolist() == OBJECTS["array"][1].tolist(),
    )
    found["make a channel"] = Step(lambda: None, lambda _: MemChannel(name="new"), arrives_through)
    found["ends"] = Step(MemChannel, lambda channel: channel.ends, lambda channel, result: len(result) == 2)
    found["select a send"] = Step(
        MemChannel,
        lambda channel: memchannel.select((channel, MEMORY), timeout=0),
        lambda channel, result: result == (channel, None) and arrives(MEMORY)(channel, None),
    )
    for name, end in (("ended", lambda channel: channel.ends[1].close()), ("poisoned", Channel.poison)):
        found[f"select, {name}"] = Step(
            lambda end=end: over(end), channel_that_is_over, lambda channel, result: result == channel.id
        )
    found["shared memory"] = Step(
        lambda: None, lambda _: _core.SharedBuffer(4096), lambda _, result: bytes(result) == bytes(4096)
    )
    found["statistics"] = Step(
        lambda: queue(MemChannel, MEMORY),
        lambda channel: (memchannel.stats(), repr(channel)),
        lambda channel, result: True,
    )
    return found


def lent_by_another(other: interpreters.Interpreter, channel: Any) -> Any:
    """Receive what another interpreter lends."""
    interpreters.run(other, f"channel.send(bytearray({bytes(MEMORY)!r}))", channel=channel).check()
    return channel.recv(timeout=0)


def comes_home() -> bool:
    """Whether nothing is lent soon."""
    deadline = time.monotonic() + HANG
    while memchannel.stats().live and time.monotonic() < deadline:
        time.sleep(0.001)
    return memchannel.stats().live == 0


def over(end: Callable[[Any], Any]) -> Any:
    """Make a channel, and end it."""
    channel: Channel[Any] = Channel()
    end(channel)
    return channel


def channel_that_is_over(channel: Any) -> int | None:
    """Select, and return what the error says."""
    try:
        memchannel.select(channel, timeout=0)
    except (memchannel.EndOfChannel, memchannel.PoisonedChannelError) as error:
        return error.channel
    return None


def arrives_through(_: Any, channel: Any) -> bool:
    """Whether a new channel works."""
    channel.send(MEMORY)
    return same(channel.recv(timeout=0), MEMORY)


def level() -> tuple[int, int, int, int]:
    """What has to be the same after each step."""
    counts = memchannel.stats()
    return counts.live, counts.channels, counts.shared_buffers, sys.getrefcount(MEMORY)


def take(step: Step, fail_at: int) -> bool:
    """Take the step with that allocation failing; return whether one has failed."""
    given = step.make()
    raised: type[Exception] | None = None
    hook.arm(fail_at)
    try:
        result = step.work(given)
    except (MemoryError, *REPLACED) as exc:
        raised = type(exc)
    failed: bool = hook.disarm()
    if raised is not None and not issubclass(raised, MemoryError):
        return failed
    if raised is not None:
        result = step.work(given)
    assert step.check(given, result), f"a wrong result, {result!r}, after {raised}"
    return failed


def main(only: str) -> int:
    """Take all steps whose names hold the text; return the exit status."""
    status = 0
    for name, step in steps().items():
        if only not in name:
            continue
        take(step, 0)
        before = level()
        number = 0
        try:
            while number < MOST and take(step, number := number + 1):
                if level() != before:  # what is in cycles counts until it is collected
                    gc.collect()
                assert level() == before, f"{level()}, not {before}"
        except BaseException:
            print(f"{name}: allocation {number}", flush=True)
            traceback.print_exc()
            status = 1
            continue
        print(f"{name}: {number - 1}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))

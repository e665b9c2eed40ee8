"""Exceptions, interpreters and functions as objects of a `Channel`."""

from __future__ import annotations

import gc
import subprocess
import threading
import traceback
import zipfile
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import Neighbour, RemoteFailure, run_script
from interpreter_support import exists, value_of
from memchannel import Channel, InterpreterPool, RemoteError, interpreters
from memchannel.errors import RemoteTraceback
from memchannel.interpreters import Interpreter

pytestmark = pytest.mark.usefixtures("level_leases")


class TwoArguments(Exception):
    """Pickled as if it took one argument, so that it cannot be made again."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(f"{first} and {second}")


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def passed(obj: Any) -> Any:
    channel = Channel[Any]()
    channel.send(obj)
    return channel.recv()


# ---- exceptions


def test_the_type_arguments_notes_and_traceback_arrive() -> None:
    exc = raised(subprocess.TimeoutExpired("sleep", 3.0, b"output"))
    exc.add_note("a note")
    received = passed({"failed": exc})["failed"]
    assert type(received) is subprocess.TimeoutExpired
    assert (received.cmd, received.timeout, received.output) == ("sleep", 3.0, b"output")
    assert received.__notes__ == ["a note"]
    assert received.__traceback__ is None
    assert type(received.__cause__) is RemoteTraceback
    text = str(received.__cause__)
    assert "in raised\n    raise exc" in text
    assert "subprocess.TimeoutExpired: Command 'sleep' timed out after 3.0 seconds\na note" in text
    with pytest.raises(subprocess.TimeoutExpired):
        raise received


def test_causes_and_contexts_arrive() -> None:
    def nested() -> None:
        try:
            try:
                {}["key"]
            except KeyError as exc:
                raise ValueError("because") from exc
        except ValueError:
            raise OSError(2, "while handling")  # noqa: B904

    with pytest.raises(OSError, match="while handling") as caught:
        nested()
    received = passed([caught.value])[0]
    assert type(received) is FileNotFoundError
    because = received.__context__
    assert (type(because), because.args) == (ValueError, ("because",))
    assert (type(because.__context__), because.__context__.args) == (KeyError, ("key",))
    text = "".join(traceback.format_exception(received))
    assert "The above exception was the direct cause of the following exception" in text
    assert "During handling of the above exception, another exception occurred" in text


def test_groups_arrive() -> None:
    group = ExceptionGroup(
        "some failed", [raised(ValueError(1)), ExceptionGroup("inner", [TypeError(2)]), TwoArguments(1, 2)]
    )
    received = passed(raised(group))
    assert type(received) is ExceptionGroup
    assert received.message == "some failed"
    value, inner, other = received.exceptions
    assert (type(value), value.args) == (ValueError, (1,))
    assert (inner.message, type(inner.exceptions[0])) == ("inner", TypeError)
    assert type(other) is RemoteError
    assert other.type_name.endswith("TwoArguments")
    matched, rest = received.split(TypeError)
    assert matched is not None
    assert rest is not None
    assert "some failed (3 sub-exceptions)" in str(received.__cause__)


def test_one_that_cannot_be_made_again_arrives_as_text() -> None:
    exc = raised(TwoArguments("one", "two"))
    exc.add_note("a note")
    received = passed(("before", exc, "after"))
    assert received[::2] == ("before", "after")
    error = received[1]
    assert type(error) is RemoteError
    assert str(error) == f"{__name__}.TwoArguments: one and two"
    assert error.notes == ["a note"]
    assert "in raised" in error.formatted


def test_one_that_cannot_be_pickled_arrives_as_text() -> None:
    error = passed(raised(ValueError("held", threading.Lock())))
    assert type(error) is RemoteError
    assert error.type_name == "ValueError"
    assert "ValueError: ('held', <unlocked _thread.lock" in error.formatted


def test_what_it_holds_is_lent_and_nothing_is_mixed_up() -> None:
    arrays = [np.arange(100_000.0) + shift for shift in range(4)]
    data = [bytearray(b"%d" % index * 1000) for index in range(3)]
    exc = ValueError(arrays[0], np.ma.masked_array(arrays[1], arrays[1] < 3))
    exc.more = [memchannel.Lock(), PickleBuffer(data[0]), arrays[2]]  # type: ignore[attr-defined]
    copied = memchannel.stats().bytes_copied
    first, received, last, third = passed([PickleBuffer(data[1]), exc, PickleBuffer(data[2]), arrays[3]])
    assert memchannel.stats().bytes_copied == copied
    assert np.shares_memory(received.args[0], arrays[0])
    assert (received.args[1] == arrays[1]).all()
    assert received.args[1].mask.sum() == 2
    assert received.more[0] == exc.more[0]  # type: ignore[attr-defined]
    assert (bytes(received.more[1]), bytes(first), bytes(last)) == tuple(bytes(data[i]) for i in (0, 1, 2))
    assert np.shares_memory(received.more[2], arrays[2])
    assert np.shares_memory(third, arrays[3])


def test_of_main_by_value_and_from_another_interpreter(neighbour: Neighbour) -> None:
    neighbour.do(
        """
class Special(ValueError):
    def __init__(self, code):
        super().__init__(code)
        self.code = code
def fail():
    raise Special(7)
try:
    fail()
except Special as caught:
    exc = caught
"""
    )
    channel = Channel[Any]()
    neighbour.do("channel.send(exc)", channel=channel)
    received = channel.recv(20)
    assert isinstance(received, ValueError)
    assert (type(received).__name__, received.code) == ("Special", 7)  # type: ignore[attr-defined]
    assert "in fail" in str(received.__cause__)
    neighbour.do("del exc, channel, Special, fail")


def test_exits_and_interrupts_are_objects_like_others() -> None:
    for exc in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
        received = passed(exc)
        assert (type(received), received.args) == (type(exc), exc.args)


def test_one_that_is_part_of_itself_ends() -> None:
    exc = ValueError("loop")
    exc.__context__ = KeyError("other")
    exc.__context__.__context__ = exc
    received = passed(exc)
    assert (type(received), received.args) == (ValueError, ("loop",))
    exc.args = (exc,)
    assert type(passed(exc)) in (ValueError, RemoteError)
    exc.args = ()
    exc.__context__ = None


def test_one_received_is_sent_on_with_all_its_text() -> None:
    received = passed(passed(raised(ZeroDivisionError("first"))))
    assert type(received) is ZeroDivisionError
    assert "in raised" in str(received.__cause__)


def test_results_of_pools_that_are_exceptions() -> None:
    def fail(value: int) -> BaseException:
        try:
            return ValueError(value // 0)
        except ZeroDivisionError as exc:
            return exc

    with InterpreterPool(1, packages=None) as pool:
        received = pool.submit(fail, 1).result()
        assert type(received) is ZeroDivisionError
        assert "return ValueError(value // 0)" in str(received.__cause__)
        sent = pool.submit(
            lambda exc: (type(exc).__name__, str(exc.__cause__)), raised(zipfile.BadZipFile("x"))
        )
        name, text = sent.result()
        assert name == "BadZipFile"
        assert "in raised" in text


# ---- functions and classes by value


class Local:
    """Of a test module: not importable by an interpreter that does not search tests/."""


@pytest.mark.parametrize(
    "send",
    [
        lambda channel, obj: channel.send(obj, by_value=True),
        lambda channel, obj: channel.send(obj, 1, by_value=True),
        lambda channel, obj: channel.send_nowait(obj, by_value=True),
        lambda channel, obj: channel.send_many([obj], by_value=True),
    ],
    ids=["send", "send with timeout", "send_nowait", "send_many"],
)
def test_functions_and_classes_by_value(neighbour: Neighbour, send: Callable[[Any, Any], Any]) -> None:
    channel = Channel[Any]()
    base = 40

    class Adder:
        def add(self, other: int) -> int:
            return base + other

    with pytest.raises(Exception, match="local object|Can't pickle"):
        channel.send(Adder)
    send(channel, {"class": Adder, "function": lambda x: Adder().add(x) * 2})
    assert len(channel) == 1
    got = channel.recv()
    assert got["class"]().add(2) == 42
    assert got["function"](2) == 84
    send(channel, lambda x: x + base)
    assert neighbour.do("channel.recv()(2)", channel=channel) == 42
    neighbour.do("del channel")


def test_by_value_in_an_event_loop() -> None:
    import asyncio

    async def both() -> int:
        channel = Channel[Any]()
        await channel.send_async(lambda x: x + 1, by_value=True)
        function = await channel.recv_async()
        return int(function(1))

    assert asyncio.run(both()) == 2


def test_from_main_of_a_script() -> None:
    source = """
from memchannel import Channel, interpreters
class Point:
    def __init__(self, x): self.x = x
    def double(self): return Point(2 * self.x)
channel, back = Channel(), Channel()
channel.send(Point(4), by_value=True)
def receive(channel, back):
    back.send(channel.recv().double(), by_value=True)
other = interpreters.create(packages=None)
interpreters.run(other, receive, channel=channel, back=back).check()
point = back.recv()
print(type(point) is Point, point.x)
interpreters.close(other, timeout=20)
"""
    assert run_script(source) == "True 8\n"


@pytest.mark.parametrize("kind", [memchannel.MemChannel, memchannel.ArrayChannel])
def test_other_channels_have_no_by_value(kind: Any) -> None:
    channel = kind()
    for send in (
        lambda: channel.send(b"x", by_value=True),
        lambda: channel.send_nowait(b"x", by_value=True),
        lambda: channel.send_many([b"x"], by_value=True),
    ):
        with pytest.raises(TypeError, match="by_value=True is for a Channel"):
            send()
    assert len(channel) == 0
    channel.send(b"x", by_value=False)


def test_what_cannot_be_sent_by_value_loses_nothing() -> None:
    channel, lock = Channel[Any](), threading.Lock()
    live = memchannel.stats().live
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock'"):
        channel.send((np.arange(100_000), lambda: lock), by_value=True)
    gc.collect()
    assert (memchannel.stats().live, len(channel)) == (live, 0)


# ---- interpreters


def test_an_interpreter_arrives_as_itself(interp: Interpreter) -> None:
    received = passed({"where": [interp, interp]})["where"]
    assert received[0] is received[1]
    assert received[0] == interp or received[0].id == interp.id
    assert type(received[0]) is Interpreter
    main = passed(interpreters.get_main())
    assert main.id == interpreters.get_main().id


def test_another_interpreter_runs_something_in_the_one_it_got(interp: Interpreter) -> None:
    def use(channel: Any) -> Any:
        from memchannel import interpreters

        got = channel.recv()
        value = interpreters.run(got, "__import__('__main__').told = 6 * 7").completed
        return value, got.id

    other = interpreters.create(packages=None)
    channel = Channel[Any]()
    channel.send(interp)
    assert interpreters.run(other, use, channel=channel).check().value == (True, interp.id)
    assert value_of(interp, "told") == 42
    interpreters.close(other, timeout=20)


def test_an_interpreter_may_get_itself(interp: Interpreter) -> None:
    channel = Channel[Any]()
    channel.send(interp)

    def receive(channel: Any) -> Any:
        from memchannel import interpreters

        got = channel.recv()
        return got.id == interpreters.get_current().id

    assert interpreters.run(interp, receive, channel=channel).check().value is True


def test_it_lives_while_it_is_on_the_way() -> None:
    channel = Channel[Any]()
    made = interpreters.create(packages=None)
    number = made.id
    channel.send(made)
    del made
    gc.collect()
    assert exists(number)
    received = channel.recv()
    assert received.id == number
    interpreters.run(received, "x = 1").check()
    interpreters.close(received, timeout=20)
    assert not exists(number)


def test_a_message_with_the_last_reference_may_be_dropped_anywhere() -> None:
    source = """
import _interpreters, gc
from memchannel import Channel, interpreters
here = _interpreters.get_current()[0]
other = interpreters.create(packages=None)
for where in ("here", "there"):
    channel = Channel()
    made = interpreters.create(packages=None)
    number = made.id
    channel.send(made)
    del made
    gc.collect()
    if where == "here":
        channel.poison()
    else:
        interpreters.run(other, lambda channel: channel.poison(), channel=channel).check()
    del channel
    print(number in [one for one, _ in _interpreters.list_all()])
interpreters.close(other, timeout=20)
"""
    assert run_script(source).split() == ["False", "False"]


def test_one_that_was_closed_meanwhile_is_a_clear_error(neighbour: Neighbour) -> None:
    channel = Channel[Any]()
    made = interpreters.create(packages=None)
    channel.send(made)
    channel.send("goes on")
    interpreters.close(made, timeout=20)
    with pytest.raises(RemoteFailure, match="InterpreterNotFoundError"):
        neighbour.do("channel.recv()", channel=channel)
    assert neighbour.do("channel.recv()") == "goes on"
    neighbour.do("del channel")

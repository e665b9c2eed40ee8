"""memchannel.exceptions: exceptions on their way between interpreters."""

from __future__ import annotations

import copyreg
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tblib.pickling_support

import memchannel
from memchannel.errors import RemoteTraceback, pack_exception, poisoned_error
from memchannel.exceptions import ExceptionSnapshot, restore, snapshot
from run_tasks import UnpicklableError


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


def sent(exc: BaseException) -> ExceptionSnapshot:
    """Make a snapshot that was pickled on the way."""
    taken: ExceptionSnapshot = pickle.loads(pickle.dumps(snapshot(exc), 5))
    return taken


def divide() -> float:
    return 1 / 0  # the line


def with_cause() -> None:
    try:
        divide()
    except ZeroDivisionError as exc:
        raise ValueError("bad", 3) from exc


def with_context() -> None:
    try:
        divide()
    except ZeroDivisionError:
        raise KeyError("k")  # noqa: B904


def test_snapshot() -> None:
    exc = caught(divide)
    exc.add_note("first\nnote")
    taken = sent(exc)
    assert (taken.type_name, taken.message, taken.notes) == (
        "ZeroDivisionError",
        "division by zero",
        ("first\nnote",),
    )
    assert taken.formatted == "".join(traceback.format_exception(exc))
    assert "return 1 / 0  # the line" in taken.formatted
    assert (taken.cause, taken.context, taken.exceptions) == (None, None, ())
    assert str(taken) == "ZeroDivisionError: division by zero"
    assert str(snapshot(ValueError())) == "ValueError"


def test_restore_gives_the_same_exception_with_the_text_as_cause() -> None:
    exc = caught(divide)
    exc.add_note("a note")
    made = restore(sent(exc))
    assert type(made) is ZeroDivisionError
    assert made.args == exc.args
    assert made.__notes__ == ["a note"]
    assert isinstance(made.__cause__, RemoteTraceback)
    assert "return 1 / 0  # the line" in made.__cause__.formatted
    text = "".join(traceback.format_exception(made))
    assert "return 1 / 0  # the line" in text
    assert "direct cause of the following exception" in text
    assert text.rstrip().endswith("a note")


def test_state_of_exceptions_survives() -> None:
    exc = OSError(2, "No such file", "name")
    exc.extra = [1]  # type: ignore[attr-defined]
    made = restore(sent(exc))
    assert type(made) is FileNotFoundError
    assert (made.filename, made.extra) == ("name", [1])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "kind"), [(with_cause, "cause"), (with_context, "context")], ids=["cause", "context"]
)
def test_causes_and_contexts(function: Callable[[], None], kind: str) -> None:
    taken = sent(caught(function))
    earlier = getattr(taken, kind)
    assert earlier.type_name == "ZeroDivisionError"
    assert "return 1 / 0  # the line" in earlier.formatted
    made = restore(taken)
    assert isinstance(made.__context__, ZeroDivisionError)
    assert isinstance(made.__cause__, RemoteTraceback)


def test_a_suppressed_context_is_not_told() -> None:
    def hide() -> None:
        try:
            divide()
        except ZeroDivisionError:
            raise ValueError("x") from None

    taken = sent(caught(hide))
    assert (taken.cause, taken.context) == (None, None)
    assert "ZeroDivisionError" not in taken.formatted


def test_groups() -> None:
    error = caught(with_cause)
    assert isinstance(error, Exception)
    group = ExceptionGroup("several", [error, ExceptionGroup("inner", [TypeError("t")])])
    group.add_note("of the group")
    taken = sent(group)
    assert taken.message == "several"
    assert [member.type_name for member in taken.exceptions] == ["ValueError", "ExceptionGroup"]
    made = restore(taken)
    assert type(made) is ExceptionGroup
    assert (made.message, made.__notes__) == ("several", ["of the group"])
    assert [type(member) for member in made.exceptions] == [ValueError, ExceptionGroup]
    assert isinstance(made.exceptions[0].__context__, ZeroDivisionError)
    matched, rest = made.split(TypeError)
    assert matched is not None
    assert rest is not None


def test_a_group_with_a_member_that_cannot_be_made_again() -> None:
    made = restore(sent(ExceptionGroup("several", [UnpicklableError(1, 2), KeyError("k")])))
    assert isinstance(made, ExceptionGroup)
    assert [type(member) for member in made.exceptions] == [memchannel.RemoteError, KeyError]
    assert str(made.exceptions[0]).endswith("UnpicklableError: 1 and 2")


def test_base_exceptions_and_groups_of_them() -> None:
    exit_error = restore(sent(SystemExit(3)))
    assert isinstance(exit_error, SystemExit)
    assert exit_error.code == 3
    group = restore(sent(BaseExceptionGroup("b", [KeyboardInterrupt(), UnpicklableError(1, 2)])))
    assert type(group) is BaseExceptionGroup


@pytest.fixture
def tblib_installed() -> Iterator[None]:
    """The state of a process that has imported Dask."""
    before = dict(copyreg.dispatch_table)
    tblib.pickling_support.install()
    try:
        yield
    finally:
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(before)


@pytest.mark.usefixtures("tblib_installed")
def test_reducers_of_tblib_change_nothing() -> None:
    exit_error = restore(sent(SystemExit(3)))
    assert isinstance(exit_error, SystemExit)
    assert exit_error.code == 3
    assert exit_error.__traceback__ is None
    assert type(restore(sent(UnpicklableError(1, 2)))) is memchannel.RemoteError
    channel: memchannel.Channel[BaseException] = memchannel.Channel()
    channel.send(caught(with_cause))
    received = channel.recv()
    assert type(received) is ValueError
    assert type(received.__cause__) in {RemoteTraceback, ZeroDivisionError}
    channel.send(exit_error)
    assert channel.recv().code == 3  # type: ignore[attr-defined]


def test_one_that_cannot_be_made_again_is_a_remote_error() -> None:
    exc = UnpicklableError(1, 2)
    exc.add_note("a note")
    made = restore(sent(exc))
    assert type(made) is memchannel.RemoteError
    assert made.type_name == "run_tasks.UnpicklableError"
    assert made.notes == ["a note"]
    assert str(made) == "run_tasks.UnpicklableError: 1 and 2"
    assert "UnpicklableError: 1 and 2" in made.formatted
    again = restore(sent(made))
    assert type(again) is memchannel.RemoteError
    assert (again.type_name, again.notes) == (made.type_name, ["a note"])


def test_one_that_holds_what_cannot_be_pickled() -> None:
    exc = ValueError("x")
    exc.guard = threading.Lock()  # type: ignore[attr-defined]
    made = restore(sent(exc))
    assert type(made) is memchannel.RemoteError
    assert made.type_name == "ValueError"


def test_broken_exceptions_never_fail() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        def __reduce__(self) -> Any:
            raise RuntimeError("no pickle")

    exc = Broken()
    exc.__notes__ = 5  # type: ignore[assignment]
    taken = sent(exc)
    assert taken.message == "<exception str() failed>"
    assert taken.notes == ("5",)
    assert isinstance(restore(taken), memchannel.RemoteError)


def test_loops_and_long_chains_end() -> None:
    one, two = ValueError(1), ValueError(2)
    one.__context__, two.__context__ = two, one
    taken = sent(one)
    assert taken.context is not None
    assert taken.context.context is None
    chain: BaseException = ValueError(0)
    for number in range(1, 2000):
        link = ValueError(number)
        link.__cause__ = chain
        chain = link
    length = 0
    link_taken: ExceptionSnapshot | None = sent(chain)
    while link_taken is not None:
        length += 1
        link_taken = link_taken.cause
    assert 50 < length < 2000


def test_a_poisoned_channels_error_has_the_reason_as_cause() -> None:
    error = poisoned_error(7, pack_exception(caught(with_cause)))
    assert str(error) == "channel 7 is poisoned: ValueError: ('bad', 3)"
    assert isinstance(error.__cause__, ValueError)
    assert isinstance(error.__cause__.__cause__, RemoteTraceback)
    assert str(poisoned_error(7, pack_exception(None))) == "channel 7 is poisoned"


def test_restored_once_more_elsewhere() -> None:
    """As when a worker passes on what its own pool raised: the text of both sides is there."""

    def pass_on() -> None:
        raise restore(sent(caught(divide)))

    made = restore(sent(caught(pass_on)))
    assert type(made) is ZeroDivisionError
    assert isinstance(made.__cause__, RemoteTraceback)
    assert "return 1 / 0  # the line" in made.__cause__.formatted
    assert "in pass_on" in made.__cause__.formatted


class ExitingError(Exception):
    """Whatever asks it something ends the program."""

    def leave(self, *_: object) -> Any:
        raise SystemExit(3)

    __str__ = __reduce__ = __reduce_ex__ = leave
    __notes__ = property(leave)


def raise_exiting() -> None:
    raise ExitingError


def test_an_exception_that_exits_is_described_all_the_same() -> None:
    taken = sent(ExitingError())
    assert taken.message == "<exception str() failed>"
    assert taken.pickled is None
    with memchannel.InterpreterPool(1, packages=None) as pool:
        for _ in range(2):  # the worker lives on
            with pytest.raises(memchannel.RemoteError, match="ExitingError"):
                pool.submit(raise_exiting).result()

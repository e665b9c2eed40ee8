"""memchannel.interpreters.run: source and functions in another interpreter."""

from __future__ import annotations

import _interpreters
import functools
import gc
import os
import pickle
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from memchannel import interpreters
from memchannel.errors import RemoteTraceback
from memchannel.interpreters import Interpreter, RunResult, run
from run_tasks import Point, double, lock_inside, send_spam

OURS = os.path.dirname(memchannel.__file__)  # frames of ours are trimmed off


@pytest.fixture(scope="module")
def shared_interp() -> Iterator[Interpreter]:
    """One with NumPy for all tests that leave nothing behind."""
    made = interpreters.create()
    yield made
    interpreters.close(made, timeout=60)


# ---- source


def test_source_runs_in_main(interp: Interpreter) -> None:
    result = run(
        interp, "import sys\nx = 6 * 7\nassert __name__ == '__main__'\nprint(x)", capture_output=True
    )
    assert (result.completed, result.value, result.exception) == (True, None, None)
    assert (result.stdout, result.stderr) == ("42\n", "")
    assert result.elapsed > 0
    assert str(result.source).startswith("import sys")
    assert result.shared == {}
    assert result.check() is result


def test_names_and_modules_stay_between_runs(interp: Interpreter) -> None:
    run(interp, "import json; json.mark = 1; n = 1", a=[1]).check()
    run(interp, "import json; n += json.mark; a.append(n)").check()
    assert run(interp, "print(n, a)", capture_output=True).stdout == "2 [1, 2]\n"


def test_common_indentation_is_removed(interp: Interpreter) -> None:
    source = """
        if True:
            text = 'kept'
    """
    assert run(interp, source).completed


def test_source_is_compiled_without_our_own_future_imports(interp: Interpreter) -> None:
    source = "def f(x: int): pass\nassert f.__annotations__ == {'x': int}, f.__annotations__"
    run(interp, source).check()


def test_a_syntax_error_is_the_other_sides(interp: Interpreter) -> None:
    result = run(interp, "x = = 1")
    assert not result.completed
    assert result.exception is not None
    assert result.exception.type_name == "SyntaxError"
    with pytest.raises(SyntaxError):
        result.check()


@pytest.mark.parametrize("source", ["def f():\n    return 1 1", "x = (1 +", "if 1:\npass", "a\0b"])
def test_a_syntax_error_looks_as_python_shows_it(interp: Interpreter, source: str) -> None:
    """By line and place in the source, with no frame of what compiled it."""
    exception = run(interp, source).exception
    assert exception is not None
    found = re.search("<run [0-9]+>", exception.formatted)
    filename = found[0] if found else "<source>"
    with pytest.raises(SyntaxError) as caught:
        compile(source, filename, "exec")
    assert exception.formatted == "".join(traceback.format_exception_only(caught.value))


def test_each_run_has_a_context_of_its_own(interp: Interpreter) -> None:
    source = "import contextvars; SETTING = contextvars.ContextVar('SETTING', default=1); SETTING.set(2)"
    run(interp, source).check()
    run(interp, "assert SETTING.get() == 1").check()


def test_what_no_python_frame_raised_has_none_of_ours(interp: Interpreter) -> None:
    exception = run(interp, divmod).exception
    assert exception is not None
    assert exception.formatted == "TypeError: divmod expected 2 arguments, got 0\n"


def test_tracebacks_show_the_source(interp: Interpreter) -> None:
    run(interp, "def divide(by):\n    return 1 / by  # here\n").check()
    result = run(interp, "divide(0)")
    assert result.exception is not None
    assert "divide(0)" in result.exception.formatted
    assert "return 1 / by  # here" in result.exception.formatted
    assert OURS not in result.exception.formatted


# ---- functions


def make_multiplier(factor: int) -> Callable[[int], int]:
    return lambda value: value * factor


def test_a_function_gets_keyword_arguments(interp: Interpreter) -> None:
    result = run(interp, double, value=21)
    assert result.value == 42
    assert result.source is double
    assert result.shared == {"value": 21}


@pytest.mark.parametrize(
    "function",
    [
        double,
        lambda value: value * 2,
        functools.partial(lambda factor, value: value * factor, 2),
        Point(2, 0).moved,
        make_multiplier(2),
        Point,
    ],
    ids=["global", "lambda", "partial", "method", "closure", "class"],
)
def test_functions_of_all_kinds(interp: Interpreter, function: Callable[..., Any]) -> None:
    if function is Point:
        point = run(interp, function, x=1, y=2).check().value
        assert type(point) is Point
        assert (point.x, point.y) == (1, 2)
    elif isinstance(getattr(function, "__self__", None), Point):
        assert run(interp, function, by=3).check().value.x == 5
    else:
        assert run(interp, function, value=21).check().value == 42


def test_shared_may_hold_any_parameter_name(interp: Interpreter) -> None:
    def names(thread: int, shared: int, other: int) -> tuple[int, int, int]:
        return thread, shared, other

    assert run(interp, names, shared={"thread": 1, "shared": 2, "other": 0}, other=3).value == (1, 2, 3)


def test_wrong_arguments_are_the_functions_own_error(interp: Interpreter) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        run(interp, double, nothing=1).check()


def test_it_runs_in_the_other_interpreter(interp: Interpreter) -> None:
    def where() -> tuple[int, int]:
        import threading

        from memchannel import interpreters

        return interpreters.get_current().id, threading.get_ident()

    assert run(interp, where).value == (interp.id, threading.get_ident())
    number, ident = run(interp, where, thread=True).value
    assert number == interp.id
    assert ident != threading.get_ident()


def test_runs_nest(interp: Interpreter) -> None:
    def outer() -> Any:
        from memchannel import interpreters

        made = interpreters.create(packages=None)
        try:
            return interpreters.run(made, lambda: interpreters.get_current().id).check().value, made.id
        finally:
            interpreters.close(made)

    value, expected = run(interp, outer).check().value
    assert value == expected


def test_an_interpreter_that_others_made_works_too() -> None:
    number = _interpreters.create(reqrefs=True)
    other = Interpreter(number)
    source = f"import sys; sys.path[:] = {sys.path!r}"
    assert _interpreters.exec(number, source) is None
    assert run(other, double, value=2).check().value == 4
    interpreters.close(other)


def test_an_interpreter_that_cannot_import_memchannel(interp: Interpreter) -> None:
    number = _interpreters.create(reqrefs=True)
    other = Interpreter(number)
    assert _interpreters.exec(number, "import sys; sys.path.clear()") is None
    for thread in (False, True):
        with pytest.raises(RuntimeError, match=f"interpreter {number}(.|\n)*ModuleNotFoundError"):
            run(other, "x = 1", thread=thread)
    other.close()


# ---- what is shared


def test_arrays_are_not_copied(shared_interp: Interpreter) -> None:
    array = np.arange(100_000.0)

    def look(a: Any) -> tuple[int, bool, Any]:
        return a.ctypes.data, a.flags.writeable, a[::2]

    copied = memchannel.stats().bytes_copied
    pointer, writable, half = run(shared_interp, look, a=array).check().value
    assert pointer == array.ctypes.data == half.ctypes.data
    assert not writable
    assert not half.flags.writeable
    assert half.strides == (16,)
    assert memchannel.stats().bytes_copied == copied


def test_a_small_result_keeps_no_interpreter_alive() -> None:
    live = memchannel.stats().live
    made = interpreters.create()

    def small() -> Any:
        import numpy

        return numpy.arange(10)

    array = run(made, small).check().value
    assert memchannel.stats().live == live
    interpreters.close(made)
    assert array.tolist() == list(range(10))


def test_arrays_come_back_inside_other_things(shared_interp: Interpreter) -> None:
    def make() -> Any:
        import numpy

        return {"a": [numpy.ones(100_000), numpy.zeros((300, 300), order="F")]}

    a, b = run(shared_interp, make).check().value["a"]
    assert a.sum() == 100_000
    assert b.shape == (300, 300)
    assert b.flags.f_contiguous


@pytest.mark.parametrize("thread", [False, True])
def test_ends_travel(interp: Interpreter, thread: bool) -> None:
    requests, answers = memchannel.Channel(), memchannel.MemChannel()
    requests.send("spam")
    recv, send = requests.ends[0], answers.ends[1]
    source = "text = recv.recv(); send.send(text.encode())"
    run(interp, source, shared={"recv": recv}, send=send, thread=thread).check()
    with answers.recv() as view:
        assert bytes(view) == b"spam"
        assert isinstance(view, memchannel.CrossInterpreterView)
        assert view.interpreter == interp.id
    assert interp.id in recv.interpreters
    assert interp.id in send.interpreters


def test_ends_come_back(interp: Interpreter) -> None:
    def make() -> Any:
        import __main__
        import memchannel

        __main__.ch = memchannel.Channel()
        __main__.ch.send([1, 2])
        return __main__.ch.ends[0]

    end = run(interp, make).check().value
    assert isinstance(end, memchannel.RecvChannel)
    assert end.recv() == [1, 2]


def test_ids_travel_where_only_the_standard_librarys_types_do(interp: Interpreter) -> None:
    ch = memchannel.MemChannel()
    interp.prepare_main(number=ch.id)
    interp.exec("import memchannel; memchannel.SendChannel(number).send(b'spam')")
    with ch.recv() as view:
        assert bytes(view) == b"spam"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Interpreter.call takes arguments since 3.14")
def test_ends_travel_by_interpreter_call(interp: Interpreter) -> None:
    ch = memchannel.MemChannel()
    interp.call(send_spam, ch.ends[1])
    with ch.recv() as view:
        assert bytes(view) == b"spam"
        assert isinstance(view, memchannel.CrossInterpreterView)
        assert view.interpreter == interp.id


# ---- what cannot be shared


@pytest.mark.parametrize("what", [double, "value"], ids=["function", "source"])
@pytest.mark.parametrize("thread", [False, True])
def test_a_value_that_cannot_be_shared_is_named(interp: Interpreter, what: Any, thread: bool) -> None:
    before = memchannel.stats().channels
    pattern = "^'value' cannot be shared: item 'here', item 0: cannot pickle '_thread.lock' object"
    with pytest.raises(ValueError, match=pattern):
        run(interp, what, good=1, value=lock_inside(), thread=thread)
    assert memchannel.stats().channels == before
    assert run(interp, "pass").completed


def test_a_value_that_cannot_be_lent_is_named(interp: Interpreter) -> None:
    released = memoryview(b"spam")
    released.release()
    with pytest.raises(ValueError, match=r"^'value' cannot be shared"):
        run(interp, double, value=released)


def test_a_function_that_cannot_be_pickled_is_named(interp: Interpreter) -> None:
    guard = threading.Lock()

    def locked() -> None:
        guard.acquire()

    with pytest.raises(pickle.PicklingError, match=r"locked.*closure variable 'guard'.*_thread.lock"):
        run(interp, locked)


def test_a_result_that_cannot_be_shared(interp: Interpreter) -> None:
    result = run(interp, lock_inside)
    assert not result.completed
    assert result.value is None
    with pytest.raises(ValueError, match=r"lock_inside.*cannot be shared: item 'here', item 0.*_thread.lock"):
        result.check()


def test_an_argument_that_cannot_be_made_there(interp: Interpreter) -> None:
    class Explosive:
        def __reduce__(self) -> tuple[Any, ...]:
            return (int, ("not a number",))

    result = run(interp, double, value=Explosive())
    assert not result.completed
    with pytest.raises(ValueError, match="invalid literal") as caught:
        result.check()
    assert any("nothing was run" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("what", [3, None, b"x = 1", ["x"]])
def test_neither_source_nor_function(interp: Interpreter, what: Any) -> None:
    with pytest.raises(TypeError, match="source text or a callable"):
        run(interp, what)


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("wrong", [5, 0, "main", None, memchannel.MemChannel], ids=repr)
def test_what_is_no_interpreter(wrong: Any, thread: bool) -> None:
    wrong = wrong() if callable(wrong) else wrong  # a channel has an id as well
    named = re.escape(repr(wrong))
    with pytest.raises(TypeError, match=rf"^run\(\) takes an Interpreter, not {named}"):
        run(wrong, "1", thread=thread)
    with pytest.raises(TypeError, match=rf"^call_soon\(\) takes an Interpreter, not {named}"):
        interpreters.call_soon(wrong, print)


def test_names_must_be_strings(interp: Interpreter) -> None:
    with pytest.raises(TypeError, match="names of shared values must be str, not 1"):
        run(interp, "x = 1", shared={1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("thread", [False, True])
def test_the_current_and_the_main_interpreter_are_running(thread: bool) -> None:
    with pytest.raises(RuntimeError, match="interpreter 0 is running"):
        run(interpreters.get_main(), "x = 1", thread=thread)


# ---- exceptions


def test_the_exception_has_its_type_and_the_remote_traceback(interp: Interpreter) -> None:
    def fail() -> None:
        error = KeyError("spam")
        error.add_note("a note")
        raise error  # from here

    result = run(interp, fail)
    assert not result.completed
    taken = result.exception
    assert taken is not None
    assert (taken.type_name, taken.message, taken.notes) == ("KeyError", "'spam'", ("a note",))
    assert "raise error  # from here" in taken.formatted
    assert OURS not in taken.formatted
    with pytest.raises(KeyError) as caught:
        result.check()
    assert caught.value.args == ("spam",)
    assert caught.value.__notes__ == ["a note"]
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "raise error  # from here" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_made_again(interp: Interpreter) -> None:
    def fail() -> None:
        from run_tasks import UnpicklableError

        raise UnpicklableError(1, 2)

    with pytest.raises(memchannel.RemoteError, match="UnpicklableError: 1 and 2") as caught:
        run(interp, fail).check()
    assert caught.value.type_name.endswith("UnpicklableError")
    assert "raise UnpicklableError(1, 2)" in caught.value.formatted


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exits_are_exceptions_like_others(interp: Interpreter, error: type[BaseException]) -> None:
    for thread in (False, True):
        result = run(interp, f"raise {error.__name__}(3)", thread=thread)
        assert not result.completed
        with pytest.raises(error):
            result.check()


# ---- output


def test_output_is_captured_also_when_it_fails(interp: Interpreter) -> None:
    result = run(interp, "import sys; print('é'); print('e', file=sys.stderr); 1 / 0", capture_output=True)
    assert (result.stdout, result.stderr) == ("é\n", "e\n")
    run(interp, "import sys; assert sys.stdout is sys.__stdout__").check()


def test_bytes_written_to_a_captured_stream_are_captured(interp: Interpreter) -> None:
    """Programs write bytes to ``sys.stdout.buffer``; what is no UTF-8 shows escaped."""
    source = r"""
        import sys
        print("text")
        sys.stdout.buffer.write(b"bytes \xff\r\n")
        print("\ud800", file=sys.stderr)
    """
    result = run(interp, source, capture_output=True).check()
    assert (result.stdout, result.stderr) == ("text\nbytes \\xff\r\n", "\\ud800\n")


@pytest.mark.parametrize("ending", ["sys.stdout.close()", "sys.stdout.detach()", "del sys.stdout"])
def test_captured_output_outlives_its_stream(interp: Interpreter, ending: str) -> None:
    result = run(interp, f"import sys; print('printed'); {ending}", capture_output=True).check()
    assert (result.stdout, result.stderr) == ("printed\n", "")
    assert run(interp, "print('again')", capture_output=True).stdout == "again\n"


def test_output_is_passed_on(interp: Interpreter, capfd: pytest.CaptureFixture[str]) -> None:
    result = run(interp, "import sys; print('out'); print('err', file=sys.stderr)")
    assert (result.stdout, result.stderr) == (None, None)
    assert capfd.readouterr() == ("out\n", "err\n")


def test_a_closed_stdout_is_no_error(interp: Interpreter) -> None:
    run(interp, "import io, sys; sys.stdout = io.StringIO(); sys.stdout.close()").check()
    run(interp, "sys.stdout = None").check()
    run(interp, "sys.stdout = sys.__stdout__").check()


# ---- results


def test_the_result_shows_what_matters(interp: Interpreter) -> None:
    text = repr(run(interp, "1 / 0"))
    assert text.startswith("RunResult(completed=False, value=None, exception=ExceptionSnapshot(")
    assert "ZeroDivisionError" in text
    assert RunResult.__doc__


def test_nothing_stays_behind(shared_interp: Interpreter) -> None:
    array = np.ones(100_000)
    gc.collect()
    before = memchannel.stats()
    threads = threading.active_count()
    for thread in (False, True):
        run(shared_interp, double, value=array, thread=thread).check()
        run(shared_interp, "1 / 0", thread=thread)
        with pytest.raises(ValueError, match="cannot be shared"):
            run(shared_interp, double, value=lock_inside(), thread=thread)
    after = memchannel.stats()
    # Not more; what earlier tests left behind may go meanwhile.
    assert after.live <= before.live
    assert after.channels <= before.channels
    assert after.waiting <= before.waiting
    assert threading.active_count() == threads

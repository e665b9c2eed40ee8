"""memchannel.interpreters: who ends an interpreter that is not closed, and that it ends once."""

from __future__ import annotations

import _interpreters
import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import wait_until
from interpreter_support import exists, large_array, run_program
from memchannel import _core, _making, interpreters
from memchannel._listing import interpreter_numbers
from memchannel.interpreters import Interpreter, run


def test_a_view_keeps_an_interpreter_that_nobody_holds() -> None:
    made = interpreters.create()
    number = made.id
    array = run(made, large_array).check().value
    del made
    gc.collect()
    assert exists(number)
    assert array.sum() == np.arange(100_000.0).sum()
    abandoned = memchannel.stats().abandoned
    del array
    wait_until(lambda: not exists(number))
    assert memchannel.stats().abandoned == abandoned


SLOW_END = """
import atexit, os

def at_exit():
    os.write(began, b"x")
    os.read(goes_on, 1)

atexit.register(at_exit)
"""


@contextlib.contextmanager
def slow_end(made: Interpreter) -> Iterator[tuple[int, int]]:
    """Let an interpreter tell by one pipe that it ends, and wait for a byte of the other; it ends once."""
    (is_began, began), (may_go_on, go_on) = os.pipe(), os.pipe()
    try:
        run(made, SLOW_END, began=began, goes_on=may_go_on).check()
        del made
        yield is_began, go_on
        os.close(began)
        began = -1
        assert os.read(is_began, 1) == b""
    finally:
        for descriptor in (is_began, began, may_go_on, go_on):
            if descriptor >= 0:
                os.close(descriptor)


def test_one_that_is_ending_is_not_listed() -> None:
    # CPython lists it still, and would end it once more with the last handle.
    made = interpreters.create()
    number = made.id
    array = run(made, large_array).check().value
    with slow_end(made) as (is_began, go_on):
        del made
        gc.collect()
        assert number in {one.id for one in interpreters.list_all()}
        del array  # the core's own thread ends it
        assert os.read(is_began, 1) == b"x"
        for listed in (interpreters.list_all, interpreters.idle, interpreters.running):
            assert number not in {one.id for one in listed()}
        with pytest.raises(_interpreters.InterpreterNotFoundError, match=f"interpreter {number} is ending"):
            interpreters._by_number(number)
        os.write(go_on, b"x")
        wait_until(lambda: not exists(number))


def test_the_last_handle_goes_in_another_thread() -> None:
    made = interpreters.create()
    number = made.id
    with slow_end(made) as (is_began, go_on):
        handles = [made, *(one for one in interpreters.list_all() if one.id == number)]
        del made
        thread = threading.Thread(target=handles.clear)
        thread.start()
        assert os.read(is_began, 1) == b"x"
        for _ in range(100):
            assert number not in {one.id for one in interpreters.list_all()}
        os.write(go_on, b"x")
        thread.join()
        wait_until(lambda: not exists(number))


def test_a_slow_end_holds_up_neither_leases_nor_listing(interp: Interpreter) -> None:
    slow = interpreters.create(packages=None)
    number = slow.id
    tasks: memchannel.Channel[int] = memchannel.Channel()
    # Its threads are joined by concurrent.futures before anything of ours is told of the end.
    source = """
        import concurrent.futures
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(c.recv)
    """
    run(slow, source, c=tasks).check()
    lent: memchannel.MemChannel[Any] = memchannel.MemChannel(release="deferred")
    run(interp, "c.send(bytearray(100))", c=lent).check()
    view = lent.recv()
    del slow
    assert exists(number)
    view.release()
    wait_until(lambda: _core._lent_by(interp.id)[0] == 0)
    assert number not in {one.id for one in interpreters.list_all()}
    tasks.send(1)
    wait_until(lambda: not exists(number))


NOTE_WHO_ENDS_IT = """
import atexit, os, threading

def at_exit():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm") as name:
        os.write(pipe, name.read().encode())
    os.close(pipe)

atexit.register(at_exit)
"""


def test_a_handle_from_the_midst_of_the_making_is_held(
    interp: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others list an interpreter that is being made; the last of their handles goes to the core, too."""
    real = _making.set_up

    def set_up(made: Interpreter, packages: tuple[str, ...]) -> None:
        run(interp, "from memchannel import interpreters; kept = interpreters.list_all()").check()
        real(made, packages)

    monkeypatch.setattr(_making, "set_up", set_up)
    made = interpreters.create(packages=None)
    number = made.id
    reads, writes = os.pipe()
    run(made, NOTE_WHO_ENDS_IT, pipe=writes).check()
    del made
    assert exists(number)
    run(interp, "del kept").check()
    with open(reads, "rb") as pipe:
        assert pipe.read() == b"memchannel-drop\n"


def test_the_last_handle_goes_with_the_interpreter_that_has_it() -> None:
    holder, made = interpreters.create(packages=None), interpreters.create(packages=None)
    number = made.id
    reads, writes = os.pipe()
    run(made, NOTE_WHO_ENDS_IT, pipe=writes).check()
    # One that made others waits for what the core drops before its modules go.
    source = "from memchannel import interpreters; own = interpreters.create(packages=None)"
    run(holder, source, kept=made).check()
    del made
    assert exists(number)
    interpreters.close(holder)
    with open(reads, "rb") as pipe:
        assert pipe.read() == b"memchannel-drop\n"


def test_references_are_not_counted_on_what_was_closed() -> None:
    made = interpreters.create(packages=None)
    made.close()
    for number in (made.id, 1 << 40):
        with pytest.raises(RuntimeError, match=f"interpreter {number} was closed by others, or has not"):
            _core._end_with_references(number)


@contextlib.contextmanager
def others_list_them() -> Iterator[list[int]]:
    """Let two threads list the interpreters all the time; how many there were each time."""
    over = threading.Event()
    counts: list[int] = []

    def list_them() -> None:
        while not over.is_set():
            counts.append(len(interpreters.list_all()))

    threads = [threading.Thread(target=list_them) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_listing_while_interpreters_end() -> None:
    with others_list_them():
        for _ in range(10):
            made = interpreters.create(packages=None)
            number = made.id
            view = run(made, "c.send(bytearray(100))", c=(channel := memchannel.MemChannel())).check()
            del view, made
            channel.recv().release()
            wait_until(lambda number=number: not exists(number))


def test_listing_while_interpreters_are_closed() -> None:
    with others_list_them() as counts:
        for _ in range(30):
            made = interpreters.create(packages=None)
            interpreters.close(made)
            assert not exists(made.id)
    assert len(counts) > 30


def test_numbers_of_interpreters_are_those_that_cpython_lists(interp: Interpreter) -> None:
    assert _core._next_interpreter_number() is not None, "this build of CPython is not known"
    assert interpreter_numbers() == sorted(number for number, *_ in _interpreters.list_all())
    made = _interpreters.create()
    assert {interp.id, made} <= set(interpreter_numbers())
    assert made < _core._next_interpreter_number() <= made + 100
    _interpreters.destroy(made)
    assert made not in interpreter_numbers()
    assert not _core._interpreter_exists(made)


def test_an_interpreter_that_nobody_holds_ends() -> None:
    made = interpreters.create(packages=None)
    number = made.id
    run(made, "x = 1").check()
    del made
    gc.collect()
    assert not exists(number)


def test_they_end_where_a_view_alone_kept_it() -> None:
    """The core's own thread ends it then, which must not wait for itself."""
    reads, writes = os.pipe()

    def make(descriptor: int) -> tuple[Any, int]:
        import numpy as np

        import __main__
        from memchannel import _core, interpreters

        __main__.kept = interpreters.create(packages=None)
        original = _core._await_idle

        def wait() -> bool:
            idle = original()
            os.write(descriptor, b"idle" if idle else b"waited in vain")
            return idle

        _core._await_idle = wait
        return np.arange(100_000.0), __main__.kept.id

    made = interpreters.create()
    array, inner = run(made, make, descriptor=writes).check().value
    number = made.id
    del made
    gc.collect()
    assert exists(number)
    assert exists(inner)
    del array
    wait_until(lambda: not exists(number) and not exists(inner))
    os.close(writes)
    with open(reads, "rb") as pipe:
        assert pipe.read() == b"idle"


def test_one_that_knows_itself_ends_like_others() -> None:
    """CPython crashes when an interpreter holds the last reference to itself; ours is none."""
    out = run_program(
        """
        import gc
        from memchannel import interpreters
        source = "from memchannel.interpreters import get_current, list_all; me = get_current(), list_all()"
        dropped = interpreters.create(packages=None)
        interpreters.run(dropped, source).check()
        del dropped
        gc.collect()
        print(len(interpreters.list_all()))
        left = interpreters.create(packages=None)
        interpreters.run(left, source).check()
        """
    )
    assert out == "1\n"


@pytest.mark.parametrize("thread", [False, True])
def test_the_last_reference_may_go_in_another_interpreter(interp: Interpreter, thread: bool) -> None:
    def make() -> int:
        import gc

        from memchannel import interpreters

        gc.disable()
        made = interpreters.create(packages=None)
        interpreters.run(made, "import json").check()
        cycle: list[Any] = [made]
        cycle.append(cycle)
        return int(made.id)

    number = run(interp, make).check().value
    assert exists(number)
    run(interp, "import gc; gc.enable(); gc.collect()", thread=thread).check()
    assert not exists(number)

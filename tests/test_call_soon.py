"""memchannel.interpreters.call_soon: callbacks in other interpreters."""

from __future__ import annotations

import _interpreters
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import wait_until
from interpreter_support import run_program
from memchannel import InterpreterPool, interpreters
from memchannel.interpreters import Interpreter, call_soon, run
from run_tasks import busy_until, current_id, double, fail, report


def waits_in(interpreter: Interpreter) -> bool:
    return any(one.interpreter == interpreter.id for one in memchannel.dump_waits())


class Waiting:
    """A run that waits in the interpreter until the block ends."""

    def __init__(self, interpreter: Interpreter, source: str) -> None:
        self.go_on = memchannel.Channel()
        self.interpreter = interpreter
        self.results: list[Any] = []
        self.thread = threading.Thread(target=self.work, args=(source,))

    def work(self, source: str) -> None:
        self.results.append(run(self.interpreter, source, go_on=self.go_on, other=memchannel.Channel()))

    def __enter__(self) -> Waiting:
        self.thread.start()
        wait_until(lambda: waits_in(self.interpreter))
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.send("on")
        self.thread.join()
        assert self.results[0].check().completed


def test_an_idle_interpreter_calls_at_its_next_run(interp: Interpreter) -> None:
    back = memchannel.Channel()
    for number in range(3):
        call_soon(interp, report, back, number)
    assert len(back) == 0
    run(interp, "x = back.recv_nowait(default='nothing'); assert x == 0, x", back=back).check()
    assert [back.recv(), back.recv()] == [1, 2]


@pytest.mark.parametrize(
    "source",
    [
        "assert go_on.recv() == 'on'",
        "assert go_on.recv(timeout=3600) == 'on'",
        "import memchannel; assert memchannel.select(other, go_on)[1] == 'on'",
        "assert [go_on.recv() for _ in range(1)] == ['on']",
    ],
    ids=["recv", "recv with a timeout", "select", "comprehension"],
)
def test_a_waiting_interpreter_is_woken_and_waits_on(interp: Interpreter, source: str) -> None:
    back = memchannel.Channel()
    with Waiting(interp, source):
        for number in range(5):
            call_soon(interp, report, back, number)
            assert back.recv(timeout=60) == number
        wait_until(lambda: waits_in(interp))


def test_a_waiting_sender_is_woken_and_sends_on(interp: Interpreter) -> None:
    back = memchannel.Channel()
    ch = memchannel.Channel(maxsize=1)
    thread = threading.Thread(target=run, args=(interp, "ch.send(1); ch.send(2)"), kwargs={"ch": ch})
    thread.start()
    wait_until(lambda: waits_in(interp))
    call_soon(interp, report, back, 7)
    assert back.recv(timeout=60) == 7
    assert [ch.recv(), ch.recv()] == [1, 2]
    thread.join()


def test_a_deadline_holds_through_callbacks(interp: Interpreter) -> None:
    source = """
        import time
        began = time.monotonic()
        try:
            other.recv(timeout=0.3)
        except TimeoutError:
            took = time.monotonic() - began
            assert took >= 0.3, took
        else:
            raise AssertionError
        go_on.recv()
    """
    back = memchannel.Channel()
    with Waiting(interp, source):
        for number in range(20):
            call_soon(interp, report, back, number)
            back.recv(timeout=60)


def test_many_from_many_threads_are_all_called_in_order(interp: Interpreter) -> None:
    back = memchannel.Channel()

    def ask(sender: int) -> None:
        for number in range(200):
            call_soon(interp, report, back, (sender, number))

    with Waiting(interp, "go_on.recv()"):
        threads = [threading.Thread(target=ask, args=(sender,)) for sender in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        called = [back.recv(timeout=60) for _ in range(600)]
    for sender in range(3):
        assert [number for one, number in called if one == sender] == list(range(200))


def test_a_pools_worker_calls_between_tasks_and_while_idle() -> None:
    back = memchannel.Channel()
    with InterpreterPool(1, packages=None) as pool:
        number = pool.submit(current_id).result()
        (worker,) = [one for one in interpreters.list_all() if one.id == number]
        call_soon(worker, report, back, "idle")
        assert back.recv(timeout=60) == "idle"
        begun, go_on = memchannel.Channel(), memchannel.Channel()
        task = pool.submit(busy_until, begun, go_on)
        begun.recv()
        call_soon(worker, report, back, "between")
        following = pool.submit(double, 2)
        go_on.send(1)
        assert task.result() == "done"
        assert following.result() == 4
        assert back.recv(timeout=60) == "between"


def test_the_main_interpreter_is_called_while_it_waits(interp: Interpreter) -> None:
    def ask(end: Any) -> None:
        from memchannel import interpreters
        from run_tasks import report

        interpreters.call_soon(interpreters.get_main(), report, end, "main")

    back = memchannel.Channel()
    run(interp, ask, end=back, thread=True).check()
    if not len(back):
        with pytest.raises(TimeoutError):
            memchannel.Channel().recv(timeout=0.01)
    assert back.recv(timeout=60) == "main"


def test_arguments_are_lent(interp: Interpreter) -> None:
    live = memchannel.stats().live
    made = interpreters.create()
    back = memchannel.Channel()
    array = np.arange(100_000.0)

    def look(a: Any, end: Any) -> None:
        end.send((a.ctypes.data, float(a.sum())))

    call_soon(made, look, array, back)
    assert memchannel.stats().live == live + 1
    run(made, "x = 1").check()
    assert back.recv() == (array.ctypes.data, array.sum())
    wait_until(lambda: memchannel.stats().live == live)
    interpreters.close(made)


def test_what_a_callback_raises_is_reported(interp: Interpreter) -> None:
    source = """
        import sys
        reported = []
        sys.unraisablehook = lambda info: reported.append((info.exc_type.__name__, str(info.exc_value)))
    """
    run(interp, source).check()
    back = memchannel.Channel()
    call_soon(interp, fail, "spam")
    call_soon(interp, report, back, "after it")
    run(interp, "assert reported == [('ValueError', 'spam')], reported").check()
    assert back.recv() == "after it"
    run(interp, "sys.unraisablehook = sys.__unraisablehook__").check()


def test_a_callback_may_wait_and_be_overtaken(interp: Interpreter) -> None:
    first, second = memchannel.Channel(), memchannel.Channel()

    def wait_for_the_other(first: Any, second: Any) -> None:
        second.send(first.recv())

    with Waiting(interp, "go_on.recv()"):
        call_soon(interp, wait_for_the_other, first, second)
        call_soon(interp, report, first, "from the later one")
        assert second.recv(timeout=60) == "from the later one"


def test_an_interpreter_that_ends_forgets(interp: Interpreter) -> None:
    live = memchannel.stats().live
    made = interpreters.create(packages=None)
    channels = memchannel.stats().channels
    call_soon(made, report, memchannel.Channel(), np.ones(1000))
    assert memchannel.stats().live == live + 1
    interpreters.close(made)
    wait_until(lambda: memchannel.stats().live == live)
    assert memchannel.stats().channels == channels


def test_a_parked_interpreter_forgets() -> None:
    made = interpreters.create(packages=None, reuse=True)
    back = memchannel.Channel()
    call_soon(made, report, back, 1)
    interpreters.close(made)
    with pytest.raises(_interpreters.InterpreterNotFoundError):
        call_soon(made, report, back, 1)
    again = interpreters.create(packages=None, reuse=True)
    assert again.id == made.id
    run(again, "x = 1").check()
    assert len(back) == 0
    interpreters.close(again)


def test_bad_requests(interp: Interpreter) -> None:
    with pytest.raises(TypeError, match="takes a callable, not 3"):
        call_soon(interp, 3)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^argument 1 cannot be shared: item 0: cannot pickle '_thread.lock'"
    ):
        call_soon(interp, report, 1, [threading.Lock()])
    guard = threading.Lock()
    with pytest.raises(pickle.PicklingError, match="closure variable 'guard'"):
        call_soon(interp, lambda: guard)
    closed = interpreters.create(packages=None)
    interpreters.close(closed)
    with pytest.raises(_interpreters.InterpreterNotFoundError):
        call_soon(closed, print)


def test_exit_with_callbacks_queued() -> None:
    source = """
        import numpy, memchannel
        from memchannel import interpreters
        made = interpreters.create(packages=None)
        interpreters.call_soon(made, print, numpy.ones(100_000))
        interpreters.call_soon(interpreters.get_main(), print, "never")
    """
    assert run_program(source) == ""

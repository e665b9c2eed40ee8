"""memchannel.interpreters: how interpreters end."""

from __future__ import annotations

import _interpreters
import gc
import os
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memchannel
from channel_support import HANG, wait_until
from interpreter_support import exists, run_program
from memchannel import Channel, MemChannel, interpreters
from memchannel.interpreters import Interpreter, run

NotFoundError = _interpreters.InterpreterNotFoundError


# ---- closing


def test_close(interp: Interpreter) -> None:
    interpreters.close(interp)
    assert not exists(interp.id)
    assert interp not in interpreters.list_all()


@pytest.mark.parametrize(
    "use",
    [
        interpreters.close,
        lambda closed: run(closed, "x = 1"),
        lambda closed: run(closed, "x = 1", thread=True),
        interpreters.is_running,
    ],
    ids=["close", "run", "run in a thread", "is_running"],
)
def test_a_closed_interpreter_is_not_found(use: Callable[[Interpreter], object]) -> None:
    closed = interpreters.create(packages=None)
    interpreters.close(closed)
    with pytest.raises(NotFoundError, match=f"there is no interpreter {closed.id}: it was closed"):
        use(closed)


def test_what_ends_politely_lends_nothing_while_its_threads_are_waited_for(interp: Interpreter) -> None:
    ch, outcome = MemChannel(), Channel[str]()
    for channel in (ch, outcome):
        channel.recv_nowait()  # associated: what comes later would arrive

    def begin(ch: Any, outcome: Any) -> None:
        import contextlib
        import threading

        import memchannel

        def send() -> None:
            with contextlib.suppress(RuntimeError):  # the interpreter's end has begun
                memchannel.Event().wait()
            try:
                ch.send(bytearray(b"too late"))
            except RuntimeError as exc:
                outcome.send_nowait(str(exc))

        threading.Thread(target=send).start()

    run(interp, begin, ch=ch, outcome=outcome).check()
    before = memchannel.stats().abandoned
    interpreters.close(interp)
    assert memchannel.stats().abandoned == before
    assert "cannot lend memory" in outcome.recv(timeout=HANG)


def test_an_interpreter_that_could_not_be_closed_goes_on_lending(
    interp: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Interpreter) -> None:
        raise _interpreters.InterpreterError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Interpreter, "close", refuse)
        with pytest.raises(_interpreters.InterpreterError, match="not now"):
            interpreters.close(interp)
    ch = MemChannel()
    run(interp, "ch.send(bytearray(b'spam'))", ch=ch).check()
    with ch.recv(timeout=HANG) as view:
        assert view == b"spam"


def test_who_takes_a_parked_interpreter_may_close_it_at_once() -> None:
    """Threads hand one interpreter to and fro."""
    refused: list[Exception] = []

    def use() -> None:
        for _ in range(50):
            try:
                interpreters.close(interpreters.create(packages=None, reuse=True))
            except RuntimeError as exc:
                refused.append(exc)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []


def test_an_interpreter_that_made_none_waits_for_no_others_at_its_end(interp: Interpreter) -> None:
    # It may end on the core's own thread, for which it would wait in vain while all that is lent stays out.
    reads, writes = os.pipe()

    def watch(descriptor: int) -> None:
        import atexit

        from memchannel import _core, interpreters

        assert interpreters.list_all()
        original = _core._await_idle

        def wait() -> bool:
            os.write(descriptor, b"waits ")
            return original()

        _core._await_idle = wait
        atexit.register(os.write, descriptor, b"ends ")

    run(interp, watch, descriptor=writes).check()
    interpreters.close(interp)
    os.close(writes)
    with open(reads, "rb") as pipe:
        assert pipe.read() == b"ends "


def test_the_main_and_the_current_interpreter_are_not_closed(interp: Interpreter) -> None:
    with pytest.raises(RuntimeError, match="main interpreter"):
        interpreters.close(interpreters.get_main())

    def close_yourself() -> None:
        from memchannel import interpreters

        interpreters.close(interpreters.get_current())

    with pytest.raises(RuntimeError, match=f"interpreter {interp.id} is running"):
        run(interp, close_yourself).check()


def test_views_that_are_out_keep_it_open() -> None:
    made = interpreters.create()
    number = made.id
    ch = memchannel.ArrayChannel()
    run(made, "import numpy as np; array = np.arange(3.0); ch.send(array); ch.send(array[1:])", ch=ch).check()
    one, two = ch.recv(), ch.recv()
    with pytest.raises(BufferError, match=rf"^2 views of interpreter {number} are out \(channel {ch.id}\)$"):
        interpreters.close(made)
    del two
    with pytest.raises(BufferError, match=rf"^1 view of interpreter {number} is out \(channel {ch.id}\)$"):
        interpreters.close(made, timeout=0.01)
    assert one.tolist() == [0, 1, 2]
    del one
    interpreters.close(made)
    assert not exists(number)


def test_a_refused_close_leaves_main_as_it_was(interp: Interpreter) -> None:
    ch = memchannel.MemChannel()
    names = "sorted(name for name in globals() if not name.startswith('__'))"
    run(interp, f"check = forget = 1; ch.send(b'spam'); names = {names}", ch=ch).check()
    view = ch.recv()
    with pytest.raises(BufferError):
        interpreters.close(interp)
    run(interp, f"assert {names} == ['ch', 'check', 'forget', 'names'], {names}").check()
    view.release()


def test_results_of_a_map_that_nobody_reads_on_are_no_views() -> None:
    made = interpreters.create(packages=None)
    source = """
        import pickle
        import memchannel

        pool = memchannel.InterpreterPool(1, packages=None)
        large = pickle.PickleBuffer(bytearray(1 << 17))
        results = pool.map(len, [large] * 10, buffersize=1)
        assert next(results) == 1 << 17
    """
    run(made, source).check()
    interpreters.close(made, timeout=HANG)
    assert not exists(made.id)


def test_views_over_several_channels_are_named() -> None:
    made = interpreters.create(packages=None)
    first, second = memchannel.MemChannel(), memchannel.MemChannel()
    run(made, "first.send(b'1'); second.send(b'2')", first=first, second=second).check()
    views = [first.recv(), second.recv()]
    numbers = f"{first.id}, {second.id}"
    with pytest.raises(
        BufferError, match=rf"2 views of interpreter {made.id} are out \(channels {numbers}\)"
    ):
        interpreters.close(made)
    for view in views:
        view.release()
    interpreters.close(made)


@pytest.mark.parametrize("timeout", [60, None])
def test_close_waits_for_views(timeout: float | None) -> None:
    made = interpreters.create(packages=None)
    ch = memchannel.MemChannel()
    run(made, "ch.send(b'spam')", ch=ch).check()
    view = ch.recv()

    def give_back() -> None:
        wait_until(lambda: any(one.operation == "close" for one in memchannel.dump_waits()))
        view.release()

    thread = threading.Thread(target=give_back)
    thread.start()
    interpreters.close(made, timeout=timeout)
    thread.join()
    assert not exists(made.id)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (1e300, OverflowError), ("1", TypeError)],
)
def test_close_refuses_bad_timeouts(interp: Interpreter, timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        interpreters.close(interp, timeout=timeout)
    assert exists(interp.id)


def test_views_in_garbage_are_collected_here() -> None:
    made = interpreters.create(packages=None)
    ch = memchannel.MemChannel()
    run(made, "ch.send(b'spam')", ch=ch).check()
    gc.disable()
    try:
        cycle: list[Any] = [ch.recv()]
        cycle.append(cycle)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # an unreleased view, on purpose
            del cycle
            interpreters.close(made)
    finally:
        gc.enable()
    assert not exists(made.id)


def test_views_in_garbage_are_collected_in_idle_interpreters(interp: Interpreter) -> None:
    live = memchannel.stats().live
    made = interpreters.create(packages=None)
    ch = memchannel.MemChannel()
    run(made, "ch.send(b'spam')", ch=ch).check()
    source = """
        import gc, warnings
        warnings.simplefilter("ignore", ResourceWarning)
        gc.disable()
        cycle = [ch.recv()]
        cycle.append(cycle)
        del cycle
    """
    run(interp, source, ch=ch).check()
    assert memchannel.stats().live == live + 1
    interpreters.close(made)
    assert not exists(made.id)
    assert not interpreters.is_running(interp)


def test_threads_of_it_are_waited_for(interp: Interpreter, tmp_path: Path) -> None:
    done = tmp_path / "done"
    source = """
        import threading, time
        def work():
            time.sleep(0.05)
            open(path, "w").close()
        threading.Thread(target=work).start()
    """
    run(interp, source, path=str(done)).check()
    interpreters.close(interp)
    assert done.exists()


def test_daemon_threads_are_refused_by_default(interp: Interpreter) -> None:
    result = run(interp, "import threading; threading.Thread(target=print, daemon=True).start()")
    assert result.exception is not None
    assert result.exception.type_name == "RuntimeError"


def test_close_refuses_while_daemon_threads_run() -> None:
    made = interpreters.create(packages=None, allow_daemon_threads=True)
    source = """
        import threading
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, name="background", daemon=True)
        thread.start()
    """
    run(made, source).check()
    with pytest.raises(
        RuntimeError, match=f"daemon threads of interpreter {made.id} are running: background"
    ):
        interpreters.close(made)
    run(made, "stop.set(); thread.join()").check()
    interpreters.close(made)
    assert not exists(made.id)


# ---- exit


def test_exit_with_everything_open() -> None:
    out = run_program(
        """
        import numpy, memchannel
        from memchannel import interpreters
        def large():
            import numpy
            return numpy.ones(100_000)
        open_one = interpreters.create()
        view = interpreters.run(open_one, large).check().value
        holder = interpreters.create(packages=None)
        interpreters.run(holder, "kept = buffer", buffer=b"x" * 100_000).check()
        parked = interpreters.create(reuse=True)
        interpreters.close(parked)
        ch = memchannel.MemChannel()
        interpreters.run(holder, "ch.send(b'spam')", ch=ch).check()
        print(view.sum())
        """
    )
    assert out == "100000.0\n"


def test_exit_with_a_daemon_thread() -> None:
    out = run_program(
        """
        import sys, warnings
        from memchannel import interpreters
        made = interpreters.create(packages=None, allow_daemon_threads=True)
        source = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
        interpreters.run(made, source).check()
        # CPython 3.14 tells that the interpreter is left; nothing may end it while its thread runs.
        warnings.filterwarnings("ignore", "remaining subinterpreters")
        print("end")
        """
    )
    assert out == "end\n"


def test_dropping_one_whose_daemon_thread_runs_is_safe() -> None:
    out = run_program(
        """
        import gc, warnings
        from memchannel import interpreters
        made = interpreters.create(packages=None, allow_daemon_threads=True)
        source = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
        interpreters.run(made, source).check()
        del made
        gc.collect()
        warnings.filterwarnings("ignore", "remaining subinterpreters")
        print(len(interpreters.list_all()))
        """
    )
    assert out == "2\n"


def test_interpreters_of_interpreters_end_with_them() -> None:
    out = run_program(
        """
        from memchannel import interpreters
        def inside():
            import __main__
            from memchannel import interpreters
            __main__.kept = interpreters.create(packages=None)
            interpreters.run(__main__.kept, "x = 1").check()
            interpreters.close(interpreters.create(packages=None, reuse=True))
            return len(interpreters.list_all())
        made = interpreters.create(packages=None)
        print(interpreters.run(made, inside).check().value)
        interpreters.close(made)
        print(len(interpreters.list_all()))
        """
    )
    assert out == "3\n1\n"


@pytest.mark.slow
def test_many_in_sequence() -> None:
    """A hundred of them leave no thread, descriptor or interpreter behind."""

    def counts() -> tuple[int, int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd")), len(_interpreters.list_all())

    interpreters.close(interpreters.create(packages=None))
    before = counts()
    for i in range(100):
        made = interpreters.create(packages=None)
        assert run(made, lambda i: i + 1, i=i).value == i + 1
        if i % 2:
            interpreters.close(made)
        del made
    assert counts() == before


def test_the_examples_of_the_documentation_run() -> None:
    text = (Path(__file__).parent.parent / "docs" / "interpreters.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    out = run_program("\n".join(blocks))
    assert "ZeroDivisionError: division by zero" in out
    assert re.search(r"^1 view of interpreter \d+ is out \(channel \d+\)$", out, re.MULTILINE)


def test_one_thread_at_a_time_closes_an_interpreter() -> None:
    made = interpreters.create(packages=None)
    channel: memchannel.MemChannel[Any] = memchannel.MemChannel()
    run(made, "c.send(bytearray(100))", c=channel).check()
    view = channel.recv()
    thread = threading.Thread(target=interpreters.close, args=(made, None))
    thread.start()
    wait_until(lambda: memchannel.stats().waiting > 0)
    with pytest.raises(RuntimeError, match=f"interpreter {made.id} is being made or closed"):
        interpreters.close(made)
    view.release()
    thread.join()
    with pytest.raises(NotFoundError):
        interpreters.close(made)


@pytest.mark.parametrize("reuse", [False, True])
def test_threads_that_close_the_same_at_once(reuse: bool) -> None:
    """CPython alone would end it more than once (Modules/_interpretersmodule.c, interp_destroy)."""

    def close(made: Interpreter, start: threading.Barrier, closed: list[bool]) -> None:
        start.wait()
        try:
            interpreters.close(made)
        except (RuntimeError, _interpreters.InterpreterError):
            return
        closed.append(True)

    for _ in range(10):
        made = interpreters.create(packages=None, reuse=reuse)
        start = threading.Barrier(3)
        closed: list[bool] = []
        threads = [threading.Thread(target=close, args=(made, start, closed)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert closed == [True]

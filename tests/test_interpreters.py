"""memchannel.interpreters: making, listing, reusing and closing interpreters."""

from __future__ import annotations

import _interpreters
import gc
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from memchannel import images, interpreters
from memchannel.interpreters import Interpreter, run

NotFoundError = _interpreters.InterpreterNotFoundError


@pytest.fixture
def interp() -> Iterator[Interpreter]:
    """A bare interpreter, closed afterwards unless the test did."""
    made = interpreters.create(packages=None)
    yield made
    if exists(made.id):
        wait_until(lambda: not interpreters.is_running(made))
        gc.collect()
        interpreters.close(made, timeout=60)


def exists(number: int) -> bool:
    return number in [one for one, _ in _interpreters.list_all()]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread is about to do; pytest's own time limit catches hangs."""
    while not condition():
        time.sleep(0.001)


def value_of(interpreter: Interpreter, expression: str) -> Any:
    def evaluate(text: str) -> Any:
        import __main__

        return eval(text, vars(__main__))

    return run(interpreter, evaluate, text=expression).check().value


def large_array() -> np.ndarray[Any, Any]:
    import numpy

    return numpy.arange(100_000.0)


def script(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own; warnings are errors, a crash shows in the exit status."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(source), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeeds(source: str, *arguments: str) -> str:
    done = script(source, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- create


def test_the_class_is_the_standard_librarys(interp: Interpreter) -> None:
    if sys.version_info >= (3, 14):
        from concurrent.interpreters import Interpreter as Expected
    else:
        from backports.interpreters import Interpreter as Expected
    assert type(interp) is Expected is Interpreter


def test_it_has_a_gil_of_its_own(interp: Interpreter) -> None:
    config = _interpreters.get_config(interp.id)
    assert config.gil == "own"
    assert not config.use_main_obmalloc


def test_numpy_computes_in_several_at_once() -> None:
    made = [interpreters.create() for _ in range(2)]
    results: list[Any] = []

    def work(one: Interpreter) -> None:
        source = (
            "import numpy as np\nm = np.arange(90_000.0).reshape(300, 300)\ntrace = float((m @ m).trace())"
        )
        run(one, source).check()
        results.append(value_of(one, "trace"))

    threads = [threading.Thread(target=work, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    m = np.arange(90_000.0).reshape(300, 300)
    assert results == [float((m @ m).trace())] * 2
    for one in made:
        assert value_of(one, "np.__file__") == np.__file__
        interpreters.close(one)


def test_a_bare_one_loads_no_image(interp: Interpreter) -> None:
    result = run(interp, "import numpy")
    assert result.exception is not None
    assert result.exception.type_name == "ImportError"


def test_one_package_may_be_named_alone() -> None:
    made = interpreters.create("numpy")
    run(made, "import numpy").check()
    interpreters.close(made)


def test_it_takes_over_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "only_here.py").write_text("where = __file__\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["program", "--flag", "é"])
    monkeypatch.setenv("MEMCHANNEL_TEST_VARIABLE", "1")
    limit = sys.getrecursionlimit()
    request.addfinalizer(lambda: sys.setrecursionlimit(limit))
    sys.setrecursionlimit(limit + 17)
    made = interpreters.create(packages=None)
    run(made, "import sys, os, only_here").check()
    assert value_of(made, "only_here.where") == str(tmp_path / "only_here.py")
    assert value_of(made, "sys.path") == sys.path
    assert value_of(made, "sys.argv") == sys.argv
    assert value_of(made, "sys.getrecursionlimit()") == limit + 17
    assert value_of(made, "dict(os.environ)") == dict(os.environ)
    assert value_of(made, "os.getcwd()") == os.getcwd()
    interpreters.close(made)


def test_main_is_empty_at_first(interp: Interpreter) -> None:
    names = value_of(interp, "list(globals())")
    assert [name for name in names if not name.startswith("__")] == []


@pytest.mark.parametrize(
    ("packages", "error", "text"),
    [
        ("no_such_package", ModuleNotFoundError, "no_such_package"),
        (["numpy", "no_such_package"], ModuleNotFoundError, "no_such_package"),
        ("numpy.linalg", ValueError, "numpy"),
        ([3], TypeError, "3"),
        (3, TypeError, "int"),
    ],
)
def test_bad_packages_are_named(packages: Any, error: type[Exception], text: str) -> None:
    before = interpreters.list_all()
    with pytest.raises(error, match=text):
        interpreters.create(packages)
    assert interpreters.list_all() == before


def test_a_package_that_cannot_load_as_an_image_is_named() -> None:
    from memchannel.images._packages import PACKAGES

    refused = next((name for name, package in PACKAGES.items() if package.refused), None)
    if refused is None:
        pytest.skip("no package is known to be refused")
    with pytest.raises(images.ImageError, match=refused):
        interpreters.create(refused)


def test_what_cannot_be_set_up_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [one for one, _ in _interpreters.list_all()]
    monkeypatch.setattr(
        interpreters, "_SET_UP", "raise OSError('disk on fire: {settings!r:.0}{packages!r:.0}')"
    )
    with pytest.raises(OSError, match="disk on fire"):
        interpreters.create(packages=None)
    assert [one for one, _ in _interpreters.list_all()] == before


def test_too_little_memory_is_an_error_and_the_process_lives() -> None:
    pytest.importorskip("resource")
    done = script(
        """
        import resource
        from memchannel import interpreters
        def used():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[0]) * resource.getpagesize()
        unlimited = resource.RLIM_INFINITY
        made = []
        resource.setrlimit(resource.RLIMIT_AS, (used() + (60 << 20), unlimited))
        try:
            while True:
                made.append(interpreters.create(packages=None))
        except (RuntimeError, MemoryError) as exc:
            text = str(exc)
        resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
        assert "interpreter" in text, text
        assert len(interpreters.list_all()) == len(made) + 1
        made.append(interpreters.create(packages=None))
        assert interpreters.run(made[-1], "x = 1").completed
        print(len(made) > 1)
        """
    )
    # CPython reports on stderr what it could not do in the interpreter that failed.
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


# ---- lists


def test_lists(interp: Interpreter) -> None:
    main = interpreters.get_main()
    assert main.id == 0
    assert interpreters.get_current() == main
    assert interpreters.list_all()[0] == main
    assert interp in interpreters.list_all()
    assert interp in interpreters.idle()
    assert interp not in interpreters.running()
    assert main in interpreters.running()
    assert main not in interpreters.idle()
    assert interpreters.is_running(main)


def test_a_running_interpreter_is_running(interp: Interpreter) -> None:
    begin = memchannel.Channel()
    go_on = memchannel.Channel()
    thread = threading.Thread(
        target=run, args=(interp, "begin.send(1); go_on.recv()"), kwargs={"begin": begin, "go_on": go_on}
    )
    thread.start()
    begin.recv()
    assert interpreters.is_running(interp)
    assert interp in interpreters.running()
    assert interp not in interpreters.idle()
    with pytest.raises(RuntimeError, match=f"interpreter {interp.id} is running"):
        run(interp, "x = 1")
    with pytest.raises(RuntimeError, match=f"interpreter {interp.id} is running"):
        interpreters.close(interp)
    go_on.send(1)
    thread.join()
    assert not interpreters.is_running(interp)


def test_interpreters_make_and_list_interpreters(interp: Interpreter) -> None:
    def inside() -> list[int]:
        from memchannel import interpreters

        made = interpreters.create(packages=None)
        interpreters.run(made, "x = 1").check()
        numbers = [one.id for one in interpreters.list_all()]
        numbers += [interpreters.get_current().id, interpreters.get_main().id, made.id]
        interpreters.close(made)
        return numbers

    *listed, current, main, made = run(interp, inside).check().value
    assert (current, main) == (interp.id, 0)
    assert {0, interp.id, made} <= set(listed)
    assert not exists(made)


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
    with pytest.raises(NotFoundError, match=str(closed.id)):
        use(closed)


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
    assert memchannel.stats().live == 1
    interpreters.close(made)
    assert not exists(made.id)
    assert not interpreters.is_running(interp)


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


def test_an_interpreter_that_nobody_holds_ends() -> None:
    made = interpreters.create(packages=None)
    number = made.id
    run(made, "x = 1").check()
    del made
    gc.collect()
    assert not exists(number)


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


# ---- reuse


def reused(**keywords: Any) -> Interpreter:
    return interpreters.create(packages=None, reuse=True, **keywords)


def test_closing_parks_what_is_reused() -> None:
    first = reused()
    number = first.id
    interpreters.close(first)
    assert exists(number)
    assert number not in [one.id for one in interpreters.list_all()]
    with pytest.raises(NotFoundError, match="was closed"):
        run(first, "x = 1")
    with pytest.raises(NotFoundError, match="was closed"):
        interpreters.close(first)
    second = reused()
    assert second.id == number
    run(second, "x = 1").check()
    interpreters.close(second)


def test_others_are_not_given_what_is_parked(interp: Interpreter) -> None:
    parked = reused()
    interpreters.close(parked)
    with_numpy = interpreters.create(reuse=True)
    fresh = interpreters.create(packages=None)
    daemonic = reused(allow_daemon_threads=True)
    assert len({parked.id, interp.id, with_numpy.id, fresh.id, daemonic.id}) == 5
    interpreters.close(fresh)
    interpreters.close(with_numpy)
    interpreters.close(daemonic)


def test_a_reused_one_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_module.py").write_text("count = 0\n")
    package = tmp_path / "users_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("import json as standard\ncount = 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = reused()
    source = """
        import gc, sys, threading, warnings, users_module, users_package.part, json, io
        users_module.count = users_package.part.count = json.memory = 5
        warnings.simplefilter("error")
        sys.stdout = io.StringIO()
        sys.excepthook = threading.excepthook = print
        sys.path.append("/nowhere")
        gc.disable()
    """
    run(first, source).check()
    fresh = interpreters.create(packages=None)
    interpreters.close(first)
    monkeypatch.setenv("MEMCHANNEL_TEST_VARIABLE", "2")
    second = reused()
    assert second.id == first.id
    assert value_of(second, "[name for name in globals() if name[:2] != '__']") == []
    run(fresh, "import gc, os, sys, threading, warnings").check()
    run(second, "import gc, os, sys, threading, warnings, users_module, users_package.part, json").check()
    assert value_of(second, "(users_module.count, users_package.part.count)") == (0, 0)
    assert value_of(second, "json.memory") == 5  # modules of the standard library stay
    for expression in ("[repr(f) for f in warnings.filters]", "sys.path", "gc.isenabled()"):
        assert value_of(second, expression) == value_of(fresh, expression)
    assert value_of(second, "dict(os.environ)") == dict(os.environ)
    assert value_of(second, "sys.stdout is sys.__stdout__ and sys.excepthook is sys.__excepthook__")
    assert value_of(second, "threading.excepthook is threading.__excepthook__")
    interpreters.close(second)
    interpreters.close(fresh)


def test_a_reused_one_keeps_its_numpy() -> None:
    first = interpreters.create(reuse=True)
    run(first, "import numpy as np; numpy_id = id(np.ndarray)").check()
    before = value_of(first, "numpy_id")
    interpreters.close(first)
    second = interpreters.create(reuse=True)
    assert second.id == first.id
    run(second, "import numpy as np").check()
    assert value_of(second, "id(np.ndarray)") == before
    assert value_of(second, "float(np.linalg.solve(np.eye(3) * 2, np.ones(3)).sum())") == 1.5
    interpreters.close(second)


def test_one_with_running_threads_is_closed_not_parked() -> None:
    first = reused()
    go_on = memchannel.Channel()
    run(first, "import threading; threading.Thread(target=go_on.recv).start()", go_on=go_on).check()
    assert not interpreters._park(first)
    go_on.send(1)
    interpreters.close(first)  # waits for the thread if it is still there
    if exists(first.id):
        assert reused().id == first.id


def test_a_parked_one_closed_by_force_is_not_given_out() -> None:
    first = reused()
    interpreters.close(first)
    first.close()
    second = reused()
    assert second.id != first.id
    assert run(second, "x = 1").completed
    interpreters.close(second)


# ---- exit


def test_exit_with_everything_open() -> None:
    out = succeeds(
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
    out = succeeds(
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
    out = succeeds(
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
    out = succeeds(
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


def test_one_that_knows_itself_ends_like_others() -> None:
    """CPython crashes when an interpreter holds the last reference to itself; ours is none."""
    out = succeeds(
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
    out = succeeds("\n".join(blocks))
    assert "ZeroDivisionError: division by zero" in out
    assert re.search(r"^1 view of interpreter \d+ is out \(channel \d+\)$", out, re.MULTILINE)

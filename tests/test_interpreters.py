"""memchannel.interpreters: making, listing and reusing interpreters."""

from __future__ import annotations

import _interpreters
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import HANG, run_script
from interpreter_support import exists, value_of
from memchannel import _making, images, interpreters
from memchannel.interpreters import Interpreter, run

NotFoundError = _interpreters.InterpreterNotFoundError


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
        (3, TypeError, "packages must be names, 'all' or None, not 3"),
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
    monkeypatch.setattr(_making, "_SET_UP", "raise OSError('disk on fire: {settings!r:.0}{packages!r:.0}')")
    with pytest.raises(OSError, match="disk on fire"):
        interpreters.create(packages=None)
    assert [one for one, _ in _interpreters.list_all()] == before


@pytest.mark.parametrize("step", ["Interpreter", "set_up", "hold", "_core._end_with_references"])
def test_one_whose_making_fails_is_closed(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _interpreters.list_all()
    monkeypatch.setattr(f"memchannel._making.{step}", None)
    with pytest.raises((TypeError, AttributeError)):
        interpreters.create(packages=None)
    assert _interpreters.list_all() == before


def test_one_that_is_being_made_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _making.set_up

    def set_up(made: Interpreter, packages: tuple[str, ...]) -> None:
        with pytest.raises(RuntimeError, match=f"interpreter {made.id} is being made or closed"):
            interpreters.close(interpreters._by_number(made.id))
        real(made, packages)

    monkeypatch.setattr(_making, "set_up", set_up)
    made = interpreters.create(packages=None)
    assert exists(made.id)
    interpreters.close(made)


@pytest.mark.parametrize("call", ["create", "exec"])
def test_one_whose_making_is_interrupted_is_closed(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(_interpreters, call)

    def interrupted(*args: Any, **keywords: Any) -> Any:
        result = real(*args, **keywords)
        signal.raise_signal(signal.SIGINT)
        return result

    before = _interpreters.list_all()
    monkeypatch.setattr(_interpreters, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        interpreters.create()
    monkeypatch.undo()
    assert _interpreters.list_all() == before


def test_too_little_memory_is_an_error_and_the_process_lives() -> None:
    pytest.importorskip("resource")
    source = """
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
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
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


@pytest.mark.parametrize("settings_changed", [False, True])
def test_a_reused_one_remembers_nothing(
    settings_changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_module.py").write_text("count = 0\n")
    package = tmp_path / "users_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("import json as standard\ncount = 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = reused()
    source = """
        import gc, os, sys, threading, warnings, users_module, users_package.part, json, io
        users_module.count = users_package.part.count = json.memory = 5
        warnings.simplefilter("error")
        sys.stdout = io.StringIO()
        sys.excepthook = threading.excepthook = print
        sys.path.append("/nowhere")
        sys.argv.append("--nothing")
        sys.setrecursionlimit(4321)
        os.environ["MEMCHANNEL_TEST_OTHER"] = "3"
        gc.disable()
    """
    run(first, source).check()
    fresh = interpreters.create(packages=None)
    interpreters.close(first)
    if settings_changed:
        monkeypatch.setenv("MEMCHANNEL_TEST_VARIABLE", "2")
    second = reused()
    assert second.id == first.id
    assert value_of(second, "[name for name in globals() if name[:2] != '__']") == []
    run(fresh, "import gc, os, sys, threading, warnings").check()
    run(second, "import gc, os, sys, threading, warnings, users_module, users_package.part, json").check()
    assert value_of(second, "(users_module.count, users_package.part.count)") == (0, 0)
    assert value_of(second, "json.memory") == 5  # modules of the standard library stay
    for expression in (
        "[repr(f) for f in warnings.filters]",
        "sys.path",
        "sys.argv",
        "sys.getrecursionlimit()",
        "gc.isenabled()",
    ):
        assert value_of(second, expression) == value_of(fresh, expression)
    assert value_of(second, "dict(os.environ)") == dict(os.environ)
    assert value_of(second, "sys.stdout is sys.__stdout__ and sys.excepthook is sys.__excepthook__")
    assert value_of(second, "threading.excepthook is threading.__excepthook__")
    interpreters.close(second)
    interpreters.close(fresh)


def test_one_with_a_half_imported_package_is_not_reused() -> None:
    """In a process of its own: a parked one that has all of NumPy already would meet no error."""
    run_script("""
from memchannel import interpreters

HALF = '''
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy.random":
            raise ImportError("on purpose")

sys.meta_path.insert(0, Refusing())
try:
    import numpy
    import numpy.random
except ImportError:
    sys.modules.pop("numpy", None)  # as if NumPy's own import had failed
else:
    raise AssertionError("nothing was refused")
del sys.meta_path[0]
'''
first = interpreters.create(reuse=True)
interpreters.run(first, HALF).check()
number = first.id
interpreters.close(first)
second = interpreters.create(reuse=True)
assert second.id != number
interpreters.run(second, "import numpy; assert numpy.dtypes is not None").check()
interpreters.close(second)
""")


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


def test_a_reused_one_keeps_what_is_installed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another environment's packages, by a .pth file: extension modules that stay know these modules."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "from_elsewhere.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    first = reused()
    interpreters.run(first, "import from_elsewhere").check()
    interpreters.close(first)
    second = reused()
    assert second.id == first.id
    interpreters.run(second, "import sys; assert 'from_elsewhere' in sys.modules").check()
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


def test_locks_of_interrupted_imports_are_released():
    """As KeyboardInterrupt would leave them; another thread then waits for none."""
    interp = interpreters.create(packages=None)
    code = """
import _imp, sys
bootstrap = sys.modules["_frozen_importlib"]
lock = bootstrap._get_module_lock("colorsys")
lock.acquire()
_imp.acquire_lock()
_imp.acquire_lock()
from memchannel._setup import release_import_locks
release_import_locks()
assert not _imp.lock_held() and lock.owner is None
release_import_locks()
import colorsys
"""
    interpreters.run(interp, code).check()
    interpreters.run(interp, "import colorsys", thread=True).check()
    interpreters.close(interp)

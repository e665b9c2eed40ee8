"""memchannel.codecs.functions: what goes by reference, what by value, and what cannot go at all."""

from __future__ import annotations

import functools
import importlib.util
import json
import linecache
import operator
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from interpreter_support import run_program
from memchannel import interpreters
from memchannel.codecs import functions
from memchannel.codecs.functions import (
    by_reference,
    describe,
    dump_function,
    dumps_by_value,
    load_function,
    pickle_by_value,
    unpicklable_part,
)
from memchannel.codecs.object import loads
from memchannel.interpreters import Interpreter, run
from plain_types import Plain, Slots
from run_tasks import Point, double


@pytest.fixture(scope="module")
def interp() -> Iterator[Interpreter]:
    made = interpreters.create()
    yield made
    interpreters.close(made, timeout=60)


def load_module(path: Path, name: str) -> types.ModuleType:
    """Import a file that no sys.path leads to."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# ---- by reference


@pytest.mark.parametrize(
    "function",
    [json.dumps, operator.add, len, double, Point, np.sum, functools.partial(json.dumps, indent=1)],
)
def test_importable_functions_go_by_reference(function: Callable[..., Any]) -> None:
    payload, items = dump_function(function)
    assert items == []
    assert b"cloudpickle" not in payload
    loaded = load_function(payload, items)
    assert loaded is function or isinstance(function, functools.partial)


def test_by_reference_needs_no_cloudpickle() -> None:
    source = """
        import sys
        from memchannel.codecs.functions import dump_function, dumps_by_value
        import json
        dump_function(json.dumps)
        dumps_by_value({"a": [1, (2.5, "x")], json.dumps: json.JSONDecoder})
        print("cloudpickle" in sys.modules)
    """
    assert run_program(source) == "False\n"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (json.dumps, True),
        (json.JSONDecoder, True),
        (Point.moved, True),
        (lambda: 1, False),
        (test_importable_functions_go_by_reference, True),
    ],
)
def test_by_reference(obj: Any, expected: bool) -> None:
    assert by_reference(obj) is expected


def test_a_module_that_nobody_imported_yet_is_imported() -> None:
    source = """
        import sys
        import numpy as np
        from memchannel.codecs.functions import by_reference
        kept = np.recarray
        sys.modules.pop("numpy.rec", None)
        class Stray:
            pass
        Stray.__module__ = "no.such.module"
        print(by_reference(kept), by_reference(Stray))
    """
    assert run_program(source) == "True False\n"


def test_a_name_that_means_something_else_now_goes_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    before = double
    monkeypatch.setattr("run_tasks.double", lambda value: value * 3)
    assert not by_reference(before)


def test_a_module_that_is_not_on_the_path_goes_by_value(
    interp: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden_module.py").write_text(
        "class Box:\n    def __init__(self, x):\n        self.x = x\n\ndef boxed(x):\n    return Box(x + 1)\n"
    )
    module = load_module(tmp_path / "hidden_module.py", "hidden_module")
    try:
        assert not by_reference(module.boxed)
        box = run(interp, module.boxed, x=1).check().value
        assert type(box) is module.Box
        assert box.x == 2
        monkeypatch.syspath_prepend(str(tmp_path))
        assert by_reference(module.boxed)  # the answer follows sys.path
    finally:
        del sys.modules["hidden_module"]


def test_a_module_hidden_by_another_of_its_name_goes_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("loaded", "found"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twin_module.py").write_text("def f():\n    return __file__\n")
    module = load_module(tmp_path / "loaded" / "twin_module.py", "twin_module")
    try:
        monkeypatch.syspath_prepend(str(tmp_path / "found"))
        assert not by_reference(module.f)
    finally:
        del sys.modules["twin_module"]


def test_a_module_made_by_hand_goes_by_value(interp: Interpreter) -> None:
    module = types.ModuleType("handmade_module")
    exec("def f(x):\n    return x + 1", vars(module))
    sys.modules["handmade_module"] = module
    try:
        assert run(interp, module.f, x=1).check().value == 2
    finally:
        del sys.modules["handmade_module"]


# ---- by value


def test_functions_and_classes_of_main() -> None:
    source = """
        import dataclasses, enum, functools
        from memchannel import interpreters

        OFFSET = 10

        class Color(enum.Enum):
            RED = 1

        @dataclasses.dataclass
        class Point:
            x: int
            color: Color = Color.RED
            def moved(self, by):
                return Point(self.x + by + OFFSET)

        def helper(x):
            return x + OFFSET

        def work(x, by):
            return helper(x), Point(x).moved(by), [Point], Color.RED

        class Failure(Exception):
            pass

        def fail():
            raise Failure("here")

        interp = interpreters.create(packages=None)
        value = interpreters.run(interp, work, x=1, by=2).check().value
        assert value == (11, Point(13), [Point], Color.RED), value
        assert value[3] is Color.RED
        assert interpreters.run(interp, Point(1).moved, by=1).check().value == Point(12)
        try:
            interpreters.run(interp, fail).check()
        except Failure as exc:
            assert "in fail" in exc.__cause__.formatted
        else:
            raise AssertionError
        OFFSET = 20  # globals go along as they are at each run
        assert interpreters.run(interp, work, x=1, by=2).check().value[0] == 21
        interpreters.close(interp)
        print("done")
    """
    assert run_program(source) == "done\n"


def test_recursion_and_closures(interp: Interpreter) -> None:
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert run(interp, factorial, n=5).check().value == 120


def test_arrays_in_closures_are_not_copied(interp: Interpreter) -> None:
    array = np.arange(100_000.0)

    def look() -> tuple[int, float]:
        return array.ctypes.data, float(array.sum())

    payload, items = dump_function(look)
    assert len(payload) < 10_000
    assert items[0] is array
    assert run(interp, look).check().value == (array.ctypes.data, array.sum())


def test_items_may_be_limited_to_large_ones() -> None:
    small, large = np.arange(3), np.arange(100_000)
    payload, items = dumps_by_value((small, large, lambda: 1), lend_from=1000)
    assert [id(item) for item in items] == [id(large)]
    again: Any = loads(payload, items)
    assert again[0].tolist() == [0, 1, 2]
    assert again[1] is large


def test_sources_that_only_memory_holds_go_along(interp: Interpreter) -> None:
    lines = ["def remembered():\n", "    raise ValueError('x')  # from a cell\n"]
    linecache.cache["<cell 7>"] = (sum(map(len, lines)), None, lines, "<cell 7>")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("".join(lines), "<cell 7>", "exec"), names)
    for function in (names["remembered"], functools.partial(names["remembered"])):
        result = run(interp, function)
        assert result.exception is not None
        assert "# from a cell" in result.exception.formatted
        run(interp, "import linecache; linecache.clearcache()").check()


def test_a_traceback_names_the_file_of_a_function_by_value(interp: Interpreter) -> None:
    result = run(interp, lambda: 1 / 0)  # this line
    assert result.exception is not None
    assert f'File "{__file__}", line' in result.exception.formatted
    assert "1 / 0)  # this line" in result.exception.formatted


def test_pickle_by_value_is_bytes_alone() -> None:
    array = np.arange(5)
    again = pickle.loads(pickle_by_value({"f": lambda x: x + 1, "a": array}))
    assert again["f"](1) == 2
    assert again["a"].tolist() == array.tolist()
    assert pickle.loads(pickle_by_value(double)) is double


def test_main_alone_is_enough_for_by_value() -> None:
    """Nothing of memchannel needs to be in the namespace that the function sees."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("def f():\n    return sorted(globals())", names)
    assert "memchannel" not in load_function(*dump_function(names["f"]))()


# ---- what cannot go


class Holder:
    def __init__(self) -> None:
        self.fine = 1
        self.guard = threading.Lock()

    def method(self) -> None:
        pass


GUARD = threading.Lock()


def make_bad() -> dict[str, Callable[..., Any]]:
    holder = Holder()
    names: dict[str, Any] = {"__name__": "__main__", "GUARD": GUARD}
    exec("def uses_global():\n    return GUARD", names)

    def uses_closure() -> Any:
        return holder

    def has_default(first: int = 1, guard: Any = GUARD) -> None:
        pass

    def has_keyword(*, guard: Any = GUARD) -> None:
        pass

    def has_attribute() -> None:
        pass

    has_attribute.guard = GUARD  # type: ignore[attr-defined]
    return {
        "method": holder.method,
        "partial": functools.partial(double, {"k": [GUARD]}),
        "keyword": functools.partial(double, value=GUARD),
        "global": names["uses_global"],
        "closure": uses_closure,
        "default": has_default,
        "keyword default": has_keyword,
        "attribute": has_attribute,
    }


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("method", r"method 'Holder.method' .*: its object, attribute 'guard': "),
        ("partial", r"partial of function 'double' .*: argument 0, item 'k', item 0: "),
        ("keyword", r"partial of function 'double' .*: argument 'value': "),
        ("global", r"function 'uses_global' of module '__main__' .*: global variable 'GUARD': "),
        ("closure", r"uses_closure' .*: closure variable 'holder', attribute 'guard': "),
        ("default", r"has_default' .*: default value: "),
        ("keyword default", r"has_keyword' .*: default value of 'guard': "),
        ("attribute", r"has_attribute' .*: attribute 'guard': "),
    ],
)
def test_the_part_that_cannot_be_pickled_is_named(kind: str, text: str) -> None:
    with pytest.raises(pickle.PicklingError, match=text + "cannot pickle '_thread.lock' object") as caught:
        dump_function(make_bad()[kind])
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("thing", [3, None, "text", b"bytes"])
def test_not_callable(thing: Any) -> None:
    with pytest.raises(TypeError, match="not callable"):
        dump_function(thing)


def test_unpicklable_part() -> None:
    assert unpicklable_part([1, {"a": 2}]) == ""
    assert unpicklable_part(GUARD) == "cannot pickle '_thread.lock' object"
    deep: Any = GUARD
    for _ in range(50):
        deep = [deep]
    assert unpicklable_part(deep).startswith("item 0, item 0")
    loop: list[Any] = [GUARD]
    loop.append(loop)
    assert "_thread.lock" in unpicklable_part(loop)
    slots = Slots()
    slots.right = (1, GUARD)  # type: ignore[attr-defined]
    assert unpicklable_part([slots]).startswith("item 0, attribute 'right', item 1: ")


@pytest.mark.parametrize("by_value", [False, True])
def test_what_cannot_be_sent_says_where_it_is(by_value: bool) -> None:
    ch = memchannel.Channel[Any]()
    with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object") as caught:
        ch.send(Plain(deep={"key": [1, GUARD]}), by_value=by_value)
    notes = "\n".join(caught.value.__notes__)
    assert all(part in notes for part in ("'deep'", "'key'", "item 1")), notes
    with pytest.raises(pickle.PicklingError, match="a memoryview cannot be pickled") as caught_view:
        ch.send([memoryview(b"x")], by_value=by_value)
    assert "item 0" in caught_view.value.__notes__[0]
    with pytest.raises(TypeError) as caught_alone:
        ch.send(GUARD, by_value=by_value)
    assert not hasattr(caught_alone.value, "__notes__")
    assert len(ch) == 0


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (double, "function 'double' of module 'run_tasks'"),
        (Point, "class 'Point' of module 'run_tasks'"),
        (Point(1, 2).moved, "method 'Point.moved' of module 'run_tasks'"),
        (functools.partial(double, 1), "partial of function 'double' of module 'run_tasks'"),
        (np.add, "function 'add' of module"),
        (operator.itemgetter(1), "'itemgetter' object"),
    ],
)
def test_describe(function: Any, text: str) -> None:
    assert describe(function).startswith(text)


def test_all_public_names_exist() -> None:
    assert all(hasattr(functions, name) for name in functions.__all__)

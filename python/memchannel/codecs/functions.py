"""Pickling of what another interpreter cannot import: by reference where it can, by value where it cannot.

Functions and classes of ``__main__``, of notebooks and of modules that are not on `sys.path`, lambdas and
closures travel by value (cloudpickle); everything else as `memchannel.codecs.object` pickles it. Interpreters
of one process search the same `sys.path`, so what is importable here by name is importable there.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import io
import linecache
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from memchannel import sharing
from memchannel.codecs import object as object_codec
from memchannel.codecs.object import UNPICKLABLE

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = [
    "UNPICKLABLE",
    "by_reference",
    "describe",
    "dump_function",
    "dumps_by_value",
    "dumps_sent_by_value",
    "load_function",
    "pickle_by_value",
    "remember_sources",
    "say_where",
    "source_lines",
    "unpicklable_part",
]

_MAIN = ("__main__", "__mp_main__")

# Whether modules can be found on a certain sys.path: (path, {module name: answer}).
_reachable_modules: tuple[tuple[str, ...], dict[str, bool]] = ((), {})


class _ByValueNeededError(Exception):
    """The plain pickler met something that the other side cannot import."""


def _find_spec(name: str) -> ModuleSpec | None:
    # Not importlib.util.find_spec: that answers from sys.modules, which is this interpreter's alone.
    path: Any = None
    if parent := name.rpartition(".")[0]:
        path = getattr(sys.modules.get(parent), "__path__", None)
        if path is None:
            return None
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _same_origin(module: types.ModuleType, spec: ModuleSpec) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or not spec.has_location or spec.origin is None:
        return True
    try:
        return os.path.samefile(file, spec.origin)
    except OSError:  # inside an archive
        return bool(file == spec.origin)


def _reachable(name: str) -> bool:
    """Whether importing `name` in another interpreter gives the module that it is here."""
    global _reachable_modules  # noqa: PLW0603 - replaced as a whole when sys.path changes
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return True
    path = tuple(sys.path)
    if _reachable_modules[0] != path:
        _reachable_modules = (path, {})
    answers = _reachable_modules[1]
    if name not in answers:
        module = sys.modules.get(name)
        parent = name.rpartition(".")[0]
        spec = None
        if module is not None and (not parent or _reachable(parent)):
            spec = _find_spec(name)
        answers[name] = spec is not None and module is not None and _same_origin(module, spec)
    return answers[name]


def _imported(name: str) -> types.ModuleType | None:
    """Import a module as pickle does (Modules/_pickle.c, save_global): numpy.rec is not before its use."""
    if name not in sys.modules:
        try:
            importlib.import_module(name)
        except Exception:  # whatever it raises, there is no such module
            return None
    return sys.modules.get(name)


def by_reference(obj: Any) -> bool:
    """Whether another interpreter gets this function or class by importing its module.

    Parameters
    ----------
    obj : function or class
        Anything with ``__module__`` and ``__qualname__``.
    """
    name = getattr(obj, "__module__", None)
    if name is None or name in _MAIN:
        return False
    found: Any = _imported(name)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj and _reachable(name)


def _is_output(obj: object) -> bool:
    """Whether this is where a task prints to, which is the worker's business."""
    return obj is sys.stdout or obj is sys.stderr


class _PlainPickler(object_codec._Pickler):
    """Gives up at the first thing that needs cloudpickle, so that plain objects do not import it."""

    def reducer_override(self, obj: Any) -> Any:
        if _is_output(obj):
            raise _ByValueNeededError
        reduced = super().reduce(obj)
        if reduced is NotImplemented and isinstance(obj, (types.FunctionType, type)) and not _plain(obj):
            raise _ByValueNeededError
        return reduced


def _plain(obj: Any) -> bool:
    # Types such as NoneType and function say they are builtins' but are not found there; pickle knows them.
    return obj.__module__ == "builtins" or by_reference(obj)


def _code_of_file(filename: str, kind: Callable[..., types.CodeType], *arguments: Any) -> types.CodeType:
    """Make a code object that tells its file, which cloudpickle drops: tracebacks need it to show source."""
    return kind(*arguments).replace(co_filename=filename)


@functools.cache
def _by_value_pickler() -> type[object_codec._Pickler]:
    import cloudpickle
    from cloudpickle import cloudpickle as implementation

    class ByValuePickler(object_codec._Pickler, cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if _is_output(obj):
                return NotImplemented  # cloudpickle's way: that of the other side
            reduced = object_codec._Pickler.reduce(self, obj)
            if reduced is not NotImplemented:
                return reduced
            if isinstance(obj, types.CodeType):
                kind, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)
                return _code_of_file, (obj.co_filename, kind, *arguments)
            # cloudpickle takes every module in sys.modules for importable; the two cases below do not.
            if isinstance(obj, types.FunctionType):
                return NotImplemented if by_reference(obj) else self._dynamic_function_reduce(obj)
            if isinstance(obj, type) and not _plain(obj):
                return implementation._dynamic_class_reduce(obj)
            return cloudpickle.Pickler.reducer_override(self, obj)

    return ByValuePickler


def _dump(
    pickler: type[object_codec._Pickler],
    obj: object,
    lend_from: int,
    known: sharing.Known,
    plain_exceptions: bool,
) -> tuple[bytes, list[Any]]:
    file = io.BytesIO()
    items: list[Any] = []
    pickler(file, object_codec._Taken(items, lend_from), known, plain_exceptions).dump(obj)
    return file.getvalue(), items


def dumps_by_value(
    obj: object,
    lend_from: int = 0,
    *,
    known: sharing.Known | None = None,
    plain_exceptions: bool = False,
) -> tuple[bytes, list[Any]]:
    """Pickle as `memchannel.codecs.object.dumps` does, with functions and classes by value where they must.

    `memchannel.codecs.object.loads` makes the object again. Exceptions travel as snapshots, or as pickle has
    it.

    Returns
    -------
    payload : bytes
    items : list
        Arrays and buffers of `lend_from` bytes and more, and channel ends, which travel beside the payload.
    """
    known = known or sharing.Known()
    try:
        return _dump(_PlainPickler, obj, lend_from, known, plain_exceptions)
    except Exception:
        if known.failed:  # what a registered type's share() raised
            raise
        # cloudpickle may do what plain pickle cannot: what _ByValueNeededError stands for, modules, cells.
        return _dump(_by_value_pickler(), obj, lend_from, known, plain_exceptions)


def dumps_sent_by_value(obj: object, lend_from: int = 0) -> tuple[bytes, list[Any]]:
    """Pickle as `dumps_by_value` does; an error says where it is."""
    known = sharing.Known()
    try:
        return dumps_by_value(obj, lend_from, known=known)
    except UNPICKLABLE as exc:
        if not known.failed:
            say_where(exc, obj, functools.partial(dumps_by_value, known=known))
        raise


def pickle_by_value(obj: object) -> bytes:
    """Pickle to bytes alone, arrays inside copied; `pickle.loads` makes the object again.

    Channel ends inside are opened by their ids there: they must be alive until then.
    """
    payload, items = dumps_by_value(obj, object_codec.NEVER)
    if not items:
        return payload
    import cloudpickle

    data: bytes = cloudpickle.dumps(obj, 5)
    return data


# ---- functions


def describe(function: object) -> str:
    """Name a callable for messages: ``function 'f' of module 'm'``."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", None)
    if name is None:
        return f"{type(function).__name__!r} object"
    kind = (
        "class"
        if isinstance(inner, type)
        else "method"
        if isinstance(inner, types.MethodType)
        else "function"
    )
    text = f"{kind} {name!r} of module {getattr(inner, '__module__', None)!r}"
    return f"partial of {text}" if inner is not function else text


def _code_of(function: object) -> types.CodeType | None:
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return getattr(function, "__code__", None)


def source_lines(function: object) -> dict[str, list[str]]:
    """Source lines that only this interpreter has: of notebook cells and of the interactive prompt."""
    code = _code_of(function)
    entry = linecache.cache.get(code.co_filename) if code else None
    if code is None or entry is None or len(entry) != 4 or os.path.exists(code.co_filename):
        return {}
    return {code.co_filename: entry[2]}


def dump_function(function: Callable[..., Any], lend_from: int = 0) -> tuple[bytes, list[Any]]:
    """Pickle a function for another interpreter: by reference if it can be imported there, else by value.

    A function by value takes along the globals it names, its closure and its defaults as they are now. Arrays
    among them come beside the payload, see `dumps_by_value`.

    Raises
    ------
    TypeError
        Not callable.
    pickle.PicklingError
        The function holds something that cannot be pickled; the message names the function and that part.
    """
    if not callable(function):
        raise TypeError(f"the function to be called is not callable: {function!r}")
    sources = source_lines(function)
    try:
        return dumps_by_value((function, sources) if sources else function, lend_from)
    except Exception as exc:
        part = unpicklable_part(function)
        raise pickle.PicklingError(f"{describe(function)} cannot be pickled: {part or exc}") from exc


def load_function(payload: bytes, items: list[Any] | None = None) -> Callable[..., Any]:
    """Make the function that `dump_function` pickled."""
    loaded: Any = object_codec.loads(payload, items or [])
    if not isinstance(loaded, tuple):
        function: Callable[..., Any] = loaded
        return function
    function, sources = loaded
    remember_sources(sources)
    return function


def remember_sources(sources: dict[str, list[str]]) -> None:
    """Let tracebacks of this interpreter show source lines that exist only in another's memory."""
    for filename, lines in sources.items():
        # No modification time: linecache.checkcache() leaves such entries alone.
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)


# ---- which part cannot be pickled


class _Part(NamedTuple):
    label: str
    value: object


def _function_parts(function: types.FunctionType) -> Iterator[_Part]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield _Part(f"closure variable {name!r}", cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield _Part(f"global variable {name!r}", function.__globals__[name])
    for value in function.__defaults__ or ():
        yield _Part("default value", value)
    for name, value in (function.__kwdefaults__ or {}).items():
        yield _Part(f"default value of {name!r}", value)
    for name, value in vars(function).items():
        yield _Part(f"attribute {name!r}", value)


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _parts(obj: object) -> Iterator[_Part]:
    if isinstance(obj, functools.partial):
        yield _Part("the function", obj.func)
        yield from (_Part(f"argument {i}", value) for i, value in enumerate(obj.args))
        yield from (_Part(f"argument {name!r}", value) for name, value in obj.keywords.items())
    elif isinstance(obj, types.MethodType):
        yield _Part("its object", obj.__self__)
    elif isinstance(obj, types.FunctionType):
        yield from _function_parts(obj)
    elif isinstance(obj, dict):
        yield from (_Part(f"item {key!r}", value) for key, value in obj.items())
    elif isinstance(obj, (list, tuple, set, frozenset)):
        yield from (_Part(f"item {i}", value) for i, value in enumerate(obj))
    elif isinstance(obj, type):
        yield from (_Part(f"class attribute {name!r}", value) for name, value in vars(obj).items())
    elif type(obj).__reduce__ is object.__reduce__:  # else what is pickled need not be its attributes
        yield from (
            _Part(f"attribute {name!r}", value) for name, value in getattr(obj, "__dict__", {}).items()
        )
        slots: list[str] = copyreg._slotnames(type(obj))  # type: ignore[attr-defined]
        yield from (_Part(f"attribute {name!r}", getattr(obj, name)) for name in slots if hasattr(obj, name))


def _failure(obj: object, dump: Callable[[object], object]) -> str | None:
    try:
        dump(obj)
    except Exception as exc:
        # Text, not the exception: kept by a caller, it would keep the caller's frame and itself.
        return str(exc) or type(exc).__name__
    return None


def unpicklable_part(obj: object, depth: int = 6, dump: Callable[[object], object] = dumps_by_value) -> str:
    """Say which part of an object cannot be pickled, by `dump`, and why; empty if all of it can.

    Examples
    --------
    >>> import threading
    >>> from memchannel.codecs.functions import unpicklable_part
    >>> unpicklable_part({"guard": [threading.Lock()]})
    "item 'guard', item 0: cannot pickle '_thread.lock' object"
    """
    failure = _failure(obj, dump)
    if failure is None:
        return ""
    labels: list[str] = []
    while depth > len(labels):
        for part in _parts(obj):
            part_failure = _failure(part.value, dump)
            if part_failure is not None:
                labels.append(part.label)
                obj, failure = part.value, part_failure
                break
        else:
            break
    return f"{', '.join(labels)}: {failure}" if labels else failure


def say_where(exc: BaseException, obj: object, dump: Callable[[object], object]) -> None:
    """Note the part of `obj` that `dump` could not pickle; Python 3.14 and later do it by themselves."""
    if getattr(exc, "__notes__", None):
        return
    part = unpicklable_part(obj, dump=dump)
    if part and part != str(exc):
        exc.add_note(f"cannot be sent: {part}")

"""Inside an interpreter that memchannel made: set up when it is new, cleaned when it is to be used again."""

from __future__ import annotations

import _imp
import contextlib
import gc
import os
import site
import sys
import threading
import warnings
from types import ModuleType
from typing import Any, NamedTuple

from memchannel import _core, sharing

__all__ = ["Settings", "clean", "current_settings", "release_import_locks", "set_up"]

_settings: Settings | None = None
_fresh_modules: frozenset[str] = frozenset()
_fresh_filters: list[Any] = []
_NAMES_OF_INSTALLED = {"site-packages", "dist-packages"}


class Settings(NamedTuple):
    """What an interpreter takes over from the one that makes it. Literals only: it travels as source text."""

    path: list[str]
    argv: list[str]
    environment: dict[str, str]
    dont_write_bytecode: bool
    recursion_limit: int
    switch_interval: float
    int_max_str_digits: int
    registered: sharing.Inherited


def _is_str(entry: object) -> bool:
    return isinstance(entry, str)


def current_settings() -> Settings:
    """Return the settings of this interpreter."""
    return Settings(
        list(filter(_is_str, sys.path)),  # the import system skips everything else
        [str(argument) for argument in getattr(sys, "argv", [])],
        dict(os.environ),
        bool(sys.dont_write_bytecode),
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.get_int_max_str_digits(),
        sharing.bequest(),
    )


def set_up(settings: Settings, packages: tuple[str, ...]) -> None:
    """Take over the settings of another interpreter and let packages load as private images."""
    global _settings, _fresh_modules, _fresh_filters  # noqa: PLW0603 - one note per interpreter
    _settings = settings
    _take_over(settings)
    if not _fresh_modules:
        _fresh_modules = frozenset(sys.modules)
        _fresh_filters = list(warnings.filters)
    if packages:
        from memchannel import images

        images._cover(packages)  # whoever makes an interpreter has checked them


def _take_over(settings: Settings) -> None:
    sys.path[:] = settings.path
    sys.argv[:] = settings.argv
    sys.dont_write_bytecode = settings.dont_write_bytecode
    sys.setrecursionlimit(settings.recursion_limit)
    sys.setswitchinterval(settings.switch_interval)
    sys.set_int_max_str_digits(settings.int_max_str_digits)
    _adopt_environment(settings.environment)
    sharing.inherit(settings.registered)


def _adopt_environment(environment: dict[str, str]) -> None:
    # Each interpreter's os.environ is a copy of the process's environment, which the other interpreter
    # changed along with its own: nothing to put or unset here but the copy.
    environ: Any = os.environ
    environ._data.clear()
    environ._data.update(
        {environ.encodekey(name): environ.encodevalue(value) for name, value in environment.items()}
    )


# ---- cleaning


def release_import_locks() -> None:
    """Release what imports that KeyboardInterrupt ended left locked by this thread, which imports nothing.

    One that comes between the taking of a lock and the ``try`` whose ``finally`` would release it
    (Lib/importlib/_bootstrap.py, ``_get_module_lock`` and ``_ModuleLock``) makes other threads wait for ever.
    """
    with contextlib.suppress(RuntimeError):  # not held, or not by this thread
        while True:
            _imp.release_lock()
    thread = threading.get_ident()
    locks: dict[str, Any] = sys.modules["_frozen_importlib"]._module_locks
    for reference in list(locks.values()):
        lock = reference()
        while lock is not None and lock.owner == thread:
            lock.release()


def _installed_directories() -> tuple[str, ...]:
    import sysconfig

    # "stdlib" for the packages that sys.stdlib_module_names leaves out: test and its like.
    found = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
    found.update(getattr(site, "getsitepackages", list)())
    if user := getattr(site, "getusersitepackages", str)():
        found.add(user)
    # Those that a .pth file or PYTHONPATH adds: of another environment, which this one builds on.
    found.update(entry for entry in sys.path if os.path.basename(entry.rstrip(os.sep)) in _NAMES_OF_INSTALLED)
    return tuple(os.path.join(directory, "") for directory in found)


def _keeps(name: str, module: ModuleType, installed: tuple[str, ...]) -> bool:
    """Whether one module is reason enough to keep its whole package."""
    file = getattr(module, "__file__", None)
    if name in _fresh_modules:
        return True
    if not isinstance(file, str):  # a namespace package, or made by hand
        return False
    # Loading an extension module a second time is not what its authors tried.
    return not file.endswith((".py", ".pyc")) or file.startswith(installed)


def _users_own_modules() -> list[str]:
    """Name the modules of users' own files: not fresh, not installed, no extension module beside them."""
    installed = _installed_directories()
    packages: dict[str, list[str]] = {}
    kept = {"__main__", "memchannel"} | sys.stdlib_module_names
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        packages.setdefault(top, []).append(name)
        if _keeps(name, module, installed):
            kept.add(top)
    own = [name for top, names in packages.items() if top not in kept for name in names]
    # Their classes derive from those of a library, which may be among what is forgotten.
    return own + [name for name in sys.modules if name.startswith("memchannel.integrations")]


def _half_imported() -> list[str]:
    """Name the modules left of imports that failed: their package is gone, and would come without them.

    A package that is imported again finds them, and does not get them as attributes (NumPy's `__getattr__`
    then calls itself for ever).
    """
    return [
        name for name in sys.modules if (package := name.rpartition(".")[0]) and package not in sys.modules
    ]


def _own_threads() -> list[str]:
    # Threads that only passed through (each run of this interpreter may come on another) are dummies.
    alien = threading._DummyThread, threading._MainThread  # type: ignore[attr-defined]
    return [thread.name for thread in threading.enumerate() if not isinstance(thread, alien)]


def clean() -> None:
    """Forget what was run here, so that the interpreter is as good as new.

    Forgotten are names of ``__main__``, users' own modules and the types that they registered, calls queued
    by ``call_soon``, locks that it holds (who wants them is told, as if it had ended), hooks and streams of
    `sys`, warnings filters, garbage. Settings are those again that it was set up with. Modules of the
    standard library and of installed packages stay, with what they remember: they are what makes a reused
    interpreter cheap.

    Raises
    ------
    RuntimeError
        A thread that `threading` started here is still running; who parks looks for others before. Or an
        import of an installed package failed half-way.
    """
    if threads := _own_threads():
        raise RuntimeError(f"threads are running: {', '.join(threads)}")
    _core._forget_callbacks()
    _core._abandon_locks()
    main = vars(sys.modules["__main__"])
    for name in [name for name in main if not (name.startswith("__") and name.endswith("__"))]:
        del main[name]
    users_own = _users_own_modules()
    for name in users_own:
        del sys.modules[name]
    if left := _half_imported():
        raise RuntimeError(f"left of imports that failed: {', '.join(left)}")
    sharing.forget({"__main__", "__mp_main__", *users_own})
    sys.stdout, sys.stderr, sys.stdin = sys.__stdout__, sys.__stderr__, sys.__stdin__
    sys.excepthook, sys.displayhook, sys.unraisablehook = (
        sys.__excepthook__,
        sys.__displayhook__,
        sys.__unraisablehook__,
    )
    threading.excepthook = threading.__excepthook__
    sys.setprofile(None)
    sys.settrace(None)
    if warnings.filters != _fresh_filters:
        warnings.resetwarnings()  # lets the modules' registries of shown warnings expire
        warnings.filters[:] = _fresh_filters  # type: ignore[index]
    if _settings is not None:
        _take_over(_settings)
    gc.enable()
    gc.collect()

"""Inside an interpreter that is used again and again: back to how it was when it was made."""

from __future__ import annotations

import gc
import sys
import sysconfig
import threading
import warnings
from typing import Any

__all__ = ["clean", "remember"]

_modules: frozenset[str] = frozenset()
_filters: list[Any] = []


def remember() -> None:
    """Take note of what a fresh interpreter has."""
    global _modules, _filters  # noqa: PLW0603 - one note per interpreter
    _modules = frozenset(sys.modules)
    _filters = list(warnings.filters)


def _is_users_own(name: str, module: object) -> bool:
    file = getattr(module, "__file__", None)
    if name in _modules or name.partition(".")[0] == "memchannel" or not isinstance(file, str):
        return False
    installed = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    # Extension modules stay: loading one again is not what its authors tried.
    return file.endswith(".py") and not file.startswith(installed)


def clean() -> None:
    """Forget what was run here: names of ``__main__``, users' own modules, warnings filters, garbage.

    Modules of the standard library and of installed packages stay: they are what makes a reused interpreter
    cheap.

    Raises
    ------
    RuntimeError
        A thread is still running.
    """
    # Threads that only passed through (each run of this interpreter may come on another) are dummies.
    own = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
    others = [thread.name for thread in own if thread is not threading.main_thread()]
    if others:
        raise RuntimeError(f"threads are running: {', '.join(others)}")
    main = vars(sys.modules["__main__"])
    for name in [name for name in main if not (name.startswith("__") and name.endswith("__"))]:
        if name != "memchannel":
            del main[name]
    for name in [name for name, module in list(sys.modules.items()) if _is_users_own(name, module)]:
        del sys.modules[name]
    if warnings.filters != _filters:
        warnings.resetwarnings()
        warnings.filters[:] = _filters  # type: ignore[index]
    gc.collect()

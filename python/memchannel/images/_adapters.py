"""What single modules need besides a private image, done as they are executed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

from ._libraries import Libraries

# The start of what NumPy says, at the end of its own import, in an interpreter other than the main one.
_NUMPY_WARNING = "NumPy was imported from a Python sub-interpreter"

# Frames from an adapter to the caller of importlib.reload().
_OF_RELOAD = 5


def adapt(name: str, loader: Any, libraries: Libraries) -> None:
    """Have a loader execute the module `name` in its adapter, if there is one for it.

    The method of the loader's instance is exchanged, once: the class stays the one that its finder chose.
    """
    if name not in _ADAPTERS or loader is None:
        return
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        with _ADAPTERS[name](module, libraries):
            execute(module)

    loader.exec_module = exec_module


@contextmanager
def _without_numpy_warning(module: ModuleType, libraries: Libraries) -> Iterator[None]:
    """Leave out NumPy's warning of C statics that interpreters share, which private images do not.

    NumPy gives it in place of its warning of a reload, which is given here.

    One entry goes into the filters and comes out again. `warnings.catch_warnings` would restore the whole
    list, and with it drop filters that NumPy's own modules add meanwhile.
    """
    import re
    import warnings

    again = hasattr(module, "ndarray")
    entry = ("ignore", re.compile(_NUMPY_WARNING), UserWarning, None, 0)
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    filters.insert(0, entry)
    try:
        yield
    finally:
        if entry in filters:
            filters.remove(entry)
    if again:
        text = "NumPy was reloaded (imported a second time), which its own modules do not reckon with"
        warnings.warn(text, UserWarning, stacklevel=_OF_RELOAD)


@contextmanager
def _with_private_llvm(module: Any, libraries: Libraries) -> Iterator[None]:
    """Give llvmlite its own LLVM.

    It opens the library by ctypes, so that all interpreters would have one, and guards LLVM's global context
    by a lock of one interpreter: two that compile at once crash.
    """
    import ctypes

    yield
    path = os.path.join(os.path.dirname(module.__file__), module.get_library_name())
    module.lib._lib_handle = ctypes.CDLL(path, handle=libraries.load_library(path).handle)


_ADAPTERS: dict[str, Callable[[ModuleType, Libraries], AbstractContextManager[None]]] = {
    "numpy": _without_numpy_warning,
    "llvmlite.binding.ffi": _with_private_llvm,
}

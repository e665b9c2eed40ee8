"""Extension modules that refuse isolated interpreters, NumPy's first of all, loaded into them.

An interpreter with its own GIL refuses an extension module that keeps state in C statics, because there is
one copy of those per process. Here each interpreter gets its own copy of the module's shared object, a
*private image*::

    import memchannel.images

    memchannel.images.enable("numpy", "scipy")  # first thing in the interpreter
    import numpy, scipy.ndimage

Packages are named as they are imported, and cover what they import themselves. `probe` tries a package in a
child process; docs/packages.md lists those tried, how it works, limits and costs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._errors import ImageError

if TYPE_CHECKING:
    from ._finder import ImageFinder
    from ._probe import ProbeResult, probe

__all__ = [
    "ImageError",
    "ProbeResult",
    "bootstrap",
    "covered",
    "enable",
    "loaded",
    "prepare_main",
    "private_libraries",
    "probe",
    "unsupported_reason",
]

_installed: ImageFinder | None = None


def enable(*packages: str) -> None:
    """Let packages load as private images in the current interpreter.

    Each call adds to the earlier ones. In the main interpreter nothing is done: there every package loads as
    usual.

    Parameters
    ----------
    *packages : str
        Top-level names as they are imported (`"skimage"`, not `"scikit-image"`). NumPy needs no naming. What
        a covered package imports, or its distribution requires, is covered as well; `"all"` covers every
        extension module outside the standard library. The same holds for the built-in modules that refuse
        such interpreters (`faulthandler`, `_tracemalloc`), whose state stays the whole process's.

    Raises
    ------
    ModuleNotFoundError
        A package is not installed.
    ImageError
        A package is known not to work, or the platform does not support private images.
    TypeError, ValueError
        A name is not a string, or not a top-level name.
    """
    names = packages or ("numpy",)
    for name in names:
        _check_name(name)
    if _in_main_interpreter():
        return
    if (reason := unsupported_reason()) is not None:
        raise ImageError(reason)
    for name in names:
        _check_package(name)
    _cover(names)


def _cover(names: tuple[str, ...]) -> None:
    """Do what `enable` does with packages that were checked, in another interpreter with the same path."""
    global _installed  # noqa: PLW0603 - one finder per interpreter, as sys.meta_path is
    if _installed is None:
        from ._finder import ImageFinder

        _installed = ImageFinder(_current_interpreter(), __path__)
    _installed.add(names)
    if sys.meta_path[:1] != [_installed]:  # in front again, of finders added meanwhile too
        sys.meta_path[:] = [_installed, *(finder for finder in sys.meta_path if finder is not _installed)]


def covered() -> frozenset[str]:
    """Return the packages covered in this interpreter by now: those enabled, and what they imported."""
    return frozenset() if _installed is None else _installed.covered


def loaded() -> dict[str, str]:
    """Return the modules of this interpreter that are private images: name to original file."""
    if _installed is None:
        return {}
    from ._loader import PrivateImageLoader

    loaders = {name: getattr(module, "__loader__", None) for name, module in list(sys.modules.items())}
    return {
        name: loader.path
        for name, loader in loaders.items()
        if isinstance(loader, PrivateImageLoader) and loader.image is not None
    }


def private_libraries() -> list[str]:
    """Return the files of the other libraries of which this interpreter has a copy of its own."""
    return [] if _installed is None else _installed.libraries.private_libraries()


def bootstrap(packages: tuple[str, ...] = ("numpy",)) -> str:
    """Return the source that sets a new interpreter up, to be run in it before any other import.

    `sys.path` must lead to memchannel and the packages before it runs.
    """
    for name in packages:
        _check_name(name)
    return f"import memchannel.images\nmemchannel.images.enable({', '.join(map(repr, packages))})\n"


def prepare_main() -> None:
    """Do in the main interpreter what must come before the first other interpreter.

    On CPython 3.13 the destruction of several interpreters that imported `_datetime` aborts (a tuple of one
    interpreter on the free list of another), unless the main interpreter imported it first.
    """
    if sys.version_info < (3, 14):
        import datetime  # noqa: F401


def unsupported_reason() -> str | None:
    """Why private images cannot work on this platform and build of Python, or None where they can."""
    from ._elf import unsupported_platform

    return unsupported_platform()


def _current_interpreter() -> int:
    import _interpreters

    return int(_interpreters.get_current()[0])


def _in_main_interpreter() -> bool:
    import _interpreters

    return _current_interpreter() == int(_interpreters.get_main()[0])


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a package is named by a str, not {type(name).__name__!r}: {name!r}")
    if not name.isidentifier() and "." in name:
        raise ValueError(f"name the top-level package {name.partition('.')[0]!r}, not {name!r}")


def _check_package(name: str) -> None:
    from importlib.util import find_spec

    from ._finder import ALL
    from ._packages import PACKAGES, import_name

    if name == ALL:
        return
    if name in PACKAGES and PACKAGES[name].refused:
        raise ImageError(
            f"package {name!r} cannot be loaded into this interpreter: {PACKAGES[name].refused}", name=name
        )
    if find_spec(name) is None:
        known = import_name(name)
        hint = f"; the distribution {name!r} is imported as {known!r}" if known else ""
        raise ModuleNotFoundError(
            f"No module named {name!r}: it cannot be enabled as it is not installed on sys.path{hint}",
            name=name,
        )


def __getattr__(name: str) -> Any:
    # Only the doctor needs these, and the modules they need.
    if name in ("ProbeResult", "probe"):
        from . import _probe

        return getattr(_probe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The meta-path finder that decides which extension modules load as private images."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

from ._adapters import adapt
from ._libraries import Libraries
from ._loader import (
    LiftedBuiltinLoader,
    PrivateImageLoader,
    RefusingLoader,
    UncoveredLoader,
    is_extension,
    load_substitutes,
)
from ._packages import PACKAGES

ALL = "all"
_LIB_DYNLOAD = (
    f"{sys.base_exec_prefix}/{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}/lib-dynload/"
)
_REFUSING_BUILTINS = frozenset(("_tracemalloc", "faulthandler"))
_OURS = __name__.partition(".")[0]


def _top(name: str) -> str:
    return name.partition(".")[0]


class ImageFinder:
    """Asks the finders behind it and exchanges the loader of extension modules.

    An extension module is *covered* where its top-level package is in a set. NumPy and the packages given to
    `add` are in it. Whenever the code that imports a module, skipping frames of the standard library,
    belongs to a covered package, the module's top-level package joins; and so does what the distributions of
    the packages given declare to require, looked up when a module would be refused. Never covered are the
    standard library and memchannel's own extension, of which there must be one per process.

    Modules that declare support for an own GIL are no exception. The declaration does not cover what they
    keep in C statics unawares: SciPy's `_batched_linalg` makes it and keeps NumPy's API table, one
    interpreter's `ndarray` with it, in one.
    """

    def __init__(self, interpreter: int, folder: Sequence[str]) -> None:
        self.libraries = Libraries(interpreter)
        load_substitutes(self.libraries, folder)
        self._named: set[str] = {"numpy"}
        self._covered: set[str] = {"numpy"}
        self._required: set[str] = set()
        self._looked_up: frozenset[str] = frozenset()
        self._busy = threading.local()

    @property
    def covered(self) -> frozenset[str]:
        """The packages covered by now, "all" included if it was given."""
        return frozenset(self._covered)

    def add(self, packages: Sequence[str]) -> None:
        """Cover more packages."""
        self._named.update(packages)
        self._covered.update(packages)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as the finders behind this one do, and see to its loader."""
        searching: set[str] = self._busy.__dict__.setdefault("names", set())
        if name in searching:  # a finder behind this one searches the whole meta path
            return None
        searching.add(name)
        try:
            spec = self._find_behind(name, path, target)
        finally:
            searching.discard(name)
        if spec is not None and _top(name) != _OURS:
            self._choose_loader(spec, sys._getframe(1))
        return spec

    def _find_behind(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        for finder in finders[finders.index(self) + 1 :] if self in finders else finders:
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec(name, path, target) if find_spec is not None else None
            if spec is not None:
                return spec  # type: ignore[no-any-return]
        return None

    def _choose_loader(self, spec: ModuleSpec, importer: FrameType | None) -> None:
        top = _top(spec.name)
        if top in sys.stdlib_module_names:
            if top in _REFUSING_BUILTINS and spec.origin == "built-in" and self._is_covered(top, importer):
                spec.loader = LiftedBuiltinLoader()  # type: ignore[assignment]
            return
        covered = self._is_covered(top, importer) or (is_extension(spec) and self._is_required(top))
        if covered and spec.name in PACKAGES and PACKAGES[spec.name].refused:
            spec.loader = RefusingLoader(PACKAGES[spec.name].refused)  # type: ignore[assignment]
        elif is_extension(spec) and spec.origin is not None and not spec.origin.startswith(_LIB_DYNLOAD):
            if covered:
                spec.loader = PrivateImageLoader(spec.name, spec.origin, self.libraries, top)
            else:
                spec.loader = UncoveredLoader(spec.name, spec.origin, self._named)
        elif covered:
            adapt(spec.name, spec.loader, self.libraries)

    def _is_covered(self, top: str, importer: FrameType | None) -> bool:
        if top in self._covered or ALL in self._covered:
            return True
        if _importing_package(importer) not in self._covered:
            return False
        self._covered.add(top)
        return True

    def _is_required(self, top: str) -> bool:
        looked_up = frozenset(self._named)
        if looked_up != self._looked_up:
            from ._dependencies import required_packages

            self._required = required_packages(self._named)
            self._looked_up = looked_up
        if top not in self._required:
            return False
        self._covered.add(top)
        return True


def _importing_package(frame: FrameType | None) -> str | None:
    """Return the top-level package whose code imports, given the frame that called a finder.

    Frames of the standard library are passed over: those of the import system, and of
    `importlib.import_module`, `pickle`, `functools` and the like, that import on behalf of who called them.
    """
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and _top(name) not in sys.stdlib_module_names:
            return _top(name)
        frame = frame.f_back
    return None

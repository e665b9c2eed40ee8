"""Loaders for extension modules in an interpreter with its own GIL."""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, ModuleSpec, PathFinder
from types import BuiltinFunctionType, ModuleType
from typing import Any

from . import _libc
from ._elf import ElfFile
from ._errors import ImageError
from ._image import Image, explain_descriptors
from ._libraries import Libraries

FROM_DEFINITION, FROM_SLOTS = "PyModule_FromDefAndSpec2", "PyModule_FromSlotsAndSpec"


class PrivateImageLoader(ExtensionFileLoader):
    """Loads an extension module from a private image of its file."""

    def __init__(self, name: str, path: str, libraries: Libraries, package: str) -> None:
        super().__init__(name, path)
        self._libraries = libraries
        self._package = package
        self.image: Image | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load an image and create the module from it."""
        try:
            with explain_descriptors(self.path), ElfFile(self.path) as elf:
                image = self._libraries.load_module(elf)
            module = _create(spec, image, self._libraries.substitutes)
        except ImageError as error:
            raise ImageError(
                f"module {spec.name!r} of package {self._package!r} cannot be loaded into this interpreter: "
                f"{error}",
                name=spec.name,
                path=self.path,
            ) from error
        self.image = image
        return module


def _create(spec: ModuleSpec, image: Image, functions: Mapping[str, int]) -> ModuleType:
    """Create a module from a loaded image, in this interpreter.

    What `_imp.create_dynamic` does (CPython, `Python/import.c`), but for two things: that one runs `PyInit_`
    functions in the main interpreter, which makes the objects of single-phase modules that interpreter's,
    and makes each import wait for its GIL.
    """
    suffix = _init_suffix(spec.name)
    if init := _libc.find_symbol(image.handle, "PyInit" + suffix):
        address, returned, is_definition = _libc.call_init(init, spec.name)
        if is_definition:
            return _libc.module_from_definition(functions[FROM_DEFINITION], address, spec)
        return _adopt_single_phase(returned, spec)
    if export := _libc.find_symbol(image.handle, "PyModExport" + suffix):
        return _libc.module_from_slots(functions[FROM_SLOTS], _libc.call_export(export, spec.name), spec)
    raise ImageError(f"{image.path} defines no PyInit{suffix}", name=spec.name, path=image.path)


def _init_suffix(name: str) -> str:
    """End of the name of the initialization function (PEP 489, "Export Hook Name")."""
    last = name.rpartition(".")[2]
    if last.isascii():
        return f"_{last}"
    return "U_" + last.encode("punycode").decode("ascii").replace("-", "_")


def _adopt_single_phase(module: Any, spec: ModuleSpec) -> ModuleType:
    """Give a module made by single-phase initialization what the import system gives it."""
    if not isinstance(module, ModuleType):
        raise ImageError(
            f"initialization of {spec.name} returned {type(module).__name__!r}, not a module", name=spec.name
        )
    _libc.register_module(module)
    short = module.__name__
    if short != spec.name:
        # CPython hands the full name to PyModule_Create in a variable that is not exported. Functions took
        # the short one, by which pickle would not find them.
        module.__name__ = spec.name
        for value in vars(module).values():
            if (
                isinstance(value, BuiltinFunctionType)
                and value.__self__ is module
                and value.__module__ == short
            ):
                value.__module__ = spec.name
    return module


class UncoveredLoader(ExtensionFileLoader):
    """The ordinary loader, with a hint where CPython refuses the module."""

    def __init__(self, name: str, path: str, named: Iterable[str]) -> None:
        super().__init__(name, path)
        self._named = sorted(named)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Create the module, or say what to do if CPython's check refuses it."""
        try:
            return super().create_module(spec)
        except ImportError as error:
            if "subinterpreters" not in str(error):
                raise
            package = spec.name.partition(".")[0]
            raise ImageError(
                f"module {spec.name!r} does not support loading in an interpreter with its own GIL, and "
                f"package {package!r} is not among those that load as private images here "
                f"({', '.join(self._named)}); name it where the interpreter or pool is made, "
                f"packages={(*self._named, package)}, or call memchannel.images.enable({package!r}) there",
                name=spec.name,
                path=self.path,
            ) from error


class RefusingLoader:
    """Stands for a package that is known not to work; importing it says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Raise the reason."""
        raise ImageError(
            f"package {spec.name!r} cannot be loaded into this interpreter: {self._reason}", name=spec.name
        )

    def exec_module(self, module: ModuleType) -> None:
        """Never reached."""
        raise AssertionError(module)


class LiftedBuiltinLoader:
    """Loads a built-in module that refuses interpreters with their own GIL.

    It cannot be copied, so CPython's check is lifted while it is created and executed. That is a setting of
    the interpreter, which other threads see too
    (`importlib.util._incompatible_extension_module_restrictions`), but these modules import nothing and are
    small.
    """

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType | None:
        """Create the module without the check."""
        from importlib.util import _incompatible_extension_module_restrictions

        with _incompatible_extension_module_restrictions(disable_check=True):
            return BuiltinImporter.create_module(spec)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Execute the module."""
        BuiltinImporter.exec_module(module)


def load_substitutes(libraries: Libraries, folder: Sequence[str]) -> None:
    """Load this interpreter's substitutes for functions of the C API; images loaded from now on call them."""
    name = f"{__package__}._capi"
    spec = PathFinder.find_spec(name, folder)
    if spec is None or spec.origin is None:
        raise ImageError(f"memchannel is not installed completely: no extension module {name}", name=name)
    loader = PrivateImageLoader(name, spec.origin, libraries, "memchannel")
    # It declares support for an own GIL, which lets CPython's function create it.
    libraries.substitutes[FROM_DEFINITION] = _libc.address_of(FROM_DEFINITION)
    module = loader.create_module(spec)
    loader.exec_module(module)
    libraries.substitutes.update(
        (name, value) for name, value in vars(module).items() if name.startswith("Py")
    )
    # The last at-exit function to run, as the first registered; what packages register may still need
    # threads.
    atexit.register(module.close)


def is_extension(spec: ModuleSpec) -> bool:
    """Whether any finder's spec is that of an ordinary extension module."""
    return type(spec.loader) is ExtensionFileLoader

"""The libraries that a private image needs: loaded once for the process, or privately as well.

A copy in anonymous memory has no folder, so that the linker cannot find what its `RUNPATH` names relative to
`$ORIGIN` (wheels keep such libraries in `NAME.libs`). It looks at the SONAMEs of loaded libraries first
(glibc, `elf/dl-load.c`), so loading them before the copy is enough, and leaves one OpenBLAS per process.

A library must not be shared where it keeps Python objects, or other state that its users in one interpreter
guard by a lock of that interpreter. Of those each interpreter gets a copy too, under a new SONAME, which is
written into the copies that need it.
"""

from __future__ import annotations

import mmap
import os
import re
import threading

from . import _libc
from ._elf import ElfFile
from ._errors import ImageError
from ._image import Image, load_image

# Libraries without Python symbols that still need a copy per interpreter, by the start of their names.
PRIVATE_LIBRARIES = {
    "libhdf5": "not thread-safe as wheels build it; h5py guards it by a lock of one interpreter",
    "libnetcdf": "not thread-safe, and built on HDF5",
    "libsf_error_state": "holds the error actions of scipy.special, which are settings of one interpreter",
}
_TAG_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TAG_LENGTH = 6
_TAGS_PER_INTERPRETER = 36**2


class _Library:
    """A library that images need.

    `private` says whether each interpreter has a copy. `handle` is that of the shared library once it is
    open, `image` and `soname` are the copy and its new name once it is loaded.
    """

    __slots__ = ("handle", "image", "needed", "path", "private", "search", "soname")

    def __init__(self, path: str, needed: dict[str, str], search: tuple[str, ...]) -> None:
        self.path, self.needed, self.search = path, needed, search
        self.private = False
        self.handle: int | None = None
        self.image: Image | None = None
        self.soname: str | None = None


class Libraries:
    """The images of one interpreter and the libraries loaded for them.

    Parameters
    ----------
    interpreter : int
        The interpreter's id. It is never used again within a process, which makes new SONAMEs unique.
    """

    def __init__(self, interpreter: int) -> None:
        self._interpreter = interpreter
        # C API functions that images call at other addresses; see src/images/capi.cpp.
        self.substitutes: dict[str, int] = {}
        self._lock = threading.RLock()  # guards what follows; no Python is imported under it
        self._serial = 0
        self._libraries: dict[str, _Library] = {}  # by real path
        self._modules: set[str] = set()
        self._loading: list[str] = []

    def load_module(self, elf: ElfFile) -> Image:
        """Return a new image of an extension module, or the one that another module loaded as a library."""
        path = os.path.realpath(elf.path)
        with self._lock:
            known = self._libraries.get(path)
            first = path not in self._modules
            self._modules.add(path)
            if known is not None and known.image is not None and first:
                return known.image
            needed, search = _resolve(elf, ())
            image, soname = self._load(elf, needed, search)
            if soname is not None:  # it may be needed as a library too
                library = self._libraries[path] = _Library(path, needed, search)
                library.private, library.image, library.soname = True, image, soname
            return image

    def load_library(self, path: str) -> Image:
        """Return the private copy of a library, whatever it is like."""
        with self._lock:
            library = self._library(os.path.realpath(path), ())
            library.private = True
            self._load_private(library)
            assert library.image is not None
            return library.image

    def private_libraries(self) -> list[str]:
        """Paths of the libraries, other than modules, of which this interpreter has its own copy."""
        with self._lock:
            return sorted(
                path
                for path, library in self._libraries.items()
                if library.image is not None and path not in self._modules
            )

    def _load(
        self, elf: ElfFile, needed: dict[str, str], search: tuple[str, ...]
    ) -> tuple[Image, str | None]:
        """Load a private copy and what it needs; returns it and its new SONAME."""
        renames = {}
        handles = []
        for name, path in needed.items():
            library = self._library(path, search)
            if library.private:
                renames[name] = self._load_private(library)
            else:
                handles.append(self._open_shared(library))
        soname = None
        if elf.soname is not None:
            soname = renames[elf.soname] = self._new_soname(elf)
        # Symbols that a shared library has too (libstdc++'s empty string, known by its address) stay common.
        if elf.unique:
            handles += [_open(name, elf.path) for name in elf.needed if name not in needed]
        own = [name for name in elf.unique if not any(_libc.find_symbol(handle, name) for handle in handles)]
        return load_image(elf, renames, own, self.substitutes), soname

    def _library(self, path: str, search: tuple[str, ...]) -> _Library:
        """Return what is known of a library, looked up with the folders of those that need it."""
        if path not in self._libraries:
            with ElfFile(path) as elf:
                needed, search = _resolve(elf, search)
                # Known from here on, to end a search that comes back through what it needs.
                library = self._libraries[path] = _Library(path, needed, search)
                name = os.path.basename(path)
                if not re.match(r"libpython\d", name):  # the interpreter itself
                    library.private = (
                        name.startswith(tuple(PRIVATE_LIBRARIES))
                        or elf.uses_python
                        or any(self._library(below, search).private for below in needed.values())
                    )
        return self._libraries[path]

    def _open_shared(self, library: _Library) -> int:
        """Open a shared library and those it needs first, which it may not find without its user."""
        if library.handle is None:
            library.handle = 0  # ends a search that comes back
            try:
                for path in library.needed.values():
                    self._open_shared(self._library(path, library.search))
                handle = _open(library.path, library.path)
                _check_unchanged(library.path, handle)
            except BaseException:
                library.handle = None
                raise
            library.handle = handle
        return library.handle

    def _load_private(self, library: _Library) -> str:
        """Load the private copy of a library, once; returns its new SONAME."""
        path = library.path
        if library.image is None:
            if path in self._loading:
                raise ImageError(f"{path}: libraries that need each other cannot be copied", path=path)
            self._loading.append(path)
            try:
                with ElfFile(path) as elf:
                    library.image, library.soname = self._load(elf, library.needed, library.search)
            finally:
                self._loading.remove(path)
        if library.soname is None:
            raise ImageError(f"{path}: a library without SONAME cannot be found once it is copied", path=path)
        return library.soname

    def _new_soname(self, elf: ElfFile) -> str:
        """Return a SONAME of the same length that no other library of this process has."""
        assert elf.soname is not None
        number = self._interpreter * _TAGS_PER_INTERPRETER + self._serial
        self._serial += 1
        if (
            self._serial > _TAGS_PER_INTERPRETER
            or number >= 36**_TAG_LENGTH
            or len(elf.soname) < _TAG_LENGTH + 2
        ):
            raise ImageError(
                f"{elf.path}: no new name of its length is left for the library {elf.soname!r}", path=elf.path
            )
        tag = ""
        for _ in range(_TAG_LENGTH):
            number, digit = divmod(number, 36)
            tag = _TAG_DIGITS[digit] + tag
        return f"{tag}-{elf.soname[_TAG_LENGTH + 1 :]}"


def _open(name: str, path: str) -> int:
    try:
        return _libc.open_library(name)
    except OSError as error:
        raise ImageError(f"{path}: {error}", path=path) from None


def _check_unchanged(path: str, handle: int) -> None:
    """Raise if the loaded library is not what is on disk by now; the linker goes by the name.

    Inodes would not tell, as some file systems show others for a mapping. The headers hold the sizes of all
    parts.
    """
    with open(path, "rb") as file:
        start = file.read(mmap.PAGESIZE)
    if _libc.first_page(handle)[: len(start)] != start:
        raise ImageError(
            f"{path} was replaced on disk after this process had loaded it, and what is installed now does "
            "not go with what is loaded; start a new process",
            path=path,
        )


def _resolve(elf: ElfFile, inherited: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the real paths of needed libraries, and the folders in which theirs are looked for.

    Those that no search path leads to are found by the linker as for any library, by its cache. A `DT_RPATH`
    counts for the libraries needed further down too, a `DT_RUNPATH` for the file's own only and instead of
    all of those (ld.so(8); glibc, `elf/dl-load.c`, `_dl_map_object`).
    """
    below = (*([] if elf.runpath else elf.rpath), *inherited)
    found = {}
    for name in elf.needed:
        for folder in elf.runpath or below:
            path = os.path.join(folder, name)
            if os.path.exists(path):
                found[name] = os.path.realpath(path)
                break
    return found, below

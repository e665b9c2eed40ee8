"""The libraries that a private image needs: loaded once for the process, or privately as well.

A copy in anonymous memory has no folder, so that the linker cannot find what its `RUNPATH` names relative to
`$ORIGIN` (wheels keep such libraries in `NAME.libs`). It looks at the SONAMEs of loaded libraries first
(glibc, `elf/dl-load.c`), so loading them before the copy is enough, and leaves one OpenBLAS per process.

A library must not be shared where it keeps Python objects, or other state that its users in one interpreter
guard by a lock of that interpreter. Of those each interpreter gets a copy too, under a new SONAME, which is
written into the copies that need it.
"""

from __future__ import annotations

import os
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


class _Private:
    """A library's private copy in this interpreter and its new SONAME."""

    __slots__ = ("image", "soname")

    def __init__(self, image: Image, soname: str | None) -> None:
        self.image, self.soname = image, soname


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
        self._serial = 0
        self._lock = threading.RLock()  # guards what follows; no Python is imported under it
        self._private: dict[str, _Private] = {}
        self._modules: set[str] = set()
        self._shared: set[str] = set()
        self._verdicts: dict[str, bool] = {}
        self._loading: list[str] = []

    def load_module(self, elf: ElfFile) -> Image:
        """Return a new image of an extension module, or the one that another module loaded as a library."""
        path = os.path.realpath(elf.path)
        with self._lock:
            known = self._private.get(path)
            if known is not None and path not in self._modules:
                self._modules.add(path)
                return known.image
            loaded = self._load(elf)
            self._modules.add(path)
            if loaded.soname is not None:  # it may be needed as a library too
                self._private[path] = loaded
            return loaded.image

    def private_libraries(self) -> list[str]:
        """Paths of the libraries of which this interpreter has its own copy."""
        with self._lock:
            return sorted(self._private)

    def _load(self, elf: ElfFile) -> _Private:
        renames = self._load_needed(elf)
        soname = None
        if elf.soname is not None:
            soname = renames[elf.soname] = self._new_soname(elf)
        return _Private(load_image(elf, renames, self._own_symbols(elf), self.substitutes), soname)

    def _own_symbols(self, elf: ElfFile) -> list[str]:
        """Return the unique symbols of a file that no shared library it needs has too.

        Those it has in common with one (libstdc++'s empty string, by whose address it is known) stay common.
        """
        if not elf.unique:
            return []
        found = dict(_needed(elf))
        shared = [found.get(name, name) for name in elf.needed if not self._is_private(found.get(name, name))]
        handles = [_open_needed(elf, path) for path in shared]
        return [name for name in elf.unique if not any(_libc.find_symbol(handle, name) for handle in handles)]

    def _load_needed(self, elf: ElfFile) -> dict[str, str]:
        """Load the libraries that a copy needs; returns the new names of the private ones."""
        renames = {}
        for name, path in _needed(elf):
            if self._is_private(path):
                renames[name] = self._load_private(path)
            elif path not in self._shared:
                _open_needed(elf, path)
                self._shared.add(path)
        return renames

    def _load_private(self, path: str) -> str:
        """Load a private copy of a library, once; returns its new SONAME."""
        if path not in self._private:
            if path in self._loading:
                raise ImageError(f"{path}: libraries that need each other cannot be copied", path=path)
            self._loading.append(path)
            try:
                with ElfFile(path) as elf:
                    self._private[path] = self._load(elf)
            finally:
                self._loading.remove(path)
        soname = self._private[path].soname
        if soname is None:
            raise ImageError(
                f"{path}: a library without a SONAME cannot be found once it is copied", path=path
            )
        return soname

    def _is_private(self, path: str) -> bool:
        """Whether a library is loaded privately; one that the linker finds by name alone is not."""
        if path in self._private:
            return True
        if not os.path.isabs(path):
            return False
        if path not in self._verdicts:
            name = os.path.basename(path)
            self._verdicts[path] = False  # for a library that is reached again through what it needs
            if not name.startswith("libpython"):  # the interpreter itself
                with ElfFile(path) as elf:
                    self._verdicts[path] = (
                        name.startswith(tuple(PRIVATE_LIBRARIES))
                        or elf.uses_python
                        or any(self._is_private(needed) for _, needed in _needed(elf))
                    )
        return self._verdicts[path]

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
                f"{elf.path}: no new name of its length for the library {elf.soname!r}", path=elf.path
            )
        tag = ""
        for _ in range(_TAG_LENGTH):
            number, digit = divmod(number, 36)
            tag = _TAG_DIGITS[digit] + tag
        return f"{tag}-{elf.soname[_TAG_LENGTH + 1 :]}"


def _open_needed(elf: ElfFile, name: str) -> int:
    try:
        return _libc.open_library(name)
    except OSError as error:
        raise ImageError(f"{elf.path} needs {name}, which does not load: {error}", path=elf.path) from None


def _needed(elf: ElfFile) -> list[tuple[str, str]]:
    """Name and real path of each needed library that the file's own search path leads to.

    The others are found by the linker as for any library, by its cache.
    """
    origin = os.path.dirname(elf.path)
    folders = [
        folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for folder in elf.search_path if folder
    ]
    found = []
    for name in elf.needed:
        for folder in folders:
            path = os.path.join(folder, name)
            if os.path.exists(path):
                found.append((name, os.path.realpath(path)))
                break
    return found

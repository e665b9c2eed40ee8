"""A private image: one interpreter's own copy of a shared object, with its own C statics.

The dynamic linker loads a file once per process, and so there is one set of C statics for all interpreters.
It knows files by name and inode (glibc, `elf/dl-load.c`, `_dl_map_object`); a copy in anonymous memory has a
new inode, and given a new name as well it is loaded as a library of its own. Code and constants are left out
of the copy, and mapped from the original file before anything runs.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from . import _blas, _constructors, _libc
from ._elf import ElfFile, Segment
from ._errors import ImageError

_PAGE = mmap.PAGESIZE
_STB_GLOBAL = 1
_MFD_EXEC = 0x10  # linux/memfd.h, since 6.3; not in Python 3.13's os
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Image:
    """A loaded private copy of `path`, mapped until the process ends.

    `handle` is the dynamic linker's; `shared_bytes` of it are mapped from the original file, as every
    other image of that file has them.
    """

    __slots__ = ("handle", "path", "shared_bytes")

    def __init__(self, path: str, handle: int, shared_bytes: int) -> None:
        self.path, self.handle, self.shared_bytes = path, handle, shared_bytes


def load_image(
    elf: ElfFile, renames: Mapping[str, str], own: Iterable[str], substitutes: Mapping[str, int]
) -> Image:
    """Load a private copy of an open shared object, whose needed libraries are loaded already.

    Parameters
    ----------
    elf : ElfFile
        The original.
    renames : mapping
        Names in the copy's string table to replace, each by one of the same length.
    own : iterable of str
        Symbols among the file's `unique` ones of which the image gets its own. A template's or an inline
        function's C++ statics have the binding `STB_GNU_UNIQUE`, by which the linker makes one for all
        copies.
    substitutes : mapping
        Names of functions that the image takes from elsewhere and addresses it calls for them instead.

    Raises
    ------
    ImageError
        The file changed meanwhile, memory cannot be made executable, or the dynamic linker refused it.
    OSError
        No file descriptor is left.
    """
    left_out = elf.unread_segments()
    with _copy_of(elf, left_out) as (fd, name):
        changed = _replace_names(fd, elf, renames) + _make_global(fd, elf, own)
        if left_out:
            _constructors.hold_back(fd, elf)
        handle = _open(name, elf.path)
        shared = _share(elf, handle, fd, changed, left_out)
        _substitute(elf, handle, substitutes)
        if left_out:
            _constructors.run(elf, handle)
        _blas.tell(elf, handle)
        return Image(elf.path, handle, shared)


def _open(name: str, path: str) -> int:
    try:
        return _libc.open_library(name)
    except OSError as error:
        text = str(error).replace(name, path)
    if os.strerror(errno.EMFILE) in text:
        raise OSError(errno.EMFILE, text, path)
    if "map segment" in text or os.strerror(errno.ENOMEM) in text:  # the right to execute was checked before
        text += "; is memory used up, or the number of mappings at its limit (vm.max_map_count)?"
    elif "static TLS" in text:
        text += (
            "; the module reserves static thread-local memory, of which there is little for all its copies "
            "(GLIBC_TUNABLES=glibc.rtld.optional_static_tls gives more)"
        )
    raise ImageError(text, path=path)


def unique_path(path: str, inode: int) -> str:
    """Spell `path` so that it means the same file and no other image of this process has the same text.

    glibc compares names before inodes, so that a descriptor's number that is used again would give an older
    image. The number of the inode, which is in use while the image is, is written in `./` and `/`.
    """
    folder, name = os.path.split(path)
    return f"{folder}/{''.join('./' if digit == '1' else '/' for digit in f'{inode:b}')}{name}"


@contextmanager
def explain_descriptors(path: str) -> Iterator[None]:
    """Say of an error for want of file descriptors what they were wanted for and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_DESCRIPTORS:
            raise
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno)}: loading a private image takes a few file descriptors for a moment; "
            "close some, or allow more (ulimit -n)",
            path,
        ) from None


@contextmanager
def _copy_of(elf: ElfFile, left_out: list[Segment]) -> Iterator[tuple[int, str]]:
    """Copy the file to where it can be executed; yields a descriptor and a name to load it by."""
    refused = []
    for place, make in places:
        try:
            fd, name = make(os.path.basename(elf.path))
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                raise
            refused.append(f"{place}: {error.strerror or error}")
            continue
        try:
            problem = _fill(elf, fd, _pages_to_copy(elf, left_out)) or _execution_problem(fd, name)
            if problem is None:
                yield fd, name
                return
            refused.append(f"{place}: {problem}")
        finally:
            os.close(fd)
            if make is _temporary:
                with suppress(FileNotFoundError):
                    os.unlink(name)
    raise ImageError(
        f"{elf.path}: no place for an executable copy of it: {'; '.join(refused)}. Allow executable "
        "anonymous memory, or set TMPDIR to a folder with room on a file system mounted without 'noexec'",
        path=elf.path,
    )


def _pages_to_copy(elf: ElfFile, left_out: list[Segment]) -> Iterator[range]:
    """Give the numbers of the pages that the linker wants: of all segments but those left out."""
    last = _constructors.last_destructor(elf)
    for segment in elf.segments:
        if segment not in left_out:
            yield _pages(segment.offset, segment.size)
        elif last is not None and segment.address <= last < segment.address + segment.size:
            place = segment.offset + last - segment.address
            yield _pages(place, min(_PAGE, segment.offset + segment.size - place))


def _fill(elf: ElfFile, fd: int, parts: Iterable[range]) -> str | None:
    """Copy pages of the file; returns why the place cannot hold them, or None."""
    complete = True
    try:
        os.ftruncate(fd, elf.size)
        for pages in parts:
            done, end = pages.start * _PAGE, min(pages.stop * _PAGE, elf.size)
            os.lseek(fd, done, os.SEEK_SET)
            while done < end and (written := os.sendfile(fd, elf.fd, done, end - done)):
                done += written
            complete = complete and done == end
    except OSError as error:
        return error.strerror
    if not complete or elf.current_stamp() != elf.stamp:
        raise _changed(elf)
    return None


def _changed(elf: ElfFile) -> ImageError:
    return ImageError(
        f"{elf.path} changed on disk while it was being loaded; import it again once its package is "
        "installed",
        path=elf.path,
    )


def _execution_problem(fd: int, name: str) -> str | None:
    """Why the dynamic linker could not map the copy executable, or None."""
    if not os.path.exists(name):
        return "it cannot be reached through /proc/self/fd"
    try:
        mmap.mmap(fd, 1, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:  # mmap duplicates the descriptor
            raise
        return f"it cannot be mapped executable ({error.strerror})"
    return None


def _anonymous(name: str) -> tuple[int, str]:
    try:
        fd = os.memfd_create(name[:200], os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError as error:
        # EINVAL before Linux 6.3, EACCES where vm.memfd_noexec is 2. Without the flag the file's mode may
        # lack execute permission, which mapping it does not ask for.
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        fd = os.memfd_create(name[:200], os.MFD_CLOEXEC)
    return fd, unique_path(f"/proc/self/fd/{fd}", os.fstat(fd).st_ino)


def _temporary(name: str) -> tuple[int, str]:
    import tempfile

    path = os.path.join(tempfile.gettempdir(), f"memchannel-{os.urandom(8).hex()}-{name}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700), path


# Tried in this order; a test takes the first away.
places: tuple[tuple[str, Callable[[str], tuple[int, str]]], ...] = (
    ("anonymous memory (memfd_create)", _anonymous),
    ("a temporary file", _temporary),
)


def _replace_names(fd: int, elf: ElfFile, renames: Mapping[str, str]) -> list[range]:
    """Replace names in the copy's string table; returns the numbers of the pages changed."""
    changed = []
    for old, new in renames.items():
        pattern, name = (b"\0" + os.fsencode(text) + b"\0" for text in (old, new))
        if len(pattern) != len(name):
            raise ValueError(f"{old!r} and {new!r} differ in length")
        position = elf.strings.find(pattern)
        while position >= 0:
            os.pwrite(fd, name, elf.strings_offset + position)
            changed.append(_pages(elf.strings_offset + position, len(name)))
            position = elf.strings.find(pattern, position + 1)
    return changed


def _make_global(fd: int, elf: ElfFile, symbols: Iterable[str]) -> list[range]:
    """Give unique symbols of the copy the ordinary binding; returns the numbers of the pages changed."""
    changed = []
    for symbol in symbols:
        place = elf.unique[symbol]
        info = os.pread(fd, 1, place)[0]
        os.pwrite(fd, bytes([_STB_GLOBAL << 4 | info & 0xF]), place)
        changed.append(_pages(place, 1))
    return changed


def _substitute(elf: ElfFile, handle: int, substitutes: Mapping[str, int]) -> None:
    base = _libc.link_map(handle).l_addr
    for name, address in elf.references(substitutes):
        _libc.write_address(base + address, substitutes[name], read_only=elf.is_read_only(address))


def _share(elf: ElfFile, handle: int, fd: int, changed: list[range], left_out: list[Segment]) -> int:
    """Map the read-only parts of a loaded copy from the original file, and free their copies.

    The bytes are the same, so this changes nothing but who pays for them: those pages are in memory once for
    all images and the original, and profilers find them in the original file. Of the parts left out there
    are no copies. Returns the number of bytes shared.
    """
    library = _libc.link_map(handle)
    _libc.rename(library, unique_path(elf.path, os.fstat(fd).st_ino))
    if elf.current_stamp() != elf.stamp:
        if left_out:
            raise _changed(elf)
        return 0
    if elf.has_text_relocations:
        return 0
    readable, own = [], list(changed)
    for segment in elf.segments:
        if segment.writable or segment.memory_size != segment.size:
            own.append(_pages(segment.offset, segment.size))
        else:
            readable.append(segment)
    shared = 0
    for segment in readable:
        protection = mmap.PROT_READ | (mmap.PROT_EXEC if segment.executable else 0)
        base = library.l_addr + segment.address - segment.offset
        for pages in _gaps(_pages(segment.offset, segment.size), own):
            start, size = pages.start * _PAGE, len(pages) * _PAGE
            try:
                _libc.map_file(base + start, size, protection, elf.fd, start)
            except OSError as error:  # refused before anything changed: the copy's own pages stay in use
                _fill_in(elf, fd, left_out, own, error)
                return shared
            shared += size
    for pages in _gaps(_pages(0, elf.size), own):
        _libc.punch_hole(fd, pages.start * _PAGE, len(pages) * _PAGE)
    return shared


def _fill_in(elf: ElfFile, fd: int, left_out: list[Segment], own: list[range], error: OSError) -> None:
    """Copy what was left out after all; what is mapped of the copy shows it, as nobody wrote there."""
    parts = [part for segment in left_out for part in _gaps(_pages(segment.offset, segment.size), own)]
    problem = _fill(elf, fd, parts)
    if problem is not None:
        raise ImageError(f"{elf.path}: no memory for its code: {error.strerror}; {problem}", path=elf.path)


def _pages(offset: int, size: int) -> range:
    return range(offset // _PAGE, -(-(offset + size) // _PAGE))


def _gaps(pages: range, taken: Iterable[range]) -> Iterator[range]:
    """Give the parts of a range that are in no other."""
    start = pages.start
    for one in sorted(taken, key=lambda other: other.start):
        if start < min(one.start, pages.stop):
            yield range(start, min(one.start, pages.stop))
        start = max(start, one.stop)
    if start < pages.stop:
        yield range(start, pages.stop)

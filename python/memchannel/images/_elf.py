"""What loading a copy of a shared object needs to know of its ELF file.

Only the file's own bytes are read, by position: a file that shrinks meanwhile gives an error where a
mapping would give SIGBUS. Layouts are those of the System V ABI (gABI, "Object Files" and "Dynamic
Linking") and, for `DT_GNU_HASH`, of glibc's `elf/dl-lookup.c`.
"""

from __future__ import annotations

import functools
import marshal
import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from memchannel import _core

from ._errors import ImageError

_PT_LOAD, _PT_DYNAMIC, _PT_GNU_EH_FRAME, _PT_GNU_STACK, _PT_GNU_RELRO = 1, 2, *range(0x6474E550, 0x6474E553)
_PF_X, _PF_W = 1, 2
_DT_NEEDED, _DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, DT_STRSZ = 1, 2, 5, 6, 7, 8, 10
_DT_SONAME, _DT_RPATH, _DT_TEXTREL, _DT_JMPREL, _DT_RUNPATH, _DT_FLAGS = 14, 15, 22, 23, 29, 30
_DT_HASH, _DT_GNU_HASH, _DT_RELACOUNT = 4, 0x6FFFFEF5, 0x6FFFFFF9
DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, DT_FINI_ARRAYSZ = 12, 13, 25, 27, 28
_DF_TEXTREL = 4
_UNIQUE = re.compile(b"[\xa0-\xaf]")  # `st_info` of a symbol with the binding STB_GNU_UNIQUE, of any type
_INDIRECT = re.compile(b"[\x0a\x1a\x2a\xaa]")  # of a symbol of type STT_GNU_IFUNC, of any binding
_PYTHON_NAME = re.compile(b"_?Py[A-Z]")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION_SIZE = 24  # three words: place, symbol and kind, addend
DYNAMIC_ENTRY = struct.Struct("<qQ")
# e_machine, the relocations that put a symbol's address into a word (absolute, GLOB_DAT, JUMP_SLOT), and the
# one that puts there what a function returns (IRELATIVE).
_MACHINES = {"x86_64": (62, (1, 6, 7), 37), "aarch64": (183, (257, 1025, 1026), 1032)}


class Segment:
    """One `PT_LOAD` entry: the file range `offset`, `size` lies at `address`, relative to the load base."""

    __slots__ = ("address", "executable", "memory_size", "offset", "size", "writable")

    def __init__(self, flags: int, offset: int, address: int, size: int, memory_size: int) -> None:
        self.writable, self.executable = bool(flags & _PF_W), bool(flags & _PF_X)
        self.offset, self.address, self.size, self.memory_size = offset, address, size, memory_size


class ElfFile:
    """An open 64-bit ELF file: its loadable segments and what its dynamic section says.

    A context manager; the attributes stay after the file is closed. What one interpreter has read of a file
    the others of the process take over.

    Parameters
    ----------
    path : str
        The file; `$ORIGIN` in its search path stands for its folder.

    Raises
    ------
    ImageError
        The file is truncated, not ELF, or for another machine.
    OSError
        The file cannot be opened.
    """

    segments: list[Segment]  # made of _loaded
    # What is read of the file, and noted: of types that marshal knows.
    relro: tuple[int, int]  # from where to where memory becomes read-only once the linker is done
    dynamic: tuple[int, int]  # place and size of the dynamic section in the file
    entries: list[tuple[int, int]]  # of the dynamic section: in order,
    tags: dict[int, int]  # and by tag
    strings_offset: int  # where the dynamic string table is in the file,
    strings_size: int  # and its size
    needed: list[str]
    soname: str | None
    runpath: list[str]
    rpath: list[str]
    has_text_relocations: bool
    uses_python: bool
    unique: dict[str, int]  # symbols that are one per process: name to place of `st_info` in the file
    _loaded: list[tuple[int, int, int, int, int]]  # what the segments are made of
    _headed: list[int]  # addresses of what other program headers name
    _READ = (
        *("relro", "dynamic", "entries", "tags", "strings_offset", "strings_size", "needed", "soname"),
        *("runpath", "rpath", "has_text_relocations", "uses_python", "unique", "_loaded", "_headed"),
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._identity = self._current_identity()
            self.stamp = self._stamp_of(self._identity)
            vars(self).update(self._once("headers", self._parse))
            self.segments = [Segment(*header) for header in self._loaded]
        except struct.error as error:
            self.close()
            raise self._fail(f"malformed: {error}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ElfFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def size(self) -> int:
        """Size of the file in bytes when it was opened."""
        return self.stamp[0]

    def current_stamp(self) -> tuple[int, ...]:
        """Size and time of the last change of the content; equal to `stamp` until somebody writes to it."""
        return self._stamp_of(self._current_identity())

    @staticmethod
    def _stamp_of(identity: tuple[int, ...]) -> tuple[int, ...]:
        return identity[2:4]

    def _once(self, what: str, find: Callable[[], Any]) -> Any:
        """Return what `find` finds in this file, or has found in any interpreter of the process."""
        key = f"{what}, {self._identity}, {self.path!a}"
        noted = _core._noted(key)
        if noted is not None:
            return marshal.loads(noted)
        found = find()
        if self._current_identity() == self._identity:
            _core._note(key, marshal.dumps(found))
        return found

    def _current_identity(self) -> tuple[int, ...]:
        """Which file this is, and its last change: also that of the inode, whose time cannot be set."""
        status = os.fstat(self.fd)
        return (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    def _fail(self, what: str) -> ImageError:
        return ImageError(f"{self.path}: {what}", path=self.path)

    def _read(self, offset: int, size: int) -> bytes:
        data = os.pread(self.fd, size, offset) if size > 0 else b""
        if len(data) != size:
            raise self._fail(
                f"truncated: {size} bytes wanted at offset {offset}, the file has {self.size}; "
                "is it being installed just now? Otherwise install its package again"
            )
        return data

    def _parse(self) -> dict[str, Any]:
        header = self._read(0, 64)
        if header[:4] != b"\x7fELF":
            raise self._fail("not a shared object (no ELF header)")
        machine = struct.unpack_from("<H", header, 18)[0]
        if header[4:6] != b"\x02\x01" or machine != _MACHINES[os.uname().machine][0]:
            raise self._fail(
                f"a shared object for another machine (ELF class {header[4]}, machine {machine}), "
                f"not for {os.uname().machine}"
            )
        self._parse_segments(header)
        self._parse_dynamic()
        return {name: vars(self)[name] for name in self._READ}

    def _parse_segments(self, header: bytes) -> None:
        table = struct.unpack_from("<Q", header, 32)[0]
        entry_size, count = struct.unpack_from("<HH", header, 54)
        entries = self._read(table, entry_size * count)
        self._loaded, self._headed = [], []
        self.relro, self.dynamic = (0, 0), (0, 0)
        for i in range(count):
            kind, flags, offset, address, _, size, memory_size = struct.unpack_from(
                "<IIQQQQQ", entries, i * entry_size
            )
            if kind == _PT_LOAD:
                if offset + size > self.size:
                    self._read(offset, size)  # raises: the segment ends behind the end of the file
                self._loaded.append((flags, offset, address, size, memory_size))
            elif kind == _PT_DYNAMIC:
                self.dynamic = (offset, size)
            elif kind == _PT_GNU_RELRO:
                self.relro = (address, address + memory_size)
            if kind not in (_PT_LOAD, _PT_GNU_EH_FRAME, _PT_GNU_STACK):
                self._headed.append(address)
        if not self.dynamic[1]:
            raise self._fail("not a shared object (no dynamic section)")

    def _file_offset(self, address: int) -> int:
        for _, offset, start, size, _ in self._loaded:
            if start <= address < start + size:
                return offset + address - start
        raise self._fail(f"malformed: address {address:#x} is in no segment")

    def _parse_dynamic(self) -> None:
        entries = list(DYNAMIC_ENTRY.iter_unpack(self._read(*self.dynamic)))
        tags = dict(reversed(entries))  # of repeated tags the first counts
        if _DT_STRTAB not in tags or _DT_SYMTAB not in tags:
            raise self._fail("malformed: no dynamic string or symbol table")
        self.entries, self.tags = entries, tags
        self.strings_offset = self._file_offset(tags[_DT_STRTAB])
        self.strings_size = tags.get(DT_STRSZ, 0)
        self.needed = [self._string(value) for tag, value in entries if tag == _DT_NEEDED]
        self.soname = self._string(tags[_DT_SONAME]) if _DT_SONAME in tags else None
        self.runpath, self.rpath = self._folders(tags.get(_DT_RUNPATH)), self._folders(tags.get(_DT_RPATH))
        self.has_text_relocations = _DT_TEXTREL in tags or bool(tags.get(_DT_FLAGS, 0) & _DF_TEXTREL)
        undefined, _, self.unique = self._symbols
        self.uses_python = any(_PYTHON_NAME.match(self.strings, name) for name in undefined)

    @functools.cached_property
    def strings(self) -> bytes:
        """The dynamic string table; the file must be open when it is asked for first."""
        return self._read(self.strings_offset, self.strings_size)

    def _folders(self, offset: int | None) -> list[str]:
        if offset is None:
            return []
        origin = os.path.dirname(self.path)
        folders = self._string(offset).split(":")
        return [f.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for f in folders if f]

    def _string(self, offset: int) -> str:
        return os.fsdecode(self.strings[offset : self._check_string(offset)])

    def _check_string(self, offset: int) -> int:
        """Return where a string ends, which must be in the string table."""
        end = self.strings.find(b"\0", offset)
        if end < 0:
            raise self._fail(f"malformed: string {offset} is not in the string table")
        return end

    @functools.cached_property
    def _symbols(self) -> tuple[dict[int, int], bool, dict[str, int]]:
        """Undefined ones, by the place of the name; whether any is an indirect function; unique ones."""
        table = self._file_offset(self.tags[_DT_SYMTAB])
        symbols = self._read(table, self._symbol_count(self.tags) * _SYMBOL.size)
        # By columns: a library may define tens of thousands, and few are wanted.
        kinds, *sections = (symbols[column :: _SYMBOL.size] for column in (4, 6, 7))
        names = memoryview(symbols).cast("I")[:: _SYMBOL.size // 4].tolist()
        self._check_string(max(names, default=0))  # then all of them end
        indices = range(len(names))
        undefined = {names[i]: i for i in indices if not (sections[0][i] or sections[1][i]) and names[i]}
        unique = {
            self._string(names[index]): table + index * _SYMBOL.size + 4
            for index in (match.start() for match in re.finditer(_UNIQUE, kinds))
            if sections[0][index] or sections[1][index]
        }
        return undefined, _INDIRECT.search(kinds) is not None, unique

    def _symbol_count(self, tags: dict[int, int]) -> int:
        """Count the dynamic symbols, of which only the hash tables tell the number."""
        if _DT_GNU_HASH not in tags:
            if _DT_HASH not in tags:
                raise self._fail("malformed: no symbol hash table")
            return int(struct.unpack("<I", self._read(self._file_offset(tags[_DT_HASH]) + 4, 4))[0])
        table = self._file_offset(tags[_DT_GNU_HASH])
        buckets, first_hashed, bloom_words, _ = struct.unpack("<4I", self._read(table, 16))
        bucket_offset = table + 16 + 8 * bloom_words
        last = max(struct.unpack(f"<{buckets}I", self._read(bucket_offset, 4 * buckets)), default=0)
        if last < first_hashed:  # none is defined
            return int(first_hashed)
        # The chain of the last bucket ends with the last symbol, marked by an odd hash.
        chains = bucket_offset + 4 * buckets
        while self._read(chains + 4 * (last - first_hashed), 1)[0] % 2 == 0:
            last += 1
        return int(last) + 1

    def references(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Return where the linker puts the addresses of given undefined symbols: pairs of name and place.

        The file must be open.
        """
        wanted = sorted(names)
        found: list[tuple[str, int]] = self._once(
            f"references to {' '.join(wanted)}", lambda: self._find_references(wanted)
        )
        return found

    def _find_references(self, names: list[str]) -> list[tuple[str, int]]:
        undefined = self._symbols[0]
        wanted = {
            undefined[place]: name for name in names for place in self._places(name) if place in undefined
        }
        if not wanted:
            return []
        kinds = _MACHINES[os.uname().machine][1]
        return [
            (wanted[info >> 32], address)
            for address, info in zip(*self._relocations, strict=True)
            if info >> 32 in wanted and info & 0xFFFFFFFF in kinds
        ]

    def _places(self, name: str) -> Iterator[int]:
        """Find the places in the string table where a name may begin: also amid longer ones."""
        text = os.fsencode(name) + b"\0"
        place = self.strings.find(text)
        while place >= 0:
            yield place
            place = self.strings.find(text, place + 1)

    @functools.cached_property
    def _relocations(self) -> tuple[list[int], list[int]]:
        """Places and kinds of the relocations that name symbols: those counted as relative come first."""
        tags = self.tags
        tables = [(_DT_RELA, _DT_RELASZ, tags.get(_DT_RELACOUNT, 0)), (_DT_JMPREL, _DT_PLTRELSZ, 0)]
        words: list[int] = []
        for table, size, skipped in tables:
            if table in tags:
                start = skipped * _RELOCATION_SIZE
                data = self._read(self._file_offset(tags[table]) + start, tags.get(size, 0) - start)
                words += (
                    memoryview(data[: len(data) // _RELOCATION_SIZE * _RELOCATION_SIZE]).cast("Q").tolist()
                )
        return words[::3], words[1::3]

    def unread_segments(self) -> list[Segment]:
        """Return the segments of which the linker reads nothing: code and constants, but no tables.

        It reads what program headers and the dynamic section point to, and runs resolvers of indirect
        functions before the constructors. Of numbers in the dynamic section that are no addresses, some look
        like one, which does no harm. The file must be open.
        """
        return [self.segments[index] for index in self._once("unread segments", self._unread)]

    def _unread(self) -> list[int]:
        resolving = _MACHINES[os.uname().machine][2]
        if self.has_text_relocations or self._symbols[1]:
            return []
        if resolving in {info & 0xFFFFFFFF for info in self._relocations[1]}:
            return []
        read = [*self._headed, *(value for tag, value in self.entries if tag not in (DT_INIT, DT_FINI))]
        return [
            index
            for index, segment in enumerate(self.segments)
            if segment.offset and not segment.writable and segment.memory_size == segment.size
            if not any(segment.address <= address < segment.address + segment.size for address in read)
        ]

    def is_read_only(self, address: int) -> bool:
        """Whether an address cannot be written to once the linker is done."""
        # What glibc protects of PT_GNU_RELRO begins and ends with a page (elf/dl-reloc.c, _dl_protect_relro).
        page = mmap.PAGESIZE
        start, stop = self.relro
        if start // page <= address // page < stop // page:
            return True
        parts = (segment for segment in self.segments if not segment.writable)
        return any(one.address <= address < one.address + one.size for one in parts)


def unsupported_platform() -> str | None:
    """Why private images cannot work on this platform, or None where they can."""
    machine = os.uname().machine if hasattr(os, "uname") else "an unknown machine"
    if sys.platform != "linux" or machine not in _MACHINES or sys.byteorder != "little":
        return (
            f"private images of extension modules need Linux on x86-64 or aarch64, this is {sys.platform} on "
            f"{machine} ({sys.byteorder}-endian)"
        )
    if sys.maxsize < 2**32:
        return "private images of extension modules need a 64-bit Python"
    # musl finds needed libraries by file, not by SONAME, so that a copy would not find the loaded ones.
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or not _glibc_version():
        return "private images of extension modules need the GNU C library (this seems to be musl)"
    if "t" in sys.abiflags:
        return "private images of extension modules are not supported on free-threaded builds of Python"
    return None


def _glibc_version() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return None

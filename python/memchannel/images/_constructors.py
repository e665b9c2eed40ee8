"""Constructors of an image, run here instead of by the dynamic linker.

Code is left out of the copy that the linker loads, and mapped from the original file afterwards. The linker
would run the constructors in between, and the destructors where the process ends in between. What it runs is
said by entries of the dynamic section (gABI, "Initialization and Termination Functions").
"""

from __future__ import annotations

import ctypes
import os

from memchannel import _core

from . import _libc
from ._elf import (
    DT_FINI,
    DT_FINI_ARRAYSZ,
    DT_INIT,
    DT_INIT_ARRAY,
    DT_INIT_ARRAYSZ,
    DT_STRSZ,
    DYNAMIC_ENTRY,
    ElfFile,
)

_WORD = ctypes.sizeof(ctypes.c_size_t)


def hold_back(fd: int, elf: ElfFile) -> None:
    """Change a copy so that the linker runs no constructor, and no destructor but the last.

    That one, the function of `DT_FINI`, must be in the copy (`last_destructor`): the linker keeps its place
    from the start, while it reads the size of the array of others when the process ends.
    """
    for index, (tag, _) in enumerate(elf.entries):
        place = elf.dynamic[0] + index * DYNAMIC_ENTRY.size
        if tag == DT_INIT:  # the same entry twice says nothing new
            os.pwrite(fd, DYNAMIC_ENTRY.pack(DT_STRSZ, elf.strings_size), place)
        elif tag in (DT_INIT_ARRAYSZ, DT_FINI_ARRAYSZ):
            os.pwrite(fd, DYNAMIC_ENTRY.pack(tag, 0), place)


def last_destructor(elf: ElfFile) -> int | None:
    """Return the address of the function that the linker runs after all other destructors."""
    return elf.tags.get(DT_FINI)


def run(elf: ElfFile, handle: int) -> None:
    """Run the constructors of a loaded image, and leave its destructors to the linker.

    In the order and with the arguments of glibc (`elf/dl-init.c`, `call_init`).
    """
    library = _libc.link_map(handle)
    for index, (tag, value) in enumerate(elf.entries):
        if tag == DT_FINI_ARRAYSZ:
            place = library.l_ld + index * DYNAMIC_ENTRY.size + _WORD
            _libc.write_address(place, value, read_only=elf.is_read_only(place - library.l_addr))
    functions = [library.l_addr + elf.tags[DT_INIT]] if DT_INIT in elf.tags else []
    if DT_INIT_ARRAY in elf.tags:
        array = ctypes.c_size_t * (elf.tags.get(DT_INIT_ARRAYSZ, 0) // _WORD)
        functions += array.from_address(library.l_addr + elf.tags[DT_INIT_ARRAY])
    arguments = _core._process_arguments()
    for address in functions:
        _libc.call_constructor(address, *arguments)

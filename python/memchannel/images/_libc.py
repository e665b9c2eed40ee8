"""The calls of glibc and of CPython's C API that loading an image needs, through ctypes.

Everything is called as `ctypes.PyDLL` does, with the GIL held: `dlopen` runs static constructors, and those
of an extension module may use Python, as they may under the import system's own `dlopen`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from types import ModuleType
from typing import Any

_RTLD_DI_LINKMAP = 2
_MAP_FIXED = 0x10
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_PYTHON_API_VERSION = 1013


class _DlInfo(ctypes.Structure):
    """What `dladdr` tells of an address (dlfcn.h)."""

    _fields_ = (
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    )


class LinkMap(ctypes.Structure):
    """The public head of glibc's `struct link_map` (link.h)."""

    _fields_ = (
        ("l_addr", ctypes.c_size_t),
        ("l_name", ctypes.c_void_p),
        ("l_ld", ctypes.c_void_p),
        ("l_next", ctypes.c_void_p),
        ("l_prev", ctypes.c_void_p),
    )


def _function(name: str, result: Any, *arguments: Any) -> Any:
    # A PyDLL of its own: the prototypes set on its functions are not those that other users of
    # `ctypes.pythonapi` see.
    function = _library[name]
    function.restype, function.argtypes = result, arguments
    return function


_library = ctypes.PyDLL(None, use_errno=True)
_dlopen = _function("dlopen", ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_dlsym = _function("dlsym", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_dlerror = _function("dlerror", ctypes.c_char_p)
_dlinfo = _function("dlinfo", ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_dladdr = _function("dladdr", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_strdup = _function("strdup", ctypes.c_void_p, ctypes.c_char_p)
_mmap = _function(
    "mmap", ctypes.c_void_p, *(ctypes.c_void_p, ctypes.c_size_t), *(ctypes.c_int,) * 3, ctypes.c_int64
)
_mprotect = _function("mprotect", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_fallocate = _function("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_from_definition = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_int)
_from_slots = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object)
_get_def = _function("PyModule_GetDef", ctypes.c_void_p, ctypes.py_object)
_find_module = _function("PyState_FindModule", ctypes.c_void_p, ctypes.c_void_p)
_add_module = _function("PyState_AddModule", ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
_decref = _function("Py_DecRef", None, ctypes.c_void_p)
_environ = ctypes.c_void_p.in_dll(_library, "environ")
_constructor = ctypes.PYFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_pointer_from_void = ctypes.PYFUNCTYPE(ctypes.c_void_p)
_module_def_type = ctypes.addressof(ctypes.c_char.in_dll(_library, "PyModuleDef_Type"))


def open_library(path: str) -> int:
    """`dlopen` `path` and return the handle, or raise `OSError` with the dynamic linker's message.

    Symbols are bound at once (a missing one is an error here, not an abort later) and never made global:
    global symbols of one copy would be found by the next interpreter's.
    """
    handle = _dlopen(os.fsencode(path), os.RTLD_NOW | os.RTLD_LOCAL)
    if not handle:
        raise OSError((_dlerror() or b"dlopen failed").decode(errors="replace"))
    return int(handle)


def find_symbol(handle: int, name: str) -> int | None:
    """Return the address of a symbol of the library, or None."""
    address = _dlsym(handle, name.encode("ascii"))
    return int(address) if address else None


def address_of(function: str) -> int:
    """Return the address of a function of the process, CPython's included."""
    return ctypes.cast(_library[function], ctypes.c_void_p).value or 0


def link_map(handle: int) -> LinkMap:
    """Return glibc's record of the loaded library, shared with it."""
    pointer = ctypes.POINTER(LinkMap)()
    if _dlinfo(handle, _RTLD_DI_LINKMAP, ctypes.addressof(pointer)) != 0:
        raise OSError((_dlerror() or b"dlinfo failed").decode(errors="replace"))
    return pointer.contents


def first_page(handle: int) -> bytes:
    """Return the first page of a loaded library: the headers of the file that it was loaded from."""
    info = _DlInfo()
    if not _dladdr(link_map(handle).l_ld, ctypes.addressof(info)):
        raise OSError("dladdr does not know a library that is loaded")
    return ctypes.string_at(info.dli_fbase, mmap.PAGESIZE)


def rename(library: LinkMap, path: str) -> None:
    """Let debuggers and `dladdr` see the library under `path`; the old name is left, readers may hold it."""
    name = _strdup(os.fsencode(path))
    if name:
        library.l_name = name


def map_file(address: int, size: int, protection: int, fd: int, offset: int) -> None:
    """Map a range of a file privately at exactly `address`, replacing what is mapped there."""
    result = _mmap(address, size, protection, mmap.MAP_PRIVATE | _MAP_FIXED, fd, offset)
    if result != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write_address(location: int, value: int, *, read_only: bool) -> None:
    """Write a pointer into a loaded library, also where the linker has made its page read-only."""
    page = location // mmap.PAGESIZE * mmap.PAGESIZE
    if read_only and _mprotect(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    ctypes.c_size_t.from_address(location).value = value
    if read_only:
        _mprotect(page, mmap.PAGESIZE, mmap.PROT_READ)


def punch_hole(fd: int, offset: int, size: int) -> None:
    """Give the memory of a range of the file back; nothing happens where the file system cannot."""
    _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, size)


def call_constructor(address: int, count: int, arguments: int) -> None:
    """Call a constructor of a library with the arguments of the process and its environment."""
    _constructor(address)(count, arguments, _environ)


def call_init(address: int, name: str) -> tuple[int, Any, bool]:
    """Call the `PyInit_` function of module `name` in the current interpreter.

    Returns
    -------
    tuple
        Address of what it returned, that object, and whether it is a module definition (PEP 489), which is
        borrowed and static, rather than a module.
    """
    result = _pointer_from_void(address)()  # raises what the function raised
    if not result:
        raise SystemError(f"initialization of {name} failed without raising an exception")
    returned = ctypes.cast(result, ctypes.py_object).value
    if id(type(returned)) == _module_def_type:
        return result, returned, True
    _decref(result)  # `returned` holds a reference of its own, the function's is ours to drop
    return result, returned, False


def call_export(address: int, name: str) -> int:
    """Call the `PyModExport_` function of module `name` (PEP 793) and return the address of its slots."""
    result = _pointer_from_void(address)()
    if not result:
        raise SystemError(f"export of {name} failed without raising an exception")
    return int(result)


def module_from_definition(function: int, definition: int, spec: object) -> ModuleType:
    """Create a module from its definition by a function like `PyModule_FromDefAndSpec2`."""
    module: ModuleType = _from_definition(function)(definition, spec, _PYTHON_API_VERSION)
    return module


def module_from_slots(function: int, slots: int, spec: object) -> ModuleType:
    """Create a module from its slots by a function like `PyModule_FromSlotsAndSpec` (CPython 3.15)."""
    module: ModuleType = _from_slots(function)(slots, spec)
    return module


def register_module(module: object) -> None:
    """Make `PyState_FindModule` find a single-phase module in the current interpreter, as import does."""
    definition = _get_def(module)
    if definition and not _find_module(definition):  # some add themselves, twice is a fatal error
        _add_module(module, definition)

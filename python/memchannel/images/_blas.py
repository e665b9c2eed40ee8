"""Tells the core of BLAS libraries that images need, so that pools can limit their threads."""

from __future__ import annotations

import itertools

from memchannel import _core

from . import _libc
from ._elf import ElfFile

_HINTS = ("blas", "mkl", "blis", "lapack")
# The functions that threadpoolctl uses too: OpenBLAS with the prefixes and suffixes of its builds (SciPy's
# wheels, 64-bit integers), MKL, BLIS.
_FUNCTIONS = [
    *[
        (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
        for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64"))
    ],
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
]


def tell(elf: ElfFile, handle: int) -> None:
    """Tell the core of the BLAS library that a loaded shared object needs or is, if there is one.

    `dlsym` with a handle searches what the object needs as well.
    """
    if not any(hint in name.lower() for name in (*elf.needed, elf.soname or "") for hint in _HINTS):
        return
    for get_name, set_name in _FUNCTIONS:
        getter, setter = _libc.find_symbol(handle, get_name), _libc.find_symbol(handle, set_name)
        if getter is not None and setter is not None:
            _core._add_blas(getter, setter)

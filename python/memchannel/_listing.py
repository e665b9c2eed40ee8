"""Which interpreters there are.

CPython's own listing reads interpreters that other threads free meanwhile, and crashes
(Modules/_interpretersmodule.c, interp_list_all).
"""

from __future__ import annotations

import _interpreters

from memchannel import _core

__all__ = ["interpreter_numbers"]

# Up to which number was looked, and those found: numbers are never used again. Replaced as a whole, since
# threads, signal handlers and finalizers come here at any time.
_looked: tuple[int, list[int]] = (0, [])


def interpreter_numbers() -> list[int]:
    """Return the numbers of all interpreters, the main one first, with those that are being made or ended."""
    global _looked  # noqa: PLW0603
    end = _core._next_interpreter_number()
    if end is None:  # an unknown build of CPython
        return [number for number, *_ in _interpreters.list_all()]
    begin, last = _looked
    found = [number for number in (*last, *range(begin, end)) if _core._interpreter_exists(number)]
    _looked = (end, found)
    return list(found)

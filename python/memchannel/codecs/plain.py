"""Types whose objects pickle sends without our help, and those that need no pickle either.

The second kind is what most classes are: they define nothing of pickle's protocol, so that their objects are
the class's name, the attributes in ``__dict__`` and the slots (Objects/typeobject.c, object___reduce_ex__).
The compiled codec asks here once for each type, and sends such objects by itself.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from typing import Any

from memchannel.codecs import descriptors

__all__ = ["build", "describe", "find_class"]

_HOOKS = frozenset(
    (
        *("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__", "__getstate__"),
        *("__setstate__", "__new__", "__class__", "__getattr__", "__getattribute__"),
    )
)

# Objects of types of theirs, and of classes derived from these, are looked at one by one.
_LIBRARIES = frozenset(("memchannel", "numpy", "pandas", "polars"))


def _is_ordinary(kind: type[Any]) -> bool:
    """Whether `memchannel.codecs.object` leaves objects of exactly this type to pickle, whatever they are."""
    if kind is memoryview or issubclass(kind, (BaseException, *descriptors.kinds())):
        return False
    if kind.__qualname__ == "Interpreter" or hasattr(kind, "__cuda_array_interface__"):
        return False
    return not any(_is_of_a_library(str(base.__module__)) for base in kind.__mro__)


def _is_of_a_library(module: str) -> bool:
    # Classes of the benchmarks stand for those of users.
    return module.partition(".")[0] in _LIBRARIES and not module.startswith("memchannel.bench.")


def _has_no_hooks(kind: type[Any]) -> bool:
    """Whether neither pickle nor unpickling would meet anything but what `object` has."""
    for base in kind.__mro__[:-1]:
        names = vars(base)
        if not _HOOKS.isdisjoint(names):
            return False
        if type(names.get("__dict__", _dict_of_a_class)) is not types.GetSetDescriptorType:
            return False
    return True


class _WithDict:
    pass


_dict_of_a_class = vars(_WithDict)["__dict__"]


def _slots_of(kind: type[Any]) -> tuple[str, ...] | None:
    """Return the slots that pickle takes; None if the objects have more to them."""
    names: list[str] = copyreg._slotnames(kind)  # type: ignore[attr-defined]
    if kind.__basicsize__ != object.__basicsize__ + tuple.__itemsize__ * len(names) or kind.__itemsize__:
        return None  # the state of a class in C: object.__reduce_ex__ refuses
    for name in names:
        place = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        if type(place) is not types.MemberDescriptorType:
            return None
    return tuple(names)


def describe(kind: type[Any]) -> tuple[bool, str, tuple[str, str, bool, tuple[str, ...]] | None]:
    """Tell what the compiled codec has to know of a type.

    Returns
    -------
    ordinary : bool
        Pickle takes its objects without our help.
    registered_name : str
        As `memchannel.register` knows the type.
    plain : tuple or None
        Module, name, whether there is a ``__dict__``, and the names of the slots, where objects are nothing
        but these.
    """
    # As it is now: what is found is kept until the type changes.
    registered_name = f"{kind.__module__}:{kind.__qualname__}"
    if not _is_ordinary(kind):
        return False, registered_name, None
    module, name = kind.__module__, kind.__qualname__
    if type(kind) is not type or type(module) is not str or "." in name or not _has_no_hooks(kind):
        return True, registered_name, None
    try:
        f"{module}\0{name}".encode()
    except UnicodeEncodeError:
        return True, registered_name, None
    slots = _slots_of(kind)
    if slots is None or "\0" in module:
        return True, registered_name, None
    return True, registered_name, (module, name, kind.__dictoffset__ != 0, slots)


def find_class(module: str, name: str) -> tuple[Any, str, str, bool, bool]:
    """Find the class of an object, as unpickling does, with its errors.

    Returns
    -------
    kind
        What has the name here.
    module, name : str
    plain : bool
        Objects come from ``object.__new__``, and are filled through their ``__dict__``.
    has_dict : bool
    """
    kind = pickle.loads(
        b"\x80\x05" + b"".join(_text(text) for text in (module, name)) + pickle.STACK_GLOBAL + pickle.STOP
    )
    plain = (
        type(kind) is type
        and bool(kind.__flags__ & _HEAP_TYPE)
        and _has_no_hooks(kind)
        and getattr(sys.modules.get(module), "__dict__", {}).get(name) is kind
    )
    return kind, module, name, plain, plain and kind.__dictoffset__ != 0


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE (Include/object.h)


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data


def build(kind: Any, attributes: dict[str, Any], slots: dict[str, Any] | None) -> Any:
    """Make an object as the unpickler does of NEWOBJ and BUILD (Lib/pickle.py, load_newobj, load_build)."""
    if not isinstance(kind, type):
        raise pickle.UnpicklingError(f"NEWOBJ class argument must be a type, not {type(kind).__name__}")
    made: Any = kind.__new__(kind)  # type: ignore[call-overload]
    if not attributes and slots is None:
        return made
    restore = getattr(made, "__setstate__", None)
    if restore is not None:
        restore(attributes if slots is None else (attributes or None, slots))
        return made
    if attributes:
        place = made.__dict__
        for key, value in attributes.items():
            place[key] = value
    for key, value in (slots or {}).items():
        setattr(made, key, value)
    return made

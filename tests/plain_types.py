"""Classes whose objects are nothing but attributes, and some whose are more."""

from __future__ import annotations

import dataclasses
from typing import Any


class Plain:
    """Attributes only."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Derived(Plain):
    """A class attribute and a property, which the objects do not have in them."""

    kind = "derived"

    @property
    def shadowed(self) -> str:
        """Not what may lie in __dict__ under that name."""
        return "property"


@dataclasses.dataclass
class Data:
    """A dataclass."""

    name: str
    items: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """One that refuses to be assigned to, and has a hash made in Python."""

    name: Any


class Slots:
    """Slots, one with a private name, and no __dict__."""

    __slots__ = ("__private", "__weakref__", "left", "right")

    def set(self, value: object) -> Slots:
        """Fill what has a private name."""
        self.__private = value
        return self


class SlotsAndDict(Slots):
    """Both."""


class MoreSlots(Slots):
    """More of them."""

    __slots__ = ("left", "middle")  # the same name again


class Boxed[T]:
    """A generic class."""

    def __init__(self, value: T) -> None:
        self.value = value


class Outer:
    """Has a class in it."""

    class Inner:
        """The class in it."""


class Guarded:
    """Says no to attributes: pickle passes it by."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Meta(type):
    """A metaclass."""


class WithMeta(metaclass=Meta):
    """Of a class that is not made by `type`."""


class Reduced:
    """Says how it is pickled."""

    def __reduce__(self) -> Any:
        return dict, ((("reduced", True),),)


class Dynamic:
    """Finds attributes that nobody set."""

    def __getattr__(self, name: str) -> Any:
        if name == "__setstate__":
            return lambda state: self.__dict__.update(restored=state)
        raise AttributeError(name)


class Restored:
    """Takes its state by itself."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state


class ListLike(list[Any]):
    """A list with attributes."""

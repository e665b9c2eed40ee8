"""Objects that a Channel sends without pickle arrive as pickle would make them."""

from __future__ import annotations

import abc
import copyreg
import gc
import math
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memchannel
from channel_support import Neighbour, RemoteFailure
from memchannel import Channel, InterpreterPool, _core, sharing
from plain_types import (
    Boxed,
    Data,
    Derived,
    Dynamic,
    Frozen,
    Guarded,
    ListLike,
    MoreSlots,
    Outer,
    Plain,
    Reduced,
    Restored,
    Slots,
    SlotsAndDict,
    WithMeta,
)

pytestmark = pytest.mark.usefixtures("level_leases")


def sent(obj: Any) -> Any:
    """Send and receive."""
    ch = Channel[Any]()
    ch.send(obj)
    return ch.recv()


def pickled(obj: Any) -> Any:
    """What pickle makes."""
    return pickle.loads(pickle.dumps(obj, 5))


def shape(obj: Any, seen: dict[int, int] | None = None) -> Any:
    """Describe an object by its types and values, and by which of its parts are the same object."""
    seen = {} if seen is None else seen
    if obj is None or isinstance(obj, (bool, int, str, bytes, type)):
        return type(obj), obj
    if isinstance(obj, (float, complex)):
        return type(obj), repr(obj)
    if not isinstance(obj, (tuple, frozenset)):
        if id(obj) in seen:
            return "again", seen[id(obj)]
        seen[id(obj)] = len(seen)
    parts: list[Any] = [type(obj)]
    if isinstance(obj, dict):
        parts += [(shape(key, seen), shape(value, seen)) for key, value in obj.items()]
    elif isinstance(obj, (list, tuple)):
        parts += [shape(one, seen) for one in obj]
    elif isinstance(obj, (set, frozenset)):
        parts += sorted((shape(one, dict(seen)) for one in obj), key=repr)
    elif isinstance(obj, bytearray):
        parts.append(bytes(obj))
    else:
        names = [name for kind in type(obj).__mro__ for name in vars(kind).get("__slots__", ())]
        names = [f"_Slots{name}" if name == "__private" else name for name in names if name != "__weakref__"]
        parts += [(name, shape(getattr(obj, name), seen)) for name in names if hasattr(obj, name)]
        parts += [(key, shape(value, seen)) for key, value in getattr(obj, "__dict__", {}).items()]
    return parts


def filled(obj: Any, **attributes: Any) -> Any:
    """Set attributes past whatever the class has to say."""
    for name, value in attributes.items():
        object.__setattr__(obj, name, value)
    return obj


def in_dict(obj: Any, **attributes: Any) -> Any:
    """Put attributes into the object's __dict__."""
    obj.__dict__.update(attributes)
    return obj


def shared() -> Any:
    """One object in two places."""
    one = Plain(value=1)
    return Plain(left=one, right=[one])


def cycle() -> Any:
    """An object that holds itself."""
    one = Plain()
    one.me = {"me": [one]}  # type: ignore[attr-defined]
    return one


def in_own_set() -> Any:
    """An object in a set that it holds."""
    one = Plain()
    return in_dict(one, group={one})


def first_again() -> Any:
    """A list whose last item is the first, far away."""
    first = [0]
    return [first, *([i] for i in range(200)), first]


def deep(levels: int) -> Any:
    """Objects in objects."""
    return Plain(inner=deep(levels - 1)) if levels else 1


def own_dict(place: Callable[[Any], Any]) -> Any:
    """An object beside its own __dict__."""
    one = Plain(value=[1])
    return place(one)


def common_dict() -> Any:
    """Two objects with one __dict__."""
    one, other = Plain(value=[1]), Plain()
    other.__dict__ = one.__dict__
    return [one, other]


OBJECTS: dict[str, Any] = {
    "sets": [set(), {1, "a", (2, frozenset((3,)))}, frozenset(), frozenset((b"x", 2.5, None))],
    "numbers": [
        sign * (2**bits + more) for bits in (62, 63, 64, 500) for sign in (1, -1) for more in (-1, 0, 1)
    ],
    "huge number": 7**100_000,
    "floats": [0.0, -0.0, math.inf, math.nan, complex(-0.0, math.nan), 1e300j],
    "bytearrays": [bytearray(), bytearray(b"abc"), bytearray(100_000)],
    "empty": Plain(),
    "attributes": Plain(a=1, b="text", c=[1, {2}], d={"e": None}),
    "derived": in_dict(Derived(), kind="own", shadowed=3),
    "names": in_dict(Plain(), **{"ü": 1, "€": 2, "😀": 3, "": 4, "_": 5, "with space": 6}),
    "dataclass": Data("x", [Data("y"), Frozen("z")]),
    "hashes": {Frozen(1), Frozen((2, Frozen("x")))},
    "keys": {Frozen(1): Plain(a=1), frozenset((Frozen("k"),)): 2},
    "slots": [filled(Slots(), left=1), Slots().set([2]), Slots()],
    "slots and dict": [
        in_dict(filled(SlotsAndDict(), left=1), more=2),
        SlotsAndDict().set(3),
        SlotsAndDict(),
    ],
    "more slots": filled(MoreSlots(), left=1, middle=[2]),
    "generic": [Boxed(1), Boxed[int](2)],
    "nested class": in_dict(Outer.Inner(), a=1),
    "guarded": in_dict(Guarded(), a=1),
    "metaclass": in_dict(WithMeta(), a=1),
    "reduced": Reduced(),
    "dynamic": in_dict(Dynamic(), a=1),
    "restored": [in_dict(Restored(), a=1), Restored()],
    "list with attributes": in_dict(ListLike([1, 2]), a=1),
    "no names": in_dict(Plain(), a=1),
    "shared": shared(),
    "cycle": cycle(),
    "itself in a set": in_own_set(),
    "own dict inside": own_dict(lambda one: in_dict(one, inside=one.__dict__)),
    "own dict beside": own_dict(lambda one: [one, one.__dict__]),
    "common dict": common_dict(),
    "many": [Plain(number=i, rest=[i]) for i in range(250)],
    "many of many": [[Plain(number=i) for i in range(100)] for _ in range(20)],
    "the last is the first": first_again(),
    "deep": deep(100),
}
OBJECTS["no names"].__dict__[5] = "not a name"


@pytest.mark.parametrize("name", OBJECTS)
def test_it_arrives_as_pickled(name: str) -> None:
    obj = OBJECTS[name]
    before = shape(obj)
    assert shape(sent(obj)) == shape(pickled(obj))
    assert shape(obj) == before
    assert shape(sent([obj, obj, 1])) == shape(pickled([obj, obj, 1]))


_leaves = st.one_of(
    *(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.complex_numbers(allow_nan=False),
    ),
    *(st.text(max_size=5), st.binary(max_size=5), st.builds(bytearray, st.binary(max_size=3))),
)
_hashable = st.one_of(st.integers(), st.text(max_size=3), st.builds(Frozen, st.integers()))


def _branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.text("ab_\u20ac", min_size=1, max_size=3)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(_hashable, max_size=3),
        st.frozensets(_hashable, max_size=3),
        st.dictionaries(_hashable, inner, max_size=3),
        st.dictionaries(names, inner, max_size=3).map(lambda found: in_dict(Plain(), **found)),
        st.builds(lambda left, middle: filled(MoreSlots(), left=left, middle=middle), inner, inner),
        inner.map(lambda one: [one, Plain(again=one)]),
        inner.map(lambda one: in_dict(Restored(), one=one)),
    )


@given(st.recursive(_leaves, _branches, max_leaves=25))
def test_whatever_it_is_it_arrives_as_pickled(obj: Any) -> None:
    assert shape(sent(obj)) == shape(pickled(obj))


def test_names_of_attributes_are_interned_as_pickle_has_it(neighbour: Neighbour) -> None:
    ch = Channel[Any]()
    ch.send([in_dict(Plain(), a_name=1), in_dict(Derived(), a_name=2)])
    found = "[next(iter(vars(one))) is sys.intern('_'.join(['a', 'name'])) for one in ch.recv()]"
    neighbour.do("import sys")
    assert neighbour.do(found, ch=ch) == [True, True]
    neighbour.do("del ch")


def test_another_interpreter_gets_them(neighbour: Neighbour) -> None:
    ch, back = Channel[Any](), Channel[Any]()
    objects = [OBJECTS[name] for name in ("sets", "attributes", "dataclass", "slots", "keys", "many")]
    for obj in objects:
        ch.send(obj)
        neighbour.do("back.send(ch.recv())", ch=ch, back=back)
        assert shape(back.recv(20)) == shape(obj)
    neighbour.do("del ch, back")


def test_pools_take_them() -> None:
    def size(one: Any) -> Any:
        return {len(vars(one))}, one

    with InterpreterPool(1, packages=None) as pool:
        counts, back = pool.submit(size, Plain(a={1}, b=2)).result(20)
    assert (counts, shape(back)) == ({2}, shape(Plain(a={1}, b=2)))


# ---- what may come between


@pytest.fixture
def volatile() -> Iterator[type[Any]]:
    """A class that tests may change, in a module of its own."""
    module = types.ModuleType("volatile_module")
    sys.modules["volatile_module"] = module
    exec("class Volatile:\n    def __init__(self): self.a = 1", module.__dict__)
    yield module.__dict__["Volatile"]
    sys.modules.pop("volatile_module", None)


def _reduce(self: Any, *_: Any) -> Any:
    return str, ("reduced",)


@pytest.mark.parametrize(
    "name", ["__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getattr__"]
)
def test_a_class_may_change_its_ways_at_any_time(volatile: Any, name: str) -> None:
    hooks: dict[str, Any] = {
        "__getstate__": lambda self: {"got": 1},
        "__setstate__": lambda self, state: self.__dict__.update(set=state),
        "__getattr__": lambda self, name: _raise(AttributeError(name)),
    }
    one = volatile()
    assert vars(sent(one)) == {"a": 1}
    setattr(volatile, name, hooks.get(name, _reduce))
    assert shape(sent(one)) == shape(pickled(one))
    delattr(volatile, name)
    assert vars(sent(one)) == {"a": 1}


def _raise(exc: Exception) -> Any:
    raise exc


def test_its_base_may_change_its_ways(volatile: Any) -> None:
    derived = type("Derived", (volatile,), {"__module__": volatile.__module__})
    sys.modules[volatile.__module__].Derived = derived  # type: ignore[attr-defined]
    one = derived()
    assert vars(sent(one)) == {"a": 1}
    volatile.__reduce_ex__ = _reduce
    assert sent(one) == "reduced"


def test_an_object_may_have_ways_of_its_own(volatile: Any) -> None:
    one, other = volatile(), volatile()
    assert vars(sent(one)) == {"a": 1}
    one.__reduce_ex__ = lambda protocol: (str, ("its own",))
    assert (sent(one), vars(sent(other))) == ("its own", {"a": 1})


def test_copyreg_has_its_say(volatile: Any) -> None:
    one = volatile()
    assert vars(sent(one)) == {"a": 1}
    copyreg.pickle(volatile, _reduce)  # type: ignore[arg-type]
    try:
        assert sent([one]) == ["reduced"]
    finally:
        del copyreg.dispatch_table[volatile]
    copyreg.add_extension("volatile_module", "Volatile", 0xF0F0)
    try:
        assert vars(sent(one)) == {"a": 1}
    finally:
        copyreg.remove_extension("volatile_module", "Volatile", 0xF0F0)
    assert vars(sent(one)) == {"a": 1}


def test_register_has_its_say(volatile: Any) -> None:
    one = volatile()
    assert vars(sent(one)) == {"a": 1}
    assert shape(sent(volatile)) == shape(volatile)
    memchannel.register(volatile, lambda obj: ("meta", [b"x"]), lambda meta, views: (meta, bytes(views[0])))
    try:
        assert sent({"in": one}) == {"in": ("meta", b"x")}
        # A class derived from it is not concerned, nor is what pickle gets by itself.
        assert sent(Plain(a=1)).a == 1
    finally:
        sharing.forget({"volatile_module"})
    assert vars(sent(one)) == {"a": 1}


def test_a_class_that_was_replaced_is_not_taken_for_the_new_one(volatile: Any) -> None:
    one, module = volatile(), sys.modules["volatile_module"]
    assert vars(sent(one)) == {"a": 1}
    exec("class Volatile: pass", module.__dict__)
    with pytest.raises(pickle.PicklingError, match="not the same object as volatile_module.Volatile"):
        sent(one)
    exec("del Volatile", module.__dict__)
    with pytest.raises((pickle.PicklingError, AttributeError), match="Volatile"):
        sent(one)


def test_a_class_that_got_another_name_goes_by_that(volatile: Any) -> None:
    one, module = volatile(), sys.modules["volatile_module"]
    assert vars(sent(one)) == {"a": 1}
    volatile.__qualname__ = "Renamed"
    with pytest.raises((pickle.PicklingError, AttributeError), match="Renamed"):
        sent(one)
    module.Renamed = volatile  # type: ignore[attr-defined]
    del module.Volatile  # type: ignore[attr-defined]
    assert vars(sent(one)) == {"a": 1}


def test_a_module_that_is_no_plain_module_is_asked_as_pickle_does(volatile: Any) -> None:
    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return volatile if name == "Volatile" else _raise(AttributeError(name))

    one, module = volatile(), sys.modules["volatile_module"]
    sys.modules["volatile_module"] = Lazy("volatile_module")
    assert vars(sent(one)) == {"a": 1}
    ch = Channel[Any]()
    sys.modules["volatile_module"] = module
    ch.send(one)
    sys.modules["volatile_module"] = Lazy("volatile_module")
    assert vars(ch.recv()) == {"a": 1}


@pytest.mark.parametrize("taught", [False, True])
def test_the_receiver_has_its_own_class(volatile: Any, taught: bool) -> None:
    ch, module = Channel[Any](), sys.modules["volatile_module"]
    if taught:
        sent(volatile())
    for _ in range(7):
        ch.send(volatile())
    ch.send([0, volatile()])
    exec("class Volatile:\n    def __setstate__(self, state): self.set = state", module.__dict__)
    assert vars(ch.recv()) == {"set": {"a": 1}}
    exec("class Volatile:\n    def __new__(cls): return [cls]", module.__dict__)
    with pytest.raises(AttributeError, match="__dict__"):
        ch.recv()
    exec("class Volatile:\n    __slots__ = ('a',)", module.__dict__)
    with pytest.raises(AttributeError, match="__dict__"):
        ch.recv()
    exec("def Volatile(): pass", module.__dict__)
    with pytest.raises(pickle.UnpicklingError, match="must be a type, not function"):
        ch.recv()
    exec("del Volatile", module.__dict__)
    with pytest.raises(AttributeError, match="attribute 'Volatile'"):
        ch.recv()
    del sys.modules["volatile_module"]
    with pytest.raises(ModuleNotFoundError, match="No module named 'volatile_module'"):
        ch.recv()
    sys.modules["volatile_module"] = module
    module.Volatile = abc.ABCMeta(  # type: ignore[attr-defined]
        "Volatile", (), {"missing": abc.abstractmethod(lambda self: None)}
    )
    with pytest.raises(TypeError, match="abstract"):
        ch.recv()
    module.Volatile = volatile  # type: ignore[attr-defined]
    assert vars(ch.recv()[1]) == {"a": 1}
    assert len(ch) == 0


def test_a_module_that_is_missing_there_is_a_clear_error(volatile: Any, neighbour: Neighbour) -> None:
    ch = Channel[Any]()
    ch.send({"part": volatile()})
    ch.send(Plain(a=1))
    with pytest.raises(RemoteFailure, match="ModuleNotFoundError: No module named 'volatile_module'"):
        neighbour.do("ch.recv()", ch=ch)
    assert neighbour.do("ch.recv().a") == 1
    neighbour.do("del ch")


def test_a_hash_that_raises_half_way_costs_its_message_only(volatile: Any) -> None:
    ch = Channel[Any]()
    ch.send([{volatile()}, bytearray(1)])
    ch.send("goes on")
    volatile.__hash__ = lambda self: _raise(ValueError("no hash"))
    with pytest.raises(ValueError, match="no hash"):
        ch.recv()
    assert ch.recv() == "goes on"


def test_audit_hooks_are_told_of_classes() -> None:
    # A process of its own would be needed to add a hook: they cannot be removed. This one listens once only.
    told: list[tuple[str, str]] = []
    listening = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "pickle.find_class":
            told.append(arguments)

    sys.addaudithook(hook)
    sent(Plain())
    told.clear()
    sent(Plain())
    listening.clear()
    assert told == [("plain_types", "Plain")]


def test_classes_live_no_longer_than_without(volatile: Any) -> None:
    one = volatile()
    sent([one, {one}])
    alive = weakref.ref(volatile)
    del one, volatile, sys.modules["volatile_module"]
    gc.collect()
    assert alive() is not None  # the fixture's
    for number in range(5000):
        module = sys.modules["passing_module"] = types.ModuleType("passing_module")
        kind = type("Passing", (), {"__module__": "passing_module", "number": number})
        module.Passing = kind  # type: ignore[attr-defined]
        assert sent(kind()).number == number
        reference = weakref.ref(kind)
    del sys.modules["passing_module"], module, kind
    gc.collect()
    assert reference() is None


def test_objects_are_let_go_of() -> None:
    class Counted(Plain):
        pass

    Counted.__qualname__ = "Counted"
    sys.modules[__name__].Counted = Counted  # type: ignore[attr-defined]
    one = Counted(a=[1])
    references = sys.getrefcount(one), sys.getrefcount(one.__dict__), sys.getrefcount(one.a)
    for _ in range(10):
        got = sent([one, (), {1}])
    assert (sys.getrefcount(one), sys.getrefcount(one.__dict__), sys.getrefcount(one.a)) == references
    gone = weakref.ref(got[0])
    del got
    assert gone() is None
    del sys.modules[__name__].Counted  # type: ignore[attr-defined]


def test_the_pickler_that_is_kept_keeps_nothing_else() -> None:
    class Held(set[Any]):
        pass

    Held.__qualname__ = "Held"
    sys.modules[__name__].Held = Held  # type: ignore[attr-defined]
    one = Held()
    sent([one])
    gone = weakref.ref(one)
    del one
    assert gone() is None
    one = Held([lambda: None])
    for _ in range(2):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            sent([one, bytearray(1)])
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert sent([Held([1])]) == [{1}]
    del sys.modules[__name__].Held  # type: ignore[attr-defined]


def test_what_lies_on_a_gpu_is_still_refused(volatile: Any) -> None:
    one = volatile()
    assert vars(sent(one)) == {"a": 1}
    volatile.__cuda_array_interface__ = property(lambda self: {})
    with pytest.raises(pickle.PicklingError, match="memory of a GPU"):
        sent(one)


def test_pickling_may_send_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    ch = Channel[Any]()

    def reduce(self: Any) -> Any:
        ch.send([Reduced(), ListLike([1])])
        return tuple, ()

    monkeypatch.setattr(WithMeta, "__reduce__", reduce, raising=False)
    assert sent([ListLike([2]), WithMeta(), ListLike([3])]) == [[2], (), [3]]
    assert ch.recv() == [{"reduced": True}, [1]]


def test_what_leaves_ordinary_objects_alone_takes_a_pickler_and_an_object() -> None:
    bound = types.SimpleNamespace
    method = _core._leaving_ordinary(lambda self, obj: "asked")
    kind = type("Kind", (bound,), {"method": method})
    assert kind().method(1) is NotImplemented
    assert kind().method(ValueError()) == "asked"
    with pytest.raises(TypeError, match="takes one object"):
        kind().method()

"""`StringView`: text that stays where its sender has it."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import random
import resource
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memchannel
from channel_support import Neighbour, RemoteFailure, run_script, wait_until
from memchannel import ArrayChannel, Channel, MemChannel, StringView, interpreters

pytestmark = pytest.mark.usefixtures("level_leases")

TEXTS = {
    "empty": "",
    "one letter": "x",
    "ASCII": "the quick brown fox jumps over the lazy dog",
    "Latin-1": "naïve façade, señor; \xff\x80",
    "Cyrillic": "съешь же ещё этих мягких булок",
    "astral": "a😀b😀c" * 3 + "\U0010ffff",
    "surrogates": "x\ud800y\udfffz",
    "surrogate pair in two": "\ud83d\ude00",
    "null characters": "a\0b\0",
    "long": "ab" * 5000 + "é",
}
each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


@contextmanager
def viewed(text: str) -> Iterator[StringView]:
    channel = MemChannel()
    channel.send(text)
    with channel.recv() as view:
        assert type(view) is StringView
        yield view


def kind_of(text: str) -> int:
    return 1 if not text or max(text) < "\u0100" else 2 if max(text) < "\U00010000" else 4


def address_of(text: str) -> int:
    """Where the characters of a str are: at the end of the object, with a null after them."""
    assert not text.isascii() or sys.getsizeof(text) < 60 + len(text)
    return id(text) + sys.getsizeof(text) - (len(text) + 1) * kind_of(text)


# ---- no copy


@each_text
def test_the_characters_are_the_senders(text: str) -> None:
    with viewed(text) as view:
        assert (view.address, view.itemsize) == (address_of(text), kind_of(text))
        assert view.nbytes == len(text) * kind_of(text)
        assert view.interpreter == 0
        part = view[1:]
        if len(text) > 1:
            assert part.address == view.address + view.itemsize


def test_sending_and_slicing_take_no_memory() -> None:
    for text in ("a" * 60_000_000, "я" * 30_000_000):
        with viewed(text) as view:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            parts = [view[i : i + 50_000_000 : 3] for i in range(20)]
            assert view.find("b") == -1 == view[::-1].rfind("b")
            assert view == text
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
            del parts


def test_a_gigabyte_of_text(neighbour: Neighbour) -> None:
    there, text = MemChannel(), "a" * 2**30
    first = id(text) + sys.getsizeof(text) - (len(text) + 1)  # address_of() would look at each character
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there.send(text)
    neighbour.do("view = there.recv()", there=there)
    seen = neighbour.do("(view.address, len(view), view[-1], str(view[2**30 - 3:]))")
    assert seen == (first, 2**30, "a", "aaa")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    neighbour.do("view.release(); del view, there")


def test_another_interpreter_reads_it(neighbour: Neighbour) -> None:
    there, text = MemChannel(), TEXTS["astral"]
    there.send(text)
    neighbour.do("view = there.recv()", there=there)
    assert neighbour.do("view.address") == address_of(text)
    assert neighbour.do("(str(view), len(view), view.interpreter)") == (text, len(text), 0)
    assert neighbour.do("hash(view)") == hash(text)
    neighbour.do("view.release(); del view, there")


# ---- as a str


@each_text
def test_sequence(text: str) -> None:
    with viewed(text) as view:
        assert len(view) == len(text)
        assert bool(view) == bool(text)
        assert str(view) == text == f"{view}"
        assert list(view) == list(text)
        assert list(reversed(view)) == list(reversed(text))
        for index in range(-len(text), len(text)):
            assert view[index] == text[index]
            assert type(view[index]) is str
        for index in (len(text), -len(text) - 1, 2**70, -(2**70)):
            with pytest.raises(IndexError):
                view[index]
        for key in ("1", 1.0, None, (1, 2)):
            with pytest.raises(TypeError, match="indices must be integers or slices"):
                view[key]  # type: ignore[call-overload]


@each_text
def test_slices(text: str) -> None:
    bounds = (None, 0, 1, 3, -1, -3, 100, -100, 2**70)
    steps = (None, 1, 2, 3, -1, -2, 100, -(2**70))
    with viewed(text[:60]) as view:
        for start, stop, step in itertools.product(bounds, bounds, steps):
            key = slice(start, stop, step)
            part = view[key]
            assert type(part) is StringView
            assert str(part) == text[:60][key]
            assert part == text[:60][key]
            assert hash(part) == hash(text[:60][key])
            assert str(part[1::-1]) == text[:60][key][1::-1], "a slice of a slice"
        with pytest.raises(ValueError, match="slice step cannot be zero"):
            view[::0]


CALLS = ("find", "rfind", "index", "rindex", "count", "startswith", "endswith")


def outcome(obj: Any, method: str, *arguments: Any) -> Any:
    try:
        return getattr(obj, method)(*arguments)
    except ValueError as exc:
        return str(exc)


@each_text
def test_search(text: str) -> None:
    wanted = [
        "",
        "x",
        "a",
        "o",
        "quick",
        "é",
        "b\xe9",
        "ещё",
        "ё",
        "😀",
        "b😀",
        "\udfff",
        "\0",
        "ab" * 50,
        text,
        text * 2,
    ]
    wanted += [text[i : i + 3] for i in (0, 1, 5, len(text) - 3)]
    bounds = [(), (1,), (0, -1), (None, None), (-3,), (3, 2), (100_000,), (-(2**70), 2**70)]
    with viewed(text) as view, viewed("quick ещё 😀") as other:
        for method, sub, bound in itertools.product(CALLS, wanted, bounds):
            expected = outcome(text, method, sub, *bound)
            assert outcome(view, method, sub, *bound) == expected, (method, sub, bound)
            assert outcome(view[::-1], method, sub, *bound) == outcome(text[::-1], method, sub, *bound)
        for sub in wanted:
            assert (sub in view) == (sub in text)
        for method in CALLS:
            assert outcome(view, method, other[:5]) == outcome(text, method, "quick")
            assert outcome(view, method, other[6:9]) == outcome(text, method, "ещё")
        assert (other[::-1] in view) == (str(other[::-1]) in text)
        for prefixes in ((), ("a", "the", "съ"), (other[:5], ""), ("zz", text)):
            plain = tuple(map(str, prefixes))
            assert view.startswith(prefixes) == text.startswith(plain)
            assert view.endswith(prefixes, 1) == text.endswith(plain, 1)


LETTERS = st.text(st.sampled_from("ab\xe9\xea\u0431\U0001f600"), max_size=40)


@given(LETTERS, LETTERS, st.integers(-5, 45), st.integers(-5, 45), st.sampled_from([1, 2, -1, -3]))
def test_it_does_what_str_does(text: str, sub: str, start: int, end: int, step: int) -> None:
    sub = sub[:3]
    with viewed(text) as view, viewed(sub) as wanted:
        for one, same in ((view, text), (view[::step], text[::step]), (view[start:end], text[start:end])):
            for method in CALLS:
                assert outcome(one, method, wanted, start, end) == outcome(same, method, sub, start, end)
            assert (one < wanted, one <= sub, one > wanted, one >= sub) == (
                same < sub,
                same <= sub,
                same > sub,
                same >= sub,
            )
            assert (one == same, one != same, same == one) == (True, False, True)
            assert hash(one) == hash(same)


@each_text
def test_comparison(text: str) -> None:
    with viewed(text) as view, viewed(text + "x") as longer:
        copied = "".join(text)
        assert view == copied
        assert copied == view
        assert (view != copied) is False
        assert view == view[:]
        assert view != longer
        assert longer[:-1] == view == longer[: len(text)]
        assert view < longer
        assert longer > view
        assert text <= view <= text
        for other in (None, 1, text.encode("utf-8", "surrogatepass"), [*text]):
            assert view != other
            with pytest.raises(TypeError, match="not supported between"):
                view < other  # type: ignore[operator]  # noqa: B015


def test_a_wide_text_compares_by_characters_with_a_narrow_one() -> None:
    with viewed("abc\u0431") as two, viewed("abc\U0001f600") as four, viewed("abc") as one:
        assert one == two[:3] == four[:3] == "abc"
        assert len({hash(one), hash(two[:3]), hash(four[:3]), hash("abc")}) == 1
        assert {"abc": 1}[two[:3]] == 1  # type: ignore[index]
        assert two < four
        assert "\u0431" not in one
        assert one.find(two[3:]) == -1
        assert two.find(four[1:3]) == 1


def test_a_subclass_of_str_is_sent_as_its_characters() -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    with viewed(Name("abc")) as view:
        assert str(view) == "abc"
        assert view == Name("abc")


def test_search_is_linear_and_holds_no_gil() -> None:
    # A quadratic search would take many minutes for each; the other thread goes on meanwhile, or never ends.
    n = 1_000_000
    done = threading.Event()
    turns = [0]

    def count() -> None:
        while not done.is_set():
            turns[0] += 1

    thread = threading.Thread(target=count)
    with viewed("a" * n) as view, viewed("ab" * (n // 2)) as other:
        thread.start()
        try:
            for sub in ("a" * (n // 2) + "b", "b" + "a" * (n // 2), "a" * (n // 4) + "b" + "a" * (n // 4)):
                assert view.find(sub) == -1 == view.rfind(sub)
                assert view.count(sub) == 0
            assert other.find("ab" * (n // 4) + "b") == -1 == other.rfind("a" + "ab" * (n // 4))
        finally:
            done.set()
            thread.join()
    assert turns[0] > 0


@pytest.mark.parametrize("method", CALLS)
def test_arguments_of_the_wrong_type(method: str) -> None:
    with viewed("text") as view:
        for wrong in (None, 1, b"t", ["t"]):
            with pytest.raises(TypeError, match="must be str or StringView, not"):
                getattr(view, method)(wrong)
        with pytest.raises(TypeError, match="slice indices must be integers or None"):
            getattr(view, method)("t", "1")
        with pytest.raises(TypeError, match="missing required argument"):
            getattr(view, method)()
    with viewed("text") as view:
        with pytest.raises(TypeError, match="must be str or StringView, not int"):
            1 in view  # type: ignore[operator]  # noqa: B015
        with pytest.raises(TypeError, match="must be str or StringView, not int"):
            view.startswith(("t", 1)[1:])  # type: ignore[arg-type]


def test_nobody_makes_one_or_derives_from_it() -> None:
    with pytest.raises(TypeError, match="cannot create 'memchannel.StringView' instances"):
        StringView()
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (StringView,), {})


# ---- the lease


def test_it_keeps_the_text_until_it_is_released() -> None:
    before = memchannel.stats()
    channel, text = MemChannel(), "".join(["kept", " alive"])
    references = sys.getrefcount(text)
    channel.send(text)
    now = memchannel.stats()
    assert (now.live - before.live, now.bytes_lent - before.bytes_lent) == (1, 10)
    assert sys.getrefcount(text) == references + 1
    view = channel.recv()
    part = view[:4]
    view.release()
    view.release()
    assert sys.getrefcount(text) == references + 1
    assert part == "kept"
    part.release()
    assert sys.getrefcount(text) == references
    assert memchannel.stats().live == before.live


def test_a_released_view_says_so() -> None:
    with viewed("text") as view:
        same = hash(view)
    assert repr(view).startswith("<StringView: released text at 0x")
    assert hash(view) == same, "kept, as memoryview's"
    assert view == view  # noqa: PLR0124
    assert view != "text"
    assert "text".__eq__(view) is NotImplemented  # type: ignore[arg-type]
    for use in (
        *(
            len,
            str,
            iter,
            lambda v: v[0],
            lambda v: v[:],
            lambda v: "t" in v,
            lambda v: v < "t",
            lambda v: v.address,
        ),
        *(lambda v: v.interpreter, lambda v: v.__enter__(), lambda v: "text" in MemChannel().send(v)),
        *(lambda v, m=method: getattr(v, m)("t") for method in CALLS),
    ):
        with pytest.raises(ValueError, match="operation forbidden on released StringView object"):
            use(view)
    with viewed("other") as other, pytest.raises(ValueError, match="released"):
        other.find(view)
    with viewed("never hashed") as view:
        pass
    with pytest.raises(ValueError, match="released"):
        hash(view)
    channel = MemChannel()
    channel.send("while iterating")
    view = channel.recv()
    letters = iter(view)
    assert next(letters) == "w"
    view.release()
    with pytest.raises(ValueError, match="released"):
        next(letters)


def test_one_dropped_unreleased_warns_if_it_was_the_last() -> None:
    channel = MemChannel()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        channel.send("a text that nobody released")
        view = channel.recv()
        part = view[2:6]
        del view
        assert seen == []
        del part
        assert seen == [], "slices do not warn, as those of memoryview"
        channel.send("a text that nobody released")
        channel.recv()
    (warning,) = seen
    assert issubclass(warning.category, ResourceWarning)
    assert "unreleased <StringView of interpreter 0: 'a text that nobody released', length 27>" in str(
        warning.message
    )


def test_repr_shows_the_beginning() -> None:
    with viewed("é" * 100) as view:
        assert repr(view) == f"<StringView of interpreter 0: {'é' * 40!r}..., length 100>"
    with viewed("") as view:
        assert repr(view) == "<StringView of interpreter 0: '', length 0>"


def test_weak_references_and_copies() -> None:
    with viewed("text") as view:
        reference = weakref.ref(view)
        assert reference() is view
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot pickle"):
                attempt(view)
    del view
    gc.collect()
    assert reference() is None


def test_it_is_passed_on_without_nesting(neighbour: Neighbour) -> None:
    channel = MemChannel()
    neighbour.do("text = 'from there, ' + str(1)")
    neighbour.do("channel.send(text)", channel=channel)
    view = channel.recv(20)
    assert view.interpreter == neighbour.id
    before = memchannel.stats().live
    channel.send(view[::2])
    assert memchannel.stats().live == before
    again = channel.recv()
    assert (again.interpreter, str(again)) == (neighbour.id, "from there, 1"[::2])
    objects = Channel[Any]()
    objects.send({"part": [view[5:]]})
    part = objects.recv()["part"][0]
    assert (type(part), part.interpreter, str(part)) == (StringView, neighbour.id, "there, 1")
    assert part.address == view.address + 5
    for one in (view, again, part):
        one.release()
    neighbour.do("del channel, text")


def test_deferred_release(neighbour: Neighbour) -> None:
    channel = MemChannel(release="deferred")
    text = "".join(["defer", "red"])
    references = sys.getrefcount(text)
    channel.send(text)
    neighbour.do("channel.recv().release()", channel=channel)
    wait_until(lambda: sys.getrefcount(text) == references, "the return of the text")
    neighbour.do("del channel")


def test_a_broadcast_has_one_lease_for_all() -> None:
    news = MemChannel()
    ends = [news.broadcast() for _ in range(3)]
    before = memchannel.stats().live
    news.send("one for all")
    views = [end.recv() for end in ends]
    assert memchannel.stats().live == before + 1
    for view in views:
        assert view == "one for all"
        view.release()
    assert memchannel.stats().live == before


def test_an_interpreter_whose_text_is_out_is_not_closed() -> None:
    owner = interpreters.create(packages=None)
    channel = MemChannel()
    interpreters.run(owner, lambda channel: channel.send("text of " + "another"), channel=channel)
    view = channel.recv()
    part = view[8:]
    view.release()
    with pytest.raises(BufferError, match=f"1 view of interpreter {owner.id} is out"):
        interpreters.close(owner)
    assert part == "another"
    part.release()
    interpreters.close(owner, timeout=20)


def test_text_of_an_interpreter_closed_by_force_stays() -> None:
    source = """
import memchannel, warnings
from memchannel import MemChannel, interpreters
owner, channel = interpreters.create(packages=None), MemChannel()
interpreters.run(owner, lambda channel: channel.send("text of " + "another"), channel=channel)
view = channel.recv()
owner.close()
print(str(view), view.find("another"), memchannel.stats().abandoned)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    view.release()
print([one.category.__name__ for one in seen], memchannel.stats().live)
"""
    first, second = run_script(source).splitlines()
    assert first == "text of another 8 1"
    assert second == "['ResourceWarning'] 0"


def test_threads_that_release_while_others_search() -> None:
    text = "ab" * 100_000
    for _ in range(20):
        channel = MemChannel()
        channel.send(text)
        view = channel.recv()
        errors: list[BaseException] = []

        def search(view: StringView = view, errors: list[BaseException] = errors) -> None:
            try:
                while True:
                    assert view.find("aa") == -1
            except ValueError:
                pass
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        view.release()
        for thread in threads:
            thread.join()
        assert errors == []


def test_array_channels_still_refuse_text() -> None:
    with pytest.raises(TypeError):
        ArrayChannel().send("text")
    with viewed("text") as view, pytest.raises(TypeError):
        ArrayChannel().send(view)


def test_random_needles_in_a_long_text() -> None:
    generator = random.Random(3)
    text = "".join(generator.choices("abé", k=20_000))
    with viewed(text) as view:
        for _ in range(300):
            start = generator.randrange(len(text))
            sub = text[start : start + generator.randrange(1, 200)]
            sub = sub if generator.random() < 0.5 else sub[:-1] + "a"
            assert view.find(sub) == text.find(sub)
            assert view.rfind(sub) == text.rfind(sub)
            assert view.count(sub[:5]) == text.count(sub[:5])


def test_it_does_not_leave_the_neighbour_its_text_after_an_error(neighbour: Neighbour) -> None:
    full = MemChannel(maxsize=1)
    full.send("first")
    text = "".join(["not", "sent"])
    references = sys.getrefcount(text)
    assert not full.send_nowait(text)
    with pytest.raises(TimeoutError):
        full.send(text, timeout=0.01)
    assert sys.getrefcount(text) == references
    with pytest.raises(RemoteFailure, match="TypeError: copy= and as_view= are for an ArrayChannel only"):
        neighbour.do("full.recv(copy=True)", full=full)
    neighbour.do("full.recv().release(); del full")

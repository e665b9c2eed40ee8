"""Arrays of `ml_dtypes`, between images of NumPy and of it: each registers its dtypes with its own NumPy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import memchannel
from memchannel import interpreters

sys.path.insert(0, str(Path(__file__).parent.parent))
from array_support import assert_same, spelled, traits

NAMES = sorted(
    name
    for name in dir(ml_dtypes)
    if isinstance(kind := getattr(ml_dtypes, name), type) and issubclass(kind, np.generic)
)
KINDS: dict[str, Any] = {
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in NAMES},
    "order spelled out": spelled(ml_dtypes.bfloat16),
    "other order": np.dtype(ml_dtypes.bfloat16).newbyteorder(),
    "other order, metadata": np.dtype(np.dtype(ml_dtypes.bfloat16).newbyteorder(), metadata={"unit": "m"}),
    "other order in a struct": np.dtype([("x", ml_dtypes.bfloat16), ("y", "i4")]).newbyteorder(),
    "metadata": np.dtype(ml_dtypes.bfloat16, metadata={"unit": "m"}),
    "struct": np.dtype([("x", ml_dtypes.bfloat16), ("n", "i4"), ("y", ml_dtypes.float8_e5m2, 3)]),
    "aligned struct": np.dtype([("x", "u1"), ("y", ml_dtypes.bfloat16)], align=True),
}


def made(name: str) -> Any:
    """Make an array of all the bytes that there are, over memory of another layout."""
    kind = KINDS[name]
    memory = np.arange(48 * kind.itemsize, dtype="u1")
    if "int" in name or kind.itemsize == 1:
        memory %= 2  # also values of the smallest ones
    return memory.view(kind).reshape(6, 8)[::-1, ::2]


class Other:
    """An interpreter, and what it says of the arrays that it gets; it sends them back."""

    def __init__(self, *packages: str) -> None:
        self.arrays, self.back = memchannel.ArrayChannel[Any](), memchannel.ArrayChannel[Any]()
        self.answers = memchannel.Channel[Any]()
        self.interpreter = interpreters.create(packages=packages)
        shared = {"arrays": self.arrays.ends[0], "back": self.back.ends[1], "answers": self.answers.ends[1]}
        path = str(Path(__file__).parent.parent)
        self.run(f"import sys; sys.path.insert(0, {path!r}); import array_support", shared)

    def run(self, source: str, shared: Any = None) -> None:
        interpreters.run(self.interpreter, source, shared=shared).check()

    def ask(self, sent: Any) -> tuple[Any, Any]:
        """Send an array; return what it is there, its values there, and what comes back."""
        self.arrays.send(sent)
        self.run(
            "got = arrays.recv(); values = repr(got.tolist())\n"
            "answers.send((array_support.traits(got), values)); back.send(got); del got"
        )
        return self.answers.recv(), self.back.recv()


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    there = Other("numpy", "ml_dtypes")
    yield there
    interpreters.close(there.interpreter, timeout=20)


def test_all_are_tried() -> None:
    assert {"bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4", "int2"} <= set(NAMES)


@pytest.mark.parametrize("name", KINDS)
def test_the_same_array_arrives_in_another_image(name: str, other: Other) -> None:
    sent = made(name)
    copied = memchannel.stats().bytes_copied
    (there, values), got = other.ask(sent)
    assert there == traits(sent)
    assert values == repr(sent.tolist())
    assert_same(got, sent)
    assert memchannel.stats().bytes_copied == copied


def test_one_array_leaves_the_dtypes_of_others_as_they_are(other: Other) -> None:
    """NumPy unpickles the order of one into all of a type."""
    plain = np.array([1.5, 2], ml_dtypes.bfloat16)
    for name in ("other order", "metadata", "other order in a struct"):
        other.ask(made(name))
        there, got = other.ask(plain)
        assert there == (traits(plain), repr(plain.tolist()))
        assert_same(got, plain)
    assert np.dtype(ml_dtypes.bfloat16).isnative
    assert np.dtype(ml_dtypes.bfloat16).metadata is None


def test_array_views() -> None:
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    for name in KINDS:
        sent = made(name)
        channel.send(sent)
        view: Any = channel.recv(as_view=True)
        assert (view.shape, view.itemsize, view.tobytes()) == (sent.shape, sent.itemsize, sent.tobytes())
    channel.send(made("struct"))
    element = channel.recv(as_view=True)[0, 0]
    assert [type(part) for part in element] == [bytes, int, list]


def test_its_own_scalars_and_arithmetic_there(other: Other) -> None:
    other.arrays.send(np.array([1, 2, 3], ml_dtypes.bfloat16))
    other.run(
        "import ml_dtypes\n"
        "got = arrays.recv(); assert type(got[0]) is ml_dtypes.bfloat16, type(got[0])\n"
        "back.send(got + got); del got"
    )
    assert other.back.recv().tolist() == [2, 4, 6]


def test_masked_and_in_objects() -> None:
    sent = np.ma.MaskedArray(made("bfloat16"), made("bfloat16") == 0)
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(sent)
    assert repr(channel.recv()) == repr(sent)
    objects: memchannel.Channel[Any] = memchannel.Channel()
    weights = made("int4")
    objects.send({"weights": weights})
    assert_same(objects.recv()["weights"], weights)


def test_an_interpreter_without_it_says_so_and_the_message_stays() -> None:
    there = Other("numpy")
    try:
        there.arrays.send(made("bfloat16"))
        result = interpreters.run(there.interpreter, "arrays.recv()")
        with pytest.raises(ImportError, match="ml_dtypes"):
            result.check()
        assert len(there.arrays) == 1
        there.run("view = arrays.recv(as_view=True); answers.send((view.dtype, view.tobytes())); del view")
        assert there.answers.recv() == ("|V2", made("bfloat16").tobytes())
    finally:
        interpreters.close(there.interpreter, timeout=20)

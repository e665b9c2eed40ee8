"""Arrays that are more than an ndarray: masked ones, records, text, mapped files, other subclasses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import address, assert_same

pytestmark = pytest.mark.usefixtures("level_leases")


def received(obj: Any, **options: Any) -> Any:
    channel: memchannel.ArrayChannel[Any] = memchannel.ArrayChannel()
    channel.send(obj)
    return channel.recv(**options)


MASKED: dict[str, Any] = {
    "some": np.ma.MaskedArray(np.arange(6).reshape(2, 3), [[0, 1, 0], [1, 0, 0]]),
    "nomask": np.ma.MaskedArray(np.arange(3.0)),
    "default fill of small ints": np.ma.MaskedArray(np.arange(3, dtype="u1"), [0, 1, 0]),
    "fill value": np.ma.MaskedArray(np.arange(3.0), [0, 1, 0], fill_value=-7.5),
    "hard": np.ma.MaskedArray(np.arange(3.0), [0, 1, 0], hard_mask=True),
    "struct": np.ma.MaskedArray([(1, 2.0), (3, 4.0)], [(0, 1), (1, 0)], dtype=[("a", "i4"), ("b", "f8")]),
    "times": np.ma.MaskedArray(np.array(["2020-01-01", "NaT"], "M8[ns]"), [1, 0]),
    "reversed": np.ma.MaskedArray(np.arange(6), [0, 1, 0, 1, 0, 0])[::-2],
    "0-d": np.ma.MaskedArray(5, True),
    "empty": np.ma.MaskedArray(np.zeros((0, 3)), np.zeros((0, 3), bool)),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_arrays_stay_masked_in_place(name: str) -> None:
    sent = MASKED[name]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert type(got) is np.ma.MaskedArray
    assert memchannel.stats().bytes_copied == before
    assert_same(got.view(np.ndarray), sent.view(np.ndarray))
    assert repr(got) == repr(sent)
    assert repr(got.fill_value) == repr(sent.fill_value)
    assert type(got.fill_value) is type(sent.fill_value)
    assert got.hardmask == sent.hardmask
    if sent.mask is np.ma.nomask:
        assert got.mask is np.ma.nomask
    else:
        assert_same(got.mask, sent.mask)
    assert repr(got.filled()) == repr(sent.filled())


def test_copies_of_masked_arrays_are_writable() -> None:
    sent = MASKED["some"]
    got = received(sent, copy=True)
    got[0, 0] = 9
    got[0, 2] = np.ma.masked
    assert got.tolist() == [[9, None, None], [None, 4, 5]]
    assert sent.tolist() == [[0, None, 2], [None, 4, 5]]


def test_record_arrays_arrive_as_such_in_place() -> None:
    sent = np.rec.array([(1, "ab"), (2, "c")], dtype=[("n", "i4"), ("s", "U2")])
    got = received(sent)
    assert type(got) is np.recarray
    assert_same(got, sent)
    assert got.s.tolist() == ["ab", "c"]
    assert type(got[0]) is np.record
    with pytest.raises(ValueError, match="read-only"):
        got.n[0] = 1


class Labelled(np.ndarray[Any, Any]):
    """A subclass that the other side cannot know."""


class Named(Labelled):
    """One with state of its own."""

    def __array_finalize__(self, obj: Any) -> None:
        self.label = getattr(obj, "label", "none")


@pytest.mark.parametrize(
    "make", [lambda a: a.view(Labelled), lambda a: np.ndarray.__new__(Named, a.shape, a.dtype)]
)
def test_other_subclasses_arrive_as_ndarray_in_place(make: Any) -> None:
    sent = make(np.array([b"ab", b"c"]))
    got = received(sent)
    assert type(got) is np.ndarray
    assert_same(got, sent.view(np.ndarray))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_mapped_files_arrive_as_views_of_the_same_pages(mode: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10_000.0).reshape(100, 100))
    sent = np.load(tmp_path / "a.npy", mmap_mode=mode)
    for part in (sent, sent[5:7, ::-1]):
        got = received(part)
        assert type(got) is np.ndarray
        assert_same(got, part.view(np.ndarray))


TEXTS: dict[str, Any] = {
    "plain": np.array(["a", "", "héllo", "\U0001f600" * 40], np.dtypes.StringDType()),
    "missing": np.array(["a", None, "c"], np.dtypes.StringDType(na_object=None)),
    "missing as nan": np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan)),
    "no coercion": np.array([["a", "b"], ["c", "d"]], np.dtypes.StringDType(coerce=False))[::-1],
    "empty": np.array([], np.dtypes.StringDType()),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_arrives_by_a_copy_that_is_counted(name: str) -> None:
    sent = TEXTS[name]
    before = memchannel.stats().bytes_copied
    got = received(sent)
    assert memchannel.stats().bytes_copied > before
    assert got.shape == sent.shape
    assert repr(got.dtype) == repr(sent.dtype)
    assert repr(got.tolist()) == repr(sent.tolist())
    assert address(got) != address(sent) or not sent.size


def test_masked_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        received(np.ma.MaskedArray([object()], [True]))

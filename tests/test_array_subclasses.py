"""Subclasses of ndarray in the objects of a `Channel`: in place, of the type that `pickle` gives."""

from __future__ import annotations

import copyreg
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from array_support import LAYOUTS, address, assert_same

pytestmark = pytest.mark.usefixtures("level_leases")


class Labelled(np.ndarray[Any, Any]):
    """One without state of its own."""


class Plain:
    """No array."""


class Registered(np.ndarray[Any, Any]):
    """One that `copyreg` knows."""


class Stateful(np.ndarray[Any, Any]):
    """One that pickles a label."""

    label = "none"

    def __reduce__(self) -> Any:
        make, arguments, state = super().__reduce__()  # type: ignore[misc]
        return make, arguments, (state, self.label)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])  # type: ignore[misc]
        self.label = state[1]


def received(obj: Any) -> Any:
    """Send it inside of something, to ourselves."""
    channel: memchannel.Channel[Any] = memchannel.Channel()
    channel.send({"there": [obj]})
    return channel.recv()["there"][0]


def assert_in_place(sent: Any) -> None:
    references, copied = sys.getrefcount(sent), memchannel.stats().bytes_copied
    got = received(sent)
    assert type(got) is type(sent)
    assert memchannel.stats().bytes_copied == copied
    assert_same(got.view(np.ndarray), sent.view(np.ndarray))
    del got
    assert sys.getrefcount(sent) == references


@pytest.mark.parametrize("kind", [Labelled, np.recarray, np.matrix])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_the_type_is_kept_in_place(kind: Any) -> None:
    assert_in_place(np.arange(24.0).reshape(4, 6)[::-1, ::2].view(kind))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str) -> None:
    assert_in_place(LAYOUTS[layout](np.arange(24.0).reshape(4, 6)).view(Labelled))


def test_records_stay_records() -> None:
    sent = np.rec.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    assert_in_place(sent)
    assert received(sent).a.tolist() == [1, 3]
    assert type(received(sent)[0]) is np.record


def test_a_mapped_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000.0))
    sent = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert_in_place(sent)
    assert received(sent).filename is None  # as pickle has it


MASKED: dict[str, Any] = {
    "mask": np.ma.MaskedArray(np.arange(6).reshape(2, 3), [[0, 1, 0], [1, 0, 0]], fill_value=-7),
    "no mask": np.ma.MaskedArray(np.arange(3.0)),
    "hard mask": np.ma.MaskedArray(np.arange(3.0), [0, 1, 0], hard_mask=True),
    "backwards": np.ma.MaskedArray(np.arange(6), [0, 1, 0, 1, 0, 0])[::-2],
    "struct": np.ma.MaskedArray([(1, 2.0), (3, 4.0)], [(0, 1), (1, 0)], dtype=[("a", "i4"), ("b", "f8")]),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_arrays_with_their_masks(name: str) -> None:
    sent = MASKED[name]
    assert_in_place(sent)
    got = received(sent)
    assert repr(got) == repr(sent)
    assert (got.fill_value == sent.fill_value, got.hardmask) == (True, sent.hardmask)
    if sent.mask is np.ma.nomask:
        assert got.mask is np.ma.nomask
    else:
        assert_same(got.mask, sent.mask)


def test_what_pickles_in_its_own_way_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = np.arange(3.0).view(Stateful)
    sent.label = "mine"
    got = received(sent)
    assert (type(got), got.label, got.tolist()) == (Stateful, "mine", [0, 1, 2])
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda array: (sorted, (array.tolist(),)))
    assert received(np.array([2.0, 1.0]).view(Registered)) == [1.0, 2.0]


def test_contents_that_the_memory_only_refers_to_are_pickled() -> None:
    for sent in (
        np.array(["a", None], object).view(Labelled),
        np.ma.MaskedArray(np.array(["a", "b"], object), [0, 1]),
        np.array(["a", "b" * 50], np.dtypes.StringDType()).view(Labelled),
    ):
        got = received(sent)
        assert type(got) is type(sent)
        assert got.tolist() == sent.tolist()
        assert address(got) != address(sent)


def test_types_of_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plain, "__module__", None)
    monkeypatch.setitem(copyreg.dispatch_table, Plain, lambda _: (sorted, ([2, 1],)))
    assert received(Plain()) == [1, 2]

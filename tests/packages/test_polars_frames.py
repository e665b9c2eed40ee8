"""Series and frames of Polars over a `Channel`: their Arrow buffers arrive in place."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import memchannel
from memchannel import interpreters

pytestmark = pytest.mark.usefixtures("level_leases")

ROWS = 10_000


def received(obj: Any) -> Any:
    """Send it to ourselves; memchannel must not have copied anything."""
    channel: memchannel.Channel[Any] = memchannel.Channel()
    before = memchannel.stats()
    channel.send({"it": obj})
    got = channel.recv()["it"]
    assert type(got) is type(obj)
    assert memchannel.stats().bytes_copied == before.bytes_copied
    assert memchannel.stats().lent > before.lent
    return got


def buffers(series: Any) -> list[int | None]:
    """Return where the buffers of a Series are."""
    array = series.to_arrow(compat_level=pl.CompatLevel.newest())
    return [buffer and buffer.address for buffer in array.buffers()]


def address(series: Any) -> int:
    """Return where the first number is."""
    return int(series.to_numpy(allow_copy=False).__array_interface__["data"][0])


NUMBERS = np.arange(ROWS, dtype="f8")
COLUMNS: dict[str, Any] = {
    "numbers": NUMBERS,
    "numbers with nulls": [1, None] * (ROWS // 2),
    "booleans": [True, None, False, True] * (ROWS // 4),
    "text": ["short", "some text of more than twelve letters"] * (ROWS // 2),
    "bytes": [b"ab", None] * (ROWS // 2),
    "times": pl.Series(np.arange(ROWS).astype("M8[us]")),
    "times with a zone": pl.Series(np.arange(ROWS).astype("M8[ms]")).dt.replace_time_zone("Europe/Berlin"),
    "lists": [[1, 2], [], None, [3]] * (ROWS // 4),
    "structs": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}] * (ROWS // 2),
    "arrays": pl.Series(np.zeros((ROWS, 3))),
    "decimals": pl.Series([1.5] * ROWS).cast(pl.Decimal(10, 2)),
    "nothing": [None] * ROWS,
}
FRAME = pl.DataFrame(COLUMNS)
CODED = pl.DataFrame(
    {
        "categorical": pl.Series(["a", "b"] * ROWS, dtype=pl.Categorical),
        "enum": pl.Series(["u", None] * ROWS, dtype=pl.Enum(["u", "v"])),
    }
)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_buffers_of_a_series_stay_where_they_are(name: str) -> None:
    sent = FRAME[name]
    got = received(sent)
    assert (got.name, got.dtype) == (sent.name, sent.dtype)
    assert got.equals(sent)
    assert buffers(got) == buffers(sent)


def test_frames() -> None:
    got = received(FRAME)
    assert_frame_equal(got, FRAME, categorical_as_str=False)
    for name in COLUMNS:
        assert buffers(got[name]) == buffers(FRAME[name])
    assert_frame_equal(received(CODED), CODED)
    assert received(CODED).schema == CODED.schema


def test_slices_and_chunks() -> None:
    for sent in (FRAME[100:200], FRAME[::-1], pl.concat([FRAME, FRAME[:7]], rechunk=False)):
        assert_frame_equal(received(sent), sent)
    sliced = received(FRAME["numbers"][100:200])
    assert address(sliced) == address(FRAME["numbers"]) + 800


@pytest.mark.parametrize("descending", [False, True])
def test_what_is_known_of_the_order_is_kept(descending: bool) -> None:
    sent = pl.Series("a", [1, 2, 3]).sort(descending=descending)
    frame = pl.DataFrame({"a": sent, "b": [2, 1, 3]})
    assert received(sent).flags == sent.flags
    got = received(frame)
    assert [one.flags for one in got] == [one.flags for one in frame]
    assert_frame_equal(got, frame)


@pytest.mark.parametrize(
    "sent", [pl.DataFrame(), FRAME[:0], CODED[:0], pl.Series("n", [], dtype=pl.Int8), pl.Series("", [1])]
)
def test_without_rows_or_columns(sent: Any) -> None:
    got = received(sent)
    assert (got.shape, got.equals(sent)) == (sent.shape, True)
    if isinstance(sent, pl.DataFrame):
        assert got.schema == sent.schema


@pytest.mark.parametrize("dtype", [pl.Object, pl.List(pl.Object), pl.Struct({"a": pl.Object})])
def test_python_objects_are_never_lent(dtype: Any) -> None:
    """What Polars says of them when it pickles, not their addresses in another interpreter."""
    from memchannel.codecs.frames import _holds_objects

    assert _holds_objects(dtype)
    with pytest.raises(pl.exceptions.ComputeError, match="Object"):
        memchannel.Channel[Any]().send(pl.DataFrame({"o": [object()]}, schema={"o": pl.Object}))


def test_small_frames_of_a_task_are_copied() -> None:
    """So that they keep no interpreter alive."""
    with memchannel.InterpreterPool(1, packages=("numpy", "polars")) as pool:
        live = memchannel.stats().live
        small, large = pool.submit(halves, 10).result(), pool.submit(halves, 100_000).result()
        assert_frame_equal(small, halves(10))
        assert memchannel.stats().live == live + 1
        assert_frame_equal(large, halves(100_000))
        del large


def halves(count: int) -> Any:
    import polars

    return polars.DataFrame({"a": [i / 2 for i in range(count)]})


def test_a_frame_in_another_interpreter() -> None:
    """Read there, by a Polars of its own, at the same addresses; a frame made there is read here."""
    there, back = memchannel.Channel[Any](), memchannel.Channel[Any]()
    interpreter = interpreters.create(packages=("numpy", "polars"))
    source = """
        import gc
        frame = there.recv()
        where = frame["numbers"].to_numpy().__array_interface__["data"][0]
        back.send((where, frame["numbers"].sum(), frame["text"][1], frame.reverse()))
        del frame
        gc.collect()
    """
    shared = {"there": there.ends[0], "back": back.ends[1]}
    try:
        there.send(FRAME)
        interpreters.run(interpreter, source, shared=shared).check()
        where, total, text, reversed_there = back.recv()
        assert where == address(FRAME["numbers"])
        assert (total, text) == (NUMBERS.sum(), FRAME["text"][1])
        with pytest.raises(BufferError, match="1 view"):
            interpreters.close(interpreter, timeout=0)
        assert_frame_equal(reversed_there, FRAME.reverse())
        kept = reversed_there["numbers"][10:20]
        del reversed_there
        gc.collect()
        assert kept.to_list() == NUMBERS[::-1][10:20].tolist()
        del kept
    finally:
        gc.collect()
        interpreters.close(interpreter, timeout=20)

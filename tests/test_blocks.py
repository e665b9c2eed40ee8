"""map_blocks: one array, many interpreters, one function over its blocks."""

from __future__ import annotations

import os

import numpy as np
import pytest

import memchannel
from memchannel import InterpreterPool
from memchannel.blocks import split
from pool_tasks import pointer


@pytest.fixture(scope="module")
def pool():
    with InterpreterPool(2) as made:
        yield made


# ---- running


def test_workers_see_the_senders_memory(pool):
    array = np.arange(6000.0).reshape(600, 10)
    before = memchannel.stats()
    found = list(pool.map_blocks(pointer, array, blocks=6))
    after = memchannel.stats()
    assert found == [pointer(array[i : i + 100]) for i in range(0, 600, 100)]
    assert after.bytes_copied == before.bytes_copied
    assert after.lent == before.lent + 1


def test_an_axis_may_be_an_array(pool):
    array = np.arange(12).reshape(3, 4)
    for axis in (np.array(1), np.int8(1), np.array([1])):
        assert [block.shape for block in pool.map_blocks(np.copy, array, axis=axis, blocks=2)] == [(3, 2)] * 2


def test_default_is_four_blocks_a_worker(pool):
    assert len(list(pool.map_blocks(len, np.arange(100)))) == 8


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("blocks", [None, 1, 3, 100, [slice(0, 2), slice(2, 3), slice(3, None)]])
def test_results_join_to_the_whole(pool, axis, blocks):
    array = np.random.default_rng(5).random((5, 7, 6))[::-1]
    parts = list(pool.map_blocks(np.negative, array, axis=axis, blocks=blocks))
    assert (np.concatenate(parts, axis=axis) == -array).all()


@pytest.mark.parametrize("overlap", [0, 1, 4, 50])
@pytest.mark.parametrize("axis", [0, 1])
def test_halos_are_cut_short_at_the_edges_and_trimmed(pool, overlap, axis):
    array = np.arange(20 * 30.0).reshape(20, 30)
    n = array.shape[axis]
    lengths = list(pool.map_blocks(lambda b: b.shape[axis], array, axis=axis, blocks=5, overlap=overlap))
    assert lengths == [block.high - block.low for block in split(n, 5, overlap)]
    parts = pool.map_blocks(lambda b: b + 1, array, axis=axis, blocks=5, overlap=overlap)
    assert (np.concatenate(list(parts), axis=axis) == array + 1).all()
    whole = pool.map_blocks(lambda b: b + 1, array, axis=axis, blocks=5, overlap=overlap, trim=False)
    assert [part.shape[axis] for part in whole] == lengths


def test_a_moving_mean_agrees_with_the_whole_to_the_last_bit(pool):
    array = np.random.default_rng(7).random((400, 3))

    def smooth(block):
        padded = np.concatenate([block[:1], block, block[-1:]])
        return (padded[:-2] + padded[1:-1] + padded[2:]) / 3

    parts = pool.map_blocks(smooth, array, blocks=7, overlap=1)
    assert np.concatenate(list(parts)).tobytes() == smooth(array).tobytes()


def test_several_arrays_with_different_axes(pool):
    left = np.arange(12.0).reshape(4, 3)
    right = np.arange(8.0).reshape(2, 4)
    parts = list(
        pool.map_blocks(lambda a, b: a.sum(axis=1) + b.sum(axis=0), left, right, axis=(0, 1), blocks=2)
    )
    assert (np.concatenate(parts) == left.sum(axis=1) + right.sum(axis=0)).all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("overlap", [0, 2])
def test_out_is_written_in_place(pool, axis, overlap):
    array = np.random.default_rng(3).random((50, 40))
    out = memchannel.empty(array.shape)
    where = pointer(out)
    result = pool.map_blocks(lambda b: b * 2, array, axis=axis, overlap=overlap, out=out)
    assert result is out
    assert pointer(out) == where
    assert (out == array * 2).all()


def test_out_may_have_another_shape_beside_the_axis(pool):
    array = np.arange(40.0).reshape(10, 4)
    out = memchannel.empty(10, "f4")
    pool.map_blocks(lambda b: b.sum(axis=1), array, out=out)
    assert (out == array.sum(axis=1)).all()


def test_blocks_of_out_are_free_again_afterwards(pool):
    out = memchannel.empty(10)
    for factor in (1, 2):
        pool.map_blocks(lambda b, f=factor: b * f, np.arange(10.0), out=out)
        assert (out == np.arange(10.0) * factor).all()


def test_memory_mapped_input(pool, tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.arange(1000.0).reshape(100, 10))
    mapped = np.load(path, mmap_mode="r")
    assert sum(pool.map_blocks(np.sum, mapped)) == sum(range(1000))


def test_empty_arrays(pool):
    assert [part.shape for part in pool.map_blocks(np.negative, np.zeros((0, 3)))] == [(0, 3)]
    out = memchannel.empty((0, 3))
    assert pool.map_blocks(np.negative, np.zeros((0, 3)), out=out) is out


def test_closures_with_arrays(pool):
    weights = np.random.default_rng(1).random(20000)
    array = np.random.default_rng(2).random((8, 20000))
    parts = list(pool.map_blocks(lambda b: b @ weights, array))
    assert np.allclose(np.concatenate(parts), array @ weights)


def test_masked_and_record_arrays_reach_the_function_as_such(pool):
    masked = np.ma.masked_array(np.arange(40.0).reshape(20, 2), np.arange(40).reshape(20, 2) % 3 == 0)
    masked.fill_value = 7
    kinds = list(pool.map_blocks(lambda b: (type(b), b.fill_value, b.sum()), masked, blocks=4))
    assert [kind for kind, _, _ in kinds] == [np.ma.MaskedArray] * 4
    assert {fill for _, fill, _ in kinds} == {7.0}
    assert [total for _, _, total in kinds] == [masked[i : i + 5].sum() for i in range(0, 20, 5)]
    doubled = np.ma.concatenate(list(pool.map_blocks(lambda b: b * 2, masked, axis=1)), axis=1)
    assert (doubled.mask == masked.mask).all()
    assert (doubled == masked * 2).all()
    bare = np.ma.masked_array(np.arange(4))  # without a mask
    assert list(pool.map_blocks(lambda b: b.mask is np.ma.nomask, bare, blocks=2)) == [True, True]
    records = np.rec.array([(1, 2.0), (3, 4.0)], names="x,y")
    assert list(pool.map_blocks(lambda b: (type(b), float(b.y.sum())), records, blocks=2)) == [
        (np.recarray, 2.0),
        (np.recarray, 4.0),
    ]


class Titled(np.ndarray):
    pass


@pytest.mark.parametrize("kind", [np.ndarray, Titled])
def test_strings_of_any_length_reach_the_function(pool, kind):
    words = np.array(["a", "longer than a pointer " * 9, "é", ""] * 4, np.dtypes.StringDType()).view(kind)
    parts = list(pool.map_blocks(lambda b: (b.dtype, b.tolist()), words, blocks=3))
    assert {dtype for dtype, _ in parts} == {np.dtypes.StringDType()}
    assert [word for _, part in parts for word in part] == words.tolist()


@pytest.mark.parametrize("exporter", [b"abcdefg", bytearray(b"abcdefg"), memoryview(b"abcdefg")])
def test_buffers_reach_the_function_as_arrays(pool, exporter):
    assert list(pool.map_blocks(lambda b: (type(b), b.tobytes()), exporter, blocks=2)) == [
        (np.ndarray, b"abcd"),
        (np.ndarray, b"efg"),
    ]


def test_progress(pool, capsys):
    list(pool.map_blocks(len, np.arange(10), progress=True))
    assert "8/8" in capsys.readouterr().err


# ---- errors


def test_an_exception_names_its_block(pool):
    def check(block):
        if block[0] == 50:
            raise ValueError("not this one")
        return 0

    with pytest.raises(ValueError, match="not this one") as caught:
        list(pool.map_blocks(check, np.arange(100), blocks=10))
    assert caught.value.__notes__ == ["block 5 of map_blocks(): [50:60] along axis 0"]
    assert list(pool.map_blocks(len, np.arange(4), blocks=2)) == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((), {}, TypeError, "at least one array"),
        ((np.arange(4),), {"axis": 1}, np.exceptions.AxisError, "axis 1"),
        ((np.float64(3),), {}, np.exceptions.AxisError, "axis 0"),
        ((np.arange(4), np.arange(5)), {}, ValueError, r"different lengths along their axes: \[4, 5\]"),
        ((np.arange(4),), {"axis": (0, 0)}, ValueError, "axis"),
        ((np.array([None]),), {}, TypeError, "Python objects"),
        ((np.arange(4),), {"out": np.zeros(4)}, TypeError, r"memchannel\.empty"),
        ((np.arange(4),), {"out": [0] * 4}, TypeError, "list"),
        ((np.arange(4),), {"out": memchannel.empty(5)}, ValueError, r"\(5,\)"),
        (
            (np.arange(4),),
            {"out": memchannel.empty(4), "blocks": [slice(0, 3), slice(2, 4)]},
            ValueError,
            "2:3",
        ),
        (([1, 2],), {}, TypeError, r"'list' cannot .*numpy\.asarray"),
        ((np.arange(4),), {"blocks": 1.5}, TypeError, "blocks must be a count or slices, not 1.5"),
        ((np.arange(4),), {"blocks": [2]}, TypeError, "slices, not 2"),
        ((np.arange(4),), {"blocks": 0}, ValueError, "blocks must be >= 1, not 0"),
        ((np.arange(4),), {"overlap": 0.5}, TypeError, "overlap must be an integer, not 0.5"),
        ((np.arange(4),), {"overlap": -1}, ValueError, "overlap must be >= 0, not -1"),
        ((np.arange(4),), {"axis": None}, TypeError, "axis must be an int or a tuple of ints, not None"),
        ((np.arange(4),), {"axis": 0.0}, TypeError, "axis must be an int or a tuple of ints, not 0.0"),
        ((np.arange(4),), {"axis": (0.0,)}, TypeError, "axis must be an int or a tuple of ints"),
    ],
)
def test_bad_arguments_are_refused_at_once(pool, arguments, options, error, text):
    with pytest.raises(error, match=text):
        pool.map_blocks(len, *arguments, **options)


def test_stop_iteration_does_not_end_the_results(pool):
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        list(pool.map_blocks(lambda block: next(iter([])), np.arange(8)))
    assert isinstance(caught.value.__cause__, StopIteration)
    assert caught.value.__cause__.__notes__[0].startswith("block 0")


def test_a_result_of_the_wrong_shape(pool):
    with pytest.raises(
        ValueError, match=r"the result has shape \(3,\), its block of out has \(5,\)"
    ) as caught:
        pool.map_blocks(lambda b: b[:3], np.arange(10), blocks=2, out=memchannel.empty(10))
    assert caught.value.__notes__[-1].startswith("block 0")


def test_a_result_of_the_wrong_kind(pool):
    with pytest.raises(TypeError, match="same_kind"):
        pool.map_blocks(lambda b: b * 1j, np.arange(10), out=memchannel.empty(10))


def test_more_workers_than_cores():
    with InterpreterPool(4 * (os.cpu_count() or 1), packages=("numpy",)) as many:
        assert sum(many.map_blocks(np.sum, np.arange(1000))) == 499500

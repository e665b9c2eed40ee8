"""memchannel.empty, zeros, array, SharedBuffer, and blocks lent writable."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest

import memchannel
from memchannel.memory import WritableBlock


@pytest.mark.parametrize("shape", [(), 0, 5, (0, 3), (4, 6), (2, 3, 4), [2, 2]])
@pytest.mark.parametrize("dtype", ["f8", "u1", ">i4", "c16", "M8[ns]", [("a", "i4"), ("b", "S3")]])
def test_arrays_are_zeroed_aligned_and_writable(shape, dtype):
    made = memchannel.empty(shape, dtype)
    expected = np.zeros(tuple(shape) if isinstance(shape, list) else shape, dtype)
    assert made.dtype == expected.dtype
    assert made.shape == expected.shape
    assert made.tobytes() == expected.tobytes()
    assert made.flags.writeable
    assert made.__array_interface__["data"][0] % 64 == 0


def test_large_memory_is_aligned_too_and_goes_back():
    before = memchannel.stats()
    made = memchannel.zeros((1 << 20, 2))
    assert made.__array_interface__["data"][0] % 64 == 0
    assert memchannel.stats().shared_bytes - before.shared_bytes == made.nbytes
    del made
    assert memchannel.stats().shared_bytes == before.shared_bytes


def test_fortran_order():
    made = memchannel.empty((3, 4), order="F")
    assert made.flags.f_contiguous
    assert not made.flags.c_contiguous


def test_array_copies_and_counts():
    source = np.arange(12.0).reshape(3, 4)[::-1]
    before = memchannel.stats().bytes_copied
    made = memchannel.array(source)
    assert (made == source).all()
    assert not np.shares_memory(made, source)
    assert memchannel.stats().bytes_copied - before == source.nbytes


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (((3,), object), TypeError, "Python objects"),
        (((3,), [("a", object)]), TypeError, "Python objects"),
        (((-1,),), ValueError, "negative"),
        ((2.5,), TypeError, r"sequence of integers, not 2\.5"),
        ((None,), TypeError, "sequence of integers, not None"),
        (((3, "4"),), TypeError, r"sequence of integers, not \(3, '4'\)"),
        (((1 << 62, 3), float), ValueError, r"too big: shape \(4611686018427387904, 3\)"),
        ((3, np.dtypes.StringDType()), TypeError, "fixed size"),
        (((1 << 62,), "u1"), MemoryError, "shared buffer"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        memchannel.empty(*arguments)


def test_bad_order():
    with pytest.raises(ValueError, match="'A'"):
        memchannel.empty(3, order="A")


def test_sending_shared_memory_lends_nothing_of_this_interpreter():
    channel = memchannel.ArrayChannel()
    made = memchannel.array(np.arange(6))
    before = memchannel.stats().lent
    channel.send(made)
    received = channel.recv()
    assert memchannel.stats().lent == before
    assert received.__array_interface__["data"] == (made.__array_interface__["data"][0], True)
    made[2] = 42
    assert received[2] == 42


def test_shared_memory_outlives_the_array_that_made_it():
    channel = memchannel.ArrayChannel()
    channel.send(memchannel.array(np.arange(1000)))
    gc.collect()
    assert (channel.recv() == np.arange(1000)).all()


def test_a_writable_block_arrives_writable_and_in_place():
    channel = memchannel.Channel()
    made = memchannel.zeros((6, 4))
    channel.send(WritableBlock(made[2:4]))
    block = channel.recv()
    block[:] = 7
    assert made.sum() == 7 * 8
    assert (made[2:4] == 7).all()


def test_overlapping_blocks_exclude_each_other():
    made = memchannel.zeros(10)
    held = WritableBlock(made[2:5])
    with pytest.raises(BufferError, match="overlaps"):
        WritableBlock(made[4:8])
    other = WritableBlock(made[5:8])
    del held
    again = WritableBlock(made[2:5])
    del other, again


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_along_any_axis_are_disjoint(axis, order):
    made = memchannel.zeros((6, 8, 10), "f4", order=order)
    n = made.shape[axis]
    cuts = [slice(i, min(i + 3, n)) for i in range(0, n, 3)]
    slices = [(slice(None),) * axis + (cut,) for cut in cuts]
    held = [WritableBlock(made[one]) for one in slices]
    for one in slices:
        with pytest.raises(BufferError):
            WritableBlock(made[one])
    del held
    for one, other in itertools.combinations(slices, 2):
        assert not np.shares_memory(made[one], made[other])


def test_a_block_is_sent_once():
    channel = memchannel.Channel()
    block = WritableBlock(memchannel.zeros(4))
    channel.send(block)
    with pytest.raises(ValueError, match="sent already"):
        channel.send(block)


def test_only_memory_of_no_interpreter_is_lent_writable():
    with pytest.raises(TypeError, match=r"memchannel\.empty"):
        WritableBlock(np.zeros(4))
    channel = memchannel.ArrayChannel()
    channel.send(memchannel.zeros(4))
    with pytest.raises(ValueError, match="read-only"):
        WritableBlock(channel.recv())


def test_shared_buffer_is_a_plain_writable_buffer():
    buffer = memchannel.SharedBuffer(5)
    memoryview(buffer)[:] = b"hello"
    assert bytes(buffer) == b"hello"
    assert len(buffer) == 5
    with pytest.raises(ValueError, match="-1"):
        memchannel.SharedBuffer(-1)

"""How map_blocks cuts an axis."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from memchannel.blocks import split


@hypothesis.given(n=st.integers(0, 200), count=st.integers(1, 30), overlap=st.integers(0, 20))
def test_even_blocks_cover_the_axis_once(n, count, overlap):
    cut = split(n, count, overlap)
    assert len(cut) == min(count, max(n, 1))
    assert [i for block in cut for i in range(block.start, block.stop)] == list(range(n))
    lengths = [block.stop - block.start for block in cut]
    assert max(lengths) - min(lengths) <= 1
    for index, block in enumerate(cut):
        assert block.number == index
        assert block.low == max(0, block.start - overlap)
        assert block.high == min(n, block.stop + overlap)


@pytest.mark.parametrize(
    ("blocks", "overlap", "error", "text"),
    [
        (0, 0, ValueError, "blocks must be >= 1, not 0"),
        (2, -1, ValueError, "overlap must be >= 0, not -1"),
        ([slice(0, 11)], 0, ValueError, "past the length 10"),
        ([slice(0, 4, 2)], 0, ValueError, "step 1"),
        ([slice(5, 2)], 0, ValueError, "step 1"),
        ([3], 0, TypeError, "slices"),
    ],
)
def test_bad_blocks(blocks, overlap, error, text):
    with pytest.raises(error, match=text):
        split(10, blocks, overlap)

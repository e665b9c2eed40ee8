"""Blocks of one array in workers whose functions use SciPy and pandas."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import memchannel
from memchannel import InterpreterPool

SIGMA, HALO = 2.0, 8  # gaussian_filter cuts its kernel off at four sigma


@pytest.fixture(name="pool", scope="module")
def fixture_pool() -> Iterator[InterpreterPool]:
    with InterpreterPool(2, packages=("scipy", "pandas")) as pool:
        yield pool


@pytest.fixture(name="heights", scope="module")
def fixture_heights() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(400, 300)).cumsum(0).cumsum(1)


def smooth(block: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(block, SIGMA)


def highest_around(block: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.generic_filter(block, lambda values: values.max(), size=3)  # calls Python from C


def by_band(block: np.ndarray, edges: np.ndarray) -> dict[str, list[float]]:
    import pandas as pd

    frame = pd.DataFrame({"height": block.ravel()})
    frame["band"] = pd.cut(frame.height, edges, labels=False, include_lowest=True)
    return (
        frame.groupby("band")
        .height.agg(["count", "sum"])
        .reindex(range(len(edges) - 1), fill_value=0)
        .to_dict("list")
    )


def own_modules() -> tuple[int, set[str]]:
    import pandas as pd

    from memchannel import images, interpreters

    assert pd.Series([1, 2]).sum() == 3
    return interpreters.get_current().id, {name.partition(".")[0] for name in images.loaded()}


def test_scipy_smooths_blocks_in_place(pool: InterpreterPool, heights: np.ndarray) -> None:
    out = memchannel.empty(heights.shape)
    pool.map_blocks(smooth, heights, overlap=HALO, out=out)
    assert np.array_equal(out, smooth(heights))


def test_scipy_calls_python_functions(pool: InterpreterPool, heights: np.ndarray) -> None:
    small = heights[:60, :50]
    blocks = list(pool.map_blocks(highest_around, small, overlap=1, blocks=5))
    assert np.array_equal(np.concatenate(blocks), highest_around(small))


def test_pandas_groups_blocks(pool: InterpreterPool, heights: np.ndarray) -> None:
    edges = np.linspace(heights.min(), heights.max(), 8)
    parts = list(pool.map(by_band, np.array_split(heights, 6), [edges] * 6))
    whole = by_band(heights, edges)
    assert np.array_equal(sum(np.array(part["count"]) for part in parts), whole["count"])
    assert np.allclose(sum(np.array(part["sum"]) for part in parts), whole["sum"])


def test_the_packages_are_each_workers_own(pool: InterpreterPool) -> None:
    number, packages = pool.submit(own_modules).result()
    assert number != memchannel.interpreters.get_current().id
    assert {"numpy", "pandas"} <= packages


def test_the_columns_of_a_frame_in_many_items_are_lent_once(pool: InterpreterPool) -> None:
    import pandas as pd

    x = np.arange(20_000.0)
    frame = pd.DataFrame({"x": x, "y": x.astype("i8"), "z": x > 5})  # three blocks, one too small to be lent
    before = memchannel.stats()
    items = [{"row": row, "table": frame} for row in range(20)]
    rows = list(pool.map(lambda item: tuple(item["table"].iloc[item["row"]]), items, buffersize=2))
    assert rows == [(float(row), row, row > 5) for row in range(20)]
    after = memchannel.stats()
    assert (after.lent - before.lent, after.bytes_lent - before.bytes_lent) == (2, 2 * x.nbytes)

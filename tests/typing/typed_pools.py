"""What a type checker knows of pools. Every line also runs: see tests/test_typing.py."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

import memchannel
from memchannel import InterpreterPool


def power(base: int, exponent: int = 2) -> float:
    return float(base**exponent)


def name(number: int) -> str:
    return f"number {number}"


def total(block: NDArray[np.float64]) -> float:
    return float(block.sum())


def product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return left * right


def submitting() -> None:
    with InterpreterPool(1) as pool:
        assert_type(pool, InterpreterPool)
        assert_type(pool.submit(power, 2), Future[float])
        assert_type(pool.submit(power, 2, exponent=3).result(), float)
        assert_type(pool.submit(lambda: b"x").result(timeout=60), bytes)
        with pytest.raises(TypeError):
            pool.submit(power, base="x", exponent="y").result()  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pool.submit(power).result()  # type: ignore[call-arg]


def mapping() -> None:
    with InterpreterPool(1) as pool:
        assert_type(pool.map(name, [1, 2]), Iterator[str])
        assert_type(list(pool.map(power, range(3), [1, 2, 3], chunksize=2)), list[float])
        assert_type(list(pool.map(lambda n: n + 1, [1, 2], buffersize=1)), list[int])
        five = pool.map(max, [1], [2], [3], [4], [5])
        assert list(five) == [5]
        with pytest.raises(TypeError):
            list(pool.map(power, ["a"]))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            list(pool.map(name, [1], [2]))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pool.map(name, [1], chunks=3)  # type: ignore[call-overload]


def with_an_initializer() -> None:
    with InterpreterPool(1, initializer=name, initargs=(3,)) as pool:
        assert pool.submit(name, 4).result() == "number 4"
    InterpreterPool(1, initializer=memchannel.images.enable, initargs=("numpy",)).shutdown()
    InterpreterPool(1, initializer=name, initargs=("three",)).shutdown()  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer"):
        InterpreterPool(1, initializer=3)  # type: ignore[arg-type]


def a_pool_is_an_executor() -> None:
    def work(executor: Executor) -> int:
        return executor.submit(int, "3").result()

    with InterpreterPool(1) as pool:
        assert work(pool) == 3


def over_blocks() -> None:
    data = np.arange(12.0).reshape(6, 2)
    with InterpreterPool(1) as pool:
        assert_type(pool.map_blocks(total, data, blocks=2), Iterator[float])
        assert_type(sum(pool.map_blocks(lambda block: len(block), data, blocks=3)), int)
        out = memchannel.empty(data.shape, np.float64)
        assert_type(pool.map_blocks(np.sqrt, data, out=out), NDArray[np.float64])
        assert_type(pool.map_blocks(product, data, data, axis=(0, 0)), Iterator[NDArray[np.float64]])
        assert_type(pool.map_blocks(product, data, data, out=out), NDArray[np.float64])
        three = pool.map_blocks(lambda a, b, c: (a + b + c).sum(), data, data, data)
        assert sum(three) == 3 * data.sum()
        with pytest.raises(TypeError):
            list(pool.map_blocks(name, data, 3))  # type: ignore[call-overload]


def over_blocks_of_what_is_like_an_array() -> None:
    with InterpreterPool(1) as pool:
        assert_type(pool.map_blocks(len, memoryview(b"abcdef"), blocks=2), Iterator[int])
        with pytest.raises(TypeError):
            pool.map_blocks(len, [1, 2, 3])  # type: ignore[call-overload]


def over_blocks_of_a_masked_array() -> None:
    def unmasked(block: np.ma.MaskedArray[Any, Any]) -> int:
        return int(block.count())

    data = np.ma.masked_less(np.arange(6.0), 2)
    with InterpreterPool(1) as pool:
        assert_type(sum(pool.map_blocks(unmasked, data)), int)


def a_function_for_other_blocks() -> None:
    def label(texts: str) -> str:
        return texts.upper()

    with InterpreterPool(1) as pool, pytest.raises(AttributeError):
        list(pool.map_blocks(label, np.arange(3)))  # type: ignore[arg-type]


EXAMPLES = [
    submitting,
    mapping,
    with_an_initializer,
    a_pool_is_an_executor,
    over_blocks,
    over_blocks_of_what_is_like_an_array,
    over_blocks_of_a_masked_array,
    a_function_for_other_blocks,
]

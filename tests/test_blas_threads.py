"""How many threads BLAS libraries use while tasks of pools run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import threadpoolctl

import memchannel
from blas_task import blas_threads
from image_support import run_child
from memchannel import InterpreterPool

CORES = os.process_cpu_count() or 1


def blas_threads_then_wait(started: Any, go_on: Any) -> tuple[list[int], list[int]]:
    before = blas_threads()
    started.send(b"")
    go_on.recv()
    return before, blas_threads()


@pytest.fixture(name="plain", autouse=True)
def fixture_plain() -> Iterator[list[int]]:
    """The numbers before anything runs, which must be there again afterwards."""
    numbers = blas_threads()
    assert numbers
    yield numbers
    assert blas_threads() == numbers


@pytest.mark.parametrize("workers", [1, 2, 100])
def test_workers_share_the_cores(plain: list[int], workers: int) -> None:
    share = max(1, CORES // workers)
    with InterpreterPool(workers) as pool:
        assert pool.submit(blas_threads).result() == [min(share, number) for number in plain]


@pytest.mark.parametrize("number", [1, 3])
def test_a_given_number_holds(plain: list[int], number: int) -> None:
    with InterpreterPool(1, blas_threads=number) as pool:
        assert pool.submit(blas_threads).result() == [number] * len(plain)


@pytest.mark.parametrize("number", [2**31 - 1, 2**80])
def test_no_number_starts_more_threads_than_the_machine_can_use(plain: list[int], number: int) -> None:
    with InterpreterPool(1, blas_threads=number) as pool:
        for held in pool.submit(blas_threads).result():
            assert max(plain) <= held <= 4 * CORES


def test_it_is_put_back_when_the_pool_is_idle(plain: list[int]) -> None:
    with InterpreterPool(2, blas_threads=3) as pool:
        for _ in range(20):
            assert pool.submit(blas_threads).result() == [3] * len(plain)
            assert blas_threads() == plain
        assert list(pool.map(len, ["a"] * 200)) == [1] * 200
        assert blas_threads() == plain


def test_it_is_put_back_after_a_task_that_raises(plain: list[int]) -> None:
    with InterpreterPool(1, blas_threads=3) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        assert blas_threads() == plain


def test_the_smallest_number_of_several_pools_holds(plain: list[int]) -> None:
    with (
        InterpreterPool(1, blas_threads=4) as first,
        InterpreterPool(1, blas_threads=3) as second,
        memchannel.Channel() as started,
        memchannel.Channel() as go_on,
    ):
        future = first.submit(blas_threads_then_wait, started, go_on)
        started.recv()
        assert blas_threads() == [4] * len(plain)
        assert second.submit(blas_threads).result() == [3] * len(plain)
        assert blas_threads() == [4] * len(plain)
        go_on.send(b"")
        assert future.result() == ([4] * len(plain), [4] * len(plain))


def test_what_somebody_else_sets_meanwhile_is_left_alone(plain: list[int]) -> None:
    with (
        InterpreterPool(1, blas_threads=4) as pool,
        memchannel.Channel() as started,
        memchannel.Channel() as go_on,
    ):
        future = pool.submit(blas_threads_then_wait, started, go_on)
        started.recv()
        threadpoolctl.threadpool_limits(5, "blas")
        go_on.send(b"")
        future.result()
        assert blas_threads() == [5] * len(plain)
        for number in set(plain):
            threadpoolctl.threadpool_limits(number, "blas")


@pytest.mark.parametrize(
    ("number", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)]
)
def test_numbers_are_checked(number: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        InterpreterPool(1, blas_threads=number)


def test_a_library_that_comes_with_a_task_is_limited_and_put_back() -> None:
    output = run_child(
        """
        import threadpoolctl, memchannel, blas_task

        def now():
            return [info["num_threads"] for info in threadpoolctl.threadpool_info()]

        assert now() == []  # no NumPy yet
        with memchannel.InterpreterPool(1, blas_threads=3) as pool:
            print(*pool.submit(blas_task.blas_threads).result())
            print(*now())
        """
    )
    plain = run_child("import blas_task; print(*blas_task.blas_threads())")
    limited, after = output.splitlines()
    assert set(limited.split()) == {"3"}
    assert after == plain.strip()


def product(seed: int, rounds: int) -> int:
    """Multiply matrices of integers, exactly; returns how many products were wrong."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 100, (2, 300, 300)).astype("f8")
    expected = np.einsum("ij,jk->ik", a.astype("i8"), b.astype("i8"))
    return sum(bool((a @ b != expected).any()) for _ in range(rounds))


@pytest.mark.parametrize("number", [None, 1, 2])
def test_products_are_right_when_interpreters_multiply_at_once(number: int | None) -> None:
    with InterpreterPool(2, blas_threads=number) as pool:
        futures = [pool.submit(product, seed, 40) for seed in range(4)]
        assert product(9, 40) == 0  # the main interpreter as well
        assert [future.result() for future in futures] == [0] * 4

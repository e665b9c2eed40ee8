"""Iterators of results: read after the pool's end, by several threads, not at all."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from memchannel import Channel, InterpreterPool
from memchannel.pool import BrokenInterpreterPool
from pool_tasks import fail_slowly, first_of, same, wait_then_return

HANG = 60


def test_blocks_are_all_there_after_the_pools_end():
    with InterpreterPool(1) as pool:
        results = pool.map_blocks(first_of, np.arange(50), blocks=50)
    assert list(results) == list(range(50))


def test_blocks_with_a_bar_are_all_there_after_the_pools_end(capsys):
    with InterpreterPool(1) as pool:
        results = pool.map_blocks(first_of, np.arange(50), blocks=50, progress=True)
    assert list(results) == list(range(50))
    assert "50/50" in capsys.readouterr().err


def test_some_blocks_are_read_before_the_pools_end_and_some_after_it():
    with InterpreterPool(1) as pool:
        results = pool.map_blocks(first_of, np.arange(50), blocks=50)
        before = [next(results) for _ in range(20)]
        pool.shutdown(wait=False)
    assert before + list(results) == list(range(50))


def test_a_pool_lives_as_long_as_its_results_are_read():
    results = InterpreterPool(1).map_blocks(first_of, np.arange(50), blocks=50)
    assert list(results) == list(range(50))


def test_a_shutdown_in_another_thread_changes_nothing():
    pool = InterpreterPool(2)
    results = pool.map_blocks(first_of, np.arange(500), blocks=500)
    thread = threading.Thread(target=pool.shutdown)
    found = []
    for result in results:
        found.append(result)
        if len(found) == 50:
            thread.start()
    thread.join()
    assert found == list(range(500))


def test_what_a_shutdown_cancels_is_no_end_of_the_results():
    go = Channel()
    with InterpreterPool(1, packages=None) as pool:
        results = pool.map(wait_then_return, [go] * 3, range(3), buffersize=1)
        while not results._futures[0].running():
            time.sleep(0.001)
        pool.shutdown(wait=False, cancel_futures=True)
        go.send(None)
        assert next(results) == 0
        with pytest.raises(CancelledError):
            next(results)


def test_a_shutdown_does_not_wait_for_the_items_of_a_map():
    go, reached = threading.Event(), threading.Event()

    def items():
        yield -1
        reached.set()
        go.wait(HANG)
        yield -2

    with InterpreterPool(1, packages=None) as pool:
        results = pool.map(abs, items(), buffersize=1)
        found = []

        def read():
            found.append(next(results))
            with pytest.raises(RuntimeError, match="before all items were submitted"):
                next(results)

        thread = threading.Thread(target=read)
        thread.start()
        assert reached.wait(HANG)
        pool.shutdown(wait=False)  # hangs if it waits for the thread
        go.set()
        thread.join(HANG)
    assert found == [1]


def test_a_signal_handler_that_shuts_down_does_not_change_the_order(monkeypatch):
    pool = InterpreterPool(1)
    submit, numbers = pool._crew.submit, iter(range(50))

    def interrupted(*args, **kwargs):
        if next(numbers) == 20:
            signal.raise_signal(signal.SIGUSR1)
        return submit(*args, **kwargs)

    monkeypatch.setattr(pool._crew, "submit", interrupted)
    before = signal.signal(signal.SIGUSR1, lambda *_: pool.shutdown(wait=False))
    found = []
    try:
        with pytest.raises(RuntimeError, match="before all items were submitted"):
            found.extend(pool.map_blocks(first_of, np.arange(50), blocks=50))
    finally:
        signal.signal(signal.SIGUSR1, before)
        pool.shutdown()
    assert found == list(range(20))


def test_a_signal_handler_shuts_down_while_a_worker_is_started(monkeypatch):
    start = threading.Thread.start

    def interrupted(thread):
        signal.raise_signal(signal.SIGUSR1)
        start(thread)

    pool = InterpreterPool(1, packages=None)
    before = signal.signal(signal.SIGUSR1, lambda *_: pool.shutdown(wait=False, cancel_futures=True))
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    try:
        assert pool.submit(abs, -1).cancelled()
    finally:
        signal.signal(signal.SIGUSR1, before)
        pool.shutdown()


def test_items_that_a_shutdown_left_out_are_an_error():
    with InterpreterPool(1, packages=None) as pool:
        results = pool.map(abs, [-1, -2, -3, -4], buffersize=2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(RuntimeError, match="shut down before all items were submitted"):
        next(results)
    with InterpreterPool(1, packages=None) as pool:
        results = pool.map(abs, [-1, -2], buffersize=2)
    assert list(results) == [1, 2]


def test_a_broken_pool_is_an_error_of_the_results():
    with (
        InterpreterPool(1, packages=None, initializer=int, initargs=("no number",)) as pool,
        pytest.raises(BrokenInterpreterPool, match="ValueError: invalid literal"),
    ):
        list(pool.map(abs, range(100), buffersize=2))


def test_results_that_nobody_asks_for_are_not_computed():
    go = Channel()
    with InterpreterPool(1) as pool:
        running = pool.submit(wait_then_return, go, None)
        while not running.running():
            time.sleep(0.001)
        results = pool.map_blocks(first_of, np.arange(50), blocks=50)
        assert len(pool._crew.channel) == 8
        del results
        assert len(pool._crew.channel) == 0
        go.send(None)
        running.result()


def test_two_threads_cannot_wait_for_the_same_results():
    go = Channel()
    with InterpreterPool(1, packages=None) as pool:
        results = pool.map(wait_then_return, [go], [7])
        found = []
        thread = threading.Thread(target=lambda: found.append(next(results)))
        thread.start()
        while "_reader" not in vars(results):
            time.sleep(0.001)
        with pytest.raises(ValueError, match="another thread"):
            next(results)
        go.send(None)
        thread.join(HANG)
    assert found == [7]


class Refusing:
    """What cannot be pickled, in its own words."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("error", [ValueError("not today"), RuntimeError("not now"), StopIteration()])
def test_what_an_argument_raises_names_it(error):
    with InterpreterPool(1, packages=None) as pool:
        for call in (
            lambda: pool.submit(print, 1, Refusing(error)),
            lambda: pool.map(print, [1, Refusing(error)]),
        ):
            with pytest.raises(type(error)) as caught:
                call()
            assert "argument 1 cannot be sent to a worker" in caught.value.__notes__[-1]
        results = pool.map(abs, [1, Refusing(error)], buffersize=1)
        with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
            list(results)


def test_packages_are_names():
    with pytest.raises(TypeError, match="packages must be names, 'all' or None, not 5"):
        InterpreterPool(1, packages=5)
    go = Channel()
    with InterpreterPool(2, packages=(name for name in ["numpy"]), reuse=False) as pool:
        futures = [pool.submit(wait_then_return, go, np.arange(n)) for n in range(2)]
        go.send_many([None, None])
        assert [len(future.result()) for future in futures] == [0, 1]


@pytest.mark.parametrize("chunksize", [1.5, "2", None])
def test_chunksize_is_an_integer(chunksize):
    with InterpreterPool(1, packages=None) as pool, pytest.raises(TypeError, match="chunksize must be"):
        pool.map(abs, [1], chunksize=chunksize)


# ---- interrupts that come too late for their task


def test_an_interrupt_does_not_end_the_report_of_a_task():
    begun, go = Channel(), Channel()
    with InterpreterPool(1, packages=None) as pool:
        future = pool.submit(fail_slowly, begun, go)
        begun.recv()
        pool._crew.interrupt()
        go.send(None)
        error = future.exception()
        assert "SlowlyToldError: told" in str(error.__cause__)
        assert pool.submit(same, 1).result() == 1


def test_an_interrupt_of_a_task_does_not_reach_the_next_one():
    with InterpreterPool(1, packages=None, reuse=False) as pool:
        late = pool._crew.submit("pool_tasks:interrupt_importer", (), None)
        assert late.result() == 1
        assert pool.submit(same, 2).result() == 2

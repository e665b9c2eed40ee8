"""Faults in every place of a pool: each task has an end, the pool goes on, and nothing stays behind."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, as_completed, wait
from typing import Any

import numpy as np
import pytest

import fault_tasks
import memchannel
from channel_support import wait_until
from fault_tasks import Fault, FaultError
from memchannel import BrokenInterpreterPool, InterpreterPool, RemoteError, interpreters

LARGE = np.arange(1 << 14, dtype="f8")  # 128 KiB: lent
TIMEOUT = 60


@pytest.fixture(autouse=True)
def nothing_stays_behind(level_leases: None) -> Iterator[None]:
    """No thread, no running interpreter, and with `level_leases` no lease."""
    wait([POOL.submit(pow, 2, 2)])  # the thread that settles futures stays
    threads, busy = set(threading.enumerate()), len(interpreters.running())
    yield
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= threads, "the end of the threads")
    assert len(interpreters.running()) <= busy


POOL: InterpreterPool


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[InterpreterPool]:
    global POOL
    with InterpreterPool(2) as POOL:
        # Both workers are there: no later test starts one.
        gate = memchannel.Channel()
        waiting = [POOL.submit(gate.recv) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in waiting))
        gate.send_many([1, 1])
        wait(waiting)
        yield POOL


def finished(future: Future[Any]) -> BaseException | None:
    """Give the exception with which the task ended, looked at in all ways, and check that the pool works."""
    error = future.exception(timeout=TIMEOUT)
    assert future.done()
    assert future.exception() is error
    if error is not None:
        with pytest.raises(type(error)) as caught:
            future.result()
        assert caught.value is error
    assert POOL.submit(pow, 2, 5).result(timeout=TIMEOUT) == 32
    return error


def observed(future: Future[Any], how: str) -> Future[Any]:
    """Let somebody wait for the task in another way than `result` does."""
    if how == "callback":
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(TIMEOUT)
    elif how == "wait":
        assert wait([future], timeout=TIMEOUT).done == {future}
    elif how == "as_completed":
        assert list(as_completed([future], timeout=TIMEOUT)) == [future]
    return future


def errors_of(function: Callable[..., Any], *args: Any) -> Iterator[BaseException | None]:
    """Submit the task once for each way of waiting for it, and give what it raised."""
    for how in ("result", "callback", "wait", "as_completed"):
        yield finished(observed(POOL.submit(function, *args), how))


ERRORS = [FaultError, MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException]


def test_the_function_raises() -> None:
    for kind in ERRORS:
        for error in errors_of(fault_tasks.fail, kind, "why", LARGE):
            assert type(error) is kind
            assert error.args[0] == "why"


def test_an_argument_cannot_be_made_again() -> None:
    for argument in (Fault("unpickle"), [LARGE, Fault("unpickle")], Fault("unpickle", SystemExit)):
        for error in errors_of(len, argument):
            assert "while it was made again" in str(error)


def test_a_result_cannot_be_pickled() -> None:
    for error in errors_of(fault_tasks.make, "pickle"):
        assert type(error) is FaultError
    for error in errors_of(fault_tasks.make, "pickle", TypeError):
        assert type(error) is pickle.PicklingError
        assert "result of type 'Fault'" in str(error)


def test_a_result_cannot_be_made_again() -> None:
    for kind in (FaultError, SystemExit, MemoryError):
        for error in errors_of(fault_tasks.make, "unpickle", kind):
            assert type(error) is kind
            assert "made again" in str(error)


def test_an_exception_that_is_faulty_itself() -> None:
    for kind in (fault_tasks.FaultyPickleError, fault_tasks.FaultyUnpickleError):
        for error in errors_of(fault_tasks.fail, kind, "why"):
            assert type(error) is RemoteError
            assert f"{kind.__name__}: why" in str(error)
    for error in errors_of(fault_tasks.fail, fault_tasks.FaultyTextError, "why"):
        assert type(error) is fault_tasks.FaultyTextError


def test_an_argument_cannot_be_pickled() -> None:
    for send in (POOL.submit, lambda fn, arg: list(POOL.map(fn, [arg]))):
        with pytest.raises(FaultError, match="while it was pickled"):
            send(len, [LARGE, Fault("pickle")])
        with pytest.raises(pickle.PicklingError, match=r"argument 0 cannot"):
            send(len, [LARGE, threading.Lock()])
    assert POOL.submit(pow, 2, 2).result(timeout=TIMEOUT) == 4


@pytest.mark.parametrize(
    ("function", "error"), [(fault_tasks.exhaust_memory, MemoryError), (fault_tasks.recurse, RecursionError)]
)
def test_limits_of_the_worker(function: Callable[[], object], error: type[Exception]) -> None:
    assert type(finished(POOL.submit(function))) is error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_exits_holds_up_nobody() -> None:
    gate = memchannel.Channel()
    for error in (SystemExit, FaultError):
        future = POOL.submit(gate.recv)
        future.add_done_callback(lambda _, error=error: fault_tasks.fail(error))
        done = threading.Event()
        POOL.submit(pow, 2, 2).add_done_callback(lambda _, done=done: done.set())
        gate.send(1)
        assert future.result(timeout=TIMEOUT) == 1
        assert done.wait(TIMEOUT)
    assert wait([POOL.submit(pow, 2, 2)], timeout=TIMEOUT).not_done == set()


def test_one_of_a_hundred_fails() -> None:
    futures = [POOL.submit(fault_tasks.fail_each_hundredth, i) for i in range(10_000)]
    found = [future.exception(timeout=TIMEOUT) for future in futures]
    for i, (future, error) in enumerate(zip(futures, found, strict=True)):
        if i % 100 == 7:
            assert isinstance(error, FaultError)
            assert error.args == (i,)
        else:
            assert error is None
            assert future.result() == i


@pytest.mark.parametrize("chunksize", [1, 7])
def test_a_map_that_fails_midway(chunksize: int) -> None:
    results = POOL.map(fault_tasks.fail_each_hundredth, range(1_000), chunksize=chunksize)
    found = [next(results) for _ in range(7 // chunksize * chunksize)]
    with pytest.raises(FaultError) as caught:
        next(results)
    assert caught.value.__notes__ == ["item 7 of map()"]
    assert found == list(range(len(found)))
    assert list(results) == []


def test_a_worker_is_closed_by_force_while_it_works() -> None:
    """CPython refuses that, and so do we."""
    gate = memchannel.Channel()
    with InterpreterPool(1, packages=None) as own:
        before = {one.id for one in interpreters.running()}
        future = own.submit(gate.recv)
        wait_until(future.running)
        for one in interpreters.running():
            if one.id not in before:
                with pytest.raises(Exception, match="running"):
                    one.close()
                with pytest.raises(RuntimeError, match="running"):
                    interpreters.close(one)
        gate.send("unharmed")
        assert future.result(timeout=TIMEOUT) == "unharmed"


def test_the_second_worker_does_not_start() -> None:
    gate, tickets = memchannel.Channel(), memchannel.Channel()

    def start() -> None:
        if tickets.recv() == "bad":
            raise FaultError("the second")

    with InterpreterPool(2, packages=None, initializer=start) as own:
        tickets.send("good")
        running = own.submit(gate.recv)
        wait_until(running.running)
        tickets.send("bad")
        queued = [own.submit(pow, 2, 2) for _ in range(5)]
        for future in queued:
            error = future.exception(timeout=TIMEOUT)
            assert isinstance(error, BrokenInterpreterPool)
            assert isinstance(error.__cause__, FaultError)
        with pytest.raises(BrokenInterpreterPool, match="the second"):
            own.submit(pow, 2, 2)
        gate.send("done before")
        assert running.result(timeout=TIMEOUT) == "done before"


def test_a_failing_initializer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with InterpreterPool(1, packages=None, initializer=fault_tasks.fail, initargs=(FaultError, "why")) as own:
        assert isinstance(own.submit(pow, 2, 2).exception(timeout=TIMEOUT), BrokenInterpreterPool)
    record = caplog.records[-1]
    assert (record.name, record.levelname) == ("concurrent.futures", "CRITICAL")
    assert "FaultError: why" in caplog.text


def test_one_worker_does_for_tasks_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memchannel._crew._NEARLY_IDLE", 0.5)  # however slow the worker is to come
    with InterpreterPool(8, packages=None) as own:
        for i in range(5):
            assert own.submit(pow, i, 2).result(timeout=TIMEOUT) == i * i
            wait_until(lambda: own._crew.channel.statistics().waiting_receivers == 1)
        assert len(own._crew._threads) == 1


def test_a_pool_ends_though_results_of_a_map_are_held() -> None:
    own = InterpreterPool(2, packages=None)
    results, threads = own.map(abs, range(-50, 50)), own._crew._threads
    del own
    for thread in list(threads):
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert list(results) == [abs(i) for i in range(-50, 50)]


# ---- programs


def play(seed: int) -> None:
    """Do this and that with a pool from two threads, end it at some moment, and look at all futures."""
    chance = random.Random(seed)
    gate = memchannel.Channel()
    workers, limit = chance.choice([1, 2, 3]), chance.choice([None, 3])
    own = InterpreterPool(workers, max_tasks_per_interpreter=limit)
    futures: list[Future[Any]] = []
    called: list[Future[Any]] = []
    moves: list[Callable[[], Future[Any]]] = [
        lambda: own.submit(pow, 2, 2),
        lambda: own.submit(np.ndarray.sum.__name__.upper),
        lambda: own.submit(fault_tasks.fail, FaultError, LARGE.nbytes),
        lambda: own.submit(len, LARGE),
        lambda: own.submit(fault_tasks.make, chance.choice(["pickle", "unpickle"])),
        lambda: own.submit(gate.recv),
        lambda: own.submit(len, Fault("unpickle")),
    ]

    def submit(count: int) -> None:
        for _ in range(count):
            try:
                future = chance.choice(moves)()
            except RuntimeError:
                return  # shut down meanwhile
            futures.append(future)
            if chance.random() < 0.3:
                future.add_done_callback(called.append)
                expected.append(future)
            if chance.random() < 0.2:
                chance.choice(futures).cancel()
            if chance.random() < 0.1:
                gate.send(1)

    expected: list[Future[Any]] = []
    other = threading.Thread(target=submit, args=(chance.randrange(30),))
    other.start()
    submit(chance.randrange(30))
    gate.send_many([1] * 200)  # whoever waits goes on
    own.shutdown(wait=chance.random() < 0.5, cancel_futures=chance.random() < 0.5)
    other.join()
    for future in futures:
        with contextlib.suppress(FaultError, CancelledError):
            future.result(timeout=TIMEOUT)
        assert future.done()
    own.shutdown()
    wait_until(lambda: len(called) == len(expected), "the callbacks")
    assert sorted(map(id, called)) == sorted(map(id, expected))


PROGRAMS = int(os.environ.get("MEMCHANNEL_POOL_PROGRAMS", "8"))


def test_every_future_ends() -> None:
    for seed in range(PROGRAMS):
        play(seed)


def test_shutdown_at_every_moment() -> None:
    """From one thread, while another submits as fast as it can."""
    for count in (0, 1, 2, 5, 20, 100):
        own = InterpreterPool(2, packages=None)
        futures: list[Future[Any]] = []

        def submit(own: InterpreterPool = own, futures: list[Future[Any]] = futures) -> None:
            with contextlib.suppress(RuntimeError):  # after shutdown
                futures.extend(own.submit(pow, i, 2) for i in itertools.count())

        other = threading.Thread(target=submit)
        other.start()
        wait_until(lambda futures=futures, count=count: len(futures) >= count)
        own.shutdown()
        other.join(TIMEOUT)
        assert not other.is_alive()
        assert [future.result(timeout=TIMEOUT) for future in futures] == [i * i for i in range(len(futures))]

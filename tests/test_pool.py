"""InterpreterPool: an executor whose workers are interpreters."""

from __future__ import annotations

import functools
import itertools
import operator
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import CancelledError, Executor, as_completed, wait

import numpy as np
import pytest

import memchannel
from memchannel import BrokenInterpreterPool, InterpreterPool
from pool_tasks import (
    fail,
    fail_unpicklable,
    interpreter_id,
    pointer,
    pointer_and_flag,
    recall,
    remember,
    same,
    square_in_a_pool,
)

LARGE = 1 << 17  # elements; above the size from which arrays are lent


@pytest.fixture(scope="module")
def pool():
    with InterpreterPool(2) as made:
        yield made


# ---- results


def test_it_is_an_executor(pool):
    assert isinstance(pool, Executor)
    assert pool.submit(pow, 2, 10).result() == 1024
    assert pool.submit(int, "ff", base=16).result() == 255


def test_tasks_run_in_other_interpreters(pool):
    from memchannel import interpreters

    assert pool.submit(interpreter_id).result() != interpreters.get_current().id


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -5,
        1 << 80,
        2.5,
        "text",
        "é€😀",
        b"bytes",
        (1, (2, "x")),
        [1, {"a": {2}}],
        range(3),
        1j,
        ...,
    ],
)
def test_values_arrive_equal_and_of_thesame_type(pool, value):
    result = pool.submit(same, value).result()
    assert result == value
    assert type(result) is type(value)


def test_large_arrays_are_not_copied_into_the_worker(pool):
    array = np.arange(LARGE, dtype="f8")
    before = memchannel.stats().bytes_copied
    assert pool.submit(pointer_and_flag, array).result() == (pointer(array), False)
    assert memchannel.stats().bytes_copied == before


def test_arrays_anywhere_in_the_arguments_are_lent(pool):
    array = np.arange(LARGE, dtype="f8").reshape(-1, 16)[::2, ::-1]
    found = pool.submit(lambda d: pointer_and_flag(d["a"][0]), {"a": [array]}).result()
    assert found == (pointer(array), False)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda a: a[::2, ::3]])
def test_small_arrays_are_counted_once_where_they_are_copied(pool, layout):
    array = layout(np.arange(600.0).reshape(20, 30))
    before = memchannel.stats().bytes_copied
    assert pool.submit(np.sum, array).result() == array.sum()
    assert memchannel.stats().bytes_copied - before == array.nbytes


def test_large_results_are_not_copied_and_small_ones_make_no_lease(pool):
    before = memchannel.stats()
    small = pool.submit(np.arange, 10).result()
    assert small.flags.writeable
    assert memchannel.stats().lent == before.lent
    copied = memchannel.stats().bytes_copied
    large = pool.submit(np.arange, LARGE).result()
    assert not large.flags.writeable
    assert memchannel.stats().lent == before.lent + 1
    assert memchannel.stats().bytes_copied == copied
    assert (large == np.arange(LARGE)).all()


def test_results_stay_valid_after_shutdown():
    with InterpreterPool(1) as own:
        large = own.submit(np.arange, LARGE).result()
    assert (large == np.arange(LARGE)).all()


# ---- functions


def test_lambdas_closures_partials_methods_and_builtins(pool):
    factor = np.full(3, 2.0)
    assert pool.submit(lambda x: x + 1, 1).result() == 2
    assert (pool.submit(lambda x: x * factor, 3).result() == [6, 6, 6]).all()
    assert pool.submit(functools.partial(pow, 2), 5).result() == 32
    assert pool.submit("abc".upper).result() == "ABC"
    assert (pool.submit(operator.pos, np.arange(3)).result() == [0, 1, 2]).all()


def test_a_large_array_in_a_closure_is_lent(pool):
    array = np.arange(LARGE, dtype="f8")
    assert pool.submit(lambda: pointer_and_flag(array)).result() == (pointer(array), False)


def test_linalg_in_the_worker(pool):
    matrix = np.array([[2.0, 0.0], [0.0, 4.0]])
    assert (pool.submit(np.linalg.inv, matrix).result() == [[0.5, 0.0], [0.0, 0.25]]).all()


def test_functions_of_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            from memchannel import InterpreterPool
            print("started")
            OFFSET = 10
            class Point:
                def __init__(self, x): self.x = x
            def helper(x): return x + OFFSET
            def work(p): return Point(helper(p.x))
            with InterpreterPool(2, packages=None) as pool:
                print([p.x for p in pool.map(work, [Point(1), Point(2)])])
        """)
    )
    for command in ([str(script)], ["-c", script.read_text()]):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stderr == ""
        assert done.stdout == "started\n[11, 12]\n"


def test_what_cannot_be_pickled_is_named(pool):
    lock = threading.Lock()
    with pytest.raises(Exception, match="lock"):
        pool.submit(lambda: lock)
    with pytest.raises(pickle.PicklingError, match=r"argument 0 cannot .*lock"):
        pool.submit(same, lock)
    with pytest.raises(pickle.PicklingError, match=r"argument 'end' cannot .*item 'guard': .*lock"):
        pool.submit(print, end={"guard": lock})
    for chunksize in (1, 2):
        with pytest.raises(pickle.PicklingError, match=r"argument 3 cannot .*lock"):
            list(pool.map(same, [0, 1, 2, lock], chunksize=chunksize))
    with pytest.raises(TypeError, match="callable"):
        pool.submit(5)
    assert pool.submit(pow, 2, 2).result() == 4


# ---- exceptions


def test_exceptions_carry_the_workers_traceback(pool):
    with pytest.raises(KeyError, match="where") as caught:
        pool.submit(fail, "where").result()
    assert "in fail" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_pickled_arrives_as_text(pool):
    with pytest.raises(memchannel.RemoteError, match="some text"):
        pool.submit(fail_unpicklable).result()
    assert pool.submit(pow, 2, 2).result() == 4


def test_a_result_that_cannot_be_pickled_is_an_exception(pool):
    with pytest.raises(pickle.PicklingError, match="the result of type 'lock' cannot .*pickle") as caught:
        pool.submit(threading.Lock).result()
    assert "TypeError" in str(caught.value.__cause__)
    assert pool.submit(pow, 2, 2).result() == 4


def test_sys_exit_in_a_task_ends_the_task_only(pool):
    with pytest.raises(SystemExit):
        pool.submit(sys.exit, 3).result()
    assert pool.submit(pow, 2, 2).result() == 4


def test_thesame_exception_every_time(pool):
    future = pool.submit(fail, "x")
    first = future.exception()
    assert isinstance(first, KeyError)
    assert future.exception() is first


# ---- futures


def test_wait_and_as_completed(pool):
    futures = [pool.submit(pow, i, 2) for i in range(50)]
    assert sum(future.result() for future in as_completed(futures)) == sum(i * i for i in range(50))
    assert wait(futures).not_done == set()


def test_callbacks_run_once_with_the_future(pool):
    called = []
    done = threading.Event()
    future = pool.submit(pow, 3, 3)

    def callback(f):
        called.append(f)
        done.set()

    future.add_done_callback(callback)
    assert done.wait(30)
    future.add_done_callback(called.append)
    assert called == [future, future]
    assert future.result() == 27


def test_cancel_before_and_after_the_start():
    gate = memchannel.Channel()
    with InterpreterPool(1, packages=None) as own:
        first = own.submit(gate.ends[0].recv)
        queued = own.submit(pow, 2, 2)
        watched = own.submit(pow, 2, 3)
        waiter = []
        watched.add_done_callback(waiter.append)
        while not first.running():
            time.sleep(0.001)
        assert queued.cancel()
        assert watched.cancel()
        assert waiter == [watched]
        assert queued.cancelled()
        assert queued.done()
        with pytest.raises(CancelledError):
            queued.result()
        with pytest.raises(CancelledError):
            watched.exception()
        assert not first.cancel()
        gate.send("go on")
        assert first.result() == "go on"


def test_a_result_that_takes_too_long():
    gate = memchannel.Channel()
    with InterpreterPool(1, packages=None) as own:
        future = own.submit(gate.ends[0].recv)
        with pytest.raises(TimeoutError):
            future.result(timeout=0.01)
        for over in (-1, -0.5, float("nan"), float("-inf")):  # as the standard futures
            with pytest.raises(TimeoutError):
                future.result(over)
            with pytest.raises(TimeoutError):
                future.exception(over)
        gate.send(1)
        assert future.result(timeout=60) == 1
        assert future.result(timeout=-1) == 1


# ---- map


def test_map_keeps_order_and_stops_at_the_shortest(pool):
    assert list(pool.map(pow, range(20), itertools.repeat(2))) == [i * i for i in range(20)]
    assert list(pool.map(pow, [1, 2, 3, 4, 5], [2, 2, 2, 2, 2, 2], chunksize=2)) == [1, 4, 9, 16, 25]


def test_map_with_a_buffer_reads_only_so_far(pool):
    taken = []

    def numbers():
        for i in itertools.count():
            taken.append(i)
            yield i

    results = pool.map(str, numbers(), buffersize=4)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    assert len(taken) <= 4 + 3
    results.close()


def test_map_notes_the_item(pool):
    with pytest.raises(ZeroDivisionError) as caught:
        list(pool.map(operator.truediv, [1, 1, 1], [1, 1, 0]))
    assert caught.value.__notes__ == ["item 2 of map()"]
    with pytest.raises(ZeroDivisionError) as caught:
        list(pool.map(operator.truediv, [1] * 5, [1, 1, 1, 0, 1], chunksize=2))
    assert caught.value.__notes__ == ["item 3 of map()"]


# ---- life of a pool


def test_no_task_after_shutdown():
    own = InterpreterPool(1, packages=None)
    assert own.submit(pow, 2, 2).result() == 4
    own.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        own.submit(pow, 2, 2)


def test_shutdown_runs_what_is_queued_or_cancels_it():
    with InterpreterPool(1, packages=None) as own:
        futures = [own.submit(pow, i, 2) for i in range(20)]
    assert [future.result() for future in futures] == [i * i for i in range(20)]
    gate = memchannel.Channel()
    own = InterpreterPool(1, packages=None)
    first = own.submit(gate.ends[0].recv)
    queued = [own.submit(pow, i, 2) for i in range(20)]
    while not first.running():
        time.sleep(0.001)
    own.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    gate.send(1)
    assert first.result() == 1


def test_a_dropped_pool_finishes_its_tasks():
    future = InterpreterPool(1, packages=None).submit(pow, 2, 5)
    assert future.result() == 32


def test_initializer():
    with InterpreterPool(2, packages=None, initializer=remember, initargs=(42,), reuse=False) as own:
        assert set(own.map(recall, range(8))) == {42}


def test_initargs_that_nobody_can_import():
    class Local:
        """Sent by value."""

    for value in (lambda: 42, Local):
        with InterpreterPool(1, packages=None, initializer=remember, initargs=(value,)) as own:
            assert own.submit(lambda: recall().__name__).result() == value.__name__


def test_initargs_that_cannot_be_pickled_are_named():
    with pytest.raises(pickle.PicklingError, match="'remember'.*argument 0, item 'guard': cannot pickle"):
        InterpreterPool(1, initializer=remember, initargs=({"guard": threading.Lock()},))


def test_a_failing_initializer_breaks_the_pool():
    own = InterpreterPool(1, packages=None, initializer=fail, initargs=("bad start",))
    future = own.submit(pow, 2, 2)
    with pytest.raises(BrokenInterpreterPool) as caught:
        future.result()
    assert isinstance(caught.value.__cause__, KeyError)
    assert "in fail" in str(caught.value.__cause__.__cause__)
    with pytest.raises(BrokenInterpreterPool):
        own.submit(pow, 2, 2)
    own.shutdown()


def test_an_unknown_package_breaks_the_pool():
    with (
        InterpreterPool(1, packages=("no_such_package",)) as own,
        pytest.raises(BrokenInterpreterPool, match="no_such"),
    ):
        own.submit(pow, 2, 2).result()


def test_workers_are_replaced_after_so_many_tasks():
    with InterpreterPool(1, packages=None, max_tasks_per_interpreter=2, reuse=False) as own:
        seen = [own.submit(interpreter_id).result() for _ in range(6)]
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert len(set(seen)) == 3


def test_a_cleaned_interpreter_works_for_the_same_pool_again():
    with InterpreterPool(1, packages=None, max_tasks_per_interpreter=2) as own:
        seen = [own.submit(interpreter_id).result(timeout=60) for _ in range(6)]
    assert len(set(seen)) == 1


def test_parked_interpreters_are_used_again():
    seen = []
    for _ in range(3):
        with InterpreterPool(1, packages=None) as own:
            seen.append(own.submit(interpreter_id).result())
    assert len(set(seen)) == 1


def test_pools_from_several_threads():
    results = []

    def use():
        with InterpreterPool(1, packages=None) as own:
            results.append(sum(own.map(pow, range(50), itertools.repeat(2))))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [sum(i * i for i in range(50))] * 4


def test_a_pool_inside_a_worker():
    with InterpreterPool(1, packages=None) as own:
        assert own.submit(square_in_a_pool, 7).result() == 49


def test_exit_without_shutdown_finishes_the_tasks():
    code = (
        "from memchannel import InterpreterPool\n"
        "pool = InterpreterPool(2, packages=None)\n"
        "futures = [pool.submit(pow, i, 2) for i in range(10)]\n"
        "futures[-1].add_done_callback(lambda f: print('last', f.result()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "last 81\n", "")


@pytest.mark.parametrize(
    "wait",
    [
        "with InterpreterPool(2, packages=None) as pool:\n    list(pool.map(spin, range(100)))",
        "with InterpreterPool(2, packages=None) as pool:\n    pool.submit(spin, 1).result()",
        "with InterpreterPool(2, packages=None) as pool:\n    pool.submit(channel.recv).result()",
        "with InterpreterPool(2, packages=None) as pool:\n    pool.submit(spin, 1)",
        "pool = InterpreterPool(2, packages=None)\nfor _ in pool.map(spin, range(100)): pass",
        "pool = InterpreterPool(2, packages=None)\npool.submit(spin, 1).result()",
        "pool = InterpreterPool(2, packages=None)\npool.submit(spin, 1)\npool.shutdown()",
        "pool = InterpreterPool(2, packages=None)\nfutures = [pool.submit(spin, i) for i in range(9)]",
    ],
)
def test_one_ctrl_c_ends_the_process(wait):
    code = (
        "from memchannel import Channel, InterpreterPool\n"
        "channel = Channel()\n"
        "def spin(_):\n"
        "    while True: pass\n"
        "ready = Channel()\n"
        "InterpreterPool(1, packages=None).submit(print, 'up', flush=True).result()\n" + wait
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "up\n"
    time.sleep(0.3)  # into the tasks; an earlier signal must do as well
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    # With a colon where CPython reports what came while it waits for threads at exit.
    assert errors.rstrip().removesuffix(":").endswith("KeyboardInterrupt")

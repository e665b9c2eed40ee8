"""Threads that a worker's function leaves behind, and threads and interpreters that cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest

from channel_support import HANG, run_script

LEAVE = """
import sys, _thread, time
import memchannel
from memchannel import Channel, InterpreterPool, interpreters

started, leave = Channel(), Channel()

def start_one(started, leave):
    import _thread

    def stay():
        started.send(1)
        try:
            leave.recv()
        except RuntimeError as exc:
            assert "this interpreter is ending" in str(exc)

    _thread.start_new_thread(stay, ())
"""


@pytest.mark.parametrize("reuse", [True, False])
def test_a_pool_ends_though_a_task_left_a_thread(reuse):
    source = f"""{LEAVE}
with InterpreterPool(1, packages=None, reuse={reuse}) as pool:
    pool.submit(start_one, started, leave).result()
    started.recv()
print(len(interpreters.list_all()))
leave.send(None)
"""
    assert run_script(source) in {"1\n", "2\n"}


def test_an_interpreter_is_given_back_once_its_thread_has_ended():
    source = f"""{LEAVE}
with InterpreterPool(1, packages=None, reuse=False) as pool:
    pool.submit(start_one, started, leave).result()
    started.recv()
print(len(interpreters.list_all()))
leave.send(None)
while len(interpreters.list_all()) > 1:
    time.sleep(0.01)
    interpreters.create(packages=None)  # which looks whether it has
"""
    assert run_script(source) == "2\n"


def test_a_thread_counts_from_its_start_to_its_end():
    source = """
import _thread, sys, time
from memchannel import _core, interpreters

def count():
    import _thread, threading, time
    from memchannel import _core

    lock = _thread.allocate_lock()
    lock.acquire()
    counts = [_core._count_threads()]
    for _ in range(50):
        _thread.start_new_thread(lambda: lock.acquire() and lock.release(), ())
        counts.append(_core._count_threads())
    thread = threading.Thread(target=lambda: lock.acquire() and lock.release())
    thread.start()
    counts.append(_core._count_threads())
    lock.release()
    thread.join()
    while _core._count_threads():
        time.sleep(0.001)
    return counts

assert count() == list(range(52))
interpreter = interpreters.create(packages=None)
assert interpreters.run(interpreter, count).check().value == list(range(52))
"""
    assert run_script(source) == ""


def test_close_names_what_runs_and_works_once_that_is_over():
    source = f"""{LEAVE}
interpreter = interpreters.create(packages=None)
interpreters.run(interpreter, start_one, started=started, leave=leave).check()
started.recv()
try:
    interpreters.close(interpreter)
except RuntimeError as exc:
    print(exc)
leave.send(None)
while True:
    try:
        interpreters.close(interpreter)
        break
    except RuntimeError:
        time.sleep(0.01)
print(len(interpreters.list_all()))
"""
    text, left = run_script(source).splitlines()
    assert "started by the _thread module" in text
    assert left == "1"


@pytest.mark.parametrize("end", ["del interpreter", "pass", "sys.exit(0)"])
def test_the_process_ends_though_a_thread_is_left(end):
    source = f"""{LEAVE}
interpreter = interpreters.create(packages=None)
interpreters.run(interpreter, start_one, started=started, leave=leave).check()
started.recv()
leave.send(None)  # it ends at some time during the end of the process
print("end", flush=True)
{end}
"""
    assert run_script(source) == "end\n"


def test_a_worker_whose_thread_cannot_start_is_named():
    source = """
import threading
from memchannel import Channel, InterpreterPool, interpreters
from memchannel.pool import BrokenInterpreterPool
real = threading.Thread.start

def start(thread):
    if thread.name.endswith("_1"):
        raise RuntimeError("can't start new thread")
    real(thread)

threading.Thread.start = start
started, go = Channel(), Channel()

def wait(started, go):
    started.send(None)
    return go.recv()

with InterpreterPool(2, packages=None, name="crowd") as pool:
    first = pool.submit(wait, started, go)
    started.recv()
    try:
        second = pool.submit(pow, 2, 3)
        second.result()
    except BrokenInterpreterPool as exc:
        print(exc)
    go.send("done")
    print(first.result())
print(len(interpreters.list_all()), len(interpreters._parked))
"""
    text, first, counts = run_script(source).splitlines()
    assert text == "worker 1 of pool 'crowd' could not start: RuntimeError: can't start new thread"
    assert first == "done"
    assert counts == "1 0"  # those of the others are not kept


# cpython#130522: a thread that an interpreter does not know ends it, and joins its workers.
def test_an_interpreter_ends_silently_with_a_pool_that_nobody_shut_down():
    source = """
from memchannel import InterpreterPool

def square(number):
    from memchannel import InterpreterPool
    return InterpreterPool(1, packages=None).submit(pow, number, 2).result()

with InterpreterPool(1, packages=None) as pool:
    print(pool.submit(square, 7).result())
"""
    assert run_script(source) == "49\n"


def test_more_workers_than_the_memory_allows():
    pytest.importorskip("resource")
    source = """
import resource
from memchannel import Channel, InterpreterPool, interpreters
from memchannel.pool import BrokenInterpreterPool

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

go = Channel()
unlimited = resource.RLIM_INFINITY
pool = InterpreterPool(500, packages=None, name="crowd")
pool.submit(int).result()
resource.setrlimit(resource.RLIMIT_AS, (used() + (120 << 20), unlimited))
futures = []
try:
    for _ in range(500):
        futures.append(pool.submit(go.recv, timeout=60))
    for future in futures:
        future.exception()
    futures[-1].result()
except (BrokenInterpreterPool, MemoryError) as exc:
    text = str(exc)
resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
for _ in futures:
    go.send(None)
pool.shutdown()
print(text.startswith("worker "), "of pool 'crowd' could not start: " in text)
print(len(interpreters.list_all()))
"""
    # CPython complains on stderr where memory ends in the midst of making an interpreter.
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=4 * HANG, check=False
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["True True", "1"]), done.stderr


def test_modules_of_the_package_are_there_without_their_import():
    source = """
import sys
import memchannel
names = ["images", "interpreters", "testing"]
print([name for name in names if f"memchannel.{name}" in sys.modules])
print([name in dir(memchannel) for name in names])
print([getattr(memchannel, name).__name__ for name in names])
try:
    memchannel.nothing
except AttributeError as exc:
    print(exc)
"""
    assert run_script(source).splitlines() == [
        "[]",
        "[True, True, True]",
        "['memchannel.images', 'memchannel.interpreters', 'memchannel.testing']",
        "module 'memchannel' has no attribute 'nothing'",
    ]

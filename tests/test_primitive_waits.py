"""Waiting for locks and their like: what `dump_waits` tells, Ctrl-C, and who is served when."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import memchannel
from channel_support import Neighbour, RemoteFailure, Task, run_script, wait_until
from memchannel import Barrier, Channel, Condition, Counter, Event, Lock, RLock, Semaphore
from primitive_support import until_waiting


def waits_of(*primitives: Any) -> list[memchannel.statistics.Wait]:
    """Return the parked calls for these, in their order."""
    numbers = [one.id for one in primitives]
    found = [wait for wait in memchannel.dump_waits() if wait.primitive in numbers]
    return sorted(found, key=lambda wait: numbers.index(wait.primitive))


def test_dump_waits_tells_what_is_waited_for(neighbour: Neighbour) -> None:
    again, go, places, barrier = RLock(), Event(), Semaphore(0), Barrier(2)
    changed = Condition()
    again.acquire()
    held = threading.get_native_id()
    calls: list[tuple[Any, str, str, Any]] = [
        (again, "one.acquire(timeout=50)", "RLock.acquire", (0, held)),
        (go, "one.wait(50)", "Event.wait", None),
        (places, "one.acquire()", "Semaphore.acquire", None),
        (barrier, "one.wait()", "Barrier.wait", None),
        (changed, "with one: one.wait()", "Condition.wait", None),
    ]
    for one, call, operation, holder in calls:
        neighbour.start(call, one=one)
        until_waiting(one)
        (wait,) = waits_of(one)
        assert (wait.interpreter, wait.operation, wait.primitive) == (neighbour.id, operation, one.id)
        assert (wait.channel, wait.targets, wait.deadlock) == (None, (), None)
        assert wait.holder == holder
        assert wait.timed == ("50" in call)
        if one is again:
            again.release()
        elif one is go:
            go.set()
        elif one is places:
            places.release()
        elif one is barrier:
            barrier.wait(20)
        else:
            with changed:
                changed.notify()
        neighbour.result()
    neighbour.do("one = None")


def test_two_interpreters_with_each_others_locks(neighbours: list[Neighbour]) -> None:
    a, b = Lock(), RLock()
    first, second = neighbours[:2]
    first.do("a.acquire()", a=a)
    second.do("b.acquire()", b=b)
    first.start("b.acquire()", b=b)
    second.start("a.acquire(), a.release(), b.release()", a=a)
    until_waiting(a)
    until_waiting(b)
    waits = waits_of(a, b)
    numbers = {wait.deadlock for wait in waits}
    assert len(numbers) == 1
    assert None not in numbers
    assert [wait.interpreter for wait in waits] == [second.id, first.id]
    assert waits[0].holder == (first.id, waits[1].thread)
    assert waits[1].holder == (second.id, waits[0].thread)
    a.release()  # the way out
    second.result()
    first.result()
    first.do("b.release()")


def test_a_lock_that_waits_for_a_channel_that_waits_for_the_lock(neighbour: Neighbour) -> None:
    lock, channel = Lock(), Channel()
    recv, send = channel.ends
    got: list[Any] = []

    def hold() -> None:
        with lock:
            got.append(recv.recv())

    holder = Task(hold)
    wait_until(lambda: channel.statistics().waiting_receivers == 1)
    neighbour.start("lock.acquire(), send.send(1), lock.release()", lock=lock, send=send)
    until_waiting(lock)
    (wait,) = waits_of(lock)
    other = next(one for one in memchannel.dump_waits() if one.channel == channel.id)
    # The neighbour's own server waits for nothing else; it is the only sender.
    assert wait.deadlock is not None
    assert other.deadlock == wait.deadlock
    send.send(1)
    holder.result()
    neighbour.result()
    assert recv.recv(20) == 1
    assert got == [1]


def test_who_waits_for_itself_is_a_deadlock(neighbour: Neighbour) -> None:
    lock = Lock()
    neighbour.start("lock.acquire(), lock.acquire()", lock=lock)
    until_waiting(lock)
    (wait,) = waits_of(lock)
    assert wait.deadlock is not None
    lock.release()
    assert neighbour.result() == (True, True)


def test_a_holder_that_runs_is_no_deadlock(neighbour: Neighbour) -> None:
    lock = Lock()
    with lock:
        neighbour.start("with lock: pass", lock=lock)
        until_waiting(lock)
        (wait,) = waits_of(lock)
        assert wait.deadlock is None
    neighbour.result()


INTERRUPTED = """
import signal, threading, time, memchannel
from memchannel import *

def interrupt(one):
    while not any(wait.primitive == one.id for wait in memchannel.dump_waits()):
        time.sleep(0.001)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

lock, again, places, go, barrier = Lock(), RLock(), Semaphore(0), Event(), Barrier(2)
changed = Condition()
lock.acquire()
holder = threading.Thread(target=again.acquire)
holder.start()
holder.join()
for one, wait in [
    (lock, lock.acquire), (again, again.acquire), (places, places.acquire), (go, go.wait),
    (barrier, barrier.wait), (changed, changed.wait),
]:
    other = threading.Thread(target=interrupt, args=(one,))
    other.start()
    try:
        if one is changed:
            with changed:
                wait()
        else:
            wait()
    except KeyboardInterrupt:
        print("interrupted")
    other.join()
assert not barrier.broken and barrier.n_waiting == 0
lock.release()
assert lock.acquire(False) and changed.acquire(False)
assert memchannel.stats().waiting == 0
"""


def test_ctrl_c_ends_every_wait() -> None:
    assert run_script(INTERRUPTED).split() == ["interrupted"] * 6


def test_an_interrupted_call_passes_the_lock_on(neighbours: list[Neighbour]) -> None:
    """A call that gives up, here at its timeout, does not take along what the next one waits for."""
    lock = Lock()
    lock.acquire()
    neighbours[0].start("lock.acquire(timeout=0.01)", lock=lock)
    assert neighbours[0].result() is False
    neighbours[1].start("lock.acquire(timeout=20)", lock=lock)
    until_waiting(lock)
    lock.release()
    assert neighbours[1].result() is True
    lock.release()


def test_nobody_starves(neighbours: list[Neighbour]) -> None:
    """While others take the lock in a loop, each one that waits gets it soon, whoever waits."""
    lock, stop, turns = Lock(), Event(), Counter()
    for one in neighbours[:2]:
        one.start("while not stop.is_set():\n    with lock: turns.add(1)", lock=lock, stop=stop, turns=turns)
    wait_until(lambda: turns.value > 100)
    for _ in range(50):
        assert lock.acquire(timeout=20)
        lock.release()
    stop.set()
    for one in neighbours[:2]:
        one.result()


def test_a_wait_while_another_interpreter_keeps_its_gil(neighbours: list[Neighbour]) -> None:
    """The first in line cannot come, as its interpreter computes; the second gets the lock meanwhile."""
    lock, go, done = Lock(), Event(), Event()
    lock.acquire()
    busy, other = neighbours[:2]
    busy.start(
        """
import threading, sys
waits = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
interval = sys.getswitchinterval()
sys.setswitchinterval(1000)  # nobody else of this interpreter runs while it computes
waits.start()
go.wait()
while not done.is_set():
    pass
sys.setswitchinterval(interval)
waits.join()
""",
        lock=lock,
        go=go,
        done=done,
    )
    until_waiting(lock)
    other.start("lock.acquire(timeout=20)", lock=lock)
    until_waiting(lock, 2)
    go.set()
    lock.release()
    assert other.result() is True
    done.set()
    lock.release()
    busy.result()


def test_a_failed_wait_says_which_lock(neighbour: Neighbour) -> None:
    lock = RLock()
    with pytest.raises(RemoteFailure, match=f"this thread does not hold RLock {lock.id}"):
        neighbour.do("lock.release()", lock=lock)

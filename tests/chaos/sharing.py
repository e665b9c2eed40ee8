"""Steps with locks and their like, whose holders end at any moment, and with files and sockets."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import socket
import threading
import time
from typing import Any

from registry import CHANNEL_ERRORS, State, operation

import memchannel
from memchannel import Barrier, Channel, Condition, Lock, RLock, interpreters

LIMIT = 30.0
"""Seconds after which something hangs."""

OURS = (*CHANNEL_ERRORS, RuntimeError)


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"{what} hangs"
        time.sleep(0.0005)


# ---- locks

# What threads of other interpreters do; what raises is that their interpreter ends, or that others did.
LOOP = """
import threading
def loop(lock, event, barrier, places, stop, count, kind):
    try:
        for _ in range(count):
            if stop.is_set():
                return
            try:
                if kind == 0:
                    with lock: pass
                elif kind == 1:
                    if places.acquire(timeout=0.001): places.release()
                elif kind == 2:
                    barrier.wait(0.001)
                elif hasattr(lock, "wait"):
                    with lock: lock.wait(0.001)
                else:
                    event.wait(0.001)
            except (memchannel.AbandonedLockError, threading.BrokenBarrierError):
                pass
        if kind == 0 and count % 2:  # and keeps it
            lock.acquire(timeout=0.01)
    except RuntimeError:
        pass
import memchannel
threading.Thread(target=loop, args=(lock, event, barrier, places, stop, count, kind)).start()
"""

WAIT = """
import threading
def wait(lock, event, barrier, kind):
    try:
        if kind == 0:
            with lock: pass
        elif kind == 1:
            event.wait()
        elif kind == 2:
            barrier.wait()
        elif hasattr(lock, "wait"):
            with lock: lock.wait()
    except RuntimeError:
        pass
threading.Thread(target=wait, args=(lock, event, barrier, kind)).start()
"""


@operation("take")
def _take(state: State, a: int, b: int) -> None:
    lock = state.locks[a % len(state.locks)]
    if lock.acquire(timeout=0.001 * (b % 4)):
        state.held.append(lock)


@operation("let go")
def _let_go(state: State, a: int, b: int) -> None:
    if state.held:
        with contextlib.suppress(RuntimeError):  # an interpreter that ended held it, too
            state.held.pop(a % len(state.held)).release()


@operation("take in")
def _take_in(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        source = f"""
try:
    if lock.acquire(False) and {b % 2}:
        lock.release()
except RuntimeError:
    pass
"""
        interpreters.run(other, source, lock=state.locks[b // 2 % len(state.locks)]).check()


@operation("contend")
def _contend(state: State, a: int, b: int) -> None:
    lock = state.locks[a % len(state.locks)]

    def work() -> None:
        for _ in range(b % 100):
            with contextlib.suppress(memchannel.AbandonedLockError):
                if lock.acquire(timeout=0.001):
                    lock.release()

    state.threads.append(threading.Thread(target=work))
    state.threads[-1].start()


def _start_in(state: State, source: str, a: int, b: int) -> None:
    if other := state.other(a):
        state.waits = True
        shared = {"event": state.event, "barrier": state.barrier, "places": state.places, "stop": state.stop}
        lock = state.locks[b // 4 % len(state.locks)]
        interpreters.run(other, source, shared=shared, lock=lock, kind=b % 4, count=b % 1000).check()


@operation("contend in")
def _contend_in(state: State, a: int, b: int) -> None:
    _start_in(state, LOOP, a, b)


@operation("wait in")
def _wait_in(state: State, a: int, b: int) -> None:
    _start_in(state, WAIT, a, b)


@operation("wait")
def _wait(state: State, a: int, b: int) -> None:
    lock = state.locks[a % len(state.locks)]

    def work() -> None:
        with contextlib.suppress(memchannel.AbandonedLockError, threading.BrokenBarrierError):
            if b % 3 == 0:
                state.event.wait()
            elif b % 3 == 1:
                state.barrier.wait()
            elif isinstance(lock, Condition):
                with lock:
                    lock.wait()

    state.waits = True
    state.threads.append(threading.Thread(target=work))
    state.threads[-1].start()


@operation("signal waiters")
def _signal_waiters(state: State, a: int, b: int) -> None:
    lock = state.locks[2 + a % 2]
    if b % 3 == 0:
        state.event.set()
        state.event.clear()
    elif b % 3 == 1:
        state.barrier.reset()
    elif lock.acquire(timeout=0.001):
        lock.notify(1 + b % 2)
        lock.release()


@operation("holder dies")
def _holder_dies(state: State, a: int, b: int) -> None:
    """The holder of a new lock ends while two threads want it: one is told, and then it is free."""
    lock: Any = (Lock, RLock, Condition, lambda: Condition(Lock()))[a % 4]()
    holder = interpreters.create(packages=None)
    interpreters.run(holder, "lock.acquire()", lock=lock).check()
    told: list[bool] = []

    def work() -> None:
        for _ in range(2):
            try:
                with lock:
                    return
            except memchannel.AbandonedLockError:
                told.append(True)

    waiters = [threading.Thread(target=work) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    if b % 3 == 0:
        until(lambda: sum(one.operation.endswith("acquire") for one in memchannel.dump_waits()) >= 2, "wait")
    elif b % 3 == 1:
        time.sleep(b % 7 * 0.0001)
    holder.close() if a // 4 % 2 else interpreters.close(holder)
    for waiter in waiters:
        waiter.join(LIMIT)
        assert not waiter.is_alive(), f"waiting for {lock!r} of an ended interpreter hangs"
    assert told == [True], told


@operation("member dies")
def _member_dies(state: State, a: int, b: int) -> None:
    """An interpreter ends that stands at a barrier, waits for a condition, or takes a lock many times."""
    lock = (Lock, RLock, Condition)[a % 3]() if b % 2 else Condition()
    barrier, stop = Barrier(3), state.stop
    member = interpreters.create(packages=None)
    shared = {"lock": lock, "event": state.event, "barrier": barrier, "places": state.places, "stop": stop}
    source, kind = (LOOP, 0) if b % 2 else (WAIT, 2 + b // 2 % 2)
    interpreters.run(member, source, shared=shared, kind=kind, count=b % 2000).check()
    outcome: list[str] = []

    def work() -> None:
        try:
            if kind == 2:
                barrier.wait()
            elif kind == 3:
                with lock:
                    lock.wait()
            else:
                for _ in range(200):
                    with contextlib.suppress(memchannel.AbandonedLockError), lock:
                        pass
            outcome.append("ok")
        except threading.BrokenBarrierError:
            outcome.append("broken")

    waiter = threading.Thread(target=work)
    waiter.start()
    if kind == 2 and a % 2:
        until(lambda: barrier.n_waiting == 2, "barrier")
    member.close() if a // 4 % 2 else interpreters.close(member)
    if kind == 2:
        barrier.abort()  # the member may have ended before it came
    while waiter.is_alive() and kind == 3:
        with lock:
            lock.notify()
        waiter.join(0.001)
    waiter.join(LIMIT)
    assert not waiter.is_alive(), f"{lock!r} or {barrier!r} of an ended interpreter hangs"
    assert outcome == (["broken"] if kind == 2 else ["ok"]), outcome


def finish_waits(state: State) -> None:
    """Whoever waits for ever is let go; whoever still waits then hangs."""
    state.stop.set()
    state.event.set()
    state.barrier.abort()
    for lock in state.held:
        with contextlib.suppress(RuntimeError):
            lock.release()
    if state.waits:
        close_all(state)
    deadline = time.monotonic() + LIMIT
    while any(thread.is_alive() for thread in state.threads):
        assert time.monotonic() < deadline, f"waits hang: {memchannel.dump_waits()}"
        for condition in state.locks[2:]:
            with contextlib.suppress(memchannel.AbandonedLockError):
                if condition.acquire(timeout=0.001):
                    condition.notify_all()
                    condition.release()


def close_all(state: State) -> None:
    """Close the other interpreters, which hold locks and files."""
    while state.others:
        other = state.others.pop()
        try:
            interpreters.close(other)
        except BufferError:
            other.close()
            state.forced = True


# ---- files and sockets


def _make(state: State, number: int) -> Any:
    if number % 3 == 0:
        near, far = socket.socketpair()
        state.far_ends.append(far.detach())
        return near
    reader, writer = os.pipe()
    state.far_ends.append(reader)
    return open(writer, "wb", buffering=0 if number % 3 == 1 else -1)


def _channel(state: State, number: int) -> Channel[Any]:
    fitting = [one for one in state.channels if isinstance(one, Channel)]
    return fitting[number % len(fitting)]


@operation("send file")
def _send_file(state: State, a: int, b: int) -> None:
    with _make(state, b) as file:
        _channel(state, a).send([file, b] if b % 2 else file, timeout=0, move=b // 2 % 2 == 1)


@operation("send file from")
def _send_file_from(state: State, a: int, b: int) -> None:
    if other := state.other(b):
        source = f"""
kept = globals().setdefault("kept", [])
try:
    ch.send(file, timeout=0, move={b % 2 == 1})
except (ValueError, OSError, RuntimeError):
    pass
if {b // 2 % 2}:
    kept.append(file)
del file
"""
        with _make(state, b) as file:
            interpreters.run(other, source, ch=_channel(state, a), file=file).check()


@operation("send lock")
def _send_lock(state: State, a: int, b: int) -> None:
    _channel(state, a).send(state.locks[b % len(state.locks)], timeout=0)


@operation("close file")
def _close_file(state: State, a: int, b: int) -> None:
    if state.files:
        state.files.pop(a % len(state.files)).close()


def keep(state: State, got: Any) -> bool:
    """Keep a received file; False: it is something else."""
    if isinstance(got, list) and isinstance(got[0], (io.IOBase, socket.socket)):
        got = got[0]
    if isinstance(got, (io.IOBase, socket.socket)):
        state.files.append(got)
    return not isinstance(got, memoryview) and not hasattr(got, "dtype")


def let_everything_go(state: State) -> None:
    """Close the other interpreters, and drop what this one has of files, channels and views."""
    close_all(state)
    for file in state.files:
        file.close()
    while state.channels:
        # Both go: a parked interpreter is still associated, and the last reference ends the channel.
        for close in [end.close for end in state.channels.pop().ends]:
            close()
    del close
    state.views.clear()
    gc.collect()


def check_descriptors(state: State) -> None:
    """When everything is let go nobody in the process has any of the files open."""
    for number in state.far_ends:
        os.set_blocking(number, False)
        until(functools.partial(_is_over, number), f"hanging up on descriptor {number}")
        os.close(number)
    until(lambda: memchannel.stats().descriptors == 0, "a descriptor on its way")


def _is_over(number: int) -> bool:
    try:
        return not os.read(number, 1 << 16)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True

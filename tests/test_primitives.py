"""Locks, events and their like, shared between interpreters."""

from __future__ import annotations

import copy
import doctest
import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import memchannel
from channel_support import Neighbour, RemoteFailure, Task, run_script, wait_until
from memchannel import (
    ArrayChannel,
    Barrier,
    BoundedSemaphore,
    Channel,
    Condition,
    Counter,
    Event,
    InterpreterPool,
    Lock,
    MemChannel,
    RLock,
    Semaphore,
    interpreters,
)
from primitive_support import until_waiting


def parked() -> set[tuple[int, int]]:
    """Find who waits for which primitive; neighbours wait on channels, for what to do."""
    waits = memchannel.dump_waits()
    return {(wait.thread, wait.primitive) for wait in waits if wait.primitive is not None}


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """Check that no parked call is left over."""
    before = parked()
    yield
    wait_until(lambda: parked() <= before, "the end of all calls")


MAKERS = [Lock, RLock, Semaphore, BoundedSemaphore, Event, Condition, lambda: Barrier(2), Counter]
each_kind = pytest.mark.parametrize(
    "make",
    MAKERS,
    ids=["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition", "Barrier", "Counter"],
)


# ---- on the way


@each_kind
@pytest.mark.parametrize("settings", [{}, {"maxsize": 1}, {"rendezvous": True}], ids=str)
def test_it_arrives_as_the_same_object(make: Any, settings: dict[str, Any], neighbour: Neighbour) -> None:
    one, channel, back = make(), Channel(**settings), Channel()
    neighbour.start(
        "back.send((channel.recv(), lock)) or lock == one", channel=channel, back=back, lock=one, one=one
    )
    channel.send(one)
    first, second = back.recv(20)
    assert first is not one
    assert first == second == one
    assert hash(first) == hash(one)
    assert first != make()
    assert type(first) is type(one)
    assert neighbour.result() is True


@each_kind
def test_it_arrives_at_every_subscriber_of_a_broadcast(make: Any) -> None:
    channel = Channel()
    ends = [channel.broadcast(), channel.broadcast()]
    one = make()
    channel.send(one)
    assert [end.recv() for end in ends] == [one, one]


@each_kind
def test_pickle_and_copies_mean_the_same_object(make: Any) -> None:
    one = make()
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.copy(one) == one
    assert copy.deepcopy([one]) == [one]


def test_what_is_gone_cannot_be_unpickled() -> None:
    data = pickle.dumps(Lock())
    with pytest.raises(ValueError, match="is gone: nobody kept it"):
        pickle.loads(data)


def test_it_stays_in_its_process() -> None:
    data = pickle.dumps(Lock())
    out = run_script(
        "import pickle, memchannel, sys\n"
        "try: pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "except RuntimeError as error: print(error)",
        data.hex(),
    )
    assert "another process" in out


@pytest.mark.parametrize("kind", [MemChannel, ArrayChannel])
def test_channels_of_memory_refuse_it(kind: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        kind().send(Lock())


@each_kind
def test_a_message_keeps_it_alive(make: Any, neighbour: Neighbour) -> None:
    channel = Channel()
    one = make()
    number = one.id
    channel.send(one)
    del one
    gc.collect()
    assert neighbour.do("channel.recv().id", channel=channel) == number


def test_run_and_pools_take_it() -> None:
    hits, lock = Counter(), Lock()

    def work(lock: Any, hits: Any, rounds: int) -> Any:
        for _ in range(rounds):
            with lock:
                hits.compare_exchange(hits.value, hits.value + 1)
        return lock

    made = interpreters.create(packages=None)
    assert interpreters.run(made, work, shared={"lock": lock, "hits": hits}, rounds=5).check().value == lock
    interpreters.close(made, timeout=20)
    with InterpreterPool(2, packages=None) as pool:
        futures = [pool.submit(work, lock, hits, 100) for _ in range(4)]
        assert [future.result() for future in futures] == [lock] * 4
    assert hits.value == 405


@each_kind
def test_it_cannot_be_subclassed_and_can_be_referred_to_weakly(make: Any) -> None:
    one = make()
    with pytest.raises(TypeError):
        type("Derived", (type(one),), {})
    reference = weakref.ref(one)
    del one
    assert reference() is None


def test_a_cycle_through_an_action_is_collected() -> None:
    class Holder:
        def act(self) -> None: ...

    holder = Holder()
    holder.barrier = Barrier(1, holder.act)  # type: ignore[attr-defined]
    reference = weakref.ref(holder)
    del holder
    gc.collect()
    assert reference() is None


# ---- locks


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_one_interpreter_at_a_time(kind: Any, neighbour: Neighbour) -> None:
    lock = kind()
    with lock:
        assert neighbour.do("lock.acquire(False), lock.locked()", lock=lock) == (False, True)
        neighbour.start("lock.acquire(), lock.release()", lock=lock)
        until_waiting(lock)
    assert neighbour.result() == (True, None)
    assert not lock.locked()


def test_another_interpreter_may_release_a_lock(neighbour: Neighbour) -> None:
    lock = Lock()
    lock.acquire()
    neighbour.do("lock.release()", lock=lock)
    assert lock.acquire(timeout=20)
    lock.release()
    with pytest.raises(RuntimeError, match=f"release unlocked lock: nobody holds Lock {lock.id}"):
        lock.release()


def test_another_interpreter_may_not_release_a_recursive_lock(neighbour: Neighbour) -> None:
    lock = RLock()
    lock.acquire()
    with pytest.raises(RemoteFailure, match="RuntimeError: cannot release un-acquired lock"):
        neighbour.do("lock.release()", lock=lock)
    lock.release()


def test_the_thread_counts_that_goes_into_another_interpreter(interp: Any) -> None:
    lock = RLock()

    def again(lock: Any) -> bool:
        with lock:
            return bool(lock.acquire(False)) and lock.release() is None

    with lock:
        assert interpreters.run(interp, again, lock=lock).check().value is True
    assert not lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_holder_that_ends_is_told_once(kind: Any, neighbour: Neighbour) -> None:
    lock = kind()
    made = interpreters.create(packages=None)
    interpreters.run(made, lambda lock: lock.acquire(), lock=lock).check()
    assert lock.locked()
    interpreters.close(made, timeout=20)
    assert not lock.locked()
    with pytest.raises(RemoteFailure, match=f"AbandonedLockError: interpreter {made.id} ended while it held"):
        neighbour.do("lock.acquire()", lock=lock)
    assert lock.acquire(False)
    lock.release()


def test_of_two_that_wait_one_is_told(neighbours: list[Neighbour]) -> None:
    lock = Lock()
    made = interpreters.create(packages=None)
    interpreters.run(made, lambda lock: lock.acquire(), lock=lock).check()
    for one in neighbours[:2]:
        one.start("lock.acquire(timeout=20)", lock=lock)
    until_waiting(lock, 2)
    interpreters.close(made, timeout=20)
    outcomes = []
    for one in neighbours[:2]:
        try:
            outcomes.append(one.result())
        except RemoteFailure as failure:
            outcomes.append(failure.kind)
    assert sorted(outcomes, key=str) == ["AbandonedLockError", True]
    assert lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock, Condition])
def test_a_with_does_not_hold_an_abandoned_lock(kind: Any) -> None:
    lock = kind()
    made = interpreters.create(packages=None)
    interpreters.run(made, lambda lock: lock.acquire(), lock=lock).check()
    interpreters.close(made, timeout=20)
    with pytest.raises(memchannel.AbandonedLockError), lock:
        pytest.fail("the body must not run")
    with lock:
        pass


def test_no_lock_is_left_by_a_close_that_is_late(neighbour: Neighbour) -> None:
    """An interpreter takes nothing any more while it is torn down."""
    lock, told = Lock(), Channel()
    made = interpreters.create(packages=None)

    def leave(lock: Any, told: Any) -> None:
        import builtins

        class Late:
            def __del__(self) -> None:
                try:
                    lock.acquire()
                except BaseException as error:
                    told.send(type(error).__name__)

        builtins.late = Late()  # type: ignore[attr-defined]

    interpreters.run(made, leave, lock=lock, told=told).check()
    interpreters.close(made, timeout=20)
    assert lock.acquire(timeout=20)
    lock.release()


# ---- the others


def test_a_semaphore_counts_for_all(neighbours: list[Neighbour]) -> None:
    places = BoundedSemaphore(2)
    for one in neighbours:
        one.start("places.acquire()", places=places)
    until_waiting(places)
    places.release()
    assert [one.result() for one in neighbours] == [True] * 3
    places.release(2)
    with pytest.raises(ValueError, match="released too many times: it has 2 of at most 2 permits"):
        places.release()
    assert repr(places).endswith("value=2/2>")


def test_an_event_wakes_every_interpreter(neighbours: list[Neighbour]) -> None:
    go = Event()
    for one in neighbours:
        one.start("go.wait()", go=go)
    until_waiting(go, 3)
    go.set()
    assert [one.result() for one in neighbours] == [True] * 3
    go.clear()
    assert neighbours[0].do("go.is_set(), go.wait(0.001)", go=go) == (False, False)


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_condition_between_interpreters(kind: Any, neighbours: list[Neighbour]) -> None:
    changed, value = Condition(kind()), Counter()
    for number, one in enumerate(neighbours):
        one.start(
            "with changed:\n    changed.wait_for(lambda: value.value > number)\n"
            "    value.add(10)\n    changed.notify_all()",
            changed=changed,
            value=value,
            number=number,
        )
    until_waiting(changed, 3)
    with changed:
        value.add(1)
        changed.notify_all()
    for one in neighbours:
        one.result()
    assert value.value == 31


def test_conditions_of_one_lock_know_that_it_is_one(neighbour: Neighbour) -> None:
    lock = Lock()
    full, empty = Condition(lock), Condition(lock)
    neighbour.start("with full:\n    full.wait()\n    empty.notify()", full=full, empty=empty)
    until_waiting(full)
    with lock:
        full.notify()
        assert empty.wait(20)
    neighbour.result()


def test_a_condition_whose_lock_is_abandoned_is_left_without_it(neighbour: Neighbour) -> None:
    changed = Condition(Lock())
    neighbour.start("with changed:\n    changed.wait()", changed=changed)
    until_waiting(changed)
    made = interpreters.create(packages=None)
    interpreters.run(made, lambda changed: changed.acquire() and changed.notify(), changed=changed).check()
    interpreters.close(made, timeout=20)
    with pytest.raises(RemoteFailure, match="AbandonedLockError"):
        neighbour.result()
    with changed:
        pass


def test_a_condition_takes_no_lock_of_threading() -> None:
    with pytest.raises(TypeError, match=r"must be a memchannel\.Lock or RLock"):
        Condition(threading.Lock())  # type: ignore[arg-type]


def test_threading_takes_our_locks() -> None:
    changed = threading.Condition(RLock())  # type: ignore[arg-type]
    with changed:
        assert not changed.wait(0.001)


def test_a_barrier_of_interpreters(neighbours: list[Neighbour]) -> None:
    told = Channel()
    barrier = Barrier(4, lambda: told.send("all are here"))
    for _ in range(3):
        for one in neighbours:
            one.start("barrier.wait()", barrier=barrier)
        places = [barrier.wait(20), *[one.result() for one in neighbours]]
        assert sorted(places) == [0, 1, 2, 3]
        assert told.recv_nowait() == "all are here"
        assert told.recv_nowait() is None


def test_the_action_is_copied_for_others(neighbour: Neighbour) -> None:
    told = Channel()
    barrier = Barrier(2, lambda: told.send(1))
    waits = Task(barrier.wait)
    until_waiting(barrier)
    assert neighbour.do("barrier.wait()", barrier=barrier) == 1
    assert waits.result() == 0
    assert told.recv_nowait() == 1


def test_an_action_that_cannot_travel_is_refused_when_the_barrier_is_sent() -> None:
    lock = threading.Lock()
    barrier = Barrier(1, lambda: lock.locked())
    assert barrier.wait() == 0
    with pytest.raises((TypeError, pickle.PicklingError)):
        Channel().send(barrier)


def test_an_action_that_fails_breaks_the_barrier(neighbour: Neighbour) -> None:
    def fail() -> None:
        raise KeyError("no")

    barrier = Barrier(2, fail)
    neighbour.start("barrier.wait()", barrier=barrier)
    until_waiting(barrier)
    with pytest.raises(KeyError):
        barrier.wait()
    with pytest.raises(RemoteFailure, match="BrokenBarrierError: Barrier .* was broken or reset"):
        neighbour.result()
    with pytest.raises(threading.BrokenBarrierError, match="reset"):
        barrier.wait()
    assert neighbour.do("barrier.broken", barrier=barrier) is True


def test_calls_of_an_interpreter_that_ends_are_woken() -> None:
    """Its threads are joined when it ends; a barrier that one of them waits at is broken for all."""
    guest = Neighbour()
    lock, again, places, go, changed, barrier = (
        Lock(),
        RLock(),
        Semaphore(0),
        Event(),
        Condition(),
        Barrier(3),
    )
    reports = Channel()
    lock.acquire()
    again.acquire()
    guest.do(
        """
import threading
def call(name, function):
    try:
        function()
    except BaseException as exc:
        reports.send((name, type(exc).__name__, "interpreter is ending" in str(exc)))
def wait():
    with changed:
        changed.wait()
for name, function in [
    ("Lock", lock.acquire), ("RLock", again.acquire), ("Semaphore", places.acquire), ("Event", go.wait),
    ("Condition", wait), ("Barrier", barrier.wait),
]:
    threading.Thread(target=call, args=(name, function)).start()
""",
        lock=lock,
        again=again,
        places=places,
        go=go,
        changed=changed,
        barrier=barrier,
        reports=reports.ends[1],
    )
    for one in (lock, again, places, go, changed, barrier):
        until_waiting(one)
    waits = Task(barrier.wait)
    until_waiting(barrier, 2)
    guest.destroy()
    outcomes = {name: rest for name, *rest in reports.recv_many(10)}
    assert set(outcomes) == {"Lock", "RLock", "Semaphore", "Event", "Condition", "Barrier"}
    assert all(outcome == ["RuntimeError", True] for outcome in outcomes.values()), outcomes
    with pytest.raises(threading.BrokenBarrierError):
        waits.result()
    assert barrier.broken
    again.release()
    lock.release()
    assert lock.acquire(False)
    assert changed.acquire(False)
    changed.release()


@pytest.mark.parametrize("bad", [2**63, -(2**63) - 1, 10**30])
def test_a_counter_keeps_to_64_bits(bad: int) -> None:
    counter = Counter(2**63 - 1)
    with pytest.raises(OverflowError, match="64 bits"):
        counter.add(1)
    with pytest.raises(OverflowError, match="64 bits"):
        counter.add(bad)
    with pytest.raises(OverflowError, match="value must fit into 64 bits"):
        Counter(bad)
    with pytest.raises(TypeError, match="n must be an int, not float"):
        counter.add(1.5)  # type: ignore[arg-type]
    assert counter.value == 2**63 - 1


def test_a_counter_counts_what_all_add(neighbours: list[Neighbour]) -> None:
    counter = Counter()
    for one in neighbours:
        one.start("for _ in range(2000): counter.add(1)", counter=counter)
    for _ in range(2000):
        counter.add(-1)
    for one in neighbours:
        one.result()
    assert counter.value == 4000
    assert counter.compare_exchange(4000, 5)
    assert not counter.compare_exchange(4000, 6)
    with pytest.raises(AttributeError):
        counter.value = 3  # type: ignore[misc]


# ---- documentation


@each_kind
def test_the_examples_of_the_class_work(make: Any) -> None:
    kind = type(make())
    (example,) = doctest.DocTestFinder(recurse=False).find(kind, kind.__name__)
    assert kind is BoundedSemaphore or example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


# ---- bad input


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Semaphore(-1), ValueError),
        (lambda: Semaphore(-(10**30)), ValueError),
        (lambda: Semaphore(1.5), TypeError),  # type: ignore[arg-type]
        (lambda: Semaphore(10**30), OverflowError),
        (lambda: Semaphore().release(0), ValueError),
        (lambda: Semaphore().release(-1), ValueError),
        (lambda: Semaphore().acquire(False, 1), ValueError),
        (lambda: Barrier(0), ValueError),
        (lambda: Barrier(2, 5), TypeError),  # type: ignore[arg-type]
        (lambda: Barrier(2, timeout=float("nan")), ValueError),
        (lambda: setattr(Barrier(2), "parties", 3), AttributeError),
        (lambda: Lock(1), TypeError),  # type: ignore[call-arg]
        (lambda: Lock().acquire(timeout="1"), TypeError),  # type: ignore[arg-type]
        (lambda: Lock().acquire(timeout=float("nan")), ValueError),
        (lambda: Lock().acquire(timeout=-2), ValueError),
        (lambda: Lock().acquire(False, 1), ValueError),
        (lambda: Lock().acquire(timeout=1e30), OverflowError),
        (lambda: Event().wait(float("nan")), ValueError),
        (lambda: Condition().notify(), RuntimeError),
        (lambda: Condition().wait(), RuntimeError),
        (lambda: RLock().release(), RuntimeError),
        (lambda: Counter().compare_exchange(0, None), TypeError),  # type: ignore[arg-type]
    ],
)
def test_bad_input(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


def test_negative_timeouts_do_not_wait() -> None:
    assert not Semaphore(0).acquire(timeout=-5)
    assert not Event().wait(-5)
    changed = Condition()
    with changed:
        assert not changed.wait(-5)
    with pytest.raises(threading.BrokenBarrierError):
        Barrier(2).wait(-5)


def test_after_a_fork_they_are_the_parents(neighbour: Neighbour) -> None:
    out = run_script(
        "import os, memchannel\n"
        "lock, changed = memchannel.Lock(), memchannel.Condition()\n"
        "lock.acquire()\n"
        "if (child := os.fork()) == 0:\n"
        "    for use in (lock.release, lock.acquire, changed.acquire):\n"
        "        try: use()\n"
        "        except RuntimeError as error: print(error, flush=True)\n"
        "    memchannel.Lock().acquire()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "lock.release()"
    )
    assert out.count("belongs to the parent process") == 3
    wait_until(lambda: neighbour.do("1") == 1)


def test_a_parked_interpreter_holds_no_lock() -> None:
    """It counts as closed, and a pool's worker is parked at the end of the pool."""
    lock = Lock()
    other = interpreters.create(packages=None, reuse=True)
    interpreters.run(other, "lock.acquire()", lock=lock).check()
    interpreters.close(other)
    with pytest.raises(memchannel.AbandonedLockError, match=f"interpreter {other.id} ended"):
        lock.acquire(timeout=20)
    again = interpreters.create(packages=None, reuse=True)
    assert again.id == other.id
    interpreters.run(again, "with lock: pass", lock=lock).check()
    assert lock.acquire(timeout=20)
    lock.release()
    again.close()

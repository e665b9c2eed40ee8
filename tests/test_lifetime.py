"""Nothing dangles and nothing leaks: cycles, interpreters that come and go, moments at which Python code is
not expected."""

from __future__ import annotations

import gc
import re
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memchannel
from channel_support import HANG, run_script, wait_until
from memchannel import ArrayChannel, Channel, InterpreterPool, MemChannel, interpreters
from memchannel.interpreters import Interpreter, run
from memchannel.testing import growth


def test_what_the_documentation_says() -> None:
    text = (Path(__file__).parent.parent / "docs" / "lifetime.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        run_script(example)


# ---- interpreters leave nothing


@pytest.mark.skipif(sys.version_info < (3, 14), reason="3.13 loses memory with every interpreter that ends")
def test_an_interpreter_takes_its_types_and_module_state_along() -> None:
    """A dozen types and their members are hundreds of blocks."""
    grown = growth(lambda: interpreters.close(interpreters.create(packages=None)))
    assert max(grown.pop("memory blocks", [0])) < 50
    assert max(grown.pop("references", [0])) < 50
    assert grown == {}


@pytest.mark.no_leaks(ignore=["memory blocks", "references"])  # what run() caches there
def test_an_interpreter_gives_back_its_descriptors_and_threads(interp: Interpreter) -> None:
    ch = MemChannel(release="deferred")
    run(interp, "ch.send(bytearray(99)); ch.send(bytearray(99))", ch=ch).check()
    ch.recv().release()
    ch.recv().release()
    wait_until(lambda: memchannel.stats().live == 0)


# ---- memory that holds memory

LINKS = 20_000

CHAIN = f"""
import threading
import time
import memchannel
from memchannel import MemChannel, interpreters
there, back = MemChannel(), MemChannel()
node = '''
import warnings
warnings.simplefilter("ignore", ResourceWarning)
class Node:
    def __init__(self, held):
        self.held, self.memory = held, bytearray(8)
    def __buffer__(self, flags):
        return memoryview(self.memory)
'''
exec(node)
other = interpreters.create(packages=None)
answer = node + "for _ in range({LINKS} // 2): back.send(Node(there.recv()))"
thread = threading.Thread(target=interpreters.run, args=(other, answer), kwargs=dict(there=there, back=back))
thread.start()
view = None
for _ in range({LINKS} // 2):
    there.send(Node(view))
    view = back.recv()
thread.join()
assert memchannel.stats().live == {LINKS}
del view
end = time.monotonic() + {HANG}
while memchannel.stats().live:
    assert time.monotonic() < end, memchannel.stats()
    time.sleep(0.01)
interpreters.close(other)
"""


def test_a_long_chain_of_lent_memory_goes_back() -> None:
    """What goes back lets go of what it holds itself, in turns between two interpreters."""
    run_script(CHAIN)


# ---- cycles


class Knot:
    """Something that a cycle goes through."""


def tie(thing: Any) -> weakref.ref[Knot]:
    """Put a thing into a cycle that nobody holds."""
    knot = Knot()
    knot.thing = thing  # type: ignore[attr-defined]
    knot.itself = knot  # type: ignore[attr-defined]
    return weakref.ref(knot)


def view() -> Any:
    ch = MemChannel()
    ch.send(bytearray(b"spam"))
    return ch.recv()


def array() -> Any:
    ch = ArrayChannel()
    ch.send(np.arange(9.0))
    return ch.recv()


def channel_that_holds(make: Callable[[], Any]) -> Any:
    ch: Channel[Any] = Channel()
    ch.send(make())
    return ch


def channel_in_itself() -> Any:
    ch: Channel[Any] = Channel()
    ch.send(ch)
    return ch


def channels_in_each_other() -> Any:
    one: Channel[Any] = Channel()
    two: Channel[Any] = Channel()
    one.send(two.ends[0])
    two.send(one.ends[0])
    return one


def pool_with_a_task_of_itself() -> Any:
    pool = InterpreterPool(1, packages=None)
    future = pool.submit(pow, 2, 3)
    future.pool = pool  # type: ignore[attr-defined]
    pool.future = future  # type: ignore[attr-defined]
    assert future.result() == 8
    return pool


THINGS: list[Callable[[], Any]] = [
    view,
    lambda: view()[1:],
    lambda: memoryview(view()),
    array,
    lambda: array()[::2],
    lambda: channel_that_holds(lambda: np.ones(9)),
    channel_in_itself,
    channels_in_each_other,
    lambda: MemChannel().ends,
    lambda: Channel().broadcast(),
    lambda: memchannel.SharedBuffer(64),
    lambda: memchannel.zeros(9),
    pool_with_a_task_of_itself,
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("make", THINGS)
def test_a_cycle_is_collected_and_the_memory_comes_back(make: Callable[[], Any]) -> None:
    make()
    gc.collect()
    before = memchannel.stats()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            knot = tie(make())
            assert knot() is not None
            gc.collect()
            assert knot() is None
    finally:
        gc.enable()
    wait_until(lambda: memchannel.stats().live <= before.live)
    wait_until(lambda: memchannel.stats().channels <= before.channels)
    after = memchannel.stats()
    assert (after.abandoned, after.shared_buffers) == (before.abandoned, before.shared_buffers)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cycle_in_the_receiver_through_the_view_and_its_channel(interp: Interpreter) -> None:
    before = memchannel.stats().live
    back = MemChannel()
    run(
        interp,
        """
        import gc, memchannel
        gc.disable()
        def make():
            ch = memchannel.MemChannel()
            ch.send(bytearray(9))
            cycle = [ch.recv(), ch, back.recv()]
            cycle.append(cycle)
        """.replace("\n        ", "\n"),
        back=back,
    ).check()
    back.send(bytearray(b"from main"))
    run(interp, "make()").check()
    assert memchannel.stats().live == before + 2
    run(interp, "import warnings; warnings.simplefilter('ignore'); gc.collect()").check()
    assert memchannel.stats().live == before


# ---- moments


def test_in_a_weakref_callback(interp: Interpreter) -> None:
    """A view is dropped, and another one received, where the collector or a decref runs Python code."""
    ch = MemChannel()
    run(interp, "ch.send(bytearray(b'one')); ch.send(bytearray(b'two'))", ch=ch).check()
    first = ch.recv()
    got = []

    def callback(_: object) -> None:
        first.release()
        with ch.recv() as second:
            got.append(bytes(second))

    knot = Knot()
    watch = weakref.ref(knot, callback)
    del knot
    assert (got, watch()) == ([b"two"], None)
    assert memchannel.stats().live == 0


def test_in_a_finalizer(interp: Interpreter) -> None:
    ch = MemChannel()
    run(interp, "ch.send(bytearray(b'one')); ch.send(bytearray(b'two'))", ch=ch).check()
    got = []

    class Last:
        def __init__(self) -> None:
            self.view = ch.recv()
            self.itself = self

        def __del__(self) -> None:
            self.view.release()
            with ch.recv() as second:
                got.append(bytes(second))

    Last()
    gc.collect()
    assert got == [b"two"]
    assert memchannel.stats().live == 0


def test_in_a_signal_handler(interp: Interpreter) -> None:
    import signal

    ch: Channel[str] = Channel()
    answers: Channel[str] = Channel()

    def handler(number: int, frame: object) -> None:
        with MemChannel() as own:
            own.send(b"x")
            own.recv().release()
        ch.send("from the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(
        target=run, args=(interp, "answers.send(ch.recv())"), kwargs={"ch": ch, "answers": answers}
    )
    try:
        thread.start()
        wait_until(lambda: ch.statistics().waiting_receivers)
        timer = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
        timer.start()
        assert answers.recv(HANG) == "from the handler"
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        ch.send_nowait("over")
        thread.join(HANG)


@pytest.mark.parametrize("release", ["eager", "deferred"])
def test_dropped_by_the_collector_of_another_interpreter(interp: Interpreter, release: str) -> None:
    """The owner gets its buffer back while the receiver is in the middle of a collection."""
    source = bytearray(100)
    ch = MemChannel(release=release)
    for _ in range(20):
        ch.send(source)
    run(
        interp,
        """
        import gc, warnings
        warnings.simplefilter("ignore")
        gc.disable()
        for _ in range(20):
            knot = [ch.recv()]
            knot.append(knot)
        del knot
        gc.collect()
        """.replace("\n        ", "\n"),
        ch=ch,
    ).check()
    wait_until(lambda: memchannel.stats().live == 0)
    source.append(1)


# ---- moments of the table in docs/lifetime.md


MOMENTS = """
import gc, os, signal, threading, weakref
import _interpreters
import memchannel
from memchannel import Lock, MemChannel, interpreters

def until(condition):
    end = threading.Event()
    for _ in range(20_000):
        if condition(): return
        end.wait(0.001)
    raise AssertionError("hangs")

def gone(number):
    return not memchannel._core._interpreter_exists(number)

def outcome_of(call, end):
    outcome = []
    def work():
        try:
            outcome.append(call())
        except Exception as exc:
            outcome.append(type(exc).__name__)
    thread = threading.Thread(target=work)
    thread.start()
    until(memchannel.dump_waits)
    end()
    thread.join()
    return outcome

# An interpreter ends while others wait on its channels, and for its lock.
channel, other = MemChannel(), interpreters.create(packages=None)
interpreters.run(other, "end.send(b'x')", end=channel.ends[1]).check()
receive = channel.ends[0]
receive.recv().release()
assert outcome_of(receive.recv, other.close) == ["EndOfChannel"]
channel, other = MemChannel(maxsize=1), interpreters.create(packages=None)
interpreters.run(other, "end.recv_nowait()", end=channel.ends[0]).check()
send = channel.ends[1]
send.send(b"1")
assert outcome_of(lambda: send.send(b"2"), other.close) == ["BrokenChannelError"]
lock, other = Lock(), interpreters.create(packages=None)
interpreters.run(other, "lock.acquire()", lock=lock).check()
assert outcome_of(lock.acquire, other.close) == ["AbandonedLockError"]

# The last handle goes in __del__ by a collection, in a weakref callback, in a signal handler.
class Holder:
    def __del__(self):
        handles.clear()
class Referred:
    pass
handles = [interpreters.create(packages=None)]
number = handles[0].id
holder = Holder()
holder.itself = holder
del holder
gc.collect()
until(lambda: gone(number))
handles = [interpreters.create(packages=None)]
number = handles[0].id
referred = Referred()
reference = weakref.ref(referred, lambda _: handles.clear())
del referred
until(lambda: gone(number))
handles = [interpreters.create(packages=None)]
number = handles[0].id
signal.signal(signal.SIGUSR1, lambda *_: handles.clear())
os.kill(os.getpid(), signal.SIGUSR1)
until(lambda: gone(number))

# Views go in another interpreter's finalization: in atexit, and in __del__ of what its modules hold.
owner, reader, channel = interpreters.create(packages=None), interpreters.create(packages=None), MemChannel()
interpreters.run(owner, "for _ in range(3): channel.send(bytearray(9))", channel=channel).check()
interpreters.run(reader, '''
import atexit
class Holder:
    def __init__(self):
        self.view = channel.recv()
    def __del__(self):
        self.view.release()
kept, in_atexit = Holder(), [Holder(), Holder()]
atexit.register(in_atexit.clear)
''', channel=channel).check()
assert memchannel.stats().live == 3
reader.close()
assert memchannel.stats().live == 0
assert memchannel.stats().abandoned == 0
interpreters.close(owner)
"""


def test_moments_at_which_interpreters_end() -> None:
    run_script(MOMENTS)

"""Takes the steps of one program. What it writes to stderr, but for exceptions on purpose, is a failure."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import signal
import sys
import threading
import warnings
from typing import Any

import handles  # noqa: F401 - adds its operations, as the next one
import sharing
from registry import CHANNEL_ERRORS, MOST, OPERATIONS, OnPurposeError, State, operation

import memchannel
from memchannel import ArrayChannel, Channel, MemChannel, interpreters


@operation("create")
def _create(state: State, a: int, b: int) -> None:
    if len(state.others) < MOST:
        state.others.append(interpreters.create(packages=None, reuse=a % 3 == 0))


@operation("numpy")
def _numpy(state: State, a: int, b: int) -> None:
    if len(state.others) < MOST:
        state.others.append(interpreters.create())
        state.channels.append(ArrayChannel())
        source = "import numpy; ch.send(numpy.arange(1000.0))"
        interpreters.run(state.others[-1], source, ch=state.channels[-1]).check()


@operation("send")
def _send(state: State, a: int, b: int) -> None:
    state.channel(a).send(bytearray(1 + b % 5000), timeout=0)


@operation("send from")
def _send_from(state: State, a: int, b: int) -> None:
    if other := state.other(b):
        source = f"""
try:
    ch.send(bytearray({1 + b % 5000}), timeout=0)
except (ValueError, OSError, RuntimeError, ImportError):
    pass
"""
        interpreters.run(other, source, ch=state.channel(a)).check()


@operation("receive")
def _receive(state: State, a: int, b: int) -> None:
    if (got := state.channel(a).recv_nowait()) is not None and not sharing.keep(state, got):
        state.views.append(got)


@operation("receive in")
def _receive_in(state: State, a: int, b: int) -> None:
    if other := state.other(b):
        keep = "kept.append(ch.recv_nowait())" if b % 2 else "ch.recv_nowait()"
        source = f"""
import warnings
warnings.simplefilter("ignore")
kept = globals().setdefault("kept", [])
try:
    {keep}
except (ValueError, OSError, EOFError, RuntimeError, ImportError):  # arrays need NumPy there
    pass
"""
        interpreters.run(other, source, ch=state.channel(a)).check()


@operation("slice")
def _slice(state: State, a: int, b: int) -> None:
    view = state.view(a)
    if view is not None:
        with contextlib.suppress(ValueError):  # released
            state.views.append(view[b % 3 :])


@operation("send on")
def _send_on(state: State, a: int, b: int) -> None:
    view = state.view(a)
    if view is not None:
        with contextlib.suppress(ValueError, pickle.PicklingError):  # slices are plain views
            state.channel(b).send(view, timeout=0)


@operation("release")
def _release(state: State, a: int, b: int) -> None:
    view = state.view(a)
    if isinstance(view, memoryview):
        with contextlib.suppress(BufferError):
            view.release()


@operation("drop")
def _drop(state: State, a: int, b: int) -> None:
    if state.views:
        del state.views[a % len(state.views)]


@operation("cycle")
def _cycle(state: State, a: int, b: int) -> None:
    if state.views:
        cycle = [state.views.pop(a % len(state.views))]
        cycle.append(cycle)


@operation("gc")
def _gc(state: State, a: int, b: int) -> None:
    gc.collect()


@operation("gc in")
def _gc_in(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        interpreters.run(other, "import gc; gc.collect()").check()


@operation("close politely")
def _close_politely(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        with contextlib.suppress(BufferError):
            interpreters.close(other, timeout=0.001 * (b % 2))
            state.others.remove(other)


@operation("close by force")
def _close_by_force(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        state.others.remove(other)
        other.close()
        state.forced = True


@operation("raise in")
def _raise_in(state: State, a: int, b: int) -> None:
    if other := state.other(a):
        result = interpreters.run(other, "raise LookupError('chaos: on purpose')")
        assert not result.completed


@operation("fork")
def _fork(state: State, a: int, b: int) -> None:
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        for view in state.views:
            if isinstance(view, memoryview):
                with contextlib.suppress(ValueError):
                    bytes(view)
        state.views.clear()
        gc.collect()
        with MemChannel() as own:
            own.send(b"x")
            own.recv().release()
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 7, f"the child ended with {status}"


def _churn(channel: Any, times: int) -> None:
    for _ in range(times):
        try:
            channel.send(bytearray(64), timeout=0)
            got = channel.recv_nowait()
        except CHANNEL_ERRORS:
            return
        if isinstance(got, memoryview):
            got.release()


@operation("thread")
def _thread(state: State, a: int, b: int) -> None:
    thread = threading.Thread(target=_churn, args=(state.channel(a), b % 50))
    state.threads.append(thread)
    thread.start()


@operation("daemon thread")
def _daemon_thread(state: State, a: int, b: int) -> None:
    def wait() -> None:
        with contextlib.suppress(*CHANNEL_ERRORS):
            state.channel(a).recv()

    work = (lambda: _churn(state.channel(a), 10**9)) if b % 2 else wait
    threading.Thread(target=work, daemon=True).start()


@operation("signal")
def _signal(state: State, a: int, b: int) -> None:
    def handler(number: int, frame: object) -> None:
        state.handled += 1
        _churn(state.channels[0], 1)

    signal.signal(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)


@operation("channel")
def _channel(state: State, a: int, b: int) -> None:
    release = "deferred" if a % 2 else "eager"
    state.channels.append((MemChannel, ArrayChannel, Channel)[b % 3](maxsize=b % 4, release=release))


@operation("close end")
def _close_end(state: State, a: int, b: int) -> None:
    state.channel(a).ends[b % 2].close()


@operation("poison")
def _poison(state: State, a: int, b: int) -> None:
    state.channel(a).poison(ValueError("chaos"))


@operation("stats")
def _stats(state: State, a: int, b: int) -> None:
    now = memchannel.stats()
    memchannel.dump_waits()
    assert now.lent == now.live + now.returned + now.abandoned or threading.active_count() > 1, now


def settle(state: State, everything: bool) -> None:
    """Waits end, and the account must be right; if everything is let go of, nothing is lent any more."""
    state.others += [one for one in interpreters.list_all() if one.id in state.forgotten]
    sharing.finish_waits(state)
    for thread in state.threads:
        thread.join()
    if everything or state.far_ends:
        sharing.let_everything_go(state)
        sharing.until(lambda: memchannel.stats().live == 0, "a lease on its way")
    now = memchannel.stats()
    assert now.lent == now.live + now.returned + now.abandoned, now
    if not state.forced:
        assert now.abandoned == 0, now
    sharing.check_descriptors(state)


def end(state: State, how: str) -> None:
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        sys.excepthook = lambda *_: print("chaos: on purpose", file=sys.stderr)
        raise OnPurposeError
    if how == "_exit":
        os._exit(4)
    if how == "sigint":
        sys.excepthook = lambda *_: print("chaos: on purpose", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(30)


def main(program: list[tuple[str, int, int]]) -> None:
    warnings.simplefilter("ignore")
    state = State()
    for name, a, b in program:
        if name not in OPERATIONS:
            settle(state, len(program) % 2 == 0)  # the others end with what they hold
            end(state, name)
            return
        with contextlib.suppress(*CHANNEL_ERRORS):
            OPERATIONS[name](state, a, b)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

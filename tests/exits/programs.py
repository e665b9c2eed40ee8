"""Eleven situations that a process may be in times six ways to end it; and, for each, the same without
memchannel where there is such a thing: what fails there too is CPython's own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import NamedTuple

LIMIT = 60.0
"""Seconds after which a program hangs."""

_START = """
import _interpreters, atexit, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
"""
_OURS = """
import memchannel
from memchannel import Channel, InterpreterPool, MemChannel, interpreters
def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            os._exit(99)
        time.sleep(0.001)
ch = MemChannel()
"""
_OTHER = """
other = interpreters.create(packages=None)
interpreters.run(other, "ch.send(bytearray(b'spam')); ch.send(bytearray(b'eggs'))", ch=ch).check()
"""


class Situation(NamedTuple):
    """What goes on when the process ends."""

    source: str
    control: str | None
    """The nearest thing without memchannel."""


_BARE = "number = _interpreters.create()\n_interpreters.exec(number, 'x = bytearray(9)')\n"

SITUATIONS = {
    "idle interpreters": Situation(
        "live = interpreters.create(packages=None)\n"
        "interpreters.close(interpreters.create(packages=None, reuse=True))\n",
        _BARE,
    ),
    "a view is held and a message queued": Situation(_OTHER + "view = ch.recv()\nsliced = view[1:]\n", None),
    "a view is in a cycle, and in a finalizer": Situation(
        _OTHER
        + """
class Holder:
    def __init__(self):
        self.view, self.itself = ch.recv(), self
    def __del__(self):
        self.view.release()
Holder()
kept = Holder()
""",
        None,
    ),
    "the owner was closed by force": Situation(
        _OTHER + "view = ch.recv()\nother.close()\n",
        _BARE + "_interpreters.destroy(number)\n",
    ),
    "a daemon thread is parked": Situation(
        "threading.Thread(target=ch.recv, daemon=True).start()\n"
        "until(lambda: ch.statistics().waiting_receivers)\n",
        "import queue\nthreading.Thread(target=queue.Queue().get, daemon=True).start()\n",
    ),
    "an interpreter is parked, in a daemon thread": Situation(
        "other = interpreters.create(packages=None)\n"
        "work = {'target': interpreters.run, 'args': (other, 'ch.recv()'), 'kwargs': {'ch': ch}}\n"
        "threading.Thread(**work, daemon=True).start()\n"
        "until(lambda: ch.statistics().waiting_receivers)\n",
        _BARE + "threading.Thread(target=_interpreters.exec, args=(number, 'import time; time.sleep(20)'), "
        "daemon=True).start()\ntime.sleep(0.2)\n",
    ),
    "a daemon thread computes in an interpreter": Situation(
        "other = interpreters.create(packages=None)\n"
        "work = {'target': interpreters.run, 'args': (other, 'ch.send(b\"\")\\nwhile True: pass')}\n"
        "threading.Thread(**work, kwargs={'ch': ch}, daemon=True).start()\n"
        "ch.recv().release()\n",
        _BARE + "threading.Thread(target=_interpreters.exec, args=(number, 'turn = 1\\nwhile turn: pass'), "
        "daemon=True).start()\ntime.sleep(0.2)\n",
    ),
    "a daemon thread lends and gives back": Situation(
        _OTHER
        + """
def work():
    while True:
        ch.send(bytearray(99))
        ch.recv().release()
threading.Thread(target=work, daemon=True).start()
until(lambda: memchannel.stats().returned > 10)
""",
        _BARE + "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()\n",
    ),
    "deferred leases are on their way home": Situation(
        """
deferred = MemChannel(release="deferred")
other = interpreters.create(packages=None)
interpreters.run(other, "for _ in range(200): ch.send(bytearray(99))", ch=deferred).check()
for _ in range(200):
    deferred.recv().release()
""",
        None,
    ),
    "a pool has tasks": Situation(
        "pool = InterpreterPool(2, packages=None)\nfutures = [pool.submit(pow, 2, n) for n in range(50)]\n",
        "from concurrent.futures import ThreadPoolExecutor\n"
        "pool = ThreadPoolExecutor(2)\nfutures = [pool.submit(pow, 2, n) for n in range(50)]\n",
    ),
    "callbacks at exit use channels": Situation(
        _OTHER
        + """
def last(own):
    own.send(b"x")
    own.recv().release()
    ch.recv().release()
    interpreters.create(packages=None)
atexit.register(last, MemChannel())
interpreters.run(other, "import atexit; atexit.register(ch.send_nowait, b'last words')", ch=ch).check()
""",
        _BARE + "atexit.register(lambda: _interpreters.create())\n",
    ),
}


class Ending(NamedTuple):
    """How the process ends."""

    source: str
    code: int


ENDINGS = {
    "falls off the end": Ending("pass", 0),
    "sys.exit": Ending("sys.exit(3)", 3),
    "an exception": Ending("raise LookupError('on purpose')", 1),
    "os._exit": Ending("os._exit(4)", 4),
    "SIGINT": Ending("os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)", -signal.SIGINT),
    "exec": Ending("os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(5)'])", 5),
}


class Outcome(NamedTuple):
    """How a program ended."""

    code: int | None
    """Exit status, negative for a signal; None: it hung."""
    expected: int
    stderr: str

    @property
    def good(self) -> bool:
        """Whether it ended as it should, with nothing but its own traceback."""
        bad = "Fatal Python error", "Assertion", "Segmentation", "AddressSanitizer", "terminate called"
        lost = "Exception ignored", "Exception in thread"
        own = 1 if self.expected in (1, -signal.SIGINT) else 0
        return (
            self.code == self.expected
            and not any(words in self.stderr for words in (*bad, *lost))
            and self.stderr.count("Traceback (most recent call last)") <= own
        )


def program(situation: str, ending: str, control: bool = False) -> str:
    """Write the program; LookupError if it has no control."""
    chosen = SITUATIONS[situation]
    if not control:
        return _START + _OURS + textwrap.dedent(chosen.source) + ENDINGS[ending].source + "\n"
    if chosen.control is None:
        raise LookupError(f"{situation!r} has no control")
    return _START + chosen.control + ENDINGS[ending].source + "\n"


def run(source: str, expected: int) -> Outcome:
    """Run a program in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", source],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        return Outcome(None, expected, str(exc.stderr or ""))
    return Outcome(done.returncode, expected, done.stderr)

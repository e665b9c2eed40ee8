"""Calls amid calls: signal handlers, weakref callbacks and `__del__` use memchannel at any moment."""

from __future__ import annotations

import subprocess
import sys

LIMIT = 60

# A trace function stands for a handler: it is called at every line of memchannel's own Python code.
PROGRAM = """
import faulthandler, os, sys
from concurrent.futures import wait
import memchannel
from memchannel import InterpreterPool, MemChannel, interpreters
from memchannel.interpreters import close, create

faulthandler.dump_traceback_later({limit}, exit=True)
package = os.path.dirname(memchannel.__file__) + os.sep
channel = MemChannel()
pool = InterpreterPool(1, packages=None)
pool.submit(abs, -1).result()
inside, seen = False, set()
makers = [sys.modules[name].__file__ for name in ("memchannel.interpreters", "memchannel._making")]

def handler(file):
    interpreters.list_all()
    channel.send(b"x")
    channel.recv().release()
    wait([pool.submit(abs, -1)])
    if file in makers:
        close(create(packages=None, reuse=True))
    memchannel.stats(), memchannel.dump_waits()

def trace(frame, event, argument):
    global inside
    place = frame.f_code, frame.f_lineno
    if not inside and place not in seen and frame.f_code.co_filename.startswith(package):
        inside = True
        seen.add(place)
        handler(frame.f_code.co_filename)
        inside = False
    return trace

def use():
    close(create(packages=None, reuse=True))
    interpreters.list_all()
    wait([pool.submit(abs, -1)])
    list(pool.map(abs, range(3)))

sys.settrace(trace)
use()
sys.settrace(None)
pool.shutdown()
assert len(seen) > 100, seen
assert len(interpreters.list_all()) == 1
print("done")
"""


def test_calls_amid_calls() -> None:
    source = PROGRAM.format(limit=LIMIT)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=2 * LIMIT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")

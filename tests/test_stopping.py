"""The process ends while daemon threads run code in other interpreters: that is stopped, without a word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memchannel import _core, interpreters

_START = """
import memchannel, os, sys, threading, time
from memchannel import interpreters
other = interpreters.create(packages=None, allow_daemon_threads=True)
ch = memchannel.Channel()
def daemon(function, *args, **kwargs):
    threading.Thread(target=function, args=args, kwargs=kwargs, daemon=True).start()
    assert ch.recv(60) == "running"
"""

PROGRAMS = {
    "computes": """
daemon(interpreters.run, other, "ch.send('running')\\nwhile True: pass", ch=ch)
""",
    "computes in many": """
for one in [other, *(interpreters.create(packages=None) for _ in range(4))]:
    daemon(interpreters.run, one, "ch.send('running')\\nwhile True: pass", ch=ch)
""",
    "comes back for more": """
def work():
    while True:
        interpreters.run(other, "ch.send('running')\\nfor _ in range(10_000): pass", ch=ch).check()
daemon(work)
""",
    "is parked": """
daemon(interpreters.run, other, "ch.send('running'); sync.recv()", ch=ch, sync=memchannel.MemChannel())
""",
    "waits in a loop that nothing else ends": '''
source = """ch.send('running')
while True:
    try:
        sync.recv()
    except Exception:
        pass
"""
daemon(interpreters.run, other, source, ch=ch, sync=memchannel.MemChannel())
''',
    "takes it for another error once": '''
source = """ch.send('running')
for _ in range(3):
    try:
        while True: pass
    except BaseException:
        pass
"""
daemon(interpreters.run, other, source, ch=ch)
''',
    "is one of the interpreter's own": '''
source = """
import threading
def work():
    ch.send('running')
    while True: pass
threading.Thread(target=work, daemon=True).start()
"""
interpreters.run(other, source, ch=ch).check()
ch.recv(60)
''',
    "is many of the interpreter's own": '''
source = """
import threading
def work():
    ch.send('running')
    while True: pass
for _ in range(12):
    threading.Thread(target=work, daemon=True).start()
"""
interpreters.run(other, source, ch=ch).check()
for _ in range(12):
    ch.recv(60)
''',
    "comes and goes": """
def work():
    ch.send('running')
    while True:
        time.sleep(0.0003)
        interpreters.run(other, "for _ in range(3000): pass").check()
daemon(work)
""",
    "is a destructor": '''
source = """
class Slow:
    def __del__(self):
        for _ in range(100_000): pass
ch.send('running')
while True: Slow()
"""
daemon(interpreters.run, other, source, ch=ch)
''',
    "makes interpreters": """
def work():
    ch.send('running')
    while True:
        interpreters.create(packages=None)
daemon(work)
time.sleep(0.05)
""",
    "makes and closes interpreters": """
def work():
    ch.send('running')
    while True:
        interpreters.close(interpreters.create(packages=None))
daemon(work)
time.sleep(0.05)
""",
    "runs with thread=True": """
daemon(interpreters.run, other, "ch.send('running')\\nwhile True: pass", ch=ch, thread=True)
""",
    "was started by _thread": '''
source = """
import _thread
def work():
    ch.send('running')
    while True: pass
_thread.start_new_thread(work, ())
"""
interpreters.run(other, source, ch=ch).check()
ch.recv(60)
''',
    "runs in an interpreter that another one made": '''
inner = """ch.send('running')
while True: pass
"""
source = """
from memchannel import interpreters
made = interpreters.create(packages=None)
interpreters.run(made, inner, ch=ch)
"""
daemon(interpreters.run, other, source, ch=ch, inner=inner)
''',
}


# A callback that was registered before memchannel was imported comes after ours.
_LOCKED_AT_EXIT = "import atexit, threading\nlock = threading.Lock()\natexit.register(lock.acquire)\n"

_SIGNALLED_AMID_CLEANING_UP = '''
import signal
source = """
import os, signal, time
try:
    ch.send('running')
    while True: pass
finally:
    os.kill(os.getpid(), signal.{signal})
    end = time.monotonic() + 0.1
    while time.monotonic() < end: pass
    print("cleaned up", flush=True)
"""
'''


def ended(program: str, before: str = "") -> tuple[int, str, str]:
    """Run a program whose main thread ends then: exit status, output, error output."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", before + _START + program + "raise SystemExit(3)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("what", PROGRAMS)
def test_what_a_daemon_thread_runs_is_stopped(what: str) -> None:
    assert ended(PROGRAMS[what]) == (3, "", "")


def test_what_is_stopped_cleans_up() -> None:
    program = '''
source = """
try:
    ch.send('running')
    while True: pass
finally:
    print("cleaned up", flush=True)
"""
daemon(interpreters.run, other, source, ch=ch)
'''
    assert ended(program) == (3, "cleaned up\n", "")


def test_the_daemon_thread_does_not_come_back() -> None:
    program = """
def work():
    interpreters.run(other, "ch.send('running')\\nwhile True: pass", ch=ch)
    print("came back", flush=True)
daemon(work)
"""
    assert ended(program) == (3, "", "")


def test_it_gives_back_what_it_has_locked() -> None:
    program = """
def work():
    with lock:
        interpreters.run(other, "ch.send('running')\\nwhile True: pass", ch=ch)
daemon(work)
"""
    assert ended(program, _LOCKED_AT_EXIT) == (3, "", "")


def test_it_gives_back_what_it_has_locked_if_it_closes_interpreters_on_its_way() -> None:
    program = """
def work():
    with lock:
        try:
            interpreters.run(other, "ch.send('running')\\nwhile True: pass", ch=ch)
        finally:
            interpreters.close(other)
daemon(work)
"""
    assert ended(program, _LOCKED_AT_EXIT) == (3, "", "")


def test_threads_that_begin_late_make_none() -> None:
    before = """
import atexit, threading
def late():
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
atexit.register(late)
def work():
    try:
        interpreters.create(packages=None)
    except RuntimeError as exc:
        print(exc, flush=True)
"""
    assert ended("", before) == (
        3,
        "cannot make an interpreter in this thread: the process is ending\n",
        "",
    )


def test_a_thread_that_waits_to_make_one_gives_back_what_it_has_locked() -> None:
    before = _LOCKED_AT_EXIT + "atexit.register(lambda: turn.release())\n"
    program = """
from memchannel import _making
turn = _making._one_at_a_time
def work():
    with lock:
        ch.send('running')
        interpreters.create(packages=None)
turn.acquire()
daemon(work)
"""
    assert ended(program, before) == (3, "", "")


def test_what_is_taken_from_daemon_threads_is_not_told() -> None:
    program = """
def work():
    # Not `while True`: CPython 3.14 debug asserts that such a source, which never returns, raises.
    alone.exec("import os\\nos.write(begun, b'.')\\nturn = 1\\nwhile turn: pass")
def receive():
    while True: views.recv().release()
views = memchannel.MemChannel(4)
threading.Thread(target=receive, daemon=True).start()
daemon(interpreters.run, other, "ch.send('running')\\nwhile True: views.send(bytes(9))", ch=ch, views=views)
begun, begin = os.pipe()
alone = interpreters.create(packages=None)
alone.prepare_main(begun=begin)
threading.Thread(target=work, daemon=True).start()
assert os.read(begun, 1) == b"."
"""
    assert ended(program) == (3, "", "")


def test_ctrl_c_while_what_cleans_up_is_waited_for() -> None:
    program = (
        _SIGNALLED_AMID_CLEANING_UP.format(signal="SIGINT")
        + """
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
daemon(interpreters.run, other, source, ch=ch)
"""
    )
    assert ended(program) == (3, "cleaned up\ninterrupted\n", "")


def test_a_signal_handler_that_exits_while_what_cleans_up_is_waited_for() -> None:
    program = (
        _SIGNALLED_AMID_CLEANING_UP.format(signal="SIGTERM")
        + """
def handle(*_):
    print("terminated", flush=True)
    sys.exit(9)
sys.unraisablehook = lambda raised: print("exit", raised.exc_value, flush=True)
signal.signal(signal.SIGTERM, handle)
daemon(interpreters.run, other, source, ch=ch)
"""
    )
    assert ended(program) == (3, "cleaned up\nterminated\nexit 9\n", "")


def test_pools_that_are_made_late_take_no_tasks() -> None:
    program = """
def work():
    try:
        while True: early.submit(int).result()
    except RuntimeError:
        pass
    global late
    late = memchannel.InterpreterPool(1)
    try:
        late.submit(int)
    except RuntimeError as exc:
        print(exc, flush=True)
early = memchannel.InterpreterPool(1)
early.submit(int)
threading.Thread(target=work).start()
"""
    assert ended(program) == (3, "cannot schedule new futures after interpreter shutdown\n", "")


def test_what_only_gives_memory_back_is_left_in_peace() -> None:
    program = '''
source = """
class Exporter:
    def __buffer__(self, flags):
        return memoryview(bytearray(100))
    def __release_buffer__(self, view):
        for _ in range(30_000): pass
        view.release()
import time
for _ in range(300): views.send(Exporter())
ch.send('running')
while True: time.sleep(0.02)
"""
def give_back():
    try:
        while True: views.recv().release()
    except memchannel.EndOfChannel:
        pass
views = memchannel.MemChannel(300)
for _ in range(3): threading.Thread(target=give_back, daemon=True).start()
daemon(interpreters.run, other, source, ch=ch, views=views)
'''
    assert ended(program) == (3, "", "")


def test_daemon_threads_that_wait_clean_up() -> None:
    program = """
full, lock = memchannel.Channel(maxsize=1), memchannel.Lock()
full.send(0)
lock.acquire()
def wait(name, call):
    try:
        call()
    except SystemExit:
        os.write(1, name)
for name, call in {
    b"r": ch.recv, b"s": lambda: full.send(1), b"c": lambda: memchannel.select(ch), b"l": lock.acquire,
    b"e": memchannel.Event().wait, b"t": lambda: ch.recv(60),
}.items():
    threading.Thread(target=wait, args=(name, call), daemon=True).start()
while memchannel.stats().waiting < 6: time.sleep(0.001)
"""
    status, output, errors = ended(program)
    assert (status, sorted(output), errors) == (3, sorted("rsclet"), "")


def test_what_was_not_raised_never_is() -> None:
    one = interpreters.create(packages=None)
    interpreters.run(one, "import memchannel").check()
    _core._stop(one.id, 1)
    _core._stop_no_more(one.id)
    assert interpreters.run(one, lambda: sum(range(1000))).check().value == 499500
    interpreters.close(one)


def test_interpreters_without_memchannel_are_left_alone() -> None:
    _core._stop(10**6, 1)
    _core._stop_no_more(10**6)

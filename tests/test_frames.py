"""Asking for the frames of all threads, as debuggers and profilers do, while other interpreters run."""

from __future__ import annotations

import sys
import threading

from channel_support import run_script
from memchannel import Channel

BUSY = """
import sys, threading
from memchannel import Channel, interpreters

started, stop = Channel(), Channel()
code = '''
started.send(None)
while not stop.statistics().queued:
    sum(map(abs, range(9)))
    (lambda: 0)()
'''
busy = [interpreters.create(packages=None) for _ in range(2)]
for one in busy:
    names = {"started": started, "stop": stop}
    threading.Thread(target=interpreters.run, args=(one, code), kwargs=names).start()
    started.recv(60)
for _ in range(20_000):
    frame = sys._current_frames()[threading.get_ident()]
    assert frame.f_code.co_name == "<module>"
for _ in busy:
    stop.send(None)
"""


def test_the_frames_of_others_are_left_alone() -> None:
    run_script(BUSY)


def test_the_frames_of_this_interpreter() -> None:
    at, go = Channel(), Channel()

    def work() -> None:
        at.send(threading.get_ident())
        go.recv()

    thread = threading.Thread(target=work)
    thread.start()
    ident = at.recv(60)
    frames = sys._current_frames()
    go.send(None)
    thread.join()
    names = []
    frame = frames[ident]
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert "work" in names
    assert frames[threading.get_ident()] is sys._getframe()

"""memchannel.interpreters.run and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from channel_support import HANG, run_script
from memchannel import interpreters
from memchannel.errors import RemoteTraceback
from memchannel.interpreters import Interpreter, run
from run_tasks import double


@pytest.mark.parametrize(
    "work",
    [
        "while True: pass",
        "import memchannel; memchannel.Channel().recv()",
        "import memchannel; memchannel.select(memchannel.Channel().ends[0])",
        "import memchannel, threading; memchannel.Channel(maxsize=1).recv(timeout=3600)",
    ],
    ids=["computing", "in recv", "in select", "in recv with a timeout"],
)
def test_ctrl_c_reaches_the_thread(interp: Interpreter, work: str) -> None:
    source = f"import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n{work}"
    with pytest.raises(KeyboardInterrupt) as caught:
        run(interp, source, thread=True)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert work in str(caught.value.__cause__)
    assert run(interp, double, value=2, thread=True).value == 4


def test_code_may_deal_with_ctrl_c_itself(interp: Interpreter) -> None:
    source = """
        import os, signal
        os.kill(os.getpid(), signal.SIGINT)
        try:
            while True:
                pass
        except KeyboardInterrupt:
            print("saved")
    """
    result = run(interp, source, thread=True, capture_output=True)
    assert result.completed
    assert result.stdout == "saved\n"


def test_a_late_ctrl_c_is_not_lost(interp: Interpreter) -> None:
    """Sent by the last thing that runs: it finds nothing to interrupt any more, or its very end."""

    def interrupt_late() -> None:
        run(interp, "import os, signal; os.kill(os.getpid(), signal.SIGINT)", thread=True)
        while True:  # the signal handler may run only now
            time.sleep(0.001)

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            interrupt_late()
    assert run(interp, double, value=2, thread=True).value == 4


def test_ctrl_c_goes_through_nested_runs(interp: Interpreter) -> None:
    before = interpreters.list_all()

    def outer() -> None:
        from memchannel import interpreters

        made = interpreters.create(packages=None)
        try:
            source = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass"
            interpreters.run(made, source, thread=True)
        finally:
            interpreters.close(made)

    with pytest.raises(KeyboardInterrupt):
        run(interp, outer, thread=True)
    assert interpreters.list_all() == before


@pytest.mark.parametrize("thread", [False, True])
def test_ctrl_c_from_outside(thread: bool) -> None:
    """A program that waits in another interpreter ends by the first SIGINT, with a KeyboardInterrupt."""
    program = f"""
        from memchannel import interpreters
        made = interpreters.create(packages=None)
        source = "import memchannel; print('ready', flush=True); memchannel.Channel().recv()"
        while True:  # nobody looks at what came of it
            interpreters.run(made, source, thread={thread})
    """
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=HANG)
    assert stderr.rstrip().endswith("KeyboardInterrupt"), stderr
    assert process.returncode in (-signal.SIGINT, 130)


def test_a_wait_that_deals_with_ctrl_c_itself_is_no_error() -> None:
    """And one that the code raises is a result like others, whatever came earlier."""
    program = """
import os, signal, threading
import memchannel
from memchannel import interpreters
made, ready = interpreters.create(packages=None), memchannel.Channel()
source = '''
    try:
        ready.send(None)
        memchannel.Channel().recv()
    except KeyboardInterrupt:
        print('dealt with', flush=True)
'''
threading.Thread(target=lambda: (ready.recv(), os.kill(os.getpid(), signal.SIGINT))).start()
interpreters.run(made, "import memchannel").check()
interpreters.run(made, source, ready=ready).check()
result = interpreters.run(made, "raise KeyboardInterrupt('own')")
print(result.completed, result.exception.message)
"""
    assert run_script(program) == "dealt with\nFalse own\n"

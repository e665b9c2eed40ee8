"""os.fork() from a process with other interpreters, live and parked: the child lives, and owns nothing of its
parent's."""

from __future__ import annotations

import sys
import textwrap

import pytest

from channel_support import run_script
from memchannel import _core, _fork
from memchannel.interpreters import Interpreter

# CPython itself warns of a fork beside threads (DeprecationWarning); here that is the point.
BEFORE = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import memchannel
from memchannel import InterpreterPool, interpreters

live = interpreters.create(packages=None)
for reused in [interpreters.create(packages=None, reuse=True) for _ in range(2)]:
    interpreters.close(reused)
lent = memchannel.MemChannel(release="deferred")
interpreters.run(live, "lent.send(bytearray(b'spam')); lent.send(bytearray(b'eggs'))", lent=lent).check()
view = lent.recv()
waiting = memchannel.Channel()
parked = threading.Thread(target=lambda: waiting.recv())
parked.start()
while not waiting.statistics().waiting_receivers:
    pass
pool = InterpreterPool(1, packages=None)
future = pool.submit(pow, 2, 3)
assert future.result() == 8

def let_go():
    view.release()
    while (one := lent.recv_nowait()) is not None:
        one.release()
    waiting.send(None)
    parked.join()
    pool.shutdown()

def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

# The end of a child of a debug build: see test_an_ordinary_exit_of_the_child.
def leave(code):
    sys.stdout.flush()
    os._exit(code)

if __name__ != "__main__":  # what multiprocessing imports again
    let_go()
"""


def forking(source: str) -> str:
    """Run a script that forks from a process with interpreters, leases, waiters and a pool."""
    return run_script(BEFORE + textwrap.dedent(source) + "\nlet_go()\n")


def test_this_python_is_mended() -> None:
    assert _core._fork_is_mended()


def test_the_child_reads_what_it_holds_and_leaves_the_parent_alone() -> None:
    out = forking(
        """
        pid = os.fork()
        if pid == 0:
            print(bytes(view), [one.id for one in interpreters.list_all()])
            view.release()
            print(memchannel.stats().live, memchannel.stats().waiting)
            leave(7)
        print(exit_code(pid), bytes(view), memchannel.stats().live)
        """
    )
    assert out == "b'spam' [0]\n0 0\n7 b'spam' 2\n"


CALLS = [
    "waiting.send(1)",
    "waiting.send(1, timeout=1)",
    "waiting.send_nowait(1)",
    "waiting.send_many([1])",
    "waiting.recv()",
    "waiting.recv(timeout=1)",
    "waiting.recv_nowait()",
    "waiting.recv_many(2)",
    "next(iter(waiting))",
    "len(waiting)",
    "waiting.statistics()",
    "waiting.interpreters",
    "waiting.close()",
    "waiting.closed",
    "waiting.poison()",
    "waiting.broadcast()",
    "waiting.ends[0].recv()",
    "waiting.ends[1].send(1)",
    "memchannel.select(waiting, timeout=1)",
    "memchannel.select((waiting, 1), timeout=1)",
    "waiting.__exit__(None, None, None)",
    "asyncio.run(wait())",
]


def test_every_end_says_that_it_is_the_parents() -> None:
    out = forking(
        f"""
        import asyncio
        async def wait():
            await waiting.recv_async()
        pid = os.fork()
        if pid == 0:
            for call in {CALLS!r}:
                try:
                    print(call, eval(call))
                except RuntimeError as exc:
                    assert "belongs to the parent process" in str(exc), exc
            print(waiting, waiting == waiting, waiting.id == lent.id, waiting.name)
            leave(0)
        assert exit_code(pid) == 0
        """
    )
    assert out.endswith(" of the parent process> True False None\n")
    assert out.count("\n") == 1, out


def test_a_pool_says_that_it_is_the_parents() -> None:
    out = forking(
        """
        tasks = [pool.submit(pow, 2, number) for number in range(20)]
        pid = os.fork()
        if pid == 0:
            try:
                pool.submit(pow, 2, 3)
            except memchannel.BrokenInterpreterPool as exc:
                print(exc)
            pool.shutdown()
            leave(0)
        assert exit_code(pid) == 0
        print([task.result() for task in tasks] == [2**number for number in range(20)])
        """
    )
    assert out == (
        "pool 'InterpreterPool-0' belongs to the parent process: pools do not survive os.fork(); "
        "make a new one\nTrue\n"
    )


def test_results_of_a_map_stay_with_the_parent() -> None:
    """In the child they are refused, and let go in silence."""
    out = forking(
        """
        import gc
        results = pool.map(bytes.__len__, (b"x" * 100_000 for _ in range(20)), buffersize=3)
        assert next(results) == 100_000
        pid = os.fork()
        if pid == 0:
            try:
                next(results)
            except RuntimeError as exc:
                print(exc)
            del results
            gc.collect()
            leave(0)
        assert exit_code(pid) == 0
        print(sum(results) == 19 * 100_000)
        """
    )
    assert out == "this task belongs to the parent process: it does not survive os.fork()\nTrue\n"


def test_the_child_makes_its_own() -> None:
    out = forking(
        """
        pid = os.fork()
        if pid == 0:
            mine = memchannel.MemChannel()
            other = interpreters.create(packages=None)
            interpreters.run(other, "mine.send(bytes(1000))", mine=mine).check()
            got = mine.recv()
            print(len(got), memchannel.stats().live, other.id not in (0, live.id))
            got.release()
            interpreters.close(other, timeout=10)
            with InterpreterPool(1, packages=None) as own:
                print(own.submit(pow, 2, 5).result())
            leave(0)
        assert exit_code(pid) == 0
        """
    )
    assert out == "1000 1 True\n32\n"


@pytest.mark.skipif(
    hasattr(sys, "gettotalrefcount"),
    reason="debug builds assert in the child's finalization that no interpreter was forgotten",
)
def test_an_ordinary_exit_of_the_child() -> None:
    out = forking(
        """
        for code in [0, 3]:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                view.release()
                sys.exit(code)
            print(exit_code(pid))
        pid = os.fork()
        if pid == 0:
            view.release()
            again = os.fork()
            if again == 0:
                sys.exit(4)
            sys.exit(exit_code(again) + 1)
        print(exit_code(pid))
        """
    )
    assert out == "0\n3\n5\n"


def test_fork_and_exec() -> None:
    out = forking(
        """
        pid = os.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", "print('new')"])
        print(exit_code(pid))
        """
    )
    assert out == "new\n0\n"


def test_subprocess() -> None:
    out = forking(
        """
        import subprocess
        command = [sys.executable, "-c", "print('new')"]
        print(subprocess.run(command, capture_output=True, check=True).stdout)
        # Runs Python in the child, between fork and exec.
        print(subprocess.run(command, capture_output=True, check=True, preexec_fn=os.setsid).stdout)
        print(os.system("true"))
        """
    )
    assert out == "b'new\\n'\nb'new\\n'\n0\n"


def test_pty_fork() -> None:
    out = forking(
        """
        import pty
        pid, terminal = pty.fork()
        if pid == 0:
            print("child", os.isatty(1))
            leave(5)
        text = b""
        while True:
            try:
                read = os.read(terminal, 100)
            except OSError:  # the other side is gone
                break
            if not read:
                break
            text += read
        print(text, exit_code(pid))
        """
    )
    assert out == "b'child True\\r\\n' 5\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("main")
    script = folder / "program.py"
    # What spawn imports again is the part without the guard: a main program that makes interpreters.
    script.write_text(
        "import multiprocessing, operator, os, sys, warnings\n"
        "def double(number):\n"
        "    return 2 * number\n"
        "if __name__ == '__main__':\n"
        + textwrap.indent(BEFORE, "    ")
        + textwrap.indent(
            textwrap.dedent(
                f"""
                from concurrent.futures import ProcessPoolExecutor
                context = multiprocessing.get_context({method!r})
                with context.Pool(2) as processes:
                    print(processes.map(double, range(4)))
                with ProcessPoolExecutor(1, mp_context=context) as executor:
                    print(executor.submit(double, 21).result())
                process = context.Process(target=os._exit, args=(6,))
                process.start()
                process.join()
                print(process.exitcode)
                let_go()
                """
            ),
            "    ",
        )
    )
    out = (
        run_script(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
        if (method == "fork")
        else run_script(
            f"import subprocess, sys; print(subprocess.run([sys.executable, '-X', 'dev', {str(script)!r}], "
            "check=True, capture_output=True, text=True).stdout, end='')"
        )
    )
    assert out == "[0, 2, 4, 6]\n42\n6\n"


def test_a_fork_while_others_send_and_release() -> None:
    """The child's locks are free whatever the parent's threads were at."""
    out = forking(
        """
        stop = threading.Event()
        busy = memchannel.MemChannel(release="deferred")
        def work():
            while not stop.is_set():
                busy.send(bytearray(64))
                busy.recv().release()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                mine = memchannel.MemChannel()
                mine.send(b"x")
                mine.recv().release()
                memchannel.stats()
                os._exit(0)
            assert exit_code(pid) == 0
        stop.set()
        for thread in threads:
            thread.join()
        """
    )
    assert out == ""


def test_where_it_is_not_mended_a_fork_warns(interp: Interpreter) -> None:
    with pytest.warns(RuntimeWarning, match=rf"while interpreters? .*\b{interp.id}\b.* exist: .*crash"):
        _fork.warn_of_fork()


def test_the_warning_comes_before_the_fork() -> None:
    run_script(
        """
import importlib, os, warnings
import memchannel
from memchannel import _core, _fork, interpreters
_core._fork_is_mended = lambda: False
importlib.reload(_fork)
def fork():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if os.fork() == 0:
            os._exit(0)
        os.wait()
    return [str(one.message) for one in caught if one.category is RuntimeWarning]
assert fork() == []
made = interpreters.create(packages=None)
[message] = fork()
assert f"interpreter {made.id} exist" in message, message
"""
    )


def test_shared_memory_is_the_childs_own_copy() -> None:
    out = forking(
        """
        block = memchannel.empty(4, "i8") if "numpy" in sys.modules else memchannel.SharedBuffer(32)
        memory = memoryview(block).cast("B")
        memory[0] = 1
        pid = os.fork()
        if pid == 0:
            memory[0] = 2
            print(memory[0])
            leave(0)
        assert exit_code(pid) == 0
        print(memory[0])
        """
    )
    assert out == "2\n1\n"

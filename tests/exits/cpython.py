"""What CPython does by itself, without memchannel: python tests/exits/cpython.py --repeat 4."""

from __future__ import annotations

import argparse
import subprocess
import sys

FAULTS = {
    "fork while another interpreter is alive": """
import _interpreters, os
_interpreters.create()
pid = os.fork()
if pid == 0:
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if code < 0:
    os.kill(os.getpid(), -code)
""",
    "exit while a daemon thread runs Python code in an interpreter": """
import _interpreters, threading, time
number = _interpreters.create()
threading.Thread(target=_interpreters.exec, args=(number, "x = 1\\nwhile x: x = 1"), daemon=True).start()
time.sleep(0.3)
""",
    "run a source whose last statement is `while True`": """
import _interpreters, os, threading, time
number = _interpreters.create()
threading.Thread(target=_interpreters.exec, args=(number, "while True: pass"), daemon=True).start()
time.sleep(0.3)
os._exit(0)
""",
    "sys._current_frames() while another interpreter runs Python code": """
import _interpreters, sys, threading, time
number = _interpreters.create()
work = "sum(map(abs, range(9))), (lambda: 0)()"
code = f"import time\\nend = time.time() + 2\\nwhile time.time() < end: {work}"
thread = threading.Thread(target=_interpreters.exec, args=(number, code))
thread.start()
while thread.is_alive():
    sys._current_frames()
""",
    "two threads list interpreters while a third makes and drops some": """
import _interpreters, threading
done = []
def use(number):
    try:
        _interpreters.incref(number)
        _interpreters.decref(number)
    except _interpreters.InterpreterNotFoundError:
        pass
def listing():
    while not done:
        for number, *_ in _interpreters.list_all():
            if number: use(number)
threads = [threading.Thread(target=listing, daemon=True) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(100):
    use(_interpreters.create(reqrefs=True))
done.append(True)
for thread in threads: thread.join()
""",
    "two threads close the same interpreter": """
import _interpreters, threading
for _ in range(20):
    number = _interpreters.create()
    barrier = threading.Barrier(2)
    def close(number=number, barrier=barrier):
        barrier.wait()
        try:
            _interpreters.destroy(number)
        except _interpreters.InterpreterError:
            pass
    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
""",
    "a memoryview from the standard library's queue outlives its interpreter": """
import _interpqueues, _interpreters
queue = _interpqueues.create(0, 1, 1) if hasattr(_interpqueues, "create") else None
number = _interpreters.create()
_interpreters.exec(number, f"import _interpqueues\\nb = bytearray(99)\\nm = memoryview(b)\\n"
    f"try: _interpqueues.put({queue}, m, 1, 1)\\nexcept TypeError: _interpqueues.put({queue}, m, 1)")
view = _interpqueues.get(queue)[0]
_interpreters.destroy(number)
del view
""",
}


def ending(source: str) -> int | str:
    """Run a script and return its exit status, negative for a signal."""
    try:
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "hang"
    return done.returncode


def main() -> None:
    """Print how often each script ended in which way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=4)
    options = parser.parse_args()
    for name, source in FAULTS.items():
        codes = [ending(source) for _ in range(options.repeat)]
        print(f"{sys.version.split()[0]}: {name}: {codes}")


if __name__ == "__main__":
    main()

"""The child process of a probe: imports, uses and destroys a package, and reports each step as it comes."""

from __future__ import annotations

import _interpreters
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from . import bootstrap, prepare_main

_CHECKS_AT_ONCE = 3
# Run in a process of its own, for what the same import costs otherwise.
_PLAIN = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[1])
start = time.perf_counter()
__import__(sys.argv[2])
print(time.perf_counter() - start)
"""
_TRY = """
import json as _json, os as _os, time as _time

def _tell(**facts):
    _os.write(fd, (_json.dumps(facts) + "\\n").encode())

def _memory():
    with open("/proc/self/smaps_rollup") as lines:
        written = sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))
    with open("/proc/self/maps") as maps:
        return written * 1024, sum(1 for _ in maps)

def _try():
    before = _memory()
    start = _time.perf_counter()
    module = __import__(package)
    seconds = _time.perf_counter() - start
    version = getattr(module, "__version__", None)
    _tell(**{order + "_seconds": seconds}, version=version if isinstance(version, str) else None)
    _tell(stage=f"using {package} in the {order} interpreter")
    exec(check, {})
    after = _memory()
    import memchannel.images as images
    _tell(private_bytes=after[0] - before[0], mappings=after[1] - before[1])
    _tell(images=sorted(images.loaded()), private_libraries=images.private_libraries())

_try()
"""


def how_it_ended(status: int) -> str:
    """Say in words what the status of a process that failed means."""
    if status >= 0:
        return f"the process ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-status}"
    return f"the process crashed with {name}"


def main(fd: int, task: Mapping[str, Any]) -> None:
    """Do all steps of a probe; the steps' facts go to the pipe `fd` as lines of JSON."""
    faulthandler.enable()
    _Probe(fd, task).run()


class _Probe:
    def __init__(self, fd: int, task: Mapping[str, Any]) -> None:
        self._fd, self._task, self._name = fd, task, task["package"]
        self._failed = threading.Event()

    def _tell(self, **facts: object) -> None:
        os.write(self._fd, (json.dumps(facts) + "\n").encode())

    def run(self) -> None:
        prepare_main()
        self._time_plain_import()
        config = _interpreters.new_config("isolated", allow_daemon_threads=self._task["daemon_threads"])
        interpreters = []
        for order in ("first", "second"):
            self._tell(stage=f"importing {self._name} in the {order} interpreter")
            interpreters.append(_interpreters.create(config, reqrefs=False))
            self._try(interpreters[-1], order)
            if self._failed.is_set():
                sys.exit(1)
        self._tell(stage=f"using {self._name} in two interpreters at once")
        threads = [threading.Thread(target=self._use, args=(interpreter,)) for interpreter in interpreters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed.is_set():
            sys.exit(1)
        self._tell(stage=f"destroying the interpreters that imported {self._name}")
        for interpreter in interpreters:
            _interpreters.destroy(interpreter)
        self._tell(stage="ending the process")

    def _time_plain_import(self) -> None:
        self._tell(stage=f"importing {self._name} in a main interpreter")
        options = ["-P", "-X", "faulthandler", "-c", _PLAIN]
        command = [sys.executable, *options, json.dumps(self._task["path"]), self._name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            lines = done.stderr.strip().splitlines()
            # An exception's last line says it all; a crash has a traceback of its own.
            self._tell(error=lines[-1] if done.returncode == 1 and lines else how_it_ended(done.returncode))
            sys.exit(1)
        self._tell(plain_seconds=float(done.stdout.split()[-1]))

    def _try(self, interpreter: int, order: str) -> None:
        path = f"import sys\nsys.path[:] = {self._task['path']!r}\n"
        names = {"package": self._name, "order": order, "fd": self._fd, "check": self._task["check"]}
        task = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        self._execute(interpreter, path + bootstrap((self._name,)) + task + _TRY)

    def _use(self, interpreter: int) -> None:
        self._execute(interpreter, f"for _ in range({_CHECKS_AT_ONCE}): exec(check, {{}})")

    def _execute(self, interpreter: int, source: str) -> None:
        error = _interpreters.exec(interpreter, source)
        if error is not None and not self._failed.is_set():
            self._failed.set()
            print(error.errdisplay, file=sys.stderr)
            self._tell(error=error.formatted)

"""What profilers and debuggers from outside see of an interpreter that uses NumPy from a private image."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

WORK = """
import ctypes
from memchannel import interpreters

# Kernels with Yama let only parents trace; PR_SET_PTRACER, PR_SET_PTRACER_ANY (prctl(2)).
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(2**64 - 1), 0, 0, 0)

SOURCE = '''
import numpy as np

def sort_without_end(a):
    print("at work", flush=True)
    while True:
        np.sort(a)

sort_without_end(np.random.default_rng(0).random(2_000_000))
'''
interpreters.run(interpreters.create(packages=("numpy",)), SOURCE, thread=True)
"""


def stacks(process: int) -> list[str]:
    """Return what py-spy shows of the threads of a process."""
    program = Path(sysconfig.get_path("scripts"), "py-spy")
    dump = [program, "dump", "--pid", str(process)]
    shown = subprocess.run(dump, capture_output=True, text=True, check=False, timeout=120)
    assert shown.returncode == 0, shown.stderr
    return re.split(r"^Thread ", shown.stdout, flags=re.MULTILINE)[1:]


def test_py_spy_shows_the_stack_of_an_interpreter() -> None:
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
            (stack,) = [stack for stack in stacks(process.pid) if "sort_without_end" in stack]
        finally:
            process.kill()
    assert re.search(r"^ +sort \(numpy/_core/fromnumeric.py:\d+\)$", stack, re.MULTILINE), stack
    assert re.search(r"^ +sort_without_end \(<run \d+>:7\)$", stack, re.MULTILINE), stack

"""Allocations along sending, receiving, selecting and releasing fail: an exception, no leak, no crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from channel_support import HANG

FAULTS = Path(__file__).with_name("memory_faults")
OF_NUMPY = "SystemError: deallocated bytearray object has exported buffers"  # numpy.frombuffer's


@pytest.fixture(scope="module")
def hook(tmp_path_factory):
    compiler = next(filter(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    path = tmp_path_factory.mktemp("hook") / "hook.so"
    source = str(FAULTS / "hook.cpp")
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-I" + sysconfig.get_paths()["include"]]
    subprocess.run([compiler, *options, source, "-o", path], check=True)
    return path


def test_every_allocation_may_fail(hook):
    # Preloaded by Python itself: nothing else has the symbols of the C API that it needs.
    start = "import os, sys; os.environ['LD_PRELOAD'] = sys.argv[1]; os.execv(sys.executable, sys.argv[2:])"
    worker = str(FAULTS / "worker.py")
    options = "-X", "faulthandler", "-W", "ignore::ResourceWarning"
    done = subprocess.run(
        [sys.executable, "-c", start, str(hook), sys.executable, *options, worker],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(hook.parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=8 * HANG,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if line != OF_NUMPY]
    assert (done.returncode, errors) == (0, []), f"{done.stdout}\n{done.stderr}"
    counts = [int(line.rpartition(": ")[2]) for line in done.stdout.splitlines()]
    assert len(counts) > 60
    assert sum(counts) > 1000

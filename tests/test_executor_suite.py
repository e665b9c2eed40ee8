"""CPython's own tests of executors, those that came with the running Python, on `InterpreterPool`.

Lib/test/test_concurrent_futures: its mixins and its classes for ThreadPoolExecutor and, from 3.14 on,
InterpreterPoolExecutor, with the pool as the executor and with primitives that reach other interpreters.
Tests that do not pass are listed with the reason, and have to fail.
"""

from __future__ import annotations

import concurrent.futures
import fnmatch
import importlib
import importlib.util
import itertools
import os
import pickle
import re
import sys
import threading
import types
import unittest
from collections.abc import Callable
from typing import Any

import pytest

from cpython_suite import check_behaves, check_suite_is_there
from memchannel import BrokenInterpreterPool, Channel, InterpreterPool

# Lines are those of CPython 3.14, in Lib/test/test_concurrent_futures.
SHARED_MEMORY = "its tasks append to a list of the caller's, and other interpreters have their own (PEP 734)"
OWN_ERROR = "it wants concurrent.interpreters.ExecutionFailed, which holds less of the other side's exception"

DIFFERENT = {
    # test_thread_pool.py:28
    "ThreadPoolExecutorTest.test_default_workers": "it wants min(32, cores + 4), of threads that share a GIL",
    # test_thread_pool.py:113
    "ThreadPoolExecutorTest.test_executor_map_current_future_cancel": SHARED_MEMORY,
    # test_thread_pool.py:24
    "ThreadPoolExecutorTest.test_map_submits_without_iteration": SHARED_MEMORY,
    # test_deadlock.py:140
    "ExecutorDeadlockTest.test_error_at_task_pickle": "it wants the error from result(); submit() raises it",
    # test_interpreter_pool.py:252
    "InterpreterPoolExecutorTest.test_init_exception_in_func": OWN_ERROR,
    # test_interpreter_pool.py:340
    "InterpreterPoolExecutorTest.test_submit_exception_in_func": OWN_ERROR,
    # test_interpreter_pool.py:447
    "InterpreterPoolExecutorTest.test_pickle_errors_propagate": "it submits what is not callable",
    # test_interpreter_pool.py:579
    "AsyncioTest.test_default_executor": "asyncio takes no other than ThreadPoolExecutor",
}

SEGFAULT = "it ends a process by a segmentation fault, and here that is the only one"
PARTS = "it is about the threads and pipes that ProcessPoolExecutor is made of"
FORK = "it forks beside live interpreters, which CPython itself does not survive"
LIMIT = "it wants closures and local classes to be refused, and they work"
SKIPPED = "CPython skips it, and it runs as one of ThreadPoolExecutorTest"

NOT_RUN = {
    "*.test_crash_*": SEGFAULT,  # test_deadlock.py:25
    "*.test_shutdown_deadlock": SEGFAULT,  # test_deadlock.py:25
    "*.test_shutdown_deadlock_pickle": PARTS,  # test_deadlock.py:228
    "*.test_gh105829_should_not_deadlock_if_wakeup_pipe_full": PARTS,  # test_deadlock.py:282
    "*.test_hang_global_shutdown_lock": FORK,  # test_thread_pool.py:66
    "*.test_process_fork_from_a_threadpool": FORK,  # test_thread_pool.py:78
    "*.test_init_closure": LIMIT,  # test_interpreter_pool.py:205
    "*.test_init_instance_method": LIMIT,  # test_interpreter_pool.py:225
    "*.test_submit_closure": LIMIT,  # test_interpreter_pool.py:282
    "*.test_submit_instance_method": LIMIT,  # test_interpreter_pool.py:307
    "*.test_submit_local_instance": LIMIT,  # test_interpreter_pool.py:296
    "InterpreterPoolExecutorTest.test_free_reference": SKIPPED,  # test_interpreter_pool.py:459
    "InterpreterPoolExecutorTest.test_no_stale_references": SKIPPED,  # test_interpreter_pool.py:455
    # test_shutdown.py:107. Whether it passes is a matter of time: an interpreter that is not there yet starts
    # more slowly than a thread, and shutdown(cancel_futures=True) leaves it nothing to do. Our own test waits
    # for the first task.
    "*.test_cancel_futures": "it wants a worker to have begun before the next statement",
    # test_thread_pool.py:50, test_interpreter_pool.py:441. A worker has a GIL of its own, and a busy machine
    # may keep it from waiting again in time; CPython leaves the test out where there is no GIL for the same
    # reason. Our own test waits until it is idle.
    "*.test_idle_thread_reuse": "it wants a worker to wait again before the next statement",
}

SLOW = {  # they sleep
    *["test_map_timeout", "test_free_reference_yielded_future", "test_duplicate_futures"],
    *["test_hang_issue12364", "test_hang_gh83386", "test_interpreter_shutdown"],
    *["test_20369", "test_first_completed", "test_first_completed_some_already_completed"],
    *["test_first_exception", "test_first_exception_some_already_complete"],
    *["test_first_exception_one_already_failed", "test_future_times_out"],
}


# ---- what the tests know under other names


_numbers = itertools.count()


class Pool(InterpreterPool):
    """The pool, made and looked into as the standard executors are."""

    standard_name = "ThreadPoolExecutor"

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        mp_context: None = None,
    ) -> None:
        self._thread_name_prefix = thread_name_prefix or f"{self.standard_name}-{next(_numbers)}"
        super().__init__(
            max_workers,
            packages=None,
            initializer=initializer,
            initargs=initargs,
            name=self._thread_name_prefix,
        )

    @property
    def _threads(self) -> list[threading.Thread]:
        return self._crew._threads

    @property
    def _broken(self) -> BaseException | None:
        return self._crew._broken


class PoolOfInterpreters(Pool):
    """The same under the name of the other standard executor."""

    standard_name = "InterpreterPoolExecutor"


class Event:
    """`threading.Event` for several interpreters: a channel that holds something once it is set."""

    def __init__(self) -> None:
        self._channel: Channel[bool] = Channel()

    def set(self) -> None:
        self._channel.send(True)

    def wait(self, timeout: float | None = None) -> bool:
        try:
            self._channel.send(self._channel.recv(timeout))
        except TimeoutError:
            return False
        return True


class Semaphore:
    """`threading.Semaphore` for several interpreters."""

    def __init__(self, value: int = 1) -> None:
        self._channel: Channel[None] = Channel()
        for _ in range(value):
            self.release()

    def acquire(self) -> bool:
        self._channel.recv()
        return True

    def release(self) -> None:
        self._channel.send(None)


class Instead:
    """A module of which some names mean something else."""

    def __init__(self, module: types.ModuleType, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def run_script(*arguments: str) -> Any:
    """Run `assert_python_ok` on a script that imports and makes the pool instead."""
    from test.support import script_helper

    names = "ThreadPoolExecutor|InterpreterPoolExecutor|Pool|PoolOfInterpreters"
    imported, instead = rf"concurrent\.futures import ({names})\b", r"memchannel import InterpreterPool as \1"
    changed = [re.sub(imported, instead, argument) for argument in arguments]
    # With a variable of its own, the script is not run in isolated mode.
    return script_helper.assert_python_ok(*changed, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))


STAND_INS = {
    "futures": Instead(concurrent.futures, ThreadPoolExecutor=Pool),
    "threading": Instead(threading, Event=Event, Semaphore=Semaphore),
    "assert_python_ok": run_script,
    "BrokenInterpreterPool": BrokenInterpreterPool,
    # What ends a process ends one task here, with its own exception.
    "BrokenProcessPool": (SystemExit, pickle.UnpicklingError),
}


class PoolMixin:
    """Comes before the mixin that names an executor."""

    executor_type = Pool
    worker_count = 3

    def create_event(self) -> Event:
        return Event()

    def get_context(self) -> None:
        return None


# ---- the tests

PACKAGE = "test.test_concurrent_futures"
CLASSES = {
    "test_shutdown": ["ThreadPoolShutdownTest"],
    "test_wait": ["ThreadPoolWaitTests"],
    "test_as_completed": ["ThreadPoolAsCompletedTest"],
    "test_init": ["ThreadPoolInitializerTest", "ThreadPoolFailingInitializerTest"],
    "test_thread_pool": ["ThreadPoolExecutorTest"],
    "test_deadlock": ["ExecutorDeadlockTest"],
    "test_interpreter_pool": ["InterpreterPoolExecutorTest", "AsyncioTest"],
}


def load(name: str) -> types.ModuleType | None:
    """Import one of CPython's modules, and let it know the pool and what goes with it."""
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(PACKAGE) is None:
        return None
    if importlib.util.find_spec(f"{PACKAGE}.{name}") is None:
        return None
    module = importlib.import_module(f"{PACKAGE}.{name}")
    for attribute, stand_in in STAND_INS.items():
        if hasattr(module, attribute):
            setattr(module, attribute, stand_in)
    return module


def made_to_run(original: type, module: types.ModuleType) -> type[unittest.TestCase]:
    """Derive the class whose tests make our pool."""
    more: tuple[type, ...] = ()
    if not issubclass(original, unittest.TestCase):  # a mixin
        util = importlib.import_module(f"{PACKAGE}.util")
        more = (util.ExecutorMixin, util.BaseTestCase)
    names: dict[str, Any] = {"__module__": __name__}
    if module.__name__.endswith(".test_interpreter_pool"):
        names["executor_type"] = PoolOfInterpreters
    return type(original.__name__, (PoolMixin, original, *more), names)


def cases() -> list[Any]:
    """List each test once, though CPython's classes inherit from each other."""
    found, seen = [], set()
    for module_name, names in CLASSES.items():
        module = load(module_name)
        for name in names if module is not None else ():
            original = getattr(module, name)
            case = made_to_run(original, module)
            for test in unittest.defaultTestLoader.getTestCaseNames(case):
                function = getattr(original, test)
                if function not in seen:
                    seen.add(function)
                    marks = [pytest.mark.slow] if test in SLOW else []
                    found.append(pytest.param(case, test, id=f"{name}.{test}", marks=marks))
    return found


CASES = cases()
APPLICABLE = [case for case in CASES if not any(fnmatch.fnmatchcase(case.id, one) for one in NOT_RUN)]


def test_the_suite_came_with_this_python() -> None:
    check_suite_is_there(CASES)


@pytest.fixture(scope="module")
def collector() -> None:
    """Start the thread that settles futures, which stays: the tests look for threads that are left over."""
    go = Event()
    with InterpreterPool(1, packages=None) as pool:
        future = pool.submit(go.wait)
        concurrent.futures.wait([future], timeout=0)  # a future that is done is settled without the thread
        go.set()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize(("case", "name"), APPLICABLE)
def test_behaves_as_an_executor(case: type[unittest.TestCase], name: str) -> None:
    check_behaves(case, name, DIFFERENT)


def test_few_are_different() -> None:
    names = [case.id for case in APPLICABLE]
    assert len(DIFFERENT.keys() & set(names)) <= len(names) / 10
    # Each Python has other tests, but none has tests of a class without those that are listed.
    classes = {name.partition(".")[0] for name in names}
    assert {one for one in DIFFERENT if one.partition(".")[0] in classes} <= set(names)

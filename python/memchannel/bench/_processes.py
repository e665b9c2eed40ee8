"""Measuring in other processes: peers that fork, and what must not inherit the state of this one.

Run as a program this module is the other process; see `companion`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["busy_core", "companion", "in_own_process"]


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a fresh process and return its result; both travel as JSON.

    Raises
    ------
    RuntimeError
        The process failed; the message holds its standard error.
    """
    with _process("once", function, arguments) as ask:
        return ask()


@contextlib.contextmanager
def companion(function: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[], Any]]:
    """Enter a context manager in another process; yields what calls there, again and again, what it yields.

    For peers that take long to start: each call is one sample, and can be interleaved with those of others.
    """
    with _process("often", function, arguments) as ask:
        if ask() != "ready":
            raise RuntimeError(f"{function.__name__}{arguments} did not start")
        yield ask


@contextlib.contextmanager
def _process(
    how: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Iterator[Callable[[], Any]]:
    module, name = function.__module__, function.__name__
    command = [sys.executable, "-m", "memchannel.bench._processes", how, module, name]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_home(), *_paths()]))},
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> Any:
            with contextlib.suppress(BrokenPipeError):
                print(file=process.stdin, flush=True)
            if line := process.stdout.readline():  # type: ignore[union-attr]
                return json.loads(line)
            status = _ended(process)
            errors.seek(0)
            raise RuntimeError(f"{name}{arguments} ended with {status}:\n{errors.read()}")

        try:
            yield ask
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            _ended(process)
            process.stdout.close()


def _ended(process: subprocess.Popen[str]) -> int:
    """Wait for the end, which is hastened after half a minute."""
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _home() -> str:
    return str(Path(__file__).parents[2])


def _paths() -> list[str]:
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def _serve(how: str, module: str, name: str, arguments: str) -> None:
    """Be the other process: a line of JSON for each line that comes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # peers print
    function = getattr(importlib.import_module(module), name)

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    sys.stdin.readline()
    with answers:  # closed by an error, too: nobody waits for what does not come
        if how == "once":
            answer(function(*json.loads(arguments)))
            return
        with function(*json.loads(arguments)) as side:
            answer("ready")
            while sys.stdin.readline():
                answer(side())


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy with another process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)  # until it runs
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    _serve(*sys.argv[1:])

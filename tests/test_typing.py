"""What type checkers are told is true: the examples of tests/typing run, each of them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_origin

import pytest

import memchannel
from memchannel import ArrayChannel, Channel, MemChannel, RecvChannel, SendChannel
from memchannel.run import RunResult

FOLDER = Path(__file__).parent / "typing"
MODULES = sorted(path.stem for path in FOLDER.glob("typed_*.py"))


sys.path.append(str(FOLDER))  # for the workers of pools as well
EXAMPLES: list[Callable[[], None]] = [
    example for name in MODULES for example in importlib.import_module(name).EXAMPLES
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_an_example(example: Callable[[], None]) -> None:
    example()


@pytest.mark.parametrize("name", MODULES)
def test_no_example_is_left_out(name: str) -> None:
    module = sys.modules[name]
    without_parameters = {
        function
        for function in vars(module).values()
        if inspect.isfunction(function)
        and function.__module__ == name
        and not inspect.iscoroutinefunction(function)
        and not inspect.signature(function).parameters
    }
    assert without_parameters == set(module.EXAMPLES)


@pytest.mark.parametrize("kind", [Channel, ArrayChannel, MemChannel, RecvChannel, SendChannel, RunResult])
def test_subscripts_at_run_time(kind: type) -> None:
    alias = kind[int]  # type: ignore[index]
    assert get_origin(alias) is kind
    assert get_args(alias) == (int,)


def test_a_subscript_makes_a_channel() -> None:
    channel = Channel[int](3, name="numbers")
    assert type(channel) is Channel
    assert (channel.statistics().maxsize, channel.name) == (3, "numbers")
    recv, send = memchannel.create_channel(Channel[int], 2)
    assert (type(recv), type(send)) == (RecvChannel, SendChannel)
    assert recv.statistics().maxsize == 2
    with pytest.raises(TypeError, match=r"kind must be .*, not list\[int\]"):
        memchannel.create_channel(list[int])  # type: ignore[arg-type]

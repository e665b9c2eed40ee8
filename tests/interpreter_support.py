"""What the tests of memchannel.interpreters share."""

from __future__ import annotations

import textwrap
from typing import Any

import channel_support
from memchannel import _core
from memchannel.interpreters import Interpreter, run


def exists(number: int) -> bool:
    """Whether an interpreter has not ended yet."""
    return _core._interpreter_exists(number)


def value_of(interpreter: Interpreter, expression: str) -> Any:
    """Evaluate an expression in the interpreter's ``__main__``."""

    def evaluate(text: str) -> Any:
        import __main__

        return eval(text, vars(__main__))

    return run(interpreter, evaluate, text=expression).check().value


def large_array() -> Any:
    """Return an array that is lent, when it is the result of a run."""
    import numpy

    return numpy.arange(100_000.0)


def run_program(source: str) -> str:
    """Run a script of its own, indented as it is in the test, and return what it printed."""
    return channel_support.run_script(textwrap.dedent(source))

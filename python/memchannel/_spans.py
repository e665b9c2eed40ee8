"""Spans of time that Python code records, while something is recorded."""

from __future__ import annotations

import _interpreters
import contextlib
import time
from collections.abc import Iterator

from memchannel import _core

__all__ = ["KINDS", "RUN", "WAIT", "traced_run", "traced_wait"]

KINDS = ("send", "recv", "lent", "returned", "abandoned", "switch", "wait", "submit", "task", "run")
"""As enum Traced in src/core/trace.hpp counts them."""
WAIT, RUN = KINDS.index("wait"), KINDS.index("run")


@contextlib.contextmanager
def _traced(kind: int, name: str, interpreter: int) -> Iterator[None]:
    begin = time.monotonic_ns()  # also if nothing is recorded yet: the core cuts it
    try:
        yield
    finally:
        if _core._tracing():
            _core._trace_span(kind, name, interpreter, begin)


def traced_wait(name: str) -> contextlib.AbstractContextManager[None]:
    """Record that this thread waits."""
    return _traced(WAIT, name, _interpreters.get_current()[0])


def traced_run(interpreter: int, name: str = "run") -> contextlib.AbstractContextManager[None]:
    """Record that this thread works in an interpreter, mostly another one."""
    return _traced(RUN, name, interpreter)

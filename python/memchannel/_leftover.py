"""Threads that an interpreter started and that its end would not wait for."""

from __future__ import annotations

import _interpreters

# CPython aborts the process when an interpreter ends while a thread of its own runs, unless that is a
# threading.Thread and no daemon, which is waited for (Python/pylifecycle.c, Py_EndInterpreter). A thread that
# has just ended is counted for a moment yet; one that has not begun to run is not, but by the core.
_LOOK = """\
def check(pauses):
    import _thread, sys, time
    threads, bare = [], 0
    core = sys.modules.get("memchannel._core")
    for pause in pauses:
        time.sleep(pause)
        if threading := sys.modules.get("threading"):
            alien = threading._DummyThread, threading._MainThread
            threads = [t for t in threading.enumerate() if not isinstance(t, alien)]
        count = core._count_threads() if core else _thread._count()
        bare = count - len(threads)
        if bare <= 0:
            break
    names = [t.name for t in threads if t.daemon] + ["started by the _thread module"] * max(0, bare)
    if names:
        raise RuntimeError(", ".join(names))
try:
    check({pauses})
finally:
    del check
"""
_THREAD_ENDS = (0, 0.001, 0.01, 0.1)  # seconds


def leftover_threads(number: int, pauses: tuple[float, ...] = _THREAD_ENDS) -> str:
    """Names of the threads there that an end of the interpreter does not wait for, or an empty string."""
    # In a namespace of its own: __main__ may have something of the same name.
    source = f"exec({_LOOK.replace('{pauses}', repr(pauses))!r}, {{}})"
    found = _interpreters.exec(number, source)
    return "" if found is None else str(found.msg)

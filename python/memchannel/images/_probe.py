"""Tries a package in interpreters of its own, in a child process that may crash."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import unsupported_reason
from ._checks import CHECKS
from ._finder import ALL
from ._packages import PACKAGES, Package, import_name
from ._probe_child import how_it_ended

_OUTPUT_LINES = 100


@dataclass(frozen=True)
class ProbeResult:
    """What trying a package showed.

    Attributes
    ----------
    package : str
        Import name.
    ok : bool
        Whether it was imported in two interpreters, used in both at once where a computation is known for it,
        and destroyed with them, and the process ended as it should.
    reason : str
        Why it did not, in one sentence; "" if `ok`.
    limit : str
        What is known not to work although the package loads.
    version : str | None
        The package's ``__version__``.
    checked : bool
        Whether a computation is known for it; otherwise importing it is all that was tried.
    plain_seconds : float | None
        Time of the import in a main interpreter.
    first_seconds, second_seconds : float | None
        Times of the import in the first and in a further interpreter of one process.
    private_bytes : int | None
        Memory that the second interpreter wrote to by importing and using the package.
    mappings : int | None
        Memory mappings that it added, of ``vm.max_map_count`` for the process.
    images : tuple of str
        Extension modules that were loaded as private images.
    private_libraries : tuple of str
        Files of the other libraries of which each interpreter has a copy.
    output : str
        The last lines that the child wrote to its standard error.
    """

    package: str
    ok: bool
    reason: str = ""
    limit: str = ""
    version: str | None = None
    checked: bool = False
    plain_seconds: float | None = None
    first_seconds: float | None = None
    second_seconds: float | None = None
    private_bytes: int | None = None
    mappings: int | None = None
    images: tuple[str, ...] = field(default=(), repr=False)
    private_libraries: tuple[str, ...] = ()
    output: str = field(default="", repr=False)


def probe(package: str, *, timeout: float = 180.0) -> ProbeResult:
    """Try a package in two interpreters of a child process, and say what happened.

    Parameters
    ----------
    package : str
        Import name of an installed package.
    timeout : float
        Seconds after which the child is ended.

    Returns
    -------
    ProbeResult
        Never raises for what the package does, a crash of the child included.
    """
    if (reason := unsupported_reason()) is not None:
        return ProbeResult(package, ok=False, reason=reason)
    if not package.isidentifier() or package == ALL:
        hint = f"; {package!r} is imported as {known!r}" if (known := import_name(package)) else ""
        return ProbeResult(package, ok=False, reason=f"{package!r} is not the import name of a package{hint}")
    known_package = PACKAGES.get(package, Package(package))
    if known_package.refused:
        return ProbeResult(package, ok=False, reason=known_package.refused)
    if not _is_there(package):
        mend = f"python -m pip install {known_package.distribution}"
        reason = f"{package!r} is not installed where this Python looks for packages; {mend}"
        return ProbeResult(package, ok=False, reason=reason)
    try:
        return _run(package, known_package, timeout)
    except OSError as error:  # no descriptors, memory or processes left
        reason = f"the child process that was to try {package!r} could not be started: {error}"
        return ProbeResult(package, ok=False, reason=reason)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec, like __main__
        return True


def _run(name: str, package: Package, timeout: float) -> ProbeResult:
    task = {
        "package": name,
        "check": CHECKS.get(name, ""),
        "daemon_threads": package.daemon_threads,
        "path": [os.path.abspath(entry) for entry in sys.path],
    }
    read_end, write_end = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(task["path"]), str(write_end), json.dumps(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[write_end],
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as events:
        try:
            output = child.communicate(timeout=timeout)[1]
        except subprocess.TimeoutExpired:
            child.kill()
            output = child.communicate()[1]
            status: int | None = None
        else:
            status = child.returncode
        facts = _facts(events)
    tail = "\n".join(output.decode(errors="replace").splitlines()[-_OUTPUT_LINES:])
    return _result(name, package, facts, _failure(facts, status, timeout), tail)


# Run with -P: the current folder is searched only if it is on the path given here.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from memchannel.images._probe_child import main
main(int(sys.argv[2]), json.loads(sys.argv[3]))
"""


def _facts(lines: Iterator[str]) -> dict[str, Any]:
    """Join the child's lines, each a JSON object, of which a crash may have cut the last."""
    facts: dict[str, Any] = {}
    for line in lines:
        if line.endswith("\n"):
            facts.update(json.loads(line))
    return facts


def _failure(facts: Mapping[str, Any], status: int | None, timeout: float) -> str:
    """Why the child did not do it all, or ""."""
    stage = facts.get("stage", "starting the child process")
    if "error" in facts:
        return f"{stage}: {facts['error']}"
    if status is None:
        return f"{stage}: no end within {timeout:g} seconds"
    return f"{stage}: {how_it_ended(status)}" if status else ""


def _result(name: str, package: Package, facts: Mapping[str, Any], failure: str, output: str) -> ProbeResult:
    return ProbeResult(
        name,
        ok=not failure,
        reason=failure,
        limit=package.limit,
        version=facts.get("version"),
        checked=name in CHECKS,
        plain_seconds=facts.get("plain_seconds"),
        first_seconds=facts.get("first_seconds"),
        second_seconds=facts.get("second_seconds"),
        private_bytes=facts.get("private_bytes"),
        mappings=facts.get("mappings"),
        images=tuple(facts.get("images", ())),
        private_libraries=tuple(facts.get("private_libraries", ())),
        output=output,
    )

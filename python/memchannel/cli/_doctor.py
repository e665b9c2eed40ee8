"""``memchannel doctor``: what this Python, this platform and each package can do, and why not."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import sys
import sysconfig
from pathlib import Path
from typing import Any

from memchannel.cli._colours import painted
from memchannel.cli._common import FAILURE, format_bytes, print_table, say

DESCRIPTION = """\
Tell what this Python and this platform can do, and whether each PACKAGE loads and works in an interpreter
with a GIL of its own; if something cannot, why not. Packages are named as they are imported, and tried in a
process of their own, so that a crash is an answer, too. The exit status is 1 if anything does not work.

What it prints is meant for bug reports: paste all of it. It has no colours where it is not printed on a
terminal, and no name of a user: the home directory is written as ~.
"""

EXAMPLES = """\
examples:
  memchannel doctor                       NumPy alone
  memchannel doctor scipy pandas sklearn
  memchannel doctor --json scipy | jq .packages
  memchannel doctor scipy > report.txt    for a bug report
"""

Facts = dict[str, Any]

GREETING = b"greeting"

# Shown without memchannel by tests/exits/cpython.py; docs/lifetime.md says on which builds.
FAULTS = (
    "fork beside another interpreter crashes the child: mended where 'fork' says so",
    "exit while a daemon thread runs code in an interpreter may crash: it is stopped, if that is possible",
    "the standard library's list of interpreters crashes beside ends of some: use memchannel.interpreters",
    "two Interpreter.close() at once on one interpreter crash: use memchannel.interpreters.close()",
)
FAULTS_OF_3_13 = (
    "sys._current_frames() crashes beside running interpreters: mended by importing memchannel",
    "a memoryview from the standard library's queue crashes once its interpreter has ended: use MemChannel",
    "an interpreter that ends loses 1.7 MB: pools and reuse=True keep them",
)

# Numbers of threads, allocators and preloaded libraries change what works, and how well.
TELLING = (
    "PYTHON",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "BLIS_",
    "NUMEXPR_",
    "MALLOC_",
    "GLIBC_",
    "LD_",
    "MEMCHANNEL_",
)


def add_parser(commands: Any) -> None:
    """Add ``doctor`` to the subparsers of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="tell what works here, for each package, and why not",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "packages", metavar="PACKAGE", nargs="*", default=["numpy"], help="as imported (default: numpy)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; the status is 1 if anything does not work."""
    facts: Facts = {
        "python": _python(),
        "cpython_faults": cpython_faults(sys.version_info[:2]),
        "platform": _platform(),
        "memchannel": _memchannel(),
        "requirements": _requirements(),
        "environment": _environment(),
        "packages": {name: _package(name) for name in args.packages},
    }
    if args.json:
        say(json.dumps(facts, indent=2))
    else:
        _print(facts)
    checked = [facts["platform"], facts["memchannel"], *facts["packages"].values()]
    return 0 if all(part["ok"] for part in checked) else FAILURE


def _python() -> Facts:
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "build": "debug" if hasattr(sys, "gettotalrefcount") else "release",
        "free_threaded": free_threaded,
        "gil_enabled": sys._is_gil_enabled(),
        "executable": _without_home(sys.executable),
        "compiler": platform.python_compiler(),
    }


def cpython_faults(version: tuple[int, int]) -> list[str]:
    """Name what CPython itself gets wrong with interpreters, and what to do."""
    return [*FAULTS, *(FAULTS_OF_3_13 if version < (3, 14) else ())]


def _without_home(path: str | None) -> str | None:
    home = os.path.expanduser("~")
    if path is None or home in ("~", "/") or not path.startswith(home + os.sep):
        return path
    return "~" + path.removeprefix(home)


def _platform() -> Facts:
    """Say whether private images are possible, and what bounds the number of interpreters."""
    from memchannel import images

    reason = images.unsupported_reason()
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return {
        "ok": reason is None,
        "reason": reason,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpus": os.process_cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_limit": None if limit == resource.RLIM_INFINITY else limit,
        "max_map_count": _max_map_count(),
    }


def _max_map_count() -> int | None:
    """Read how many mappings a process may have; the images of each interpreter take some."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:
        return None


def _memchannel() -> Facts:
    """Send a message out of an interpreter with its own GIL: it arrives if both use the one core."""
    import memchannel
    from memchannel import interpreters

    facts: Facts = {
        "version": memchannel.__version__,
        "core": _without_home(memchannel._core.__file__),
        "fork": "ok: mended" if memchannel._core._fork_is_mended() else "a child crashes beside interpreters",
    }
    try:
        with memchannel.MemChannel() as channel:
            interpreter = interpreters.create(packages=())
            try:
                interpreters.run(interpreter, _send_greeting, shared={"channel": channel}).check()
                with channel.recv(timeout=0) as greeting:
                    arrived = bytes(greeting) == GREETING
            finally:
                interpreters.close(interpreter, timeout=10)
    except Exception as error:
        return {"ok": False, "reason": f"{type(error).__name__}: {error}", **facts}
    return {"ok": arrived, "reason": None if arrived else "a message arrived changed", **facts}


def _send_greeting(channel: Any) -> None:
    channel.send(GREETING)


def _requirements() -> dict[str, str | None]:
    """Give the installed versions of what memchannel requires; None for what is not there."""
    import importlib.metadata

    versions: dict[str, str | None] = {}
    names = ["numpy", "cloudpickle", "threadpoolctl"]
    if sys.version_info < (3, 14):
        names.append("backports.interpreters")
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _environment() -> dict[str, str | None]:
    """Give the settings that bear on what works."""
    return {
        name: os.pathsep.join(filter(None, map(_without_home, value.split(os.pathsep))))
        for name, value in sorted(os.environ.items())
        if name.startswith(TELLING)
    }


def _package(name: str) -> Facts:
    from memchannel.images import probe

    return dataclasses.asdict(probe(name))


def _print(facts: Facts) -> None:
    python, machine, ours = facts["python"], facts["platform"], facts["memchannel"]
    gil = "a GIL" if python["gil_enabled"] else "no GIL"
    print_table(
        [
            ("Python", f"{python['version']} ({python['implementation']}, {python['build']}, {gil})"),
            ("", python["executable"]),
            ("platform", f"{machine['system']}, {machine['libc']}, {machine['cpus']} CPUs"),
            ("memory", _memory(machine)),
            ("memchannel", f"{ours['version']}, {_verdict(ours, 'one core for all interpreters')}"),
            ("", ours["core"]),
            ("requires", _listed(facts["requirements"])),
            ("fork", ours["fork"]),
            ("images", _verdict(machine, "private images of extension modules are possible")),
            *_labelled("environment", _settings(facts["environment"])),
            *_labelled("CPython", facts["cpython_faults"]),
        ]
    )
    say()
    packages = facts["packages"].items()
    print_table([(name, _verdict(package, _experience(package))) for name, package in packages])
    for name, package in packages:
        if package["output"] and not package["ok"]:
            say(f"\n{name} wrote:\n{package['output']}")


def _memory(machine: Facts) -> str:
    limit = machine["memory_limit"]
    allowed = "no limit" if limit is None else f"limited to {format_bytes(limit)}"
    return f"{format_bytes(machine['memory'])}, {allowed}, {machine['max_map_count'] or 'unknown'} mappings"


def _listed(requirements: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'MISSING'}" for name, version in requirements.items())


def _settings(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()] or ["nothing set that bears on this"]


def _labelled(label: str, lines: list[str]) -> list[tuple[str, str]]:
    return list(zip([label, *[""] * len(lines)], lines, strict=False))


def _verdict(part: Facts, what: str) -> str:
    if part["ok"]:
        return f"{painted('ok', 'good', sys.stdout)}: {what}"
    return f"{painted('FAILS', 'bad', sys.stdout)}: {part['reason']}"


def _experience(package: Facts) -> str:
    tried = "imported and used" if package["checked"] else "imported"
    parts = [package["version"], f"{tried} in two interpreters"]
    if package["second_seconds"] is not None:
        parts.append(f"{package['second_seconds'] * 1000:.0f} ms each")
    if package["private_bytes"] is not None:
        parts.append(f"{format_bytes(package['private_bytes'])} each")
    if package["mappings"] is not None:
        parts.append(f"{package['mappings']} mappings each")
    if package["limit"]:
        parts.append(f"but {package['limit']}")
    return ", ".join(filter(None, parts))

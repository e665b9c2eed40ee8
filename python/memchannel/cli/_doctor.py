"""``memchannel doctor``: what this Python, this platform and each package can do, and why not."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

from memchannel.cli._common import FAILURE, format_bytes, print_table, say

DESCRIPTION = """\
Tell what this Python and this platform can do, and whether each PACKAGE loads and works in an interpreter
with a GIL of its own; if something cannot, why not. Packages are named as they are imported, and tried in a
process of their own, so that a crash is an answer, too. The exit status is 1 if anything does not work.
"""

EXAMPLES = """\
examples:
  memchannel doctor                       NumPy alone
  memchannel doctor scipy pandas sklearn
  memchannel doctor --json scipy | jq .packages
"""

Facts = dict[str, Any]

GREETING = b"greeting"


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
        "platform": _platform(),
        "memchannel": _memchannel(),
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
        "executable": sys.executable,
    }


def _platform() -> Facts:
    """Say whether private images are possible, and what bounds the number of interpreters."""
    from memchannel import images

    reason = images.unsupported_reason()
    return {
        "ok": reason is None,
        "reason": reason,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpus": os.process_cpu_count(),
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
        "core": memchannel._core.__file__,
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
            ("mappings", str(machine["max_map_count"] or "unknown")),
            ("memchannel", f"{ours['version']}, {_verdict(ours, 'one core for all interpreters')}"),
            ("", ours["core"]),
            ("fork", ours["fork"]),
            ("images", _verdict(machine, "private images of extension modules are possible")),
        ]
    )
    say()
    packages = facts["packages"].items()
    print_table([(name, _verdict(package, _experience(package))) for name, package in packages])
    for name, package in packages:
        if package["output"] and not package["ok"]:
            say(f"\n{name} wrote:\n{package['output']}")


def _verdict(part: Facts, what: str) -> str:
    return f"ok: {what}" if part["ok"] else f"FAILS: {part['reason']}"


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

"""What figures depend on: the processor, the system, versions, and the checkout if there is one."""

from __future__ import annotations

import functools
import os
import platform
import re
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import memchannel

__all__ = ["checkout", "core_program", "machine", "private_memory", "resident"]


@functools.cache
def checkout() -> Path | None:
    """Find the sources that this package was made from: around it, or where ``./dev`` was started."""
    for folder in (Path(__file__).parents[3], Path.cwd()):
        if (folder / "tests" / "core" / "bench_primitives.cpp").exists():
            return folder
    return None


def machine(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Describe what the figures depend on.

    Returns
    -------
    dict
        Processor, usable cores, load before the run, system, Python and its build, versions of packages.
    """
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {}
    for package in ("numpy", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": cpu,
        "cores": os.process_cpu_count(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
        "memchannel": memchannel.__version__,
        "commit": _commit(),
        **versions,
    }


def _commit() -> str:
    folder = checkout()
    if folder is None:
        return "installed"
    git = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MEMCHANNEL_COMMIT", "unknown")


@functools.cache
def core_program() -> Path:
    """Build the core's own benchmark, without Python, as it is built for users.

    Raises
    ------
    RuntimeError
        There are no sources here, or they cannot be built.
    """
    folder = checkout()
    if folder is None:
        raise RuntimeError("the core without Python is built from the project's sources, which are not here")
    build = folder / "build" / "bench"
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DMEMCHANNEL_PYTHON=OFF", "-DMEMCHANNEL_TESTS=ON"]
    configure = ["cmake", "-S", str(folder), "-B", str(build), "-Wno-dev", "--log-level=WARNING", *options]
    make = ["cmake", "--build", str(build), "--target", "bench_primitives"]
    for command in (configure, make):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return build / "bench_primitives"


@functools.cache
def core_problem() -> str | None:
    """Tell why the core without Python cannot be measured here; None if it can."""
    try:
        core_program()
    except FileNotFoundError as error:
        return f"cannot be built: there is no {error.filename}: pip install {error.filename}"
    except (OSError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        told = [line for line in lines if re.search(r"\b(Error|error|failed)\b", line)]
        return f"cannot be built: {(told or lines)[-1].strip()}"
    return None


def resident() -> int:
    """Return the bytes of memory that the process uses now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def private_memory(process: int | str = "self") -> int:
    """Return the bytes that a process does not share with any other (man 5 proc_pid_smaps)."""
    with Path(f"/proc/{process}/smaps_rollup").open(encoding="ascii") as lines:
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("the benchmarks read Linux's /proc")

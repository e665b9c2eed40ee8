"""Schedulers and workers of Dask in processes of their own, on one machine as on several."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

LONG = 120.0
"""Seconds: only what hangs takes so long. Processes start in them that import all of Dask."""

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "warning",
}


@dataclass
class Host:
    """Where a worker runs."""

    address: str
    scheduler: str
    """The scheduler's address, seen from here."""
    prefix: list[str] = field(default_factory=list)
    """What a command begins with, to run there."""


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, timeout=60)


@contextlib.contextmanager
def _namespaces() -> Iterator[list[Host]]:
    """Two network namespaces, each with a cable to this one and one to the other.

    Addresses are from the range for benchmarks of networks (RFC 2544).
    """
    net = 3 * (os.getpid() % 80)
    names = [f"mc{os.getpid()}{side}" for side in "ab"]

    def cable(one: str | None, other: str, number: int, ends: tuple[int, int]) -> None:
        wires = f"mc{os.getpid()}-{number}", f"mc{os.getpid()}+{number}"
        _ip("link", "add", wires[0], "type", "veth", "peer", "name", wires[1])
        for name, wire, end in zip((one, other), wires, ends, strict=True):
            there = [] if name is None else ["-n", name]
            if name is not None:
                _ip("link", "set", wire, "netns", name)
            _ip(*there, "addr", "add", f"198.18.{net + number}.{end}/24", "dev", wire)
            _ip(*there, "link", "set", wire, "up")

    with contextlib.ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name, check=False)  # and the cables, that end there
            _ip("-n", name, "link", "set", "lo", "up")
        cable(None, names[0], 1, (1, 2))
        cable(None, names[1], 2, (1, 2))
        cable(names[0], names[1], 3, (1, 2))
        # Each reaches the other's only address by the cable between them.
        _ip("-n", names[0], "route", "add", f"198.18.{net + 2}.2/32", "via", f"198.18.{net + 3}.2")
        _ip("-n", names[1], "route", "add", f"198.18.{net + 1}.2/32", "via", f"198.18.{net + 3}.1")
        yield [
            Host(f"198.18.{net + number}.2", f"198.18.{net + number}.1", ["ip", "netns", "exec", name])
            for number, name in enumerate(names, 1)
        ]


@contextlib.contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Network namespaces where this process may make them, else two addresses of the loopback device."""
    with contextlib.ExitStack() as stack:
        hosts = [Host("127.0.0.2", "127.0.0.1"), Host("127.0.0.3", "127.0.0.1")]
        if shutil.which("ip") and os.geteuid() == 0:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                hosts = stack.enter_context(_namespaces())
        yield hosts


class Cluster:
    """A scheduler and a worker on each host, started as `dask scheduler` and `dask worker` start them."""

    def __init__(self, stack: contextlib.ExitStack, hosts: list[Host], folder: Path) -> None:
        self._stack, self._folder = stack, folder
        file = folder / "scheduler.json"
        everywhere = "0.0.0.0"  # each host has an address of its own for it
        options = ["--host", f"tcp://{everywhere}:0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        options += ["--scheduler-file", str(file)]
        self.scheduler = self._start([], "dask_scheduler", *options)
        self.client: Client = stack.enter_context(
            contextlib.closing(Client(scheduler_file=str(file), timeout=LONG, set_as_default=False))
        )
        port = self.client.scheduler.address.rpartition(":")[2]
        self.workers = [self._worker(host, port) for host in hosts]
        self.client.wait_for_workers(len(hosts), timeout=LONG)

    def _worker(self, host: Host, port: str) -> subprocess.Popen[bytes]:
        options = ["--host", host.address, "--nthreads", "2", "--no-nanny", "--no-dashboard"]
        options += ["--memory-limit", "1GB", "--local-directory", str(self._folder / host.address)]
        options += ["--preload", "memchannel.integrations.dask", "--packages", "numpy"]
        return self._start(host.prefix, "dask_worker", f"tcp://{host.scheduler}:{port}", *options)

    def _start(self, prefix: list[str], program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [*prefix, sys.executable, "-m", f"distributed.cli.{program}", *options]
        process = subprocess.Popen(command, env=ENVIRONMENT, cwd=self._folder)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start it, and end all of it, on two hosts."""
    with two_hosts() as hosts, contextlib.ExitStack() as stack:
        yield Cluster(stack, hosts, folder)

"""Whom we are compared with, and who of them is here.

A side of a comparison is named after its peer, with details after a comma: "threads, SimpleQueue".
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from memchannel.bench._machine import checkout

__all__ = ["PEERS", "Peer", "missing", "peer_of", "standard_interpreters"]


@dataclass(frozen=True)
class Peer:
    """Somebody else's way of doing it.

    Attributes
    ----------
    what : str
        A line for readers.
    module : str or None
        What has to be importable; None for the standard library.
    package : str or None
        Where it comes from, if that is not the module's name.
    """

    what: str
    module: str | None = None
    package: str | None = None


PEERS = {
    "threads": Peer("threads of one interpreter: threading, queue.SimpleQueue, ThreadPoolExecutor"),
    "processes": Peer("multiprocessing: pipe, queue, shared_memory, locks; process pools"),
    "interpreters": Peer("the standard library's interpreters and queues (on 3.13: backports.interpreters)"),
    "InterpreterPoolExecutor": Peer("concurrent.futures.InterpreterPoolExecutor, of Python 3.14"),
    "memoryview": Peer("memoryview, and np.asarray of one: the least that a view or an array costs"),
    "pickle": Peer("pickle protocol 5, buffers out of band"),
    "asyncio": Peer("a step of the event loop itself"),
    "serial": Peer("the same work in one thread"),
    "core": Peer("the C++ core without Python: the floor; needs the project's sources and CMake"),
    "joblib": Peer("joblib.Parallel with its memory maps", "joblib"),
    "loky": Peer("loky's reusable executor", "loky"),
    "extrainterpreters": Peer("extrainterpreters.Interpreter", "extrainterpreters"),
    "iceoryx2": Peer("iceoryx2: publish and subscribe in shared memory", "iceoryx2"),
    "ray": Peer("Ray: tasks, and its object store", "ray"),
    "dask": Peer("Dask: a LocalCluster of processes", "distributed", "dask[distributed]"),
}


def peer_of(side: str) -> str | None:
    """Return the peer that a side is named after; None for ours."""
    name = side.partition(",")[0]
    return name if name in PEERS else None


@functools.cache
def missing(name: str) -> str | None:
    """Tell why a peer cannot be measured here; None if it can."""
    peer = PEERS[name]
    if name == "core":
        return None if checkout() else "needs the project's sources"
    if name == "InterpreterPoolExecutor":
        import concurrent.futures

        return None if hasattr(concurrent.futures, name) else "needs Python 3.14"
    if peer.module is not None and importlib.util.find_spec(peer.module) is None:
        return f"not installed: pip install '{peer.package or peer.module}'"
    return None


def standard_interpreters() -> Any:
    """Import the standard library's interpreters, or their backport for Python 3.13."""
    try:
        return importlib.import_module("concurrent.interpreters")
    except ImportError:
        return importlib.import_module("backports.interpreters")

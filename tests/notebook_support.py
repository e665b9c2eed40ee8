"""A real Jupyter kernel in a process of its own, and what it says while cells run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

HANG = 60.0
"""Seconds after which a wait for the kernel counts as a hang."""


@dataclass
class Ran:
    """What one cell has said so far."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    def contents(self, kind: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    def text(self, stream: str = "stdout") -> str:
        return "".join(one["text"] for one in self.contents("stream") if one["name"] == stream)

    @property
    def data(self) -> list[dict[str, Any]]:
        """What was displayed, by MIME type."""
        shown = ("display_data", "execute_result")
        return [one["content"]["data"] for one in self.messages if one["msg_type"] in shown]

    @property
    def error(self) -> str:
        """The name of the exception that ended it."""
        return "".join(one["ename"] for one in self.contents("error"))

    @property
    def traceback(self) -> str:
        return "\n".join(line for one in self.contents("error") for line in one["traceback"])

    @property
    def kinds(self) -> list[str]:
        """What was shown, in order; text counts once, in however many messages it came."""
        shown = ("stream", "display_data", "execute_result", "update_display_data", "clear_output", "error")
        kinds = [one["msg_type"] for one in self.messages if one["msg_type"] in shown]
        return [
            kind
            for kind, before in zip(kinds, ["", *kinds], strict=False)
            if (kind, before) != ("stream",) * 2
        ]


class Kernel:
    """Runs cells, one after the other."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self._client = client
        self._cells: dict[str, Ran] = {}

    @property
    def pid(self) -> int:
        pid: int = self.manager.provisioner.pid
        return pid

    def start(self, source: str) -> Ran:
        """Begin to run a cell."""
        ran = Ran()
        self._cells[self._client.execute(source)] = ran
        return ran

    def wait(self, ran: Ran, for_: Any = lambda ran: ran.done) -> Ran:
        """Take messages until the cell has said what is waited for."""
        deadline = time.monotonic() + HANG
        while not for_(ran):
            assert time.monotonic() < deadline, f"it did not come about: {ran}"
            assert not (ran.done and for_ is not None), f"the cell ended without: {ran}"
            self._take()
        return ran

    def _take(self) -> None:
        try:
            message = self._client.get_iopub_msg(timeout=1)
        except Empty:
            assert self.manager.is_alive(), "the kernel died"
            return
        ran = self._cells.get(message["parent_header"].get("msg_id"))
        if ran is None:
            return
        ran.messages.append(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            ran.done = True

    def run(self, source: str) -> Ran:
        return self.wait(self.start(source))

    def value(self, expression: str) -> str:
        """What an expression prints."""
        ran = self.run(f"print({expression}, end='')")
        assert not ran.error, ran.traceback
        return ran.text()

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        self.manager.restart_kernel(now=False)
        self._client.wait_for_ready(timeout=HANG)


@contextmanager
def kernel(folder: Path, first_on_path: Path | None = None) -> Iterator[Kernel]:
    """Start a kernel whose modules come from one more folder, and whose extension is loaded."""
    environment = dict(os.environ)
    environment["IPYTHONDIR"] = str(folder / "ipython")
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(first_on_path or ""), environment.get("PYTHONPATH", "")])
    )
    manager = KernelManager()
    manager.start_kernel(env=environment, cwd=str(folder), extra_arguments=["--colors=nocolor"])
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=HANG)
        started = Kernel(manager, client)
        loaded = started.run("%load_ext memchannel")
        assert not loaded.error, loaded.traceback
        yield started
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

"""Inside the interpreter that runs a notebook's cells: an IPython shell whose output goes to the notebook."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Coroutine
from typing import Any, NamedTuple

from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from memchannel import _core, _output
from memchannel.codecs.functions import unpicklable_part
from memchannel.codecs.object import ByValue
from memchannel.exceptions import ExceptionSnapshot, snapshot

__all__ = ["CLEAR", "DISPLAY", "Cell", "CellOutcome", "Failure", "prepare", "run_cell"]

_hidden_in_tracebacks = True

DISPLAY, CLEAR = range(len(_output.NAMES), len(_output.NAMES) + 2)
"""Numbers of what travels beside the text of stdout and stderr, in one order with it."""


class Cell(NamedTuple):
    """What is to be run."""

    source: str
    number: int
    """The notebook's own count of the cell, for tracebacks."""
    outputs: tuple[str, ...]
    """Names whose values are wanted."""
    values: int
    """The channel that takes them, one dict for each."""
    output: _output.OutputSetup


class Failure(NamedTuple):
    """An exception of a cell."""

    exception: ExceptionSnapshot
    lines: list[str] | None
    """The traceback as IPython shows it; None where IPython shows none."""
    is_usage_error: bool
    """Whether it is a magic's own word for wrong arguments."""


class CellOutcome(NamedTuple):
    """How it went."""

    failure: Failure | None
    missing: list[str]
    """Outputs that the cell did not define."""
    refused: dict[str, str]
    """Outputs that cannot be shared, and why."""


# ---- what the shell shows, on its way


class _Sender:
    """Sends what is displayed to where the cell came from, while it runs."""

    def __init__(self, setup: _output.OutputSetup) -> None:
        self._lines: _core.SendChannel[Any] = _core.SendChannel(setup.lines)
        self._bell: _core.SendChannel[bool] = _core.SendChannel(setup.bell)

    def send(self, kind: int, what: Any) -> None:
        """Send it after all that was printed before."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._lines.send((0, kind, what))
        self._bell.send_nowait(True)


_WIDGET = "application/vnd.jupyter.widget-view+json"
"""Of what only the kernel itself has; its text is shown instead."""


class _Publisher(DisplayPublisher):
    sender: _Sender | None = None

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: Any = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        if self.sender is None:  # a thread of a cell that is over
            print(data.get("text/plain", ""))
            return
        data = {kind: shown for kind, shown in data.items() if kind != _WIDGET}
        what = {"data": data, "metadata": metadata or {}, "transient": transient or {}, "update": update}
        self.sender.send(DISPLAY, what)

    def clear_output(self, wait: bool = False) -> None:
        if self.sender is not None:
            self.sender.send(CLEAR, bool(wait))


class _Hook(DisplayHook):
    """Shows the value of a cell's last expression as `display` shows it."""

    source = ""

    def quiet(self) -> bool:
        return bool(self.semicolon_at_end_of_expression(self.source))

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        self.shell.display_pub.publish(format_dict, md_dict)

    def finish_displayhook(self) -> None:
        pass


class _Shell(InteractiveShell):
    display_pub_class = _Publisher
    displayhook_class = _Hook
    traceback_lines: list[str] | None = None

    def init_virtualenv(self) -> None:
        pass  # sys.path is the notebook's

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: Any) -> None:
        self.traceback_lines = [stb] if isinstance(stb, str) else list(stb)

    def show_usage_error(self, exc: BaseException) -> None:
        pass  # raised again where the cell came from

    def enable_gui(self, gui: str | None = None) -> None:
        if gui not in (None, "inline"):
            raise UsageError(f"figures are shown under the cell: take %matplotlib inline, not {gui}")

    def ask_exit(self) -> None:
        raise UsageError("an interpreter is closed from the notebook: %interpreters --close NAME")

    def system(self, cmd: str) -> None:
        """Run a command that follows ``!``; IPython's way is to fork, which isolated interpreters refuse."""
        self.user_ns["_exit_code"] = _run_command(self.var_expand(cmd, depth=1))

    def run_async(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a cell with top-level ``await``."""
        loop: asyncio.AbstractEventLoop = get_asyncio_loop()
        beat, task = loop.create_task(_beat()), loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt as exc:
            # As asyncio.Runner does it: what awaits is cancelled, and what began it is interrupted.
            task.cancel()
            result = loop.run_until_complete(task)
            if isinstance(result.error_in_exec, asyncio.CancelledError):
                exc = exc.with_traceback(result.error_in_exec.__traceback__)
                result.error_in_exec = exc
                self.showtraceback((type(exc), exc, exc.__traceback__), running_compiled_code=True)
            return result
        finally:
            beat.cancel()


_BEAT = 0.1
"""Seconds after which what waits looks up: the stop button does not end a wait of the system."""


async def _beat() -> None:
    while True:
        await asyncio.sleep(_BEAT)


def _run_command(command: str) -> int:
    """Run a shell command, show what it prints as it comes, and give its exit code."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout
    with process:
        try:
            while True:
                if not select.select([process.stdout], [], [], _BEAT)[0]:
                    continue
                if not (printed := os.read(process.stdout.fileno(), 65536)):
                    break
                sys.stdout.write(decode(printed))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with what the shell began
            raise
    return process.returncode


_shells: list[_Shell] = []


def prepare(colors: str) -> None:
    """Make the shell, once for each interpreter; its names are those of ``__main__``."""
    environ: Any = os.environ
    # In this interpreter's own copy of the environment: figures become pictures.
    environ._data[b"MPLBACKEND"] = b"module://matplotlib_inline.backend_inline"
    config = Config()
    config.HistoryManager.enabled = False  # it has a daemon thread, which isolated interpreters refuse
    config.InteractiveShell.colors = colors
    warnings.filterwarnings("ignore", "tqdm:disabling monitor support")  # another such thread of no use
    shell = _Shell.instance(config=config, user_module=sys.modules["__main__"])
    shell.loop_runner = shell.run_async
    _shells.append(shell)


# ---- running


def run_cell(cell: Cell, /, **inputs: Any) -> CellOutcome:
    """Run a cell with these names, send what is wanted of it, and say how it went."""
    shell = _shells[-1]
    shell.user_ns.update(inputs)
    with _showing(shell, cell):
        failure = _run(shell, cell)
        missing, refused = ([], {}) if failure else _send_outputs(shell.user_ns, cell)
    return CellOutcome(failure, missing, refused)


@contextlib.contextmanager
def _showing(shell: _Shell, cell: Cell) -> Any:
    _output.connect(cell.output)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr] # dots of a progress bar, too
    shell.display_pub.sender = _Sender(cell.output)
    try:
        yield
    finally:
        shell.display_pub.sender = None
        _output.disconnect(for_good=True)


def _run(shell: _Shell, cell: Cell) -> Failure | None:
    shell.execution_count = cell.number
    shell.displayhook.source = cell.source
    shell.traceback_lines = None
    result = shell.run_cell(cell.source)
    exc = result.error_before_exec or result.error_in_exec
    if exc is None:
        return None
    return Failure(snapshot(exc), shell.traceback_lines, isinstance(exc, UsageError))


def _send_outputs(names: dict[str, Any], cell: Cell) -> tuple[list[str], dict[str, str]]:
    channel: _core.SendChannel[Any] = _core.SendChannel(cell.values)
    missing, refused = [], {}
    for name in cell.outputs:
        if name not in names:
            missing.append(name)
            continue
        try:
            channel.send(ByValue({name: names[name]}))
        except Exception as exc:
            refused[name] = unpicklable_part(names[name]) or str(exc)
    return missing, refused

"""Interpreters kept by name, and running cells in them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memchannel import _core, interpreters
from memchannel._display import Table
from memchannel._output import OF_STREAMS, Output
from memchannel.notebook import _shell

__all__ = ["Keeper", "Kept", "UnsharableInputError", "run_in"]


class UnsharableInputError(ValueError):
    """A variable of the notebook cannot be shared with a cell."""


@dataclass(slots=True)
class Kept:
    """An interpreter that cells run in."""

    name: str
    interpreter: interpreters.Interpreter
    packages: tuple[str, ...]
    gave: set[str] = field(default_factory=set)
    """Names in the notebook that its values were given to."""

    @property
    def exists(self) -> bool:
        """Whether nobody closed it."""
        return self.interpreter.id in {one.id for one in interpreters.list_all()}


# ---- running


class _CellOutput(Output):
    """Shows what a cell displays, too."""

    def __init__(self, name: str, publisher: Any) -> None:
        super().__init__(name, prefixed=False)
        self._publisher = publisher

    def _flush(self, number: int) -> None:
        if number < _shell.DISPLAY:
            super()._flush(number)

    def _write(self, worker: int, number: int, what: Any) -> None:
        # What the publisher raises belongs to no cell.
        with contextlib.suppress(*OF_STREAMS):
            if number == _shell.DISPLAY:
                self._publisher.publish(**what)
            elif number == _shell.CLEAR:
                self._publisher.clear_output(what)
            else:
                super()._write(worker, number, what)


def run_in(
    kept: Kept,
    source: str,
    *,
    number: int,
    inputs: Mapping[str, Any],
    outputs: Iterable[str],
    publisher: Any,
) -> tuple[_shell.CellOutcome, dict[str, Any]]:
    """Run a cell, and show meanwhile what it prints and displays.

    Parameters
    ----------
    number : int
        The cell's own, in the notebook.
    inputs : mapping
        Becomes names in the interpreter.
    outputs : iterable of str
        Names that are taken from it.
    publisher : IPython.core.displaypub.DisplayPublisher
        What shows it.

    Returns
    -------
    outcome : CellOutcome
    values : dict
        Outputs that came, by name; arrays are views of the interpreter's memory.

    Raises
    ------
    KeyboardInterrupt
        It was interrupted.
    RuntimeError
        The interpreter runs something.
    UnsharableInputError
        An input cannot be shared; the message names it. Nothing was run.
    """
    values: _core.Channel[dict[str, Any]] = _core.Channel()
    output = _CellOutput(f"cell in interpreter {kept.interpreter.id}", publisher)
    cell = _shell.Cell(source, number, tuple(outputs), values.id, output.setup(0))
    output.enter()
    try:
        task = functools.partial(_shell.run_cell, cell)
        result = interpreters.run(kept.interpreter, task, shared=inputs, thread=True)
    except ValueError as exc:
        raise UnsharableInputError(*exc.args) from exc
    finally:
        output.join(output.leave())
    outcome: _shell.CellOutcome = result.check().value
    given: dict[str, Any] = {}
    while (one := values.recv_nowait()) is not None:
        given |= one
    kept.gave |= given.keys()
    return outcome, given


# ---- keeping


def _made(packages: tuple[str, ...], colors: str) -> interpreters.Interpreter:
    interpreter = interpreters.create(packages)
    try:
        interpreters.run(interpreter, functools.partial(_shell.prepare, colors), thread=True).check()
    except BaseException:
        interpreters.close(interpreter, timeout=None)
        raise
    return interpreter


_closing: list[Kept] = []
"""Closed by their user, while others used their memory. They outlive the magics that made them."""


class Keeper:
    """The interpreters of one notebook, by name."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    def get(self, name: str) -> Kept | None:
        """Return the interpreter of this name, if there is one."""
        self._close_rest()
        return self._kept.get(name)

    def make(self, name: str, packages: tuple[str, ...], colors: str) -> Kept:
        """Make the interpreter of this name, with a shell in it whose tracebacks have these colours.

        Raises
        ------
        ModuleNotFoundError, memchannel.images.ImageError
            A package is not installed, or does not work there.
        MemoryError, RuntimeError
            The interpreter could not be made.
        """
        kept = self._kept[name] = Kept(name, _made(packages, colors), packages)
        return kept

    def forget(self, name: str) -> None:
        """Give up an interpreter that somebody else closed."""
        del self._kept[name]

    def close(self, name: str) -> str:
        """Close an interpreter, or note that it is to be closed when its memory is back; say which.

        Raises
        ------
        RuntimeError
            It runs something, or has threads that would not be waited for.
        """
        kept = self._kept[name]
        told = f"interpreter {name!r} ({kept.interpreter.id})"
        if not kept.exists:
            self.forget(name)
            return f"{told} had ended before"
        try:
            interpreters.close(kept.interpreter)
        except BufferError as exc:
            _closing.append(kept)
            self.forget(name)
            held = f"; it gave {', '.join(sorted(kept.gave))}" if kept.gave else ""
            held += " (Out and _ keep what was displayed)"
            return f"{told} will be closed when its memory is not used any more: {exc}{held}"
        self.forget(name)
        return f"{told} is closed"

    def _close_rest(self) -> None:
        """Close what can be closed by now; done at each use, so that no other thread ends them meanwhile."""
        for kept in list(_closing):
            if not kept.exists or _closes(kept.interpreter):
                _closing.remove(kept)

    def names(self) -> list[str]:
        """Return the names, in the order of their first use."""
        return list(self._kept)

    def table(self) -> Table:
        """Return a list of these and of all other interpreters of the process."""
        self._close_rest()
        rows = [
            _row(kept, _state(kept.interpreter) if kept.exists else _ENDED) for kept in self._kept.values()
        ]
        rows += [_row(kept, "to be closed") for kept in _closing]
        listed = {int(row[1]) for row in rows}
        main, current = interpreters.get_main().id, interpreters.get_current().id
        for other in interpreters.list_all():
            if other.id not in listed:
                name = "this one" if other.id == current else "main" if other.id == main else "-"
                views = str(_core._lent_by(other.id)[0])
                rows.append((name, str(other.id), _state(other), "-", views, "-"))
        return Table("", ("name", "id", "state", "packages", "views out", "gave"), rows)


def _state(interpreter: interpreters.Interpreter) -> str:
    return "running" if interpreters.is_running(interpreter) else "idle"


_ENDED = "ended: its names are lost"


def _row(kept: Kept, state: str) -> tuple[str, ...]:
    number = kept.interpreter.id
    gave = ", ".join(sorted(kept.gave)) or "-"
    packages = ", ".join(kept.packages) or "none"
    return kept.name, str(number), state, packages, str(_core._lent_by(number)[0]), gave


def _closes(interpreter: interpreters.Interpreter) -> bool:
    try:
        interpreters.close(interpreter)
    except (BufferError, RuntimeError):
        return False
    return True

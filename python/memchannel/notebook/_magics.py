"""The magics themselves: their arguments, and what is said of wrong ones."""

from __future__ import annotations

import contextlib
import keyword
import threading
from collections.abc import Iterable
from typing import Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from memchannel import interpreters
from memchannel._display import Table
from memchannel.errors import RemoteError
from memchannel.exceptions import restore
from memchannel.images import ImageError
from memchannel.notebook._cells import Keeper, Kept, UnsharableInputError, run_in
from memchannel.notebook._shell import CellOutcome, Failure

__all__ = ["InterpreterMagics"]

_RESERVED = ("main", "-")


def _split(option: str, given: Iterable[str] | None) -> list[str]:
    """Give the names of a list with commas, or of several."""
    names = [name.strip() for text in given or () for name in text.split(",")]
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(
                f"{option} takes names of variables with commas between them and no spaces, such as a,b; "
                f"{name!r} is none"
            )
    return list(dict.fromkeys(names))


def _packages(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    if given.strip().lower() == "none":
        return ()
    return tuple(name for part in given.split(",") if (name := part.strip()))


@magics_class
class InterpreterMagics(Magics):
    """``%%interpreter`` and ``%interpreters``."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._keeper = Keeper()
        self._making = threading.RLock()

    # ---- %%interpreter

    @magic_arguments()
    @argument(
        "name", help="The interpreter's name. It is made on first use, and kept with all its variables."
    )
    @argument(
        "-i",
        "--input",
        action="append",
        metavar="A,B",
        help="Variables of the notebook that the cell gets; arrays are not copied, and are read-only there.",
    )
    @argument(
        "-o",
        "--output",
        action="append",
        metavar="C,D",
        help="Variables of the cell that the notebook gets; arrays are not copied, and are read-only here.",
    )
    @argument(
        "-p",
        "--packages",
        metavar="LIST",
        help="Packages with extension modules that it can import: names with commas between them, 'none', or "
        "'all', which is the default. For its first use.",
    )
    @cell_magic
    def interpreter(self, line: str, cell: str) -> None:
        """Run the cell in an interpreter of its own, which has its own GIL and its own variables.

        What it prints and displays appears as it comes; the stop button raises KeyboardInterrupt in it.
        """
        arguments = parse_argstring(self.interpreter, line)
        inputs = self._inputs(_split("-i", arguments.input))
        outputs = _split("-o", arguments.output)
        with self._making:  # one of each name, whichever threads run cells
            kept = self._kept(arguments.name, _packages(arguments.packages))
        # A comment for the magic's own line: lines in tracebacks are counted as in the notebook.
        source = cell if cell.lstrip().startswith("%%") else f"# %%interpreter {line}\n{cell}"
        outcome, values = self._run(kept, source, inputs, outputs)
        self.shell.user_ns.update(values)
        if outcome.failure is not None:
            _raise(outcome.failure)
        _refuse_lacking(kept.name, outcome)

    def _inputs(self, names: list[str]) -> dict[str, Any]:
        there = self.shell.user_ns
        for name in names:
            if name not in there:
                raise UsageError(
                    f"-i {name}: the notebook has no variable {name!r}; run the cell that sets it"
                )
        return {name: there[name] for name in names}

    def _kept(self, name: str, packages: tuple[str, ...] | None) -> Kept:
        kept = self._keeper.get(name)
        if kept is None:
            return self._make(name, ("all",) if packages is None else packages)
        if not kept.exists:
            self._keeper.forget(name)
            raise UsageError(
                f"interpreter {name!r} ({kept.interpreter.id}) was closed since its last cell, and its "
                "variables are lost; run this cell again for a new one"
            )
        if packages is not None and frozenset(packages) != frozenset(kept.packages):
            raise UsageError(
                f"interpreter {name!r} was made with --packages {','.join(kept.packages) or 'none'}, which "
                f"cannot change; close it first (%interpreters --close {name}), or take another name"
            )
        return kept

    def _make(self, name: str, packages: tuple[str, ...]) -> Kept:
        if not name.replace("-", "_").isidentifier() or name in _RESERVED:
            raise UsageError(
                f"{name!r} cannot name an interpreter: take letters, digits, '-' and '_', not 'main'"
            )
        try:
            return self._keeper.make(name, packages, self.shell.colors)
        except (ImportError, ImageError) as exc:
            raise UsageError(f"interpreter {name!r} cannot be made: {exc} (see --packages)") from exc

    def _run(
        self, kept: Kept, source: str, inputs: dict[str, Any], outputs: list[str]
    ) -> tuple[CellOutcome, dict[str, Any]]:
        if interpreters.is_running(kept.interpreter):
            raise UsageError(f"interpreter {kept.name!r} still runs something; wait until it is done")
        try:
            return run_in(
                kept,
                source,
                number=self._number(),
                inputs=inputs,
                outputs=outputs,
                publisher=self.shell.display_pub,
            )
        except UnsharableInputError as exc:
            raise UsageError(
                f"-i: {exc}; share the arrays in it by names of their own, or make it in the cell"
            ) from exc

    def _number(self) -> int:
        """Return the number of the cell that runs; IPython 9 counts it already when it begins."""
        return max(1, len(self.shell.history_manager.input_hist_parsed) - 1)

    # ---- %interpreters

    @magic_arguments()
    @argument(
        "-d",
        "--close",
        nargs="+",
        metavar="NAME",
        default=(),
        help="Close these; one whose memory is still used at a later use of these magics.",
    )
    @line_magic
    def interpreters(self, line: str) -> Table | None:
        """List the interpreters of this process, those of ``%%interpreter`` by name; or close some."""
        names = dict.fromkeys(parse_argstring(self.interpreters, line).close)
        if not names:
            return self._keeper.table()
        for name in names:
            if self._keeper.get(name) is None:
                there = ", ".join(self._keeper.names()) or "none yet"
                raise UsageError(f"there is no interpreter {name!r}; there are: {there}")
        self._close(names)
        return None

    def _close(self, names: Iterable[str]) -> None:
        """Close what can be closed of these."""
        problems = []
        for name in names:
            try:
                print(self._keeper.close(name))
            except RuntimeError as exc:
                problems.append(f"interpreter {name!r} cannot be closed: {exc}")
        if problems:
            raise UsageError("; ".join(problems))

    def close_all(self) -> None:
        """Close all of this notebook's interpreters."""
        self._close(self._keeper.names())


def _raise(failure: Failure) -> NoReturn:
    """Raise a cell's exception, shown by the traceback that its own shell made."""
    taken = failure.exception
    if failure.is_usage_error:
        raise UsageError(taken.message)
    exc: Any = restore(taken)
    if isinstance(exc, SyntaxError) or failure.lines is None:
        # IPython would show our frames with it. Of groups it lets Python print the traceback: that is there.
        exc = RemoteError(str(taken), taken.type_name, taken.formatted)
    lines = failure.lines or [str(taken)]
    with contextlib.suppress(AttributeError, TypeError):  # its class takes no attributes
        exc._render_traceback_ = lambda: lines
    raise exc


def _refuse_lacking(name: str, outcome: CellOutcome) -> None:
    problems = [
        f"{one!r} is no variable of interpreter {name!r}: let the cell set it" for one in outcome.missing
    ]
    problems += [
        f"{one!r} cannot be shared: {why}; give the arrays in it names of their own"
        for one, why in outcome.refused.items()
    ]
    if problems:
        raise UsageError(f"-o: {'; '.join(problems)}")

"""An isolated interpreter beside the one that runs the tests, for what has to be seen from both sides."""

from __future__ import annotations

import _interpreters
import sys
import textwrap
from types import TracebackType
from typing import Any, Self

import memchannel


class SecondInterpreter:
    """An interpreter with its own GIL, in which memchannel is imported; it ends with the `with` block.

    Parameters
    ----------
    numpy : bool
        Whether NumPy can be imported in it, as a private image.
    """

    def __init__(self, *, numpy: bool = False) -> None:
        self.id = int(_interpreters.create("isolated", reqrefs=True))
        _interpreters.incref(self.id)  # or it ends with the last lease of its memory
        self._ended = False
        try:
            self.run(f"import sys; sys.path[:] = {sys.path!r}; import memchannel")
            if numpy:
                self.run("import memchannel.images; memchannel.images.enable('numpy'); import numpy as np")
        except BaseException:
            self.end()
            raise

    def run(self, source: str, **names: Any) -> None:
        """Run source in its ``__main__``, after names were set: numbers, strings, or channels (by their id).

        Raises
        ------
        AssertionError
            Whatever the source raised, with the other side's traceback.
        """
        lines = []
        values = {}
        for name, value in names.items():
            if isinstance(value, memchannel.RecvChannel | memchannel.SendChannel):
                lines.append(f"{name} = memchannel.{type(value).__name__}({value.id})")
            else:
                values[name] = value
        error = _interpreters.run_string(self.id, "\n".join([*lines, textwrap.dedent(source)]), values)
        if error is not None:
            raise AssertionError(f"interpreter {self.id}: {error.errdisplay}")

    def end(self) -> None:
        """Destroy it; by force if memory of it is lent."""
        if not self._ended:
            self._ended = True
            _interpreters.destroy(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

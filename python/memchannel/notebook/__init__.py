"""For notebooks: ``%load_ext memchannel`` gives ``%%interpreter`` and ``%interpreters``.

``%%interpreter NAME -i a,b -o c`` runs a cell in an interpreter of its own, which is made on first use and
kept. `a` and `b` are shared with it, `c` is taken from it, arrays without a copy. What it prints and displays
appears under the cell as it comes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load", "unload"]


def load(shell: Any) -> None:
    """Register the magics with an IPython shell; what ``%load_ext memchannel`` does."""
    from memchannel.notebook._magics import InterpreterMagics

    shell.register_magics(InterpreterMagics)


def unload(shell: Any) -> None:
    """Close the interpreters of the magics, and take these away; what ``%unload_ext memchannel`` does."""
    magics = shell.magics_manager.registry.get("InterpreterMagics")
    if magics is not None:
        magics.close_all()
        shell.magics_manager.magics["cell"].pop("interpreter", None)
        shell.magics_manager.magics["line"].pop("interpreters", None)

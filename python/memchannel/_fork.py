"""What os.fork() means for other interpreters.

CPython's own child crashes while another interpreter is alive. `_core` makes it forget them, by offsets that
it checks when it is imported; where these do not fit, a fork warns before it happens.
"""

from __future__ import annotations

import _interpreters
import os
import warnings

from memchannel import _core
from memchannel._listing import interpreter_numbers

__all__ = ["warn_of_fork"]


def warn_of_fork() -> None:
    """Warn of a fork whose child will crash, naming the interpreters that it will crash of."""
    main = _interpreters.get_main()[0]
    others = [number for number in interpreter_numbers() if number != main]
    if not others:
        return
    plural = "interpreter" if len(others) == 1 else "interpreters"
    names = ", ".join(map(str, others))
    warnings.warn(
        f"os.fork() while {plural} {names} exist: on this build of CPython the child crashes unless it calls "
        "exec at once. Close them first, or start processes by subprocess or multiprocessing's spawn",
        RuntimeWarning,
        stacklevel=2,
    )


if not _core._fork_is_mended():
    os.register_at_fork(before=warn_of_fork)

"""What CPython 3.13 does wrong in `sys._current_frames`.

It makes frame objects for the threads of all interpreters, in memory of the one that asks, and the others
free them (Python/pystate.c, _PyThread_CurrentFrames): the process crashes. Debuggers, profilers and test
runners ask.
"""

from __future__ import annotations

import sys

from memchannel import _core

__all__: list[str] = []

if sys.version_info < (3, 14):
    sys._current_frames = _core._current_frames

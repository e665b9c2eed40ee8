"""What test_run.py runs in other interpreters, which import it from here: no NumPy, so that bare ones can."""

from __future__ import annotations

import threading
from typing import Any


def double(value: Any) -> Any:
    return value * 2


def lock_inside() -> dict[str, Any]:
    return {"here": [threading.Lock()]}


def send_spam(end: Any) -> None:
    end.send(b"spam")


def report(end: Any, value: Any) -> None:
    end.send(value)


def fail(text: str) -> None:
    raise ValueError(text)


def current_id() -> int:
    from memchannel import interpreters

    return int(interpreters.get_current().id)


def busy_until(begun: Any, go_on: Any) -> str:
    begun.send(1)
    while go_on.recv_nowait() is None:
        pass
    return "done"


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y + by)


class UnpicklableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")

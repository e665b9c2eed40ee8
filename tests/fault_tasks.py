"""What fails in workers, for the tests of faults; without NumPy and pytest, so that any interpreter can."""

from __future__ import annotations

import pickle


class FaultError(Exception):
    """What the faults raise."""


class Fault:
    """Raises where it is pickled, or where it is made again."""

    def __init__(self, where: str, error: type[BaseException] = FaultError) -> None:
        self.where, self.error = where, error

    def __reduce__(self):
        if self.where == "pickle":
            raise self.error("while it was pickled")
        return fail, (self.error, "while it was made again")


class FaultyPickleError(Exception):
    """Cannot be pickled."""

    def __reduce__(self):
        raise pickle.PicklingError("no")


class FaultyUnpickleError(Exception):
    """Cannot be made again."""

    def __reduce__(self):
        return fail, (FaultError, "while it was made again")


class FaultyTextError(Exception):
    """Cannot say what it is."""

    def __str__(self):
        raise FaultError("no text")


def fail(error, *args):
    raise error(*args)


def make(where, error=FaultError):
    return Fault(where, error)


def exhaust_memory():
    return bytearray(1 << 62)


def recurse():
    return recurse()


def fail_each_hundredth(i):
    if i % 100 == 7:
        raise FaultError(i)
    return i

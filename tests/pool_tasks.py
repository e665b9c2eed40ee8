"""Functions that workers of the pool tests import; without NumPy, so that any interpreter can."""

from __future__ import annotations

import builtins
import threading


def same(value):
    return value


def pointer(array):
    return array.__array_interface__["data"][0]


def pointer_and_flag(array):
    return pointer(array), bool(array.flags.writeable)


def interpreter_id():
    from memchannel import interpreters

    return interpreters.get_current().id


def fail(text):
    raise KeyError(text)


class UnpicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


def fail_unpicklable():
    raise UnpicklableError("some text", threading.Lock())


def remember(value):
    builtins.remembered = value


def recall(_=None):
    return builtins.remembered


def square_in_a_pool(n):
    from memchannel import InterpreterPool

    with InterpreterPool(1, packages=None) as inner:
        return inner.submit(pow, n, 2).result()


def first_of(block):
    return int(block[0])


def wait_then_return(go, value):
    go.recv()
    return value

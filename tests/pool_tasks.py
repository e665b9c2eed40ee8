"""Functions that workers of the pool tests import; without NumPy, so that any interpreter can."""

from __future__ import annotations

import builtins
import contextvars
import ctypes
import decimal
import functools
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


interrupt_importer = functools.partial(
    ctypes.pythonapi.PyThreadState_SetAsyncExc,
    ctypes.c_ulong(threading.get_ident()),
    ctypes.py_object(KeyboardInterrupt),
)
"""Interrupts the thread that imported this module, at its next step in Python."""


class SlowlyToldError(Exception):
    def __init__(self, begun, go):
        super().__init__()
        self.begun, self.go = begun, go

    def __str__(self):
        if self.begun:
            self.begun.send(None)
            self.begun = None
            self.go.recv()
        return "told"


def fail_slowly(begun, go):
    raise SlowlyToldError(begun, go)


SETTING = contextvars.ContextVar("SETTING", default="default")


def setting():
    return SETTING.get()


def change_setting(value):
    SETTING.set(value)


def precision(_):
    return decimal.getcontext().prec

"""Deferring Ctrl-C."""

from __future__ import annotations

import signal
import threading

import pytest

from memchannel._interrupts import interrupts_deferred


def test_it_comes_at_the_end():
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exception_of_the_block_is_its_context():
    with pytest.raises(KeyboardInterrupt) as caught, interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("first")
    assert isinstance(caught.value.__context__, ValueError)


def test_the_handler_of_the_program_is_called_once():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *arguments: calls.append(arguments[0]))
    try:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert calls == []
        assert calls == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_nested():
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
        reached.append("the end of the outer one")
    assert reached == ["the end of the outer one"]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_handlers_that_are_not_pythons_stay(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with interrupts_deferred():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone():
    seen = []

    def look():
        with interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]

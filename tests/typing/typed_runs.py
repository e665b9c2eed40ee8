"""What a type checker knows of runs, memory and registration. Every line also runs."""

from __future__ import annotations

import threading
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

import memchannel
from memchannel import interpreters
from memchannel.exceptions import ExceptionSnapshot
from memchannel.interpreters import RunResult


def square(number: int) -> int:
    return number * number


def running() -> None:
    interp = interpreters.create()
    try:
        result = interpreters.run(interp, square, number=3)
        assert_type(result, RunResult[int])
        assert_type(result.check(), RunResult[int])
        assert_type(result.value, int | Any)
        value: int = result.check().value
        assert value == 9
        assert_type(result.exception, ExceptionSnapshot | None)
        assert_type(interpreters.run(interp, "print(1)", capture_output=True), RunResult[None])
        assert_type(result.stdout, str | None)
        with pytest.raises(TypeError, match="source text or a callable"):
            interpreters.run(interp, 3)  # type: ignore[call-overload]
    finally:
        interpreters.close(interp, timeout=10)


def results_as_arguments() -> None:
    def value_of(result: RunResult[float]) -> float:
        found: float = result.check().value
        return found

    interp = interpreters.create()
    try:
        assert value_of(interpreters.run(interp, square, shared={"number": 2})) == 4
        value_of(interpreters.run(interp, str, object=b"x"))  # type: ignore[arg-type]
    finally:
        interpreters.close(interp, timeout=10)


def calling() -> None:
    here = interpreters.get_current()
    interpreters.call_soon(here, print, "anything", 3)
    interpreters.call_soon(here, square, 3)
    with pytest.raises(TypeError, match="callable"):
        interpreters.call_soon(here, "print", 3)  # type: ignore[arg-type]


def memory() -> None:
    assert_type(memchannel.empty((2, 3)), NDArray[np.float64])
    assert_type(memchannel.zeros(4, np.int16), NDArray[np.int16])
    assert_type(memchannel.zeros(4, np.dtype(np.uint8)), NDArray[np.uint8])
    assert_type(memchannel.empty(4, "i4"), NDArray[Any])
    assert_type(memchannel.array(np.arange(3, dtype=np.int8)), NDArray[np.int8])
    assert_type(memchannel.array([1, 2], np.float32), NDArray[np.float32])
    with pytest.raises(ValueError, match="order"):
        memchannel.empty(3, order="K")  # type: ignore[call-overload]


class Samples:
    def __init__(self, rate: int, data: bytearray) -> None:
        self.rate, self.data = rate, data


def registering() -> None:
    memchannel.register(
        Samples,
        share=lambda samples: (samples.rate, [samples.data]),
        rebuild=lambda rate, views: Samples(rate, bytearray(views[0])),
        on_returned=lambda samples: samples.data.clear(),
    )

    def share_text(text: str) -> tuple[int, list[bytes]]:
        return len(text), [text.encode()]

    memchannel.register(Samples, share_text, lambda rate, views: Samples(rate, bytearray()))  # type: ignore[arg-type]
    memchannel.register(Samples, lambda samples: (1, []), lambda rate, views: "samples")  # type: ignore[arg-type,return-value]


def primitives() -> None:
    with memchannel.Lock() as held:
        assert_type(held, bool)
    counter = memchannel.Counter(3)
    assert_type(counter.add(2), int)
    assert_type(counter.compare_exchange(5, 6), bool)
    assert_type(memchannel.Barrier(1, action=lambda: None).wait(), int)
    condition = memchannel.Condition()
    with condition:
        assert_type(condition.wait_for(lambda: "ready", timeout=1), str)
    event = memchannel.Event()
    helper = threading.Thread(target=event.set)
    helper.start()
    assert_type(event.wait(60), bool)
    helper.join()


EXAMPLES = [running, results_as_arguments, calling, memory, registering, primitives]

"""What a type checker knows of channels. Every line also runs: see tests/test_typing.py."""

from __future__ import annotations

import asyncio
from collections.abc import Buffer
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

import memchannel
from memchannel import ArrayChannel, Channel, MemChannel, RecvChannel, SendChannel


def elements_of_a_channel() -> None:
    channel = Channel[int](maxsize=3, name="numbers")
    channel.send(1)
    assert_type(channel.recv(), int)
    channel.send("one")  # type: ignore[arg-type]
    channel.recv()
    channel.send_many([1, 2])
    assert_type(channel.recv_many(2), list[int])
    assert_type(channel.recv_nowait(), int | None)
    assert_type(channel.recv_nowait("nothing"), int | str)


def elements_by_an_annotation() -> None:
    channel: Channel[dict[str, float]] = Channel()
    channel.send({"mean": 0.5})
    for item in channel.ends[0]:
        assert_type(item, dict[str, float])
        break


def an_element_type_that_nobody_names() -> None:
    channel = Channel()
    assert_type(channel, Channel[Any])
    channel.send([1, 2])
    channel.send_nowait({"any": "thing"})
    assert channel.recv_many(2) == [[1, 2], {"any": "thing"}]


def ends_of_a_channel() -> None:
    channel = Channel[str]()
    recv, send = channel.ends
    assert_type(recv, RecvChannel[str])
    assert_type(send, SendChannel[str])
    assert_type(channel.broadcast(), RecvChannel[str])
    with pytest.raises(AttributeError):
        recv.send("x")  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        send.recv()  # type: ignore[attr-defined]


def ends_as_arguments() -> None:
    def fill(send: SendChannel[bool]) -> None:
        send.send(True)

    def drain(recv: RecvChannel[float]) -> float:
        return recv.recv()

    numbers = Channel[int]()
    fill(numbers)  # who takes any int takes a bool
    assert_type(drain(numbers), float)  # and an int is a float
    fill(Channel[str]())  # type: ignore[arg-type]


def making_the_ends_alone() -> None:
    assert_type(memchannel.create_channel()[0], RecvChannel[Any])
    recv, send = memchannel.create_channel(ArrayChannel)
    assert_type(recv, RecvChannel[NDArray[Any]])
    send.send(np.arange(3))
    tasks, submit = memchannel.create_channel(Channel[tuple[int, str]], 10, release="deferred")
    assert_type(tasks, RecvChannel[tuple[int, str]])
    submit.send((1, "one"))
    number, name = tasks.recv()
    assert_type(number, int)
    assert_type(name, str)
    assert_type(memchannel.create_channel(Channel)[1], SendChannel[Any])
    with pytest.raises(ValueError, match="release"):
        memchannel.create_channel(MemChannel, release="later")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="kind"):
        memchannel.create_channel(list)  # type: ignore[arg-type]


def arrays() -> None:
    channel = ArrayChannel()
    for source in (np.arange(6.0), np.float32(1), b"bytes", memoryview(b"bytes"), bytearray(3)):
        channel.send(source)
    assert_type(channel.recv(), NDArray[Any])
    assert_type(channel.recv(copy=True), NDArray[Any])
    assert_type(channel.recv(timeout=1, as_view=True), memchannel.ArrayView)
    assert_type(channel.recv_many(5, as_view=True), list[memchannel.ArrayView])
    assert_type(channel.recv_nowait(as_view=True), memchannel.ArrayView | None)
    with pytest.raises(TypeError, match="list"):
        channel.send([1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str"):
        channel.send("text")  # type: ignore[arg-type]
    channel.send(b"")
    received = [channel.recv(copy=copy, as_view=as_view) for copy, as_view in [(True, False)]]
    assert_type(received, list[NDArray[Any] | memchannel.ArrayView])


def a_view_received_is_an_array_to_send() -> None:
    channel = ArrayChannel()
    channel.send(np.arange(4))
    view = channel.recv(as_view=True)
    channel.send(view)
    assert_type(view.shape, tuple[int, ...])


def buffers_and_text() -> None:
    channel = MemChannel()
    channel.send(b"spam")
    with channel.recv() as view:
        plain: memoryview = view
        assert bytes(plain) == b"spam"
    channel.send("text")
    text: memchannel.StringView = channel.recv()
    with text, text[1:] as rest:
        assert_type(text[0], str)
        assert_type(rest, memchannel.StringView)
    buffers: SendChannel[Buffer] = channel
    buffers.send(bytearray(2))
    with pytest.raises(TypeError, match="float"):
        channel.send(3.0)  # type: ignore[arg-type]
    channel.recv().release()


def selecting() -> None:
    numbers, texts = Channel[int](), Channel[str]()
    numbers.send(1)
    end, value = memchannel.select(numbers, texts, timeout=1)
    assert_type(value, int | str)
    assert_type(end, RecvChannel[int] | RecvChannel[str])
    texts.send("one")
    assert_type(memchannel.select(texts), tuple[RecvChannel[str], str])
    assert_type(memchannel.select((numbers, 2)), tuple[SendChannel[int], None])
    numbers.send(4)
    assert_type(memchannel.select(numbers, texts, Channel[bytes]())[1], int | str | bytes)
    numbers.recv()
    received = memchannel.select(texts, (numbers, 3))[1]
    assert_type(received, str | None)
    with pytest.raises(TypeError, match="select"):
        memchannel.select(numbers, "no end")  # type: ignore[call-overload]


async def in_event_loops() -> None:
    channel = Channel[bytes]()
    await channel.send_async(b"first")
    assert_type(await channel.recv_async(), bytes)
    await channel.send_async("text")  # type: ignore[arg-type]
    channel.recv()
    channel.close()
    views = ArrayChannel()
    await views.send_async(np.arange(3))
    assert_type(await views.recv_async(as_view=True), memchannel.ArrayView)


def an_event_loop() -> None:
    asyncio.run(in_event_loops())


def what_is_going_on() -> None:
    with Channel[int]() as channel:
        assert_type(channel, Channel[int])
        assert_type(channel.id, int)
        assert_type(channel.name, str | None)
        assert_type(channel.statistics().queued, int)
    assert_type(memchannel.stats().bytes_lent, int)
    assert_type(memchannel.list_all_channels(), list[tuple[RecvChannel[Any], SendChannel[Any]]])


EXAMPLES = [
    elements_of_a_channel,
    elements_by_an_annotation,
    an_element_type_that_nobody_names,
    ends_of_a_channel,
    ends_as_arguments,
    making_the_ends_alone,
    arrays,
    a_view_received_is_an_array_to_send,
    buffers_and_text,
    selecting,
    an_event_loop,
    what_is_going_on,
]

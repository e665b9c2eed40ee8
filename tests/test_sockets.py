"""Sockets through a Channel, and the server of docs/examples, which is made of that."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import memchannel
from channel_support import HANG, Neighbour, Task, run_script, wait_until
from descriptor_support import descriptors_of
from memchannel import Channel

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def sent(sock: Any, **options: Any) -> Any:
    """Send through a channel of this interpreter."""
    channel: Channel[Any] = Channel()
    channel.send(sock, **options)
    return channel.recv()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("timeout", [None, 0.0, 2.5])
def test_sockets_arrive_as_they_were(family: int, kind: int, timeout: float | None) -> None:
    try:
        made = socket.socket(family, kind)
    except OSError as exc:
        pytest.skip(f"no such sockets here: {exc}")
    with made as sock:
        sock.settimeout(timeout)
        with sent(sock) as got:
            assert type(got) is socket.socket
            assert (got.family, got.type, got.proto) == (sock.family, sock.type, sock.proto)
            assert got.gettimeout() == timeout
            assert got.fileno() != sock.fileno()
            assert not got.get_inheritable()
            assert os.get_blocking(sock.fileno()) == (timeout is None), "the sender's is as it was"


def test_the_timeout_is_kept_against_the_default(pair: Any, neighbour: Neighbour) -> None:
    neighbour.do("import socket; socket.setdefaulttimeout(7)")
    try:
        assert neighbour.do("kept = got.gettimeout(), got.close()", got=pair[0]) is None
        assert neighbour.do("kept[0]") is None
        pair[0].settimeout(3)
        assert neighbour.do("(got.gettimeout(), got.close())[0]", got=pair[0]) == 3
    finally:
        neighbour.do("socket.setdefaulttimeout(None)")


def test_both_sides_have_the_connection(pair: Any, neighbour: Neighbour) -> None:
    near, far = pair
    neighbour.do("sock.sendall(b'from there')", sock=near)
    assert far.recv(20) == b"from there"
    near.sendall(b" and here")
    assert far.recv(20) == b" and here"
    near.close()
    far.sendall(b"still open")
    assert neighbour.do("sock.recv(20)") == b"still open"
    neighbour.do("sock.close()")
    assert far.recv(1) == b""


def test_moving_closes_the_senders_own(pair: Any) -> None:
    near, far = pair
    channel: Channel[Any] = Channel()
    channel.send({"connection": near}, move=True)
    assert near.fileno() == -1
    with channel.recv()["connection"] as got:
        got.sendall(b"x")
        assert far.recv(1) == b"x"
    assert far.recv(1) == b"", "nobody else has it open"


def test_an_unreceived_connection_is_hung_up(pair: Any) -> None:
    near, far = pair
    channel: Channel[Any] = Channel()
    channel.send(near, move=True)
    del channel
    assert far.recv(1) == b""


def test_connections_with_addresses(neighbour: Neighbour) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        neighbour.start("connection, peer = listener.accept(); listener.close()", listener=listener)
        with socket.create_connection(address, timeout=HANG) as client:
            neighbour.result()
            assert neighbour.do("connection.getpeername(), connection.getsockname()") == (
                client.getsockname(),
                address,
            )
            neighbour.do("connection.close()")
            assert client.recv(1) == b""


def test_closed_sockets_are_refused() -> None:
    channel: Channel[Any] = Channel()
    closed = socket.socket()
    closed.close()
    detached = socket.socket()
    os.close(detached.detach())
    held = socket.socket()
    with held.makefile("rb"):
        held.close()  # its descriptor stays open for the file
        for sock in (closed, detached, held):
            with pytest.raises(OSError, match="closed socket") as caught:
                channel.send(sock)
            assert caught.value.errno == errno.EBADF
    assert len(channel) == 0


class MySocket(socket.socket):
    """A class of its own."""


def test_more_than_a_socket_is_refused(pair: Any) -> None:
    channel: Channel[Any] = Channel()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    wrapped = context.wrap_socket(pair[0], do_handshake_on_connect=False)
    with wrapped, pytest.raises(pickle.PicklingError, match="state of its encryption"):
        channel.send(wrapped)
    with MySocket() as own, pytest.raises(pickle.PicklingError, match="MySocket"):
        channel.send([own])
    with pair[1].makefile("rb") as file, pytest.raises(pickle.PicklingError, match="makefile"):
        channel.send(file)
    with pair[1].makefile("r") as file, pytest.raises(pickle.PicklingError, match="makefile"):
        channel.send(file)
    with pair[1].makefile("rb", 0) as file, pytest.raises(pickle.PicklingError, match="SocketIO"):
        channel.send(file)
    assert len(channel) == 0
    pair[1].close()


def test_a_failing_send_leaves_one_descriptor(pair: Any) -> None:
    before = memchannel.stats().descriptors
    channel: Channel[Any] = Channel(1)
    channel.send(None)
    with pytest.raises(TimeoutError):
        channel.send(pair[0], 0, move=True)
    assert descriptors_of(pair[0].fileno()) == 1
    assert memchannel.stats().descriptors == before
    pair[0].sendall(b"x")


def test_an_interpreter_that_ends_hangs_up(pair: Any, interp: Any) -> None:
    near, far = pair
    memchannel.interpreters.run(interp, "kept = sock", sock=near).check()
    near.close()
    memchannel.interpreters.close(interp, timeout=HANG)
    assert far.recv(1) == b""


def test_asyncio_streams_from_another_interpreter(neighbour: Neighbour) -> None:
    near, far = socket.socketpair()
    neighbour.start(
        """
import asyncio
async def echo():
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
asyncio.run(echo())
""",
        sock=near,
    )
    near.close()
    with far:
        far.sendall(b"hello\n")
        assert far.recv(20) == b"HELLO\n"
    neighbour.result()


# ---- the server


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A running docs/examples/tcp_server.py, and its address."""
    command = [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / "tcp_server.py")]
    with subprocess.Popen(
        [*command, "--handlers", "2", "--threads", "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split(":")
            assert words[0].startswith("listening on "), process.communicate()
            yield process, (words[0].split()[-1], int(words[1]))
        finally:
            process.kill()


def sockets_of(pid: int) -> int:
    """Count a process's descriptors of sockets."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return count


def ask(address: tuple[str, int], numbers: list[int]) -> list[tuple[int, int]]:
    """Ask for the primes below each number, all over one connection."""
    answers = []
    with (
        socket.create_connection(address, timeout=3 * HANG) as connection,
        connection.makefile("rw", newline="\n") as stream,
    ):
        for number in numbers:
            stream.write(f"{number}\n")
            stream.flush()
            count, interpreter = stream.readline().split()
            answers.append((int(count), int(interpreter)))
    return answers


def test_a_server_of_several_interpreters(server: Any) -> None:
    process, address = server
    assert ask(address, [10, 100, 1000]) != []
    clients = [Task(ask, address, [10, 100, 1000, 10_000, 20_000]) for _ in range(100)]
    answers = [client.result() for client in clients]
    assert {tuple(count for count, _ in one) for one in answers} == {(4, 25, 168, 1229, 2262)}
    # The first may answer all of them while the other is still starting.
    handlers = {interpreter for one in answers for _, interpreter in one}
    asked = 0

    def both_answered() -> bool:
        nonlocal asked
        if len(handlers) == 2:
            return True
        more = [Task(ask, address, [20_000]) for _ in range(10)]
        asked += len(more)
        handlers.update(interpreter for client in more for _, interpreter in client.result())
        return False

    wait_until(both_answered, "an answer of the other interpreter")
    listeners = 2  # that of the main interpreter, and its duplicate
    wait_until(lambda: sockets_of(process.pid) == listeners, "hanging up on all clients")
    # Clients that break off, and one that is there still when the server ends.
    for _ in range(10):
        with socket.create_connection(address) as rude:
            rude.sendall(b"100000\n" * 20)
    with socket.create_connection(address, timeout=HANG) as last:
        last.sendall(b"10\nten\n")
        stream = last.makefile("r")
        assert stream.readline().startswith("4 ")
        assert stream.readline() == "not a number: 'ten'\n"
        process.send_signal(signal.SIGINT)
        stream.close()
    out, err = process.communicate(timeout=3 * HANG)
    assert (process.returncode, out, err) == (0, f"{112 + asked} connections\n", "")


def test_a_connection_in_a_dropped_message_at_exit() -> None:
    """What is on its way when the process ends is nobody's concern, and no crash."""
    out = run_script(
        """
import socket, memchannel
near, far = socket.socketpair()
channel = memchannel.Channel()
channel.send([near, far], move=True)
print(memchannel.stats().descriptors)
"""
    )
    assert out == "2\n"

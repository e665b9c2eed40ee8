r"""A TCP server in several interpreters: one accepts connections, the others answer them, in parallel.

    python tcp_server.py --port 8000
    printf '1000\n100000\n' | nc -N 127.0.0.1 8000

Each line that a client sends is a number; the answer is how many primes are less than it, and the interpreter
that counted them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

from memchannel import Channel, InterpreterPool, RecvChannel, SendChannel, create_channel, interpreters


def accept(listener: socket.socket, connections: SendChannel[socket.socket]) -> int:
    """Hand over each connection, until the listener is shut down; return how many there were."""
    count = 0
    with listener, connections:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return count
            connections.send(connection, move=True)
            count += 1


def primes_below(limit: int) -> int:
    """Count them with the sieve of Eratosthenes."""
    sieve = bytearray([1]) * max(limit, 2)
    sieve[:2] = bytes(2)
    for number in range(2, int(len(sieve) ** 0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, len(sieve), number)))
    return sum(sieve)


def answer(connection: socket.socket) -> None:
    """Talk to one client until it hangs up."""
    here = interpreters.get_current().id
    with connection, connection.makefile("rw", encoding="ascii", errors="replace", newline="\n") as stream:
        for line in stream:
            try:
                reply = f"{primes_below(int(line))} {here}"
            except ValueError:
                reply = f"not a number: {line.strip()!r}"
            stream.write(reply + "\n")
            stream.flush()


def handle(connections: RecvChannel[socket.socket], threads: int) -> None:
    """Answer connections in several threads of this interpreter, until no more come."""

    def work() -> None:
        for connection in connections:
            with contextlib.suppress(OSError):  # the client is gone
                answer(connection)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@contextlib.contextmanager
def serving(host: str, port: int, handlers: int, threads: int) -> Iterator[tuple[str, int]]:
    """Serve during the block; gives the address."""
    recv, send = create_channel(Channel)
    with socket.create_server((host, port), backlog=512) as listener, InterpreterPool(1 + handlers) as pool:
        accepting = pool.submit(accept, listener, send)
        handling = [pool.submit(handle, recv, threads) for _ in range(handlers)]
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # accept() fails, the channel ends, and all tasks with it
            print(f"{accepting.result()} connections", flush=True)
            for task in handling:
                task.result()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Count primes for whoever connects.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--handlers", type=int, default=os.process_cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=16, help="connections at a time, in each handler")
    options = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with serving(options.host, options.port, options.handlers, options.threads) as (host, port):
        print(f"listening on {host}:{port}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()

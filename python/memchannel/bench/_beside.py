"""Programs in interpreters beside us, for measurements that need another side."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from memchannel import Channel, interpreters

__all__ = ["ECHO", "beside", "echoing", "other_interpreter"]

ECHO = """
def echo(there, back):
    for value in there:
        back.send(value)

echo(there, back)
"""


@contextlib.contextmanager
def beside(*sources: str, packages: tuple[str, ...] | None = None, **shared: Any) -> Iterator[None]:
    """Run each program in an interpreter of its own, with its number as `number`; joins them at the end.

    After an error or Ctrl-C nothing may come any more that they wait for: the end of the process stops them.
    """
    made = [interpreters.create(packages=packages) for _ in sources]
    threads = [
        threading.Thread(
            target=lambda other, source, number: interpreters.run(
                other, source, shared={**shared, "number": number}
            ).check(),
            args=(other, source, number),
            daemon=True,
        )
        for number, (other, source) in enumerate(zip(made, sources, strict=True))
    ]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
    for other in made:
        interpreters.close(other, timeout=60)


@contextlib.contextmanager
def other_interpreter(source: str) -> Iterator[tuple[Channel[Any], Channel[Any]]]:
    """Run a program that receives from `there` and sends to `back`; yields both channels."""
    there, back = Channel[Any](), Channel[Any]()
    with beside(source, there=there.ends[0], back=back.ends[1]):
        try:
            yield there, back
        finally:
            there.ends[1].close()


@contextlib.contextmanager
def echoing() -> Iterator[Callable[[], object]]:
    """Have an interpreter that sends back what it gets; yields one round trip."""
    with other_interpreter(ECHO) as (there, back):
        send, recv = there.send, back.recv

        def trip() -> None:
            send(1)
            if recv() != 1:
                raise RuntimeError("the channel gave another number")

        trip()
        yield trip
